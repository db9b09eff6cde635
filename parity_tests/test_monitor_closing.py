"""What a monitor says when it is closed: nothing, but where losses came and no step did."""

from __future__ import annotations

import pytest
import torch

from gradlab_torch import Monitor


def loop(monitor, net, optimizer, *, step: bool, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss = net(torch.ones(4, 2)).square().mean()
        loss.backward()
        monitor.observe(loss)
        if step:
            optimizer.step()


def test_a_monitor_that_saw_losses_and_no_step_says_so_when_it_is_closed():
    net, seen = torch.nn.Linear(2, 1), []
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-30)  # were it a step, it would be lost
    with Monitor(net, optimizer, on_record=seen.append, extras=("distance", "update_cosine", "grad_cosine")) as monitor:
        loop(monitor, net, optimizer, step=False)
    monitor.close()  # a second time: nothing more
    assert seen == [monitor.last]
    assert (monitor.last.step, monitor.last.skipped, monitor.last.update_norm) == (0, True, 0.0)
    assert set(monitor.last.states.values()) == {"ok"}
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("case", ["stepped", "no loss", "broken off"])
def test_a_monitor_says_nothing_more_where_a_step_was_taken_or_none_was_due(case):
    net, seen = torch.nn.Linear(2, 1), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    class Interrupted(Exception):
        pass

    try:
        with Monitor(net, optimizer, on_record=seen.append) as monitor:
            if case != "no loss":
                loop(monitor, net, optimizer, step=case == "stepped")
            if case == "broken off":
                raise Interrupted
    except Interrupted:
        pass
    assert len(seen) == (2 if case == "stepped" else 0)
