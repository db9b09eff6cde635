"""The loop that every integration is held against: five batches, a small net, no library."""

from __future__ import annotations

import torch

from gradlab_torch import Monitor

CLIP, ACCUMULATE, EPOCHS = 0.4, 2, 2
DRAW = torch.Generator().manual_seed(0)
# Five batches, so that the last step of an epoch has one only.
BATCHES = [(torch.randn(4, 3, generator=DRAW), torch.randn(4, 1, generator=DRAW)) for _ in range(5)]


def new_net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))


def new_optimizer(net):
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def mean_square(net, x, y):
    return (net(x) - y).square().mean()


def plain(weight, model, clip=CLIP, left_out=(), **options):
    """The records of a loop without any library; `weight` says what part a batch has in the loss of its step."""
    records, optimizer = [], new_optimizer(model)
    steps = [BATCHES[i : i + ACCUMULATE] for i in range(0, len(BATCHES), ACCUMULATE)]
    with Monitor(model, optimizer, on_record=records.append, **options) as monitor:
        for step in (step for i, step in enumerate(steps * EPOCHS) if i not in left_out):
            optimizer.zero_grad()
            parts = [mean_square(model.net, *batch) * weight(step) for batch in step]
            for part in parts:
                part.backward()
            monitor.before_clipping()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            monitor.observe(sum(part.detach() for part in parts))
            optimizer.step()
    return records


def hooks(model, optimizer):
    of_steps = len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
    return of_steps + len(model._forward_hooks)
