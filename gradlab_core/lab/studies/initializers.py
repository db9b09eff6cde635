"""Whether the initialisers draw what their formulas say, and the effect of each start on a signal in a deep net."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from gradlab_core import backends, fields
from gradlab_core.definitions.initializers import INITIALIZERS, fans, initial_arrays
from gradlab_core.errors import refuse
from gradlab_core.lab.activations import ACTIVATIONS
from gradlab_core.lab.laws import LAYERS, SampleLayer, bias_law, weight_law
from gradlab_core.lab.samples import Histogram, Sample, histogram, sample
from gradlab_core.lab.studies.starts import MOST_LAYERS, Start, study_starts

ORTHOGONALITY = 1e-5
MOST_NUMBERS, MOST_DRAWS = 1 << 23, 1000
_WINDOW, _GROUPS, _WIDTH = 3, 4, 100

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitializerRow:
    """One initialiser.

    Attributes:
        name: one of `INITIALIZERS`.
        number: the value, std or gain of the initialiser; None if it takes no number.
        fan_in, fan_out: the fans of the layer.
        weights, biases: what was drawn.
        orthogonality: for `orthogonal`, the largest distance of WWᵀ or WᵀW, whichever is smaller, from the identity;
            else None.
        differences: for each framework asked for, the largest distance of the numbers in its own layer from these,
            over all draws; NaN if one of them is NaN.
        wrong: the `wrong` of weights, and those of `biases`, `orthogonality` and the frameworks that are wrong.
    """

    name: str
    number: float | None
    fan_in: int
    fan_out: int
    weights: Sample
    biases: Sample
    orthogonality: float | None
    differences: Mapping[str, float]
    wrong: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FansRow:
    """The fans of a layer: those `found` in the shape of its weight, and those by its sizes."""

    layer: SampleLayer
    found: tuple[int, int]
    right: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitializerStudy:
    """All initialisers on one layer, the fans of the four kinds of layers, and deep square nets with these starts.

    Attributes:
        layer: the layer, which was drawn `draws` times, with the seeds from `seed` on.
        value: the value of `constant`.
        starts: the starts of nets of `depth` layers of `width` units with that activation between.
    """

    layer: SampleLayer
    draws: int
    seed: int
    value: float
    rows: tuple[InitializerRow, ...]
    histograms: tuple[Histogram, ...]
    fans: tuple[FansRow, ...]
    depth: int
    width: int
    activation: str
    starts: tuple[Start, ...]


def study_initializers(
    names: Sequence[str] = (),
    *,
    layer: str = "dense",
    inputs: int | None = None,
    outputs: int | None = None,
    kernel: int | None = None,
    groups: int | None = None,
    draws: int = 20,
    seed: int = 0,
    value: float = 0.1,
    depth: int = 50,
    activation: str = "tanh",
    frameworks: Sequence[str] = (),
) -> InitializerStudy:
    """Study initialisers by name, or all if none is named.

    Args:
        layer: one of `LAYERS`.
        inputs, outputs: units or channels; by default 100 → 100 for a dense layer, and 32 → 64 for others.
        kernel: side of the window, by default 3, for layers that have one.
        groups: groups of a grouped convolution, by default up to 4.
        draws, seed: the seeds are seed, seed + 1, …
        value: the value of `constant`.
        depth, activation: those of the nets, whose width is that of a square dense layer, or else 100.
        frameworks: the frameworks whose layers must hold the same numbers.

    Raises:
        GradlabError: something is out of range, where one message lists all problems, or a framework is not installed.

    >>> (row,) = study_initializers(["xavier_uniform"], draws=2).rows
    >>> row.weights.law.std, row.wrong
    (0.1, ())
    """
    problems: list[str] = []
    for name in names:
        fields.one_of(problems, "initialiser", name, INITIALIZERS)
    for framework in frameworks:
        fields.one_of(problems, "framework", framework, backends.BACKENDS)
    layers = _layers(problems, layer, inputs, outputs, kernel, groups)
    fields.whole_number(problems, "draws", draws, 1)
    fields.whole_number(problems, "seed", seed, 0)
    fields.whole_number(problems, "depth", depth, 1)
    fields.one_of(problems, "activation", activation, ACTIVATIONS)
    if not abs(value) <= float(np.finfo(np.float32).max):
        problems.append(f"the value of constant is {value!r}; expected a number that float32 can hold")
    if depth > MOST_LAYERS:
        problems.append(f"depth is {depth}; expected at most {MOST_LAYERS:,}")
    if draws > MOST_DRAWS:
        problems.append(f"draws is {draws}; expected at most {MOST_DRAWS:,}")
    sample = layers.get(layer)
    if sample and draws >= 1 and draws * math.prod(sample.shape) > MOST_NUMBERS:
        total = f"{draws} draws of {math.prod(sample.shape):,} weights"
        problems.append(f"{total} are too many; expected at most {MOST_NUMBERS:,} in all: fewer draws, a smaller layer")
    refuse("init", problems)
    assert sample is not None
    every = tuple(dict.fromkeys(names or INITIALIZERS))
    twins = {framework: backends.load(framework) for framework in dict.fromkeys(frameworks)}
    width = sample.inputs if sample.kind == "dense" and sample.inputs == sample.outputs else _WIDTH
    seeds = range(seed, seed + draws)
    studied = [_study(name, sample, seeds, value, twins) for name in every]
    return InitializerStudy(
        layer=sample,
        draws=draws,
        seed=seed,
        value=value,
        rows=tuple(row for row, _ in studied),
        histograms=tuple(bars for _, bars in studied),
        fans=tuple(_fans(each) for each in layers.values()),
        depth=depth,
        width=width,
        activation=activation,
        starts=study_starts(every, depth=depth, width=width, activation=activation, value=value, seeds=seeds),
    )


def _layers(
    problems: list[str], kind: str, inputs: int | None, outputs: int | None, kernel: int | None, groups: int | None
) -> dict[str, SampleLayer]:
    """The layers of all four kinds in these sizes; none if the sizes do not fit."""
    before = len(problems)
    fields.one_of(problems, "layer", kind, LAYERS)
    for name, size in (("inputs", inputs), ("outputs", outputs), ("kernel", kernel), ("groups", groups)):
        if size is not None:
            fields.whole_number(problems, name, size, 1)
    if kernel is not None and kind == "dense":
        problems.append(f"kernel is {kernel}, and a dense layer has none; leave it out, or name another layer")
    if groups is not None and kind != "grouped":
        problems.append(f"groups is {groups}, and the layer {kind}; leave it out, or take the layer grouped")
    if len(problems) > before:
        return {}
    samples = {}
    for name in LAYERS:
        n_in, n_out = inputs or (100 if name == "dense" else 32), outputs or (100 if name == "dense" else 64)
        window = 1 if name == "dense" else kernel or _WINDOW
        parts = 1 if name != "grouped" else groups or math.gcd(_GROUPS, n_in, n_out)
        if n_in % parts or n_out % parts:
            problems.append(f"groups is {parts}; expected a divisor of {n_in} inputs and {n_out} outputs")
        samples[name] = SampleLayer(kind=name, inputs=n_in, outputs=n_out, kernel=window, groups=parts)
    return samples


def _study(
    name: str, layer: SampleLayer, seeds: range, value: float, twins: Mapping[str, ModuleType]
) -> tuple[InitializerRow, Histogram]:
    number = value if name == "constant" else None
    draws = [initial_arrays(name, layer.tensors, seed=seed, number=number) for seed in seeds]
    weights, biases = (np.stack([draw[leaf] for draw in draws]).astype(np.float64) for leaf in ("weight", "bias"))
    law = weight_law(name, layer, value)
    of_weights, of_biases = sample(law, weights), sample(bias_law(name, layer), biases)
    orthogonality = max(_defect(matrix) for matrix in weights) if law.kind == "sphere" else None
    differences = {f: _difference(twin, name, layer, seeds, number, draws) for f, twin in twins.items()}
    wrong = [*of_weights.wrong, *(["biases"] if of_biases.wrong else [])]
    if orthogonality is not None and not orthogonality <= ORTHOGONALITY:
        wrong.append("orthogonality")
    wrong += [framework for framework, difference in differences.items() if difference != 0]
    row = InitializerRow(
        name=name,
        number=value if name == "constant" else INITIALIZERS[name].default if INITIALIZERS[name].number else None,
        fan_in=layer.fan_in,
        fan_out=layer.fan_out,
        weights=of_weights,
        biases=of_biases,
        orthogonality=orthogonality,
        differences=differences,
        wrong=tuple(wrong),
    )
    return row, histogram(name, law, weights)


def _defect(weight: Array) -> float:
    matrix = weight.reshape(len(weight), -1)
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    return float(np.max(np.abs(gram - np.eye(len(gram)))))


def _difference(
    twin: ModuleType,
    name: str,
    layer: SampleLayer,
    seeds: range,
    number: float | None,
    draws: Sequence[Mapping[str, NDArray[np.float32]]],
) -> float:
    largest = [0.0]
    for seed, draw in zip(seeds, draws, strict=True):
        theirs = _drawing_of(twin).drawn_layer(name, layer.tensors["weight"], seed=seed, number=number)
        for leaf, ours in draw.items():
            same = theirs[leaf].shape == ours.shape and theirs[leaf].dtype == ours.dtype
            largest.append(float(np.max(np.abs(theirs[leaf] - ours))) if same else math.inf)
    return float(np.max(largest))  # NaN if one of them is NaN


def _fans(layer: SampleLayer) -> FansRow:
    weight = layer.tensors["weight"]
    measured = fans(weight.shape, transposed=weight.transposed, groups=weight.groups)
    return FansRow(layer=layer, found=measured, right=measured == (layer.fan_in, layer.fan_out))


def _drawing_of(twin: ModuleType) -> ModuleType:
    return importlib.import_module(f"{twin.__name__}.start.initializers")
