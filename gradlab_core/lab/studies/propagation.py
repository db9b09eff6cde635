"""A study of a random MLP before training: its layers against theory, its place on the map, and its Jacobian."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from gradlab_core import backends, fields
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.lab.edge import EdgeOfChaos, edge_of_chaos
from gradlab_core.lab.isometry import LogSpectrum, jacobian_spectrum
from gradlab_core.lab.meanfield import MeanField, mean_field
from gradlab_core.lab.numeric import ROUNDING, log_distance
from gradlab_core.lab.phases import PhaseMap, phase_map
from gradlab_core.lab.random_mlp import RandomMlp, layer_variances
from gradlab_core.lab.simulation import Propagation, propagate
from gradlab_core.lab.theory_comparison import LayerComparison, compare_with_theory

THIS, GAUSSIAN, ORTHOGONAL = "this net", "critical, Gaussian", "critical, orthogonal"
MOST_WEIGHTS, MOST_LAYERS = 1 << 26, 10_000
"""The most weights and layers of one net: half a gigabyte in float64, and a minute of theory."""
MOST_DRAWN, MOST_TENSORS = 1 << 33, 1 << 20
"""The most weights and layers of all nets of a study together, which take two to three minutes."""
SCALES = (1e-30, 1e30)
"""The range of σ_w, σ_b and the number of an initialiser if they are not 0, since initialisers draw in float32."""
CHANCE = 6e-7
"""The two-sided probability of five standard errors. A mean that is less probable by chance is wrong."""
_COLUMNS = 91
_ROWS = 400  # the depth of the map; deeper nets lie at its edge


@dataclasses.dataclass(frozen=True, kw_only=True)
class PropagationStudy:
    """A square random MLP.

    Attributes:
        net, nets: the distribution, and the number of nets that were drawn from it.
        measured: the rows of `compare_with_theory`, for `numpy` and every framework asked for.
        differences: for each framework, the largest distance of ln of a second moment from NumPy's, over 1 + |ln|.
        wrong: the frameworks whose distance is more than rounding.
        largest_z: the largest distance of the mean over nets from the centre, in standard errors, among rows that have
            a spread by theory and are 0 in no net; Inf if all nets are alike; None if there is no such row, or weights
            are not random.
        doubtful: whether that is more than chance by Student's distribution, which allows more to a few nets.
        log_signal: ln of the root mean square of the output of the last layer, for an input of root mean square 1, as a
            mean over nets; −inf if one of them is dead.
        log_gradient: the same for the gradient in the first layer, for one of root mean square 1 in the last.
        sigma_w, sigma_b: those of the net; None for constant weights.
        field, edge: mean-field theory and edge of chaos; None for constant weights, and the edge if no σ_w is critical.
        phases: the map; None for constant weights.
        spectra: singular values of the Jacobian of this net, and of critical nets without biases if such nets stay
            critical and this net is not one of them.
        plain_edge: the σ_w of these critical nets; None if there are none.
    """

    net: RandomMlp
    nets: int
    measured: Mapping[str, tuple[LayerComparison, ...]]
    differences: Mapping[str, float]
    wrong: tuple[str, ...]
    largest_z: float | None
    doubtful: bool
    log_signal: float
    log_gradient: float
    sigma_w: float | None
    sigma_b: float
    field: MeanField | None
    edge: EdgeOfChaos | None
    phases: PhaseMap | None
    spectra: Mapping[str, LogSpectrum]
    plain_edge: float | None


def size_problems(depth: int, width: int) -> list[str]:
    """The problems of the size of a net; empty if there are none.

    >>> size_problems(0, 10)
    ['depth is 0; expected a whole number of at least 1']
    """
    problems: list[str] = []
    fields.whole_number(problems, "depth", depth, 1)
    fields.whole_number(problems, "width", width, 1)
    if not problems and depth * width**2 > MOST_WEIGHTS:
        problems.append(f"depth·width² is {depth * width**2:,} weights; expected at most {MOST_WEIGHTS:,}")
    if depth > MOST_LAYERS:
        problems.append(f"depth is {depth:,}; expected at most {MOST_LAYERS:,}")
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
    """A net of `depth` layers of the same width, with Xavier's initialiser if neither `init` nor `sigma_w` is given.

    Raises:
        GradlabError: a number is out of range, or there are more weights than fit in memory.

    >>> square_net(3, 10, "tanh").widths
    (10, 10, 10, 10)
    """
    problems = size_problems(depth, width)
    for name, value in (("sigma_w", sigma_w), ("sigma_b", sigma_b), ("init_number", init_number)):
        if value and math.isfinite(value) and not SCALES[0] <= abs(value) <= SCALES[1]:
            problems.append(f"{name} is {value!r}; expected 0, or a size from {SCALES[0]:g} to {SCALES[1]:g}")
    if sigma_b and sigma_w is None and init is None:
        problems.append(f"sigma_b is {sigma_b!r} and sigma_w is missing; expected both, or neither")
    refuse("net", problems)
    if init is None and sigma_w is None:
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
    """Draw so many nets, measure them against theory, and find the place of their distribution on the map.

    Args:
        net: the net, whose layers all have the same width.
        nets: the number of nets, at least 2 and not more than a few minutes allow.
        seed: the seed of the first net; the others have the next ones.
        frameworks: the frameworks that are measured besides NumPy, in float64 and on the same nets.

    Raises:
        GradlabError: there are too few or too many nets, the seed is negative, or a framework is not installed.

    >>> study = study_propagation(square_net(10, 40, "relu", init="kaiming_normal"), nets=10)
    >>> round(study.sigma_w / study.edge.sigma_w, 9), study.field.phase
    (1.0, 'critical')
    """
    _check(net, nets, seed)
    seeds = range(seed, seed + nets)
    runs = {"numpy": propagate(net, seeds=seeds)}
    for framework in dict.fromkeys(frameworks):
        runs[framework] = backends.load(framework).propagate(net, seeds=seeds, dtype="float64")
    measured = {name: compare_with_theory(net, seeds=seeds, measured=run) for name, run in runs.items()}
    differences = {name: _apart(run, runs["numpy"]) for name, run in runs.items() if name != "numpy"}
    rows = measured["numpy"]
    random = net.init != "constant"
    sigma_w, sigma_b = map(math.sqrt, layer_variances(net, net.widths[0], net.widths[0]))
    edge = _edge(net.activation, sigma_b) if random else None
    plain = _edge(net.activation, 0.0)
    # Otherwise a net that starts at the edge leaves it.
    plain_edge = plain.sigma_w if plain is not None and plain.stable else None
    largest_z = _largest_z(rows) if random else None
    return PropagationStudy(
        net=net,
        nets=nets,
        measured=measured,
        differences=differences,
        wrong=tuple(name for name, apart in differences.items() if not apart <= ROUNDING),
        largest_z=largest_z,
        doubtful=largest_z is not None and largest_z > standard_errors(CHANCE, nets),
        log_signal=_at(rows, "preactivation", net.depth) / 2,
        log_gradient=_at(rows, "gradient", 1) / 2,
        sigma_w=sigma_w if random else None,
        sigma_b=sigma_b,
        field=mean_field(net.activation, sigma_w=sigma_w, sigma_b=sigma_b) if random else None,
        edge=edge,
        phases=_phases(net, sigma_w, sigma_b, edge) if random and sigma_w else None,
        spectra=_spectra(net, sigma_w, plain_edge, seed),
        plain_edge=plain_edge,
    )


def _apart(run: Propagation, reference: Propagation) -> float:
    names = [field.name for field in dataclasses.fields(Propagation)]
    return float(np.max([log_distance(getattr(run, name), getattr(reference, name)) for name in names]))


def _at(rows: Sequence[LayerComparison], quantity: str, layer: int) -> float:
    return next(row.mean for row in rows if row.quantity == quantity and row.layer == layer)


def standard_errors(probability: float, nets: int) -> float:
    """The number of standard errors, themselves measured on so many nets, by which a mean is off with that probability.

    >>> round(standard_errors(0.05, 2), 1), round(standard_errors(0.05, 10**6), 2)
    (12.7, 1.96)
    """
    from scipy.special import stdtrit

    return float(stdtrit(nets - 1, 1 - probability / 2))


def comparable(rows: Sequence[LayerComparison]) -> list[LayerComparison]:
    """The rows that have a spread by theory and are 0 in no net."""
    return [row for row in rows if row.expected.spread > 0 and math.isfinite(row.mean)]


def _largest_z(rows: Sequence[LayerComparison]) -> float | None:
    off = [(abs(row.mean - row.expected.centre), row.standard_error) for row in comparable(rows)]
    return max((apart / error if error else math.inf for apart, error in off), default=None)


def _check(net: RandomMlp, nets: int, seed: int) -> None:
    problems: list[str] = []
    fields.whole_number(problems, "nets", nets, 2)
    fields.whole_number(problems, "seed", seed, 0)
    weights = sum(a * b for a, b in net.sizes())
    if not problems and (nets * weights > MOST_DRAWN or nets * net.depth > MOST_TENSORS):
        problems.append(
            f"{nets:,} nets of {net.depth:,} layers, {weights:,} weights each, are too many; expected at most "
            f"{min(MOST_DRAWN // weights, MOST_TENSORS // net.depth):,} nets"
        )
    refuse("propagate", problems)


def _edge(activation: str, sigma_b: float) -> EdgeOfChaos | None:
    try:
        return edge_of_chaos(activation, sigma_b)
    except GradlabError:  # no σ_w is critical
        return None


def _phases(net: RandomMlp, sigma_w: float, sigma_b: float, edge: EdgeOfChaos | None) -> PhaseMap:
    """A map that includes the edge, and the net well inside."""
    middle = edge.sigma_w if edge is not None else sigma_w
    sigmas = np.geomspace(min(middle / 4, sigma_w / 2), max(middle * 4, sigma_w * 2), _COLUMNS)
    depth = min(max(2 * net.depth, 20), _ROWS)
    return phase_map(net.activation, sigmas.tolist(), depth=depth, sigma_b=sigma_b)


def _spectra(net: RandomMlp, sigma_w: float, plain_edge: float | None, seed: int) -> dict[str, LogSpectrum]:
    nets = {THIS: net}
    if plain_edge is not None:
        plain = RandomMlp(widths=net.widths, activation=net.activation, sigma_w=plain_edge)
        other = net.init in ("constant", "orthogonal", "torch_default") or net.sigma_b > 0
        if other or abs(sigma_w / plain_edge - 1) > 1e-6:
            nets[GAUSSIAN] = plain
        nets[ORTHOGONAL] = dataclasses.replace(plain, init="orthogonal", init_number=plain_edge, sigma_w=None)
    return {name: jacobian_spectrum(each, seed=seed) for name, each in nets.items()}
