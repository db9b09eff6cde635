"""Units that do nothing: dead, saturated, or copies of each other. Norms do not show them, probes do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from gradlab_core.definitions.thresholds import COPIED_SHARE, DEAD_EXAMPLES, DEAD_SHARE, SATURATED_SHARE
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.judge.diagnosis.progress import progress
from gradlab_core.records import Finding, LayerStats, Probe, Severity, StepRecord

Series = list[tuple[int, float]]
"""`(step, share)` of one layer, probe by probe."""


def dead(history: History) -> Iterator[Finding]:
    """`dead-relu`: most units of a layer are 0 on every batch looked at, to the newest."""
    layers = _lasting(_layers(history, _dead_share), DEAD_SHARE)
    if layers:
        least, worst = (choose(share for _, share in layers.values()) for choose in (min, max))
        yield finding(
            "dead-relu",
            Severity.CRITICAL if worst == 1.0 else Severity.WARNING,
            step=min(step for step, _ in layers.values()),
            paths=list(layers),
            evidence={"share of dead units": worst, "probes": float(len(history.probes))},
            seen=f"In {some(list(layers))} at least {least:.0%} of the units gave 0 for every example of every batch "
            "looked at.",
        )


def _dead_share(row: LayerStats) -> float | None:
    """The share of dead units; 0 where a layer that is merely sparse may show as much in a batch as small as this."""
    if row.dead_unit_frac is None:
        return None
    examples = min(row.shape[0], DEAD_EXAMPLES)
    return row.dead_unit_frac if row.dead_unit_frac >= DEAD_SHARE ** (examples / DEAD_EXAMPLES) else 0.0


def saturated(history: History) -> Iterator[Finding]:
    """`saturated-activation`: most outputs of a bounded activation lie at a bound, to the newest probe. This may
    be harmless in a net that has learned, unless it started so."""
    series = _layers(history, lambda row: row.saturated_frac) | _states(history)
    layers = _lasting(series, SATURATED_SHARE)
    if layers:
        run = progress(history)
        worst = max(share for _, share in layers.values())
        began_so = any(step == history.probes[0][0] for step, _ in layers.values())
        yield finding(
            "saturated-activation",
            Severity.NOTE if run is not None and run.useful and not began_so else Severity.WARNING,
            step=min(step for step, _ in layers.values()),
            paths=list(layers),
            evidence={"share of saturated outputs": worst},
            seen=f"In {some(list(layers))} up to {worst:.0%} of the outputs lie within 1 % of a bound.",
        )


def symmetric(history: History) -> Iterator[Finding]:
    """`symmetric-units`: most units of a layer are copies of each other, and training does not tell them apart. A layer
    that merely starts from a constant, between layers that do not, is no longer symmetric after one step."""
    if len(history.probes) < 2:
        return
    (begin, first), (end, last) = history.probes[0], history.probes[-1]
    hidden = [path for path, shape in last.shapes.items() if len(shape) > 1][:-1]
    shares = {
        path: min(_copied(history.early[0], first, path), _copied(history.recent[-1], last, path)) for path in hidden
    }
    paths = [path for path, share in shares.items() if share >= COPIED_SHARE]
    if paths:
        most = max(shares.values())
        yield finding(
            "symmetric-units",
            Severity.CRITICAL,
            step=begin,
            paths=paths,
            evidence={"share of units that are copies": most},
            seen=f"In {some(paths)} {most:.0%} of the units are copies of another one, still at step {end:,}.",
        )


def _copied(record: StepRecord, probe: Probe, path: str) -> float:
    """The share of units that are copies; where all weights are 0, every unit is."""
    norms = record.tensors.get(path)
    return 1.0 if norms is not None and norms.param == 0.0 else probe.copies.get(path, 0.0)


def _layers(history: History, value: Callable[[LayerStats], float | None]) -> dict[str, Series]:
    """One series a layer; of a layer called several times in one pass, the call with the smallest share counts."""
    series: dict[str, Series] = {}
    for step, probe in history.probes:
        for path, share in _smallest(probe, value).items():
            series.setdefault(path, []).append((step, share))
    return series


def _smallest(probe: Probe, value: Callable[[LayerStats], float | None]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for row in probe.layers:
        share = value(row)
        if share is not None and math.isfinite(share):
            shares[row.path] = min(share, shares.get(row.path, 1.0))
    return shares


def _states(history: History) -> dict[str, Series]:
    """The saturated share of a tanh RNN's state, mean over time. Gates do not count: they are meant to saturate."""
    series: dict[str, Series] = {}
    for step, probe in history.probes:
        if probe.hidden is not None and "h" in probe.hidden.saturated:
            shares = probe.hidden.saturated["h"]
            if shares:
                series.setdefault(probe.hidden.path, []).append((step, sum(shares) / len(shares)))
    return series


def _lasting(series: dict[str, Series], least: float) -> dict[str, tuple[int, float]]:
    """`{path: (onset, smallest share since)}` of the layers that reached a share and kept it to the newest probe, over
    at least two probes, or over the only one."""
    lasting = {}
    for path, shares in series.items():
        kept: Series = []
        for step, share in reversed(shares):
            if share < least:
                break
            kept.append((step, share))
        if len(kept) >= min(2, len(shares)):
            lasting[path] = (kept[-1][0], min(share for _, share in kept))
    return lasting
