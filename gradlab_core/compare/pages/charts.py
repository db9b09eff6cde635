"""The charts of the page in their order, each with a heading, a caption and a text for screen readers."""

from __future__ import annotations

from collections.abc import Sequence

from gradlab_core.compare.comparison import Run, summarize
from gradlab_core.compare.pages import agreement, curves, depth
from gradlab_core.compare.pages.against import against_band
from gradlab_core.compare.pages.nets import main_runs, published_runs
from gradlab_core.definitions.thresholds import HEALTHY_UPDATE_RATIO
from gradlab_core.judge.bands import BandSet, band_set
from gradlab_core.show.canvas import Illustration
from gradlab_core.show.words import JUDGED, LABELS
from gradlab_core.text import number


def main_charts(runs: Sequence[Run], asked: BandSet | None = None) -> list[Illustration]:
    """The charts along the depth of the nets and along the training; `asked` are the bands that were asked for."""
    main = main_runs(runs)
    low, high = map(number, HEALTHY_UPDATE_RATIO)
    charts = [
        Illustration(
            "activation-std",
            "How much signal each layer passes on",
            "The standard deviation of every layer's output before training, from the input (left) to the output "
            "(right). Healthy: no line falls towards 0 and none climbs from layer to layer. Normalisations are at 1 "
            "by design.",
            depth.activation_std(main),
        ),
        Illustration(
            "zero-fraction",
            "How much each ReLU switches off",
            "The share of outputs that are exactly 0 in every ReLU call before training. Healthy: around a half. "
            + ("The shaded zone is the band of the mean. " if asked else "")
            + "Near 100 % a layer is dead, near 0 % it is almost linear.",
            depth.zero_fraction(main, asked["relu_zero_frac_mean"] if asked else None),
        ),
        _gradients("gradient-norms", "How much gradient reaches each layer", main),
    ]
    if any(run.training.steps for run in main):
        charts.append(
            Illustration(
                "training",
                "What happened during training",
                "Loss, gradient norm and update ratio at every optimizer step. Healthy: the loss falls, the gradient "
                f"norm neither collapses nor explodes, the update ratio stays within {low} to {high} (a lead, not a "
                "law). A run that diverged has a dashed mark.",
                curves.training(main),
            )
        )
    if agreement.gaps(runs):
        charts.append(
            Illustration(
                "differences",
                "JAX − PyTorch at initialisation",
                "Both start from the same weights and see the same batch; each mark is one seed, the lower the better. "
                "Healthy: a few rounding steps of float32, more for figures that pass through the whole net twice "
                "(gradients) and for small differences of large numbers (logit change).",
                agreement.chart(runs),
            )
        )
    return charts


def band_charts(runs: Sequence[Run], asked: BandSet | None = None) -> list[Illustration]:
    """A small chart for each figure of the comparison, with the zones of the band that judges it, if there is one."""
    figures = summarize(main_runs(runs), judged_by=asked)
    charts = []
    for name in JUDGED:
        used = next((f.band for f in figures if f.figure == name and f.band), None)
        band = band_set(used)[name] if used else None
        words = f"Good: {band.good}." if band else ""
        charts.append(Illustration(f"band-{name}", LABELS[name], words, against_band(name, figures, band)))
    return charts


def published_charts(runs: Sequence[Run]) -> list[Illustration]:
    """Charts of the published nets: where gradients end, and what eval mode shows of an untrained net."""
    shown = published_runs(runs)
    charts = [_gradients("published-gradient-norms", "As published: where the gradient ends", shown)] if shown else []
    if any(run.untrained_eval for run in shown):
        charts.append(
            Illustration(
                "published-untrained-eval",
                "As published: untrained nets in eval mode",
                "The published nets before training, measured in eval mode: normalisation layers divide by running "
                "statistics that are still 0 and 1, so the signal fades with depth. This says nothing about the nets.",
                depth.activation_std(shown, lambda run: run.untrained_eval),
            )
        )
    return charts


def _gradients(key: str, title: str, runs: Sequence[Run]) -> Illustration:
    return Illustration(
        key,
        title,
        "The gradient norm of every convolution and linear weight before training, on a logarithmic axis, from the "
        "input (left) to the output (right). Healthy: within a factor of ten or so. A steep fall to the left is a "
        "vanishing gradient; a parameter with no gradient path is marked below the plot: it has no number at all.",
        depth.gradient_norms(runs),
    )
