"""The inputs for which activations let a gradient through, and a check of the derivatives of the frameworks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from gradlab_core import backends, fields
from gradlab_core.errors import refuse
from gradlab_core.lab.activations import ACTIVATIONS, activation_gradient
from gradlab_core.lab.regions import ActivationCurve, Interval, activation_curve, goldilocks_share, vanishing_region

ROUNDING = {"float64": 1e-8, "float32": 1e-5}
"""A derivative that differs by more is another one. The largest differences seen are 5e-9 in float64, from a constant
that PyTorch rounds to float32, and a few times 1e-7 in float32, from the exponentials."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kink:
    """A point at which f' jumps, with its value in the definition and in each framework that was asked for."""

    x: float
    definition: float
    frameworks: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationRow:
    """One activation.

    Attributes:
        name: one of `ACTIVATIONS`.
        gradient_min, gradient_max: the bounds of f' on −8 … 8.
        vanishing: the intervals on which |f'| < 0.01.
        share: the probability of ½ ≤ |f'| ≤ 2 for the inputs of the study.
        kinks: the points at which f' jumps.
        differences: for each framework asked for, the largest distance of its f' from the definition on −8 … 8 without
            kinks, in float64 or in the type that the framework uses instead.
        wrong: the frameworks whose distance is more than rounding.
    """

    name: str
    gradient_min: float
    gradient_max: float
    vanishing: tuple[Interval, ...]
    share: float
    kinks: tuple[Kink, ...]
    differences: Mapping[str, float]
    wrong: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationStudy:
    """All rows, the curves of the published plot, and the inputs N(mean, std²) of `share`."""

    mean: float
    std: float
    rows: tuple[ActivationRow, ...]
    curves: tuple[ActivationCurve, ...]


def study_activations(
    names: Sequence[str] = (), *, mean: float = 0.0, std: float = 1.0, frameworks: Sequence[str] = ()
) -> ActivationStudy:
    """Study activations by name, or all if none is named, with the derivatives of the frameworks asked for.

    Raises:
        GradlabError: a name is unknown, the inputs are not a distribution, or a framework is not installed.

    >>> (row,) = study_activations(["tanh"]).rows
    >>> row.gradient_max, round(row.share, 3)
    (1.0, 0.622)
    """
    problems: list[str] = []
    for name in names:
        fields.one_of(problems, "activation", name, ACTIVATIONS)
    refuse("activations", problems)
    twins = {framework: backends.load(framework) for framework in dict.fromkeys(frameworks)}
    curves = tuple(activation_curve(name) for name in dict.fromkeys(names or ACTIVATIONS))
    rows = []
    for curve in curves:
        kinks = ACTIVATIONS[curve.name].kinks
        x = np.concatenate([np.setdiff1d(curve.x, kinks), kinks])
        defined = activation_gradient(curve.name, x)
        derivatives = {
            f: np.asarray(twin.activation_gradient(curve.name, twin.to_native(x))) for f, twin in twins.items()
        }
        smooth = len(x) - len(kinks)
        slopes = _extremes(curve)
        differences = {f: float(np.max(np.abs(slope - defined)[:smooth])) for f, slope in derivatives.items()}
        rows.append(
            ActivationRow(
                name=curve.name,
                gradient_min=min(slopes),
                gradient_max=max(slopes),
                vanishing=vanishing_region(curve.name),
                share=goldilocks_share(curve.name, mean=mean, std=std),
                kinks=tuple(
                    Kink(
                        x=kink,
                        definition=float(at) + 0.0,
                        frameworks={f: float(v[smooth + i]) for f, v in derivatives.items()},
                    )
                    for i, (kink, at) in enumerate(zip(kinks, defined[smooth:], strict=True))
                ),
                differences=differences,
                wrong=tuple(f for f, slope in derivatives.items() if not differences[f] <= ROUNDING[str(slope.dtype)]),
            )
        )
    return ActivationStudy(mean=mean, std=std, rows=tuple(rows), curves=curves)


def _extremes(curve: ActivationCurve) -> list[float]:
    """The smallest and largest f', at the ends of the curve or beside a break, since it is monotone elsewhere."""
    breaks = [x for x in ACTIVATIONS[curve.name].breaks if curve.x[0] < x < curve.x[-1]]
    x = [curve.x[0], curve.x[-1], *(math.nextafter(b, end) for b in breaks for end in (-math.inf, math.inf))]
    slopes: list[float] = activation_gradient(curve.name, x).tolist()
    return slopes
