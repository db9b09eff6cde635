"""`make device`: everything that has to be measured on a machine with a GPU, in one command and under 8 minutes.

python -m benchmarks.device --out device.json

It needs Python, one of the frameworks and for the parity suite pytest; no network, no environment of its own, and the
project need not be installed. Each part runs in a process with a time limit; what was measured is written after each
part. `--cpu` runs every part in a small size on the CPU, to try the command itself.

Exit codes: 0 everything ran, 1 something failed, was cut off or missed its goal, 2 there is no accelerator here.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradlab_core.errors import GradlabError
from gradlab_core.files import whole_file
from gradlab_core.records.codec import encode

from .device_run import Outcome, Part, environment_of, python, run_all
from .device_suite import why_no_suite

PARTS = (
    Part(name="versions", framework="torch", share=2.0),
    Part(name="versions", framework="jax", share=2.0),
    Part(name="norms", framework="torch", share=2.0),
    Part(name="norms", framework="jax", share=2.0),
    Part(name="gpt2", framework="torch", share=4.0),
    Part(name="gpt2", framework="jax", share=5.0),  # which it takes a minute to compile
    Part(name="kernels", framework="torch", share=2.0),
    Part(name="monitor", framework="torch", share=3.0),
    Part(name="monitor", framework="jax", share=4.0),
    Part(name="parity", framework="both", share=14.0),
    Part(name="step", framework="torch", share=2.0),
    Part(name="step", framework="jax", share=2.0),
)
SUITES = {"parity": "parity suite", "kernels": "tests of the kernels"}
NAMES = tuple(dict.fromkeys(part.name for part in PARTS))


@dataclasses.dataclass(frozen=True)
class Goal:
    """What was wanted of a figure, and what came; None is not measured."""

    text: str
    measured: float | None
    is_met: bool | None

    @property
    def verdict(self) -> str:
        return "not measured" if self.is_met is None else "met" if self.is_met else "MISSED"


def goals(outcomes: Sequence[Outcome], *, cpu: bool) -> list[Goal]:
    """The goals for an accelerator; on the CPU none of them is measured."""
    rows = [] if cpu else [row for outcome in outcomes for row in outcome.rows]

    def time_of(case: str, setting: str) -> float | None:
        speedups = [r["speedup"] for r in rows if r["case"] == case and setting in r["setting"] and r["speedup"]]
        return 1 / speedups[0] if speedups else None

    def share_of(case: str) -> float | None:
        shares = [r["share_of_copy"] for r in rows if r["case"].startswith(case) and r["share_of_copy"] is not None]
        return min(shares) if shares else None

    def fact(name: str, key: str) -> float | None:
        values = [] if cpu else [o.facts[name].get(key) for o in outcomes if isinstance(o.facts.get(name), Mapping)]
        return next((value for value in values if value is not None), None)

    suite = next((o for o in outcomes if o.name == "parity" and not cpu and o.facts.get("ended")), None)
    wanted = [
        ("PyTorch monitor, GPT-2 small: at most 1.05 of bare", time_of("gradlab_torch.Monitor", "GPT-2"), 1.05),
        ("PyTorch monitor: waits for the device inside a step: 0", fact("in a step of gpt2", "waits"), 0.0),
        ("JAX monitor with read, GPT-2 small: at most 1.06 of bare", time_of("gradlab_jax.monitor", "GPT-2"), 1.06),
        ("parity suite: failures: 0", None if suite is None else float(suite.facts["failed"]), 0.0),
    ]
    judged = [Goal(text, value, None if value is None else value <= limit) for text, value, limit in wanted]
    for name in ("gradlab_torch", "gradlab_jax"):
        share = share_of(f"{name}.global_norm")
        met = None if share is None else share >= 0.8
        judged.append(Goal(f"{name}.global_norm: at least 0.8 of a copy's bandwidth", share, met))
    return judged


def report(outcomes: Sequence[Outcome], *, cpu: bool) -> Iterator[str]:
    """The table, as plain text."""
    if cpu:
        yield "On the CPU, in small sizes: this tries the command, and the figures mean nothing."
    for outcome in outcomes:
        if outcome.name == "versions":
            yield f"{outcome.framework}: " + ", ".join(f"{k} {v}" for k, v in outcome.facts.items())
    columns = ("case", "ms", "× bare", "GB/s", "of copy")
    lines = [columns]
    setting = None
    for row in (row for outcome in outcomes for row in outcome.rows):
        if row["setting"] != setting:
            setting = row["setting"]
            lines.append((f"— {setting}", "", "", "", ""))
        cells = (
            _number(row["median"], 1e3),
            _number(1 / row["speedup"] if row["speedup"] else None),
            _number(row["bytes_per_second"], 1e-9),
            _number(row["share_of_copy"]),
        )
        failed = (f"{row['case']}: {row['failure']}", "", "", "", "")
        lines.append(failed if row["median"] is None else (row["case"], *cells))
    width = max(len(line[0]) for line in lines if line[1])
    for name, *cells in lines:
        yield f"{name:<{width}} " + " ".join(f"{cell:>10}" for cell in cells) if any(cells) else name
    for outcome in outcomes:
        for name, value in outcome.facts.items():
            if name.startswith("in a step"):
                yield f"{name}, monitored beyond bare: " + ", ".join(f"{k} {v}" for k, v in value.items())
        if outcome.name in SUITES and outcome.facts:
            f = outcome.facts
            end = "" if f["ended"] else " so far"
            yield f"{SUITES[outcome.name]}{end}: {f['passed']} passed, {f['failed']} failed, {f['skipped']} skipped"
            yield from (f"  failed: {name}" for name in f["failures"])
    for goal in goals(outcomes, cpu=cpu):
        yield f"{goal.verdict:>12}  {goal.text}" + ("" if goal.measured is None else f" (found {goal.measured:.3g})")
    for outcome in outcomes:
        if outcome.state != "whole":
            yield f"{outcome.title}: {outcome.state}, {outcome.reason}"


def _number(value: float | None, scale: float = 1.0) -> str:
    return "" if value is None else f"{value * scale:.4g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, write the JSON, print the table; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("device.json"), help="where the JSON goes")
    parser.add_argument("--cpu", action="store_true", help="small sizes on the CPU, to try the command")
    parser.add_argument("--only", action="append", choices=NAMES, default=[], help="this part; may be repeated")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (default: 8)")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes < 1e6:
        parser.error(f"--minutes is {options.minutes}; expected a number above 0")
    outcomes: list[Outcome] = []
    try:
        _run(options, outcomes)
    except GradlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in report(outcomes, cpu=options.cpu):
        print(line)
    print(f"Written to {options.out}.")
    missed = any(goal.is_met is False for goal in goals(outcomes, cpu=options.cpu))
    ran = all(o.state == "whole" or o.reason.endswith("is not installed") for o in outcomes)
    failures = any(o.facts.get("failed") for o in outcomes if o.name in SUITES)
    return int(missed or not ran or failures)


def _run(options: argparse.Namespace, outcomes: list[Outcome]) -> None:
    installed = {name: importlib.util.find_spec(name) is not None for name in ("torch", "jax")}
    if not any(installed.values()):
        raise GradlabError("neither torch nor jax is installed here; expected at least one of them")

    def accelerated(framework: str) -> bool:
        return any(o.facts.get("accelerator") for o in outcomes if (o.name, o.framework) == ("versions", framework))

    def why_not(part: Part) -> str | None:
        frameworks = ("torch", "jax") if part.framework == "both" else (part.framework,)
        for name in frameworks:
            if not installed[name]:
                return f"{name} is not installed"
        if part.name in SUITES and (reason := why_no_suite()):
            return reason
        if part.name == "kernels" and importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        blind = [name for name in frameworks if part.name != "versions" and not options.cpu and not accelerated(name)]
        return f"{' and '.join(blind)} sees no accelerator" if blind else None

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if outcome.name != "versions":  # an earlier file stays until there is something to measure
            _write(options.out, outcomes, options.cpu)
        print(f"{outcome.title}: {outcome.state} after {outcome.seconds:.0f} s", file=sys.stderr, flush=True)

    def command(part: Part, path: Path) -> Sequence[str]:
        return python("device_parts", part.name, part.framework, str(path), *(["--cpu"] if options.cpu else []))

    shared: Any = {"environ": environment_of(options.cpu), "on_outcome": done, "why_not": why_not}
    first = [part for part in PARTS if part.name == "versions"]
    run_all(first, command, seconds=min(120.0, options.minutes * 60), **shared)
    if not options.cpu and not any(accelerated(name) for name in installed):
        devices = [o.reason or o.facts.get("torch device") or o.facts.get("devices") for o in outcomes]
        seen = "; ".join(f"{o.framework}: {device}" for o, device in zip(outcomes, devices, strict=True))
        raise GradlabError(
            f"there is no accelerator here ({seen}); expected a GPU. --cpu tries the command without one"
        )
    _write(options.out, outcomes, options.cpu)  # better to know now than in 8 minutes that it cannot be written
    rest = [part for part in PARTS if part.name != "versions" and part.name in (options.only or NAMES)]
    spent = sum(outcome.seconds for outcome in outcomes)
    run_all(rest, command, seconds=max(1.0, options.minutes * 60 - spent), **shared)


def _write(path: Path, outcomes: Sequence[Outcome], cpu: bool) -> None:
    content: dict[str, Any] = {"on": "cpu" if cpu else "accelerator", "parts": encode(list(outcomes))}
    content["goals"] = [dataclasses.asdict(goal) | {"verdict": goal.verdict} for goal in goals(outcomes, cpu=cpu)]
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + os.linesep, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
