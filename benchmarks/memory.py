"""How far the memory in use rises during one call: as the accelerator's allocator says, or on the CPU the system."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import threading
from collections.abc import Callable
from typing import Any

_EVERY = 0.002  # seconds between two looks at the process


def peak_bytes(framework: str, call: Callable[[], Any]) -> int | None:
    """Run `call` once; the rise of memory in bytes, None where it cannot be told."""
    library = sys.modules.get(framework)  # loaded by whoever prepared the call
    if library is not None and framework == "torch" and library.cuda.is_available():
        return _torch_cuda(library.cuda, call)
    if library is not None and framework == "jax" and library.default_backend() != "cpu":
        return _jax_device(library.devices()[0], call)
    return _process(call)


def _torch_cuda(cuda: Any, call: Callable[[], Any]) -> int:
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    call()
    return int(cuda.max_memory_allocated() - before)


def _jax_device(device: Any, call: Callable[[], Any]) -> int | None:
    before = device.memory_stats() or {}
    call()
    after = device.memory_stats() or {}
    # JAX cannot reset its peak: one that an earlier call set hides this one.
    if after.get("peak_bytes_in_use", 0) <= before.get("peak_bytes_in_use", 0):
        return None
    return int(after["peak_bytes_in_use"] - before["bytes_in_use"])


def _process(call: Callable[[], Any]) -> int | None:
    if importlib.util.find_spec("psutil") is None:
        call()
        return None
    import psutil

    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed but kept would hide the rise
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(_EVERY):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return int(max(peak, process.memory_info().rss) - before)
