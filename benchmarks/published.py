"""The published experiment's way of training and analysing, written anew: plain, eager, one `.item()` per number."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

_TRACKED = (nn.Conv2d, nn.BatchNorm2d)


class PublishedLoop:
    """SGD on NCHW tensors; after each backward pass the norm of every gradient and parameter is fetched by itself."""

    def __init__(self, model: nn.Module, *, learning_rate: float, momentum: float, weight_decay: float) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
        )

    def step(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
        """One batch: loss, gradient norm, parameter norm."""
        self.model.train()
        images, labels = torch.from_numpy(x).to(self.device), torch.from_numpy(y).to(self.device)
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(images), labels)
        loss.backward()
        grads = params = 0.0
        for p in self.model.parameters():
            if p.grad is not None:
                grads += p.grad.norm().item() ** 2
            params += p.detach().norm().item() ** 2
        self.optimizer.step()
        return loss.item(), grads**0.5, params**0.5


def analysis(model: nn.Module, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor) -> dict[str, Any]:
    """Activation statistics, gradient flow and sensitivity: a hook per layer keeps its output on the host, and NumPy
    goes over what was kept."""
    model.train()
    with torch.no_grad():
        kept: list[tuple[str, np.ndarray]] = []
        hooks = [_keep(path, layer, kept) for path, layer in model.named_modules() if _is_tracked(layer)]
        logits = model(x)
        for hook in hooks:
            hook.remove()
        sensitivity = (model(x + noise) - logits).norm(dim=1).mean().item()
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    flow = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    return {
        "layers": [{"path": path, **_statistics(out)} for path, out in kept],
        "flow": flow,
        "loss": loss.item(),
        "sensitivity": sensitivity,
    }


def _is_tracked(layer: nn.Module) -> bool:
    return isinstance(layer, _TRACKED) or type(layer).__name__ == "ReLU"  # torch's own, and gradlab's


def _keep(path: str, layer: nn.Module, kept: list[tuple[str, np.ndarray]]) -> Any:
    return layer.register_forward_hook(lambda _module, _inputs, out: kept.append((path, out.detach().cpu().numpy())))


def _statistics(out: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(out.mean()),
        "std": float(out.std()),
        "min": float(out.min()),
        "max": float(out.max()),
        "zero_frac": float((out == 0).mean()),
    }
