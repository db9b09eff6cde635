"""How many threads a command's work is worth, said before a framework is loaded, and how they wait for each other.

A net of a few channels is faster on one thread: two wait for each other most of the time, and beside a busy neighbour,
who holds the processor that one of them needs, they spin for whole time slices. What a user has set is left as it is.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

LARGE = 16
"""Channels of a net's first stage from which on more than one thread pays."""


def wait_passively() -> None:
    """Threads that have nothing to do sleep instead of spinning; libraries of OpenMP read it when they are loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def choose(channels: int) -> None:
    """One thread for a small net, else as many as this process may use."""
    os.environ.setdefault("OMP_NUM_THREADS", "1" if channels < LARGE else str(processors()))


def processors(root: Path = Path("/sys/fs/cgroup")) -> int:
    """The processors that this process may use: those it may run on, within the quota of its container.

    >>> processors() >= 1
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(root))))


def _quota(root: Path) -> float:
    """What a control group (version 2 or 1) grants, in processors; Inf where none is set or it cannot be read."""
    try:
        if (root / "cpu.max").is_file():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
