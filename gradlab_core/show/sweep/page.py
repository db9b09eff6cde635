"""The page of a sweep: what was found how often, which hyperparameter goes with it, and one row a run."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradlab_core.judge.diagnosis import CODES
from gradlab_core.judge.sweep import SweptRun, varying
from gradlab_core.judge.sweep_links import LEVEL, Link, links
from gradlab_core.records import Severity
from gradlab_core.show.rendering import fill, version
from gradlab_core.show.run.diagnosis import LEVELS
from gradlab_core.show.sweep.losses import loss_chart
from gradlab_core.text import number, odd, percent, setting

_VERDICTS = {"critical": "bad", "warning": "watch", "fine": "good", "unreadable": "unknown"}
_SAID = {
    "critical": "as it is, the run cannot learn",
    "warning": "it learns worse than it could, or will fail",
    "fine": "nothing found, or only notes",
    "unreadable": "its file could not be read",
}
_MOST_LINKS = 12
DEFINITIONS = (
    ("Final loss", "The loss of the last record, as it is: of one batch, in training."),
    ("Verdict", "That of the most severe finding of the diagnosis; a note does not count."),
    (
        "Goes with",
        "The shares of runs that have a finding differ between values of a hyperparameter by more than chance: χ² test "
        f"of independence, p below {LEVEL:g} after it was multiplied by the number of pairs looked at. It does not say "
        "what causes what: hyperparameters that were changed together cannot be told apart.",
    ),
    ("not measured, NaN, Inf, 0", "Four different things: there is no number; it is not a number; too large; zero."),
)


def render(name: str, runs: Sequence[SweptRun]) -> str:
    """The whole HTML page of the sweep in the folder `name`."""
    return fill(Path(__file__).with_name("page.html.j2"), content(name, runs))


def content(name: str, runs: Sequence[SweptRun]) -> dict[str, Any]:
    """Everything the template shows, under the names it uses."""
    read = [run for run in runs if run.problem is None]
    names = varying(runs)
    charts = loss_chart(read, names)
    pairs = links(runs)
    return {
        "name": name,
        "count": len(runs),
        "verdicts": _verdicts(runs),
        "best": _best(read),
        "found": _found(read),
        "links": [_shown(link) for link in pairs[:_MOST_LINKS]],
        "more_links": max(0, len(pairs) - _MOST_LINKS),
        "names": names,
        "same": _same(read, names),
        "rows": [_row(run, names) for run in sorted(read, key=_order)],
        "unreadable": [(run.name, run.problem) for run in runs if run.problem is not None],
        "charts": charts,
        "figures": {item.key: item.figure for item in charts},
        "definitions": DEFINITIONS,
        "version": version(),
    }


def _verdicts(runs: Sequence[SweptRun]) -> list[dict[str, Any]]:
    counts = collections.Counter(run.verdict for run in runs)
    return [
        {"verdict": verdict, "level": level, "count": counts[verdict], "said": _SAID[verdict]}
        for verdict, level in _VERDICTS.items()
        if counts[verdict]
    ]


def _best(runs: Sequence[SweptRun]) -> tuple[str, str] | None:
    known = [run for run in runs if run.last_loss is not None and math.isfinite(run.last_loss)]
    best = min(known, key=_order, default=None)
    return None if best is None else (best.name, number(best.last_loss, 4))


def _found(runs: Sequence[SweptRun]) -> list[dict[str, Any]]:
    """A row for each code, the most frequent first."""
    severities: dict[str, list[Severity]] = {}
    for run in runs:
        for code, finding in run.alarms.items():
            severities.setdefault(code, []).append(finding.severity)
    rows = []
    for code, own in sorted(severities.items(), key=lambda item: -len(item[1])):
        worst = min(own, key=list(Severity).index)
        rows.append(
            {
                "code": code, "title": _title(code), "level": LEVELS[worst], "severity": worst.value,
                "runs": f"{len(own):,}", "share": percent(len(own) / len(runs)),
            }
        )  # fmt: skip
    return rows


def _title(code: str) -> str:
    return CODES[code].title if code in CODES else code


def _shown(link: Link) -> dict[str, Any]:
    most = max(link.groups, key=lambda group: group.share)
    return {
        "title": _title(link.code),
        "code": link.code,
        "parameter": link.parameter,
        "p": number(link.p, 2),
        "most": f"{most.found:,} of {most.runs:,} runs at {most.label}",
        "groups": [
            (g.label, f"{g.found:,} of {g.runs:,}", percent(g.share), round(100 * g.share)) for g in link.groups
        ],
    }


def _same(runs: Sequence[SweptRun], names: Sequence[str]) -> list[tuple[str, str]]:
    first: Mapping[str, Any] = runs[0].config if runs else {}
    return [(name, setting(value)) for name, value in first.items() if name not in names]


def _order(run: SweptRun) -> tuple[bool, float]:
    """By final loss, those without a finite one last."""
    known = run.last_loss is not None and math.isfinite(run.last_loss)
    return not known, run.last_loss if known and run.last_loss is not None else 0.0


def _row(run: SweptRun, names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": run.name,
        "verdict": run.verdict,
        "level": _VERDICTS[run.verdict],
        "loss": odd(run.last_loss) or number(run.last_loss, 4),
        "records": f"{run.records:,}",
        "values": [setting(run.config.get(name), missing="not given") for name in names],
        "findings": [(_title(f.code), LEVELS[f.severity], f"{f.first_step:,}") for f in run.alarms.values()],
    }
