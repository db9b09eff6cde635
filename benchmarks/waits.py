"""How often a PyTorch step waits for its CUDA device, and how many kernels it launches, beyond the bare step."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .harness import Case

_SAYS = "called a synchronizing CUDA operation"
_WAITS = re.compile(r"cu(da)?(Stream|Device|Event|Ctx)Synchronize|cu(da)?Memcpy(?!.*Async)")
_LAUNCHES = re.compile(r"cu(da)?Launch|cu(da)?GraphLaunch")


def waits_and_launches(cases: Mapping[str, Case], bare: str, watched: str) -> dict[str, float | str]:
    """What one step of the case `watched` does beyond one of the case `bare`: `waits` by PyTorch's own count
    (`torch.cuda.set_sync_debug_mode`, which knows nothing of waits for an event), `driver waits` and `launches` as
    the profiler saw them. A word instead of numbers where there is no CUDA.
    """
    import torch

    if not torch.cuda.is_available():
        return {"not counted": "needs CUDA"}
    counts = [_of(cases[name], torch) for name in (bare, watched)]
    return {key: (counts[1][key] - counts[0][key]) / cases[watched].steps for key in counts[0]}


def _of(case: Case, torch: Any) -> dict[str, int]:
    call = case.prepare()
    for _ in range(2):  # what is made at the first steps is no part of a step
        call()
    with _warning(torch), counted() as waits:
        call()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    ) as profile:
        call()
    return {"waits": waits(), **by_kind((event.key, event.count) for event in profile.key_averages())}


@contextmanager
def _warning(torch: Any) -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Counts the warnings of waiting, also those that come twice from one line."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield lambda: sum(_SAYS in str(warning.message) for warning in seen)


def by_kind(events: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Calls of CUDA's runtime and driver by what they do.

    >>> by_kind([("cudaLaunchKernel", 5), ("cuLaunchKernelEx", 2), ("cudaEventSynchronize", 1), ("cudaMemcpyAsync", 3)])
    {'driver waits': 1, 'launches': 7}
    """
    calls = {"driver waits": 0, "launches": 0}
    for name, count in events:
        for kind, pattern in (("driver waits", _WAITS), ("launches", _LAUNCHES)):
            calls[kind] += count if pattern.match(name) else 0
    return calls
