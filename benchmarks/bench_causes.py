"""How often the parity judge names the cause: porting traps planted alone and in pairs, beside fixed tolerances.

Example: `gradlab bench causes --seeds 1 --pairs 10`
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import RenderableType
from rich.table import Table

from gradlab_core import backends
from gradlab_core.errors import GradlabError
from gradlab_core.parity import Key, ParityReport, compare

from .options import answering
from .traps.catalogue import NETS, TRAPS, Trap

STEPS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison.

    `traps` are planted, none in a healthy pair; `alarm`: parity was called broken; `placed`: a fault was found at every
    tensor where one is; `named`: every cause is the first explanation of a fault, and there is no fault beside; `told`
    are the causes that were named. `fixed` says which of the fixed tolerances raise an alarm.
    """

    net: str
    seed: int
    traps: tuple[str, ...]
    alarm: bool
    placed: bool
    named: bool
    told: tuple[str, ...]
    fixed: dict[str, bool]


def run(
    *,
    seeds: Annotated[int, typer.Option(help="Drawn nets in which each trap is planted.")] = 2,
    pairs: Annotated[int, typer.Option(help="Drawn pairs of traps in one net.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Traps whose names hold one of these words.")] = None,
    on_call: Callable[[str], Any] = lambda name: None,
) -> list[Row]:
    """Plant each trap in so many drawn nets, and so many pairs of traps; judge the healthy nets too.

    Raises:
        GradlabError: a number out of range, no trap of that name, or a framework that is missing.
    """
    if seeds < 1 or pairs < 0:
        raise GradlabError(f"seeds is {seeds} and pairs is {pairs}; expected at least 1 and at least 0")
    traps = [trap for trap in TRAPS if not only or any(word in trap.name for word in only)]
    if not traps:
        raise GradlabError(f"only is {', '.join(only or ())}; expected words of: {', '.join(t.name for t in TRAPS)}")
    for framework in ("torch", "jax"):
        backends.load(framework)
    rng = np.random.default_rng(seed)
    planted: list[tuple[str, tuple[Trap, ...], int]] = [
        (net, (), seed + i) for net in NETS for i in range(seeds) if any(t.net == net for t in traps)
    ]
    planted += [(trap.net, (trap,), seed + i) for trap in traps for i in range(seeds)]
    both = [pair for pair in itertools.combinations([t for t in traps if t.cause], 2) if _go_together(*pair)]
    planted += [(a.net, (a, b), seed) for a, b in (both[i] for i in rng.permutation(len(both))[:pairs])]
    rows = []
    for count, (net, some, drawn) in enumerate(planted, 1):
        on_call(f"{count} of {len(planted)}: {net} with {' and '.join(t.name for t in some) or 'nothing'}")
        rows.append(_judged(net, some, drawn))
    return rows


def _go_together(a: Trap, b: Trap) -> bool:
    """Two faults of one net that can be there at once."""
    return a.net == b.net and a.cause != b.cause and a.place != b.place


def _judged(net: str, traps: tuple[Trap, ...], seed: int) -> Row:
    from .traps.pairs import pair

    made = pair(net, frozenset(trap.name for trap in traps), seed)
    report = compare(made.reference, made.candidate, made.batch, steps=STEPS, rules=made.rules)
    faulty = [trap for trap in traps if trap.cause]
    told = tuple(c.code for fault in report.faults for e in fault.explanations[:1] for c in e.causes)
    unexplained = sum(not fault.explanations for fault in report.faults)
    return Row(
        net=net,
        seed=seed,
        traps=tuple(trap.name for trap in traps),
        alarm=bool(report.failures),
        placed=all(_is_placed(trap, report) for trap in faulty),
        named=sorted(told) == sorted(trap.cause for trap in faulty) and not unexplained,
        told=told,
        fixed=_by_fixed_tolerances(made),
    )


def _is_placed(trap: Trap, report: ParityReport) -> bool:
    """Whether a fault was found where it is. A layer without weights has no name of its own: the next one will do."""
    quantity, path = trap.where
    keys = [key for fault in report.faults for key in (fault.key, *fault.also)]
    return any(key.quantity == quantity and key.path.startswith(path) for key in keys)


def _by_fixed_tolerances(made: Any) -> dict[str, bool]:
    """Alarms of what people compare by hand, on one step in float32."""
    reference, candidate = made.reference.cast("float32"), made.candidate.cast("float32")
    candidate.load(reference.state())
    ours, theirs = (side.step(*made.batch, 0) for side in (reference, candidate))
    grads = [k for k, v in ours.items() if k.quantity == "gradient" and v is not None and theirs.get(k) is not None]
    logits, loss = Key("logits"), Key("loss")
    means = abs(float(ours[logits].mean()) - float(theirs[logits].mean()))
    norms = [abs(np.linalg.norm(ours[k]) - np.linalg.norm(theirs[k])) for k in grads]
    return {
        "logits and loss, 1e-5": not all(_close(ours[k], theirs[k], 1e-5) for k in (logits, loss)),
        "logits, loss and gradients, 1e-5": not all(_close(ours[k], theirs[k], 1e-5) for k in (logits, loss, *grads)),
        "logits, loss and gradients, 1e-3": not all(_close(ours[k], theirs[k], 1e-3) for k in (logits, loss, *grads)),
        "means of logits, 1e-3": means > 1e-3,
        "norms of gradients, 0.04": any(norm > 0.04 for norm in norms),
    }


def _close(a: Any, b: Any, tolerance: float) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=tolerance, atol=tolerance))


def _kind(row: Row, causes: dict[str, str]) -> str:
    """What is planted, of which a trap without a cause is none."""
    count = sum(bool(causes[name]) for name in row.traps)
    if count == 0:
        return "nothing that changes a number" if row.traps else "nothing"
    return "one trap" if count == 1 else "two traps"


def report(rows: list[Row]) -> Iterator[RenderableType]:
    """What a console prints."""
    table = Table(title="The parity judge, judged on porting traps", title_justify="left")
    for column in ("planted", "comparisons", "alarms", "placed", "causes named"):
        table.add_column(column, justify="left" if column == "planted" else "right")
    causes = {trap.name: trap.cause for trap in TRAPS}
    kinds: dict[str, list[Row]] = {"nothing": [], "nothing that changes a number": [], "one trap": [], "two traps": []}
    for row in rows:
        kinds[_kind(row, causes)].append(row)
    for kind, some in kinds.items():
        if some:
            shares = (f"{sum(getattr(r, field) for r in some)} ({np.mean([getattr(r, field) for r in some]):.3f})"
                      for field in ("alarm", "placed", "named"))  # fmt: skip
            table.add_row(kind, str(len(some)), *(shares if "trap" in kind else (next(shares), "", "")))
    yield table
    fixed = Table(title="What fixed tolerances see of them, in one step", title_justify="left")
    for column in ("compared", "traps found", "false alarms"):
        fixed.add_column(column, justify="left" if column == "compared" else "right")
    healthy = kinds["nothing"] + kinds["nothing that changes a number"]
    faulty = kinds["one trap"] + kinds["two traps"]
    for name in rows[0].fixed:
        seen, false = (sum(row.fixed[name] for row in some) for some in (faulty, healthy))
        fixed.add_row(name, f"{seen} of {len(faulty)}", f"{false} of {len(healthy)}")
    yield fixed
    for row in rows:
        expected = [causes[name] for name in row.traps if causes[name]]
        if row.alarm != bool(expected) or (expected and not (row.placed and row.named)):
            yield (
                f"{row.net} (seed {row.seed}) with {' and '.join(row.traps) or 'nothing'}: "
                f"{'alarm' if row.alarm else 'no alarm'}, {'placed' if row.placed else 'not placed'}, "
                f"named {', '.join(row.told) or 'nothing'}; expected {', '.join(expected) or 'nothing'}"
            )


command = answering(run, "causes-benchmark", report)

if __name__ == "__main__":
    from .script import main

    main("causes")
