"""Runs the parts of `benchmarks.device`, each in a process of its own with a limit: one that dies or hangs costs the
others nothing, and what it had measured until then counts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One thing to run.

    Attributes:
        name: as `--only` names it; several parts may share one.
        framework: torch, jax or both.
        share: of the time that is left, against the shares of the parts still to come.
    """

    name: str
    framework: str
    share: float = 1.0

    @property
    def title(self) -> str:
        return f"{self.name}, {self.framework}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a part: `state` is whole, partial (what was measured before it ended), failed or not run.

    `rows` are those of the benchmarks; `facts` is anything else a part found out; `log` ends with its last words.
    """

    name: str
    framework: str
    state: str
    reason: str = ""
    seconds: float = 0.0
    rows: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    log: str = ""

    @property
    def title(self) -> str:
        return f"{self.name}, {self.framework}"


def limits(parts: Sequence[Part], left: float) -> float:
    """Seconds that the first of these parts may take, if `left` are there for all; what it leaves, the others get.

    >>> limits([Part(name="a", framework="torch"), Part(name="b", framework="jax", share=3)], 400.0)
    100.0
    """
    return max(1.0, left * parts[0].share / sum(part.share for part in parts))


def run_all(
    parts: Sequence[Part],
    command: Callable[[Part, Path], Sequence[str]],
    *,
    seconds: float,
    environ: Mapping[str, str],
    on_outcome: Callable[[Outcome], Any],
    why_not: Callable[[Part], str | None] = lambda part: None,
) -> None:
    """Run the parts in turn within `seconds` in all, and hand each outcome on as soon as it is there.

    Args:
        command: the command line of a part, which writes its findings to that file.
        why_not: the reason for which a part cannot run here, if there is one.
    """
    end = time.monotonic() + seconds
    for i, part in enumerate(parts):
        reason = why_not(part)
        left = end - time.monotonic()
        if reason is None and left <= 0:
            reason = "no time was left"
        if reason is not None:
            on_outcome(Outcome(name=part.name, framework=part.framework, state="not run", reason=reason))
            continue
        on_outcome(run_one(part, command, seconds=limits(parts[i:], left), environ=environ))


def run_one(
    part: Part, command: Callable[[Part, Path], Sequence[str]], *, seconds: float, environ: Mapping[str, str]
) -> Outcome:
    """Run one part; it and all that it started are gone afterwards, also when this process is interrupted."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gradlab-device-", ignore_cleanup_errors=True) as folder:
        results, log = Path(folder) / "found.json", Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command(part, results),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**environ, "TMPDIR": folder},
                start_new_session=True,  # a group of its own, which is ended as one
            )
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
        words = log.read_text(encoding="utf-8", errors="replace")[-4000:].strip()
        content = _content(results)
    reason = _reason(code, seconds, words)
    measured = bool(content.get("rows") or content.get("facts"))
    return Outcome(
        name=part.name,
        framework=part.framework,
        state="whole" if not reason and measured else "partial" if measured else "failed",
        reason=reason or ("" if measured else "it ended well and wrote nothing"),
        seconds=time.monotonic() - began,
        rows=content.get("rows", []),
        facts=content.get("facts", {}),
        log=words if reason else "",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _content(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))  # written whole or not at all
    return content


def _reason(code: int | None, seconds: float, words: str) -> str:
    if code == 0:
        return ""
    if code is None:
        return f"it was stopped after its {seconds:.0f} s"
    if code < 0:
        return f"it died of {signal.Signals(-code).name}"
    lines = words.splitlines()
    return f"exit code {code}: {lines[-1].strip()[:200] if lines else 'no message'}"


def environment_of(cpu: bool) -> dict[str, str]:
    """Variables of the parts: this checkout first, the card shared by several processes, or hidden from them."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # JAX would take three quarters of the card's memory at once, and PyTorch and the other workers need some.
    variables = {**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1"}
    return variables | ({"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} if cpu else {})


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a module of this package, whatever it is called here."""
    return [sys.executable, "-m", f"{__package__}.{module}", *arguments]
