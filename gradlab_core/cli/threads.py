"""How many threads a command uses, and how they wait for each other. Both are set before a framework is loaded.

A net of a few channels is faster on one thread: two threads wait for each other most of the time, and while another
process holds the processor that one needs, the other spins for whole time slices. What a user has set is not changed.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

LARGE = 16
"""With at least so many channels in its first stage, a net is faster on more than one thread."""


def wait_passively() -> None:
    """Let idle threads sleep instead of spinning. OpenMP libraries read this setting when they are loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def choose(channels: int) -> None:
    """Choose one thread for a small net, and otherwise as many as this process may use."""
    os.environ.setdefault("OMP_NUM_THREADS", "1" if channels < LARGE else str(processors()))


def processors(root: Path = Path("/sys/fs/cgroup")) -> int:
    """The number of processors that this process may use, within the quota of its container.

    >>> processors() >= 1
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(root))))


def _quota(root: Path) -> float:
    """The quota of the control group (version 2 or 1) in processors; Inf if none is set or it cannot be read."""
    try:
        if (root / "cpu.max").is_file():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
