"""How often `check_derivatives` finds a wrong backward, and alleges one where all are right: nets drawn by program.

Example: `gradlab bench derivatives --nets 100 --faults 20 -f torch`
"""

from __future__ import annotations

import dataclasses
import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import RenderableType
from rich.table import Table

from gradlab_core import backends
from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec

from .environment import frameworks
from .options import Framework, answering
from .planted import FAULTS

EXAMPLES = 4
_SMALL: dict[str, Any] = {"num_classes": 3}
NETS: dict[str, tuple[ModelSpec, tuple[int, ...]]] = {
    **{
        f"mlp {name}": (ModelSpec(kind="mlp", features=6, widths=(8, 7), activation=name, **_SMALL), (6,))
        for name in ("relu", "gelu", "leaky_relu")
    },
    "residual_toy": (ModelSpec(kind="residual_toy", base=3, image_size=4, **_SMALL), (3, 4, 4)),
    "postact": (ModelSpec(block="postact", base=3, layers=(1, 1), **_SMALL), (3, 8, 8)),
    "preact": (ModelSpec(block="preact", base=3, layers=(1, 1), **_SMALL), (3, 8, 8)),
    "lstm": (ModelSpec(kind="recurrent", cell="lstm", features=3, hidden=5, **_SMALL), (4, 3)),
    "rnn_relu": (ModelSpec(kind="recurrent", cell="rnn_relu", features=3, hidden=5, **_SMALL), (4, 3)),
    "transformer": (ModelSpec(kind="transformer", features=3, hidden=8, heads=2, depth=1, **_SMALL), (4, 3)),
}
"""Few shapes and many weights, so that JAX compiles little."""
INITS = ("torch_default", "kaiming_normal", "orthogonal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One net: what was planted in which layer, empty in a right net; the layers called wrong, and how many derivatives
    have which status."""

    framework: str
    net: str
    seed: int
    fault: str
    layer: str
    wrong: tuple[str, ...]
    statuses: dict[str, int]

    @property
    def placed(self) -> bool:
        """Whether that layer was called wrong, and no other."""
        return [layer.lower() for layer in self.wrong] == [f"wrong of {self.layer}"]


def run(
    *,
    framework: Framework = None,
    nets: Annotated[int, typer.Option(help="Right nets drawn.")] = 100,
    faults: Annotated[int, typer.Option(help="Nets drawn with one wrong backward; the faults take turns.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    on_call: Callable[[str], Any] = lambda name: None,
) -> list[Row]:
    """Check so many right nets and so many with a wrong backward, in each framework.

    Raises:
        GradlabError: a number out of range, or a framework that is missing.
    """
    if nets < 0 or faults < 0 or nets + faults < 1:
        raise GradlabError(f"nets is {nets} and faults is {faults}; expected none below 0 and one above")
    rows = []
    for name in frameworks(framework):
        planted = [*[""] * nets, *(FAULTS[i % len(FAULTS)] for i in range(faults))]
        for i, fault in enumerate(planted):
            # Of the few nets each comes in turn; with a fault, another layer each time.
            on_call(f"{name}: {i + 1} of {len(planted)}{f', {fault}' if fault else ''}")
            rows.append(_checked(name, list(NETS)[i % len(NETS)], seed + i, fault))
    return rows


def _checked(framework: str, net: str, seed: int, fault: str) -> Row:
    twin = backends.load(framework)
    spec, shape = NETS[net]
    rng = np.random.default_rng(seed)
    model = twin.build(dataclasses.replace(spec, init=INITS[seed % len(INITS)]), seed=seed)
    x = rng.standard_normal((EXAMPLES, *shape)).astype(np.float32)
    x[0] = 0.0  # without biases every ReLU is then at its kink
    layer = importlib.import_module(f"{__package__}.planted.in_{framework}").plant(model, fault, rng) if fault else ""
    check = twin.check_derivatives(model, twin.to_native(x), np.arange(EXAMPLES) % 3)
    return Row(
        framework=framework,
        net=net,
        seed=seed,
        fault=fault,
        layer=layer,
        wrong=check.wrong,
        statuses=dict(Counter(row.status for row in check.rows)),
    )


def report(rows: list[Row]) -> Iterator[RenderableType]:
    """What a console prints."""
    table = Table(title="Wrong backwards, found and alleged", title_justify="left")
    for column in ("framework", "planted", "nets", "called wrong", "placed, nothing else", "derivatives"):
        table.add_column(column, justify="left" if column in ("framework", "planted") else "right")
    for framework, fault in dict.fromkeys((row.framework, row.fault) for row in rows):
        some = [row for row in rows if (row.framework, row.fault) == (framework, fault)]
        called, placed = sum(bool(row.wrong) for row in some), sum(row.placed for row in some)
        count = sum(sum(row.statuses.values()) for row in some)
        table.add_row(
            framework, fault or "nothing", str(len(some)), str(called), str(placed) if fault else "", f"{count}"
        )
    yield table
    statuses: Counter[str] = Counter()
    for row in rows:
        statuses.update({} if row.fault else row.statuses)
    yield "derivatives of right nets: " + ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    for row in rows:
        if row.wrong if not row.fault else not row.placed:
            yield f"{row.framework} {row.net} (seed {row.seed}), {row.fault or 'right'} {row.layer}: {row.wrong}"


command = answering(run, "derivatives-benchmark", report)

if __name__ == "__main__":
    from .script import main

    main("derivatives")
