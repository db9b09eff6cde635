"""Bands: ranges of a figure with a word for each, as named sets that say on which set-up they were found.

A band set is evidence about one set-up, never a law: a figure outside it is a lead, not a fault. So it judges the runs
of its own set-up, and others only where somebody asks for it by name.
"""

from __future__ import annotations

import dataclasses
import math

from gradlab_core.errors import GradlabError
from gradlab_core.records import ActivationSummary, GradientFlow, Verdict


@dataclasses.dataclass(frozen=True)
class Band:
    """Zones of one figure, from low to high: `(upper edge, level, words)`; a value on an edge belongs to the better
    of its two zones, as the published sentences ("0.6 to 0.9 is good") mean it."""

    figure: str
    label: str
    good: str
    zones: tuple[tuple[float, str, str], ...]

    def judge(self, value: float | None, name: str) -> Verdict:
        if value is None or math.isnan(value):
            what = "not measured" if value is None else "not a number"
            return Verdict(figure=self.figure, value=value, level="unknown", band=name, text=f"{self.label}: {what}")
        rank = {"good": 0, "watch": 1, "bad": 2}
        level, words = min(
            (
                (level, words)
                for (low, (high, level, words)) in zip(self._lows(), self.zones, strict=True)
                if low <= value <= high
            ),
            key=lambda zone: rank[zone[0]],
        )
        text = f"{self.label}: {value:.4g} {words} (good: {self.good})"
        return Verdict(figure=self.figure, value=value, level=level, band=name, text=text)

    def _lows(self) -> list[float]:
        return [-math.inf, *(high for high, _, _ in self.zones[:-1])]


@dataclasses.dataclass(frozen=True)
class BandSet:
    """Bands that were found together; `data`, `base` and `layers` are those of the nets they were found on, which had
    been trained."""

    name: str
    source: str
    data: str
    base: int
    layers: tuple[int, ...]
    bands: tuple[Band, ...]

    def __getitem__(self, figure: str) -> Band:
        return next(band for band in self.bands if band.figure == figure)


_TOP = math.inf
TINYNET_CIFAR10 = BandSet(
    name="tinynet-cifar10",
    source="the published residual-block experiment: TinyNet base 32 on CIFAR-10, one seed, after one epoch",
    data="cifar10",
    base=32,
    layers=(2, 2, 2),
    bands=(
        Band(
            "mean_std",
            "mean activation std",
            "0.6 to 0.9",
            ((0.6, "watch", "is low: the signal shrinks"), (0.9, "good", "is healthy"), (_TOP, "watch", "is high")),
        ),
        Band(
            "min_std",
            "smallest activation std",
            "above 0.3",
            ((0.3, "bad", "says that one layer nearly lost its signal"), (_TOP, "good", "is healthy")),
        ),
        Band(
            "max_std",
            "largest activation std",
            "below 1.3",
            ((1.3, "good", "is healthy"), (_TOP, "watch", "says that one layer amplifies")),
        ),
        Band(
            "relu_zero_frac_mean",
            "mean ReLU zero fraction",
            "0.4 to 0.6",
            (
                (0.3, "bad", "is too linear"),
                (0.4, "watch", "is a little low"),
                (0.6, "good", "is healthy"),
                (0.7, "watch", "is a little high"),
                (_TOP, "bad", "loses information"),
            ),
        ),
        Band(
            "global_norm",
            "global gradient norm",
            "5 to 15",
            (
                (3, "bad", "is a weak learning signal"),
                (5, "watch", "is a little low"),
                (15, "good", "is healthy"),
                (20, "watch", "is a little high"),
                (_TOP, "bad", "risks an explosion"),
            ),
        ),
        Band(
            "ratio",
            "first/last gradient ratio",
            "0.5 to 5, ideally 1",
            (
                (0.3, "bad", "says that the gradient vanishes towards the input"),
                (0.5, "watch", "is a little low"),
                (5, "good", "is healthy"),
                (6, "watch", "is a little high"),
                (_TOP, "bad", "says that the first layer gets a very strong gradient"),
            ),
        ),
        Band(
            "sensitivity",
            "logit change at noise 0.001",
            "below 0.003",
            (
                (0.002, "good", "is very stable"),
                (0.003, "good", "is safe"),
                (0.004, "watch", "is a little high"),
                (_TOP, "bad", "is too sensitive"),
            ),
        ),
    ),
)

BAND_SETS = {TINYNET_CIFAR10.name: TINYNET_CIFAR10}


def band_set(name: str) -> BandSet:
    """The band set of that name, or a `GradlabError` that lists the known ones."""
    if name not in BAND_SETS:
        raise GradlabError(f"band set {name!r} is not known; expected one of {', '.join(BAND_SETS)}")
    return BAND_SETS[name]


def suited(data: str, base: int, layers: tuple[int, ...]) -> BandSet | None:
    """The band set that was found on such nets, None where there is none; it holds after their training.

    >>> suited("cifar10", 32, (2, 2, 2)).name, suited("digits", 8, (1, 1, 1))
    ('tinynet-cifar10', None)
    """
    wanted = (data, base, tuple(layers))
    return next((bands for bands in BAND_SETS.values() if (bands.data, bands.base, bands.layers) == wanted), None)


def figures(activations: ActivationSummary, flow: GradientFlow, sensitivity: float) -> dict[str, float | None]:
    """The figures that a band set judges, by name, in the order of the report."""
    return {
        "mean_std": activations.mean_std,
        "min_std": activations.min_std,
        "max_std": activations.max_std,
        "relu_zero_frac_mean": activations.relu_zero_frac_mean,
        "global_norm": flow.global_norm,
        "ratio": flow.ratio,
        "sensitivity": sensitivity,
    }


def judge(
    activations: ActivationSummary, flow: GradientFlow, sensitivity: float, bands: BandSet | None = None
) -> tuple[Verdict, ...]:
    """The verdict that holds in every set-up, whether every parameter gets a gradient; and where a band set is given,
    one per figure."""
    known = () if bands is None else figures(activations, flow, sensitivity).items()
    return (connected(flow), *(bands[name].judge(value, bands.name) for name, value in known if bands is not None))


def connected(flow: GradientFlow) -> Verdict:
    """Whether every parameter gets a gradient; no band, since this holds in any set-up."""
    count = len(flow.disconnected)
    if count:
        text = f"{count} parameter tensors get no gradient: " + ", ".join(flow.disconnected)
        return Verdict(figure="disconnected", value=float(count), level="bad", band=None, text=text)
    return Verdict(
        figure="disconnected", value=0.0, level="good", band=None, text="every parameter is connected to the loss"
    )
