"""A random MLP before training: signal and gradient layer by layer against theory, the map it lies on, its Jacobian."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from gradlab_core import backends, fields
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.lab.against_theory import LayerComparison, compare_with_theory
from gradlab_core.lab.edge import EdgeOfChaos, edge_of_chaos
from gradlab_core.lab.isometry import LogSpectrum, jacobian_spectrum
from gradlab_core.lab.meanfield import MeanField, mean_field
from gradlab_core.lab.phases import PhaseMap, phase_map
from gradlab_core.lab.random_mlp import RandomMlp, layer_variances
from gradlab_core.lab.simulation import Propagated, propagate

THIS, GAUSSIAN, ORTHOGONAL = "this net", "Gaussian, critical σ_w", "orthogonal, critical σ_w"
MOST_WEIGHTS = 1 << 26
"""Of one net: half a gigabyte in float64."""
ROUNDING = 1e-9
"""How far a twin's ln of a second moment may be from the definition's in float64, relative to 1 + |ln|."""
_COLUMNS = 61
_ROWS = 400  # of the map; deeper nets lie at its edge


@dataclasses.dataclass(frozen=True, kw_only=True)
class PropagationStudy:
    """A square random MLP.

    Attributes:
        net, nets: the distribution, and how many were drawn from it.
        measured: the rows of `compare_with_theory`, by `numpy` and every framework asked.
        differences: of each framework, the largest distance of ln of a second moment from NumPy's, over 1 + |ln|.
        wrong: the frameworks whose distance is more than rounding.
        largest_z: of all rows of which theory gives a spread, the largest distance of the mean over nets from the
            centre, in standard errors; None where weights are not random.
        log_signal: ln of the root mean square of the last layer's output, for an input of root mean square 1: the mean
            over nets; −inf where one of them is dead.
        log_gradient: the same of the gradient in the first layer, for one of root mean square 1 in the last.
        sigma_w, sigma_b: of the net; None for constant weights.
        field, edge: what mean-field theory says of them; None for constant weights, and where no σ_w is critical.
        phases: the map; None for constant weights.
        spectra: singular values of the Jacobian, of this net and of critical ones without biases, if
            there are any that stay critical.
    """

    net: RandomMlp
    nets: int
    measured: Mapping[str, tuple[LayerComparison, ...]]
    differences: Mapping[str, float]
    wrong: tuple[str, ...]
    largest_z: float | None
    log_signal: float
    log_gradient: float
    sigma_w: float | None
    sigma_b: float
    field: MeanField | None
    edge: EdgeOfChaos | None
    phases: PhaseMap | None
    spectra: Mapping[str, LogSpectrum]


def size_problems(depth: int, width: int) -> list[str]:
    """What is wrong with the size of a net; empty if nothing is.

    >>> size_problems(0, 10)
    ['depth is 0; expected a whole number of at least 1']
    """
    problems: list[str] = []
    fields.whole(problems, "depth", depth, 1)
    fields.whole(problems, "width", width, 1)
    if not problems and depth * width**2 > MOST_WEIGHTS:
        problems.append(f"depth·width² is {depth * width**2:,} weights; expected at most {MOST_WEIGHTS:,}")
    return problems


def square_net(
    depth: int,
    width: int,
    activation: str,
    *,
    init: str | None = None,
    init_number: float | None = None,
    sigma_w: float | None = None,
    sigma_b: float = 0.0,
) -> RandomMlp:
    """A net of `depth` layers, all of that width; Xavier's initialiser if neither `init` nor `sigma_w` is given.

    Raises:
        GradlabError: numbers out of range, or more weights than fit in memory.

    >>> square_net(3, 10, "tanh").widths
    (10, 10, 10, 10)
    """
    refuse("net", size_problems(depth, width))
    if init is None and sigma_w is None and not sigma_b:
        init = "xavier_uniform"
    return RandomMlp(
        widths=(width,) * (depth + 1),
        activation=activation,
        init=init,
        init_number=init_number,
        sigma_w=sigma_w,
        sigma_b=sigma_b,
    )


def study_propagation(
    net: RandomMlp, *, nets: int = 100, seed: int = 0, frameworks: Sequence[str] = ()
) -> PropagationStudy:
    """Draw so many nets, measure them against theory, and say where the distribution lies.

    Args:
        net: all layers of one width.
        nets: at least 2.
        seed: of the first; the others follow.
        frameworks: measured in float64 besides NumPy, on the same nets.

    Raises:
        GradlabError: too few nets, a negative seed, a framework that is not there.

    >>> study = study_propagation(square_net(10, 40, "relu", init="kaiming_normal"), nets=10)
    >>> round(study.sigma_w / study.edge.sigma_w, 9), study.field.phase
    (1.0, 'critical')
    """
    seeds = range(seed, seed + nets)
    found = {"numpy": propagate(net, seeds=seeds)}
    for framework in dict.fromkeys(frameworks):
        found[framework] = backends.load(framework).propagate(net, seeds=seeds, dtype="float64")
    measured = {name: compare_with_theory(net, seeds=seeds, measured=one) for name, one in found.items()}
    differences = {name: _apart(one, found["numpy"]) for name, one in found.items() if name != "numpy"}
    rows = measured["numpy"]
    random = net.init != "constant"
    sigma_w, sigma_b = map(math.sqrt, layer_variances(net, net.widths[0], net.widths[0]))
    edge = _edge(net.activation, sigma_b) if random else None
    return PropagationStudy(
        net=net,
        nets=nets,
        measured=measured,
        differences=differences,
        wrong=tuple(name for name, apart in differences.items() if not apart <= ROUNDING),
        largest_z=_largest_z(rows) if random else None,
        log_signal=_at(rows, "preactivation", net.depth) / 2,
        log_gradient=_at(rows, "gradient", 1) / 2,
        sigma_w=sigma_w if random else None,
        sigma_b=sigma_b,
        field=mean_field(net.activation, sigma_w=sigma_w, sigma_b=sigma_b) if random else None,
        edge=edge,
        phases=_phases(net, sigma_w, sigma_b, edge) if random and sigma_w else None,
        spectra=_spectra(net, seed),
    )


def _apart(one: Propagated, other: Propagated) -> float:
    """The largest distance, relative to 1 + |ln|; what is −inf in both is equal."""
    apart = 0.0
    for field in dataclasses.fields(Propagated):
        a, b = getattr(one, field.name), getattr(other, field.name)
        with np.errstate(invalid="ignore"):
            distance = np.where(a == b, 0.0, np.abs(a - b) / (1 + np.abs(b)))
        apart = float(np.max(distance, initial=apart))
    return apart


def _at(rows: Sequence[LayerComparison], quantity: str, layer: int) -> float:
    return next(row.mean for row in rows if row.quantity == quantity and row.layer == layer)


def _largest_z(rows: Sequence[LayerComparison]) -> float:
    """NaN where a layer is dead in some nets, whose mean is no number."""
    return float(
        np.max([abs(r.mean - r.expected.centre) / r.standard_error for r in rows if r.expected.spread > 0], initial=0.0)
    )


def _edge(activation: str, sigma_b: float) -> EdgeOfChaos | None:
    try:
        return edge_of_chaos(activation, sigma_b)
    except GradlabError:  # no σ_w is critical
        return None


def _phases(net: RandomMlp, sigma_w: float, sigma_b: float, edge: EdgeOfChaos | None) -> PhaseMap:
    """A map with the net well inside, and with the edge."""
    middle = edge.sigma_w if edge is not None else sigma_w
    sigmas = np.geomspace(min(middle / 4, sigma_w / 2), max(middle * 4, sigma_w * 2), _COLUMNS)
    depth = min(max(2 * net.depth, 20), _ROWS)
    return phase_map(net.activation, sigmas.tolist(), depth=depth, sigma_b=sigma_b)


def _spectra(net: RandomMlp, seed: int) -> dict[str, LogSpectrum]:
    nets = {THIS: net}
    edge = _edge(net.activation, 0.0)
    if edge is not None and edge.stable:  # else a net that starts there leaves it
        plain = RandomMlp(widths=net.widths, activation=net.activation, sigma_w=edge.sigma_w)
        nets |= {
            GAUSSIAN: plain,
            ORTHOGONAL: dataclasses.replace(plain, init="orthogonal", init_number=edge.sigma_w, sigma_w=None),
        }
    return {name: jacobian_spectrum(one, seed=seed) for name, one in nets.items()}
