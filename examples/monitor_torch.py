"""A monitor in a plain PyTorch loop: two lines around it, and every tenth step is recorded, also in a file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from gradlab_core.sinks import ColumnSink, load_records
from gradlab_torch import Monitor

torch.manual_seed(0)
x = torch.randn(64, 3)
y = torch.sin(x).sum(1, keepdim=True)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        self.skip = torch.nn.Linear(3, 1)  # forgotten in forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
path = Path(tempfile.mkdtemp()) / "run.gradlab"

with ColumnSink(path) as sink, Monitor(net, optimizer, every=10, on_record=sink) as monitor:
    for _ in range(41):
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        monitor.before_clipping()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        monitor.observe(loss)  # stays on its device until a step is recorded
        optimizer.step()

for record in load_records(path):
    print(
        f"step {record.step:2}  loss {record.loss:.4f}  gradient {record.raw_grad_norm:.3f} -> {record.grad_norm:.3f}"
        f"  update/weights {record.update_ratio:.1e}"
    )
for name, state in record.states.items():
    print(f"{name:14} {state}")
print("final loss", loss.item())
