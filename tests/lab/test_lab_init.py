"""`gradlab lab init`: planted faults that must be found, what is shown, the command."""

from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest

from gradlab_core import backends
from gradlab_core.definitions import initializers as drawing
from gradlab_core.definitions.initializers import INITIALIZERS, Initializer, initial_arrays
from gradlab_core.errors import GradlabError
from gradlab_core.lab.laws import SampleLayer, torch_fan_in
from gradlab_core.lab.pages.initializer_charts import starts_chart, weights_chart
from gradlab_core.lab.pages.initializers import initializer_section
from gradlab_core.lab.random_mlp import RandomMlp
from gradlab_core.lab.studies import initializers as studies
from gradlab_core.lab.studies.initializers import InitializerRow, study_initializers
from gradlab_core.lab.theory_comparison import predict_constant
from gradlab_core.records.codec import decode, encode
from gradlab_core.text import number

KINDS = ("dense", "conv", "transposed", "grouped")


@pytest.fixture(scope="module")
def study():
    return study_initializers(draws=5)


def section_of(*names, **options):
    return initializer_section(study_initializers(names, **{"draws": 3, "depth": 2, **options}))


# The study.


@pytest.mark.parametrize("layer", KINDS)
def test_all_initialisers_are_right_in_all_layers(layer):
    study = study_initializers(layer=layer, draws=3, depth=1)
    assert [row.name for row in study.rows] == list(INITIALIZERS)
    assert not any(row.wrong for row in study.rows)
    assert all(row.right for row in study.fans)
    assert [row.found for row in study.fans][1:] == [(288, 576), (288, 576), (72, 576)]
    assert torch_fan_in(study.fans[2].layer) == 576
    orthogonal = next(row for row in study.rows if row.name == "orthogonal")
    assert 0 < orthogonal.orthogonality < 1e-6


def faulty(monkeypatch, name, draw):
    monkeypatch.setitem(INITIALIZERS, name, Initializer(draw, *INITIALIZERS[name][1:]))


def test_initialisers_that_draw_something_else_are_found(monkeypatch):
    def flat(stream, shape, fans, gain):  # Xavier's σ, another distribution
        bound = math.sqrt(6 / sum(fans))
        return stream.uniform(-bound, bound, shape)

    faulty(monkeypatch, "xavier_normal", flat)
    faulty(
        monkeypatch, "lecun_normal", lambda stream, shape, fans, gain: stream.standard_normal(shape) / fans[1] ** 0.5
    )
    faulty(monkeypatch, "orthogonal", lambda stream, shape, fans, gain: stream.standard_normal(shape) / shape[0] ** 0.5)
    study = study_initializers(
        ["xavier_normal", "lecun_normal", "orthogonal", "kaiming_normal"], inputs=100, outputs=90, draws=5, depth=2
    )
    wrong = {row.name: set(row.wrong) for row in study.rows}
    assert wrong["xavier_normal"] == {"distribution"}
    assert {"std", "distribution"} <= wrong["lecun_normal"]
    assert "orthogonality" in wrong["orthogonal"]
    assert wrong["kaiming_normal"] == set()
    section = initializer_section(study)
    assert section.level == "bad"
    assert "kaiming_normal draws what the formula says" in section.said[0]
    assert "xavier_normal is wrong: another distribution." in section.said
    assert section.sheets[1].levels == ["bad", "bad", "bad", ""]


def test_wrong_fans_are_found(monkeypatch):
    def swapped(shape, *, transposed=False, groups=1):  # as `torch.nn.init` has it
        window = math.prod(shape[2:])
        return shape[1] * window, shape[0] * window

    monkeypatch.setattr(drawing, "fans", swapped)
    monkeypatch.setattr(studies, "fans", swapped)
    study = study_initializers(["kaiming_uniform", "torch_default"], layer="transposed", draws=2, depth=1)
    assert [bool(row.wrong) for row in study.rows] == [True, False]
    assert [row.right for row in study.fans] == [True, True, False, True]
    section = initializer_section(study)
    assert "The fans are wrong of a transposed convolution 32 → 64, 3×3." in section.said
    assert section.sheets[2].levels == ["", "", "bad", ""]


def test_biases_that_are_not_as_said_are_found(monkeypatch):
    monkeypatch.setattr(drawing, "_is_bias", lambda path: False)
    faulty(monkeypatch, "normal", lambda stream, shape, fans, std: std * stream.standard_normal(shape))
    monkeypatch.setattr(drawing, "fans", lambda shape, **kind: (100, 100))
    (row,) = study_initializers(["normal"], draws=2, depth=1).rows
    assert row.wrong == ("biases",)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda w: w, 0.0),
        (lambda w: w + np.float32(1e-3), pytest.approx(1e-3, rel=1e-3)),
        (lambda w: w * np.nan, pytest.approx(math.nan, nan_ok=True)),
        (lambda w: w[:1], math.inf),
        (lambda w: w.astype(np.float64), math.inf),
    ],
)
def test_what_frameworks_hold_is_compared_number_by_number(monkeypatch, change, difference):
    def drawn_layer(name, weight, *, seed, number=None):
        arrays = initial_arrays(name, SampleLayer(kind="dense", inputs=6, outputs=6).tensors, seed=seed, number=number)
        return arrays | {"weight": change(arrays["weight"])} if seed == 4 else arrays

    twin = types.ModuleType("made_up")
    monkeypatch.setitem(sys.modules, "made_up.start.initializers", types.SimpleNamespace(drawn_layer=drawn_layer))
    monkeypatch.setattr(backends, "load", lambda name: twin)
    section = section_of("lecun_normal", inputs=6, outputs=6, seed=3, frameworks=["torch"])
    study = study_initializers(["lecun_normal"], inputs=6, outputs=6, draws=3, seed=3, depth=1, frameworks=["torch"])
    assert study.rows[0].differences["torch"] == difference
    same = difference == 0.0
    assert section.level == ("good" if same else "bad")
    assert ("For the same seeds layers of PyTorch hold the very same numbers." in section.said) is same
    assert ("lecun_normal is wrong: PyTorch's layer holds other numbers." in section.said) is not same
    assert section.sheets[2].headings == ["initialiser", "PyTorch"]


# What is shown.


def test_the_section(study):
    section = initializer_section(study)
    assert section.level == "good"
    assert section.said[0].startswith("Every initialiser draws what the formula says: over 5 draws of a dense layer")
    formulas, measured, fans, starts = section.sheets
    assert [row[0] for row in formulas.rows] == list(INITIALIZERS)
    assert list(formulas.rows[2][:4]) == ["xavier_uniform", "U(±√(6/(n_in+n_out)))", "0.1", "±0.173"]
    assert formulas.rows[0][1] == "all 0.1"
    assert measured.title.startswith("Measured, 50,000 weights each")
    assert list(fans.rows[3]) == ["grouped conv. 32 → 64, 4 groups", "64×8×3×3", "72", "576", "72"]
    ends = {row[0]: row[1:] for row in starts.rows}
    # Root mean squares through 50 tanh layers of 100: the table of the documentation, halved and in decades.
    assert ends["normal"] == ["−50.11", "−49.11"]
    assert ends["kaiming_*"] == ["−0.11", "+0.70"]
    assert ends["xavier_*, lecun_normal, orthogonal"] == ["−1.06", "−1.06"]
    assert "normal: through 50 layers the signal vanishes (−50.1 orders of magnitude)" in " ".join(section.said)
    assert decode(InitializerRow, encode(study.rows[2])) == study.rows[2]


def test_the_chart_of_the_weights(study):
    chart = weights_chart(study)
    low, high = chart["layout"]["xaxis"]["range"]
    areas = {trace["yaxis"]: trace for trace in chart["data"] if trace.get("fill")}
    assert len(areas) == 8  # all but the constant
    assert all(
        low < x < high for trace in areas.values() for x, y in zip(trace["x"], trace["y"], strict=True) if y > 0.05
    )
    widths = {
        axis: sum(x1 - x0 for x0, x1, y in zip(t["x"], t["x"][1:], t["y"], strict=False) if y > 0.5)
        for axis, t in areas.items()
    }
    assert widths["y4"] / widths["y2"] == pytest.approx(10, rel=0.15)  # xavier_normal beside normal
    spikes = [trace for trace in chart["data"] if trace["yaxis"] == "y"]
    assert [trace["x"] for trace in spikes] == [[0.1, 0.1], [0.1, 0.1]]
    texts = " ".join(note["text"] for note in chart["layout"]["annotations"])
    found = {row.name: row.weights.std for row in study.rows}
    assert all(f"σ = {number(std)}<br>σ·√fan-in = {number(10 * std)}" in texts for std in found.values() if std)
    assert found["xavier_normal"] / found["normal"] == pytest.approx(10, rel=1e-6)  # one stream of random numbers
    assert "wrong" not in texts
    assert sum(trace["showlegend"] for trace in chart["data"]) == 2


def test_what_cannot_be_drawn_is_said(monkeypatch):
    def broken(stream, shape, fans, gain):
        w = stream.standard_normal(shape) / fans[0] ** 0.5
        w[0, :2] = np.nan, np.inf
        return w

    faulty(monkeypatch, "lecun_normal", broken)
    faulty(monkeypatch, "kaiming_normal", lambda stream, shape, fans, gain: np.full(shape, np.nan))
    study = study_initializers(["constant", "lecun_normal", "kaiming_normal"], draws=2, value=1000.0, depth=2)
    texts = [note["text"] for note in weights_chart(study)["layout"]["annotations"]]
    assert any("4 are NaN or Inf" in text for text in texts)
    assert any("20,000 are NaN or Inf" in text for text in texts)
    assert any("outside of the axis" in text for text in texts)
    section = initializer_section(study)
    assert section.level == "bad"
    assert "kaiming_normal is wrong: 20,000 of its weights are NaN or Inf." in section.said
    assert section.sheets[1].rows[2][1] == "NaN"
    json.dumps([item.figure for item in section.charts], allow_nan=False)


def strip(chart):
    """What the strip below the plot says."""
    return {trace["name"] for trace in chart["data"] if trace["mode"] == "markers"}


def test_lines_that_leave_the_plot_are_marked(study):
    chart = starts_chart(study)
    assert chart["layout"]["yaxis"]["range"][0] == -10
    notes = {note["text"]: note for note in chart["layout"]["annotations"] if note["showarrow"]}
    assert set(notes) == {
        "normal: −50 at layer 50",
        "normal: −49 at layer 1",
        "torch_default: −12 at layer 1",
        "constant: −336 at layer 1",
    }
    assert notes["normal: −50 at layer 50"]["x"] == pytest.approx(10, abs=0.1)  # one order a layer
    assert strip(chart) == set()


def test_zeros_are_below_the_plot_and_told_apart():
    zero = study_initializers(["constant"], draws=2, value=0.0, depth=3)
    assert strip(starts_chart(zero)) == {"exactly 0"}
    assert zero.starts[0].signal == (-math.inf,) * 3
    assert "constant: through 3 layers the signal vanishes (exactly 0)" in initializer_section(zero).said[-1]
    # tanh of thousands is 1, and a slope of 4·e^−2000 no number in float64.
    steep = study_initializers(["constant"], draws=2, value=1e3, depth=3)
    assert strip(starts_chart(steep)) == {"0 in float64"}
    assert initializer_section(steep).sheets[-1].rows[0][2] == "0 in float64"
    some = study_initializers(["constant"], draws=20, depth=3, activation="relu")
    lost = some.starts[0].dead_signal[-1]
    assert (
        f"constant: in {lost} of 20 nets all is exactly 0; numbers are of the others." in initializer_section(some).said
    )
    assert strip(starts_chart(some)) == set()
    net = RandomMlp(widths=(100,) * 4, activation="relu", init="constant", init_number=0.1)
    logs = predict_constant(net, range(20)).preactivations[:, -1]
    assert some.starts[0].signal[-1] == pytest.approx(logs[np.isfinite(logs)].mean())


@pytest.mark.parametrize("sizes", [(1, 1), (2, 2), (1, 2), (3, 1)])
def test_the_smallest_layers(sizes):
    section = section_of(inputs=sizes[0], outputs=sizes[1], draws=1, depth=1)
    assert section.level == "good"
    json.dumps([item.figure for item in section.charts], allow_nan=False)


# The command.


def test_the_command(console, tmp_path):
    done = console("lab", "init", "xavier_uniform", "constant", "--layer", "conv", "--draws", "2", "--depth", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "U(±√(6/(n_in+n_out)))" in done.stdout
    page = tmp_path / "init.html"
    done = console("lab", "init", "normal", "--draws", "2", "--depth", "5", "--out", str(page), "--json")
    body = json.loads(done.stdout)
    assert (body["kind"], [row["name"] for row in body["rows"]]) == ("initialiser", ["normal"])
    assert "chart-initializer-weights" in page.read_text()
    done = console("lab", "init", "normal", "--draws", "2", "--depth", "2", "--value", "1e39")
    assert done.returncode == 2


def test_the_command_finds_what_is_wrong(console, monkeypatch):
    faulty(monkeypatch, "lecun_normal", lambda stream, shape, fans, gain: stream.standard_normal(shape) * 0.2)
    done = console("lab", "init", "lecun_normal", "--draws", "2", "--depth", "2")
    assert done.returncode == 1
    assert "lecun_normal is wrong: its standard deviation is off" in " ".join(done.stdout.split())


def test_all_that_is_wrong_with_the_input_is_said_at_once():
    with pytest.raises(GradlabError) as caught:
        study_initializers(
            ["glorot"],
            kernel=3,
            groups=2,
            draws=0,
            seed=-1,
            depth=10**6,
            activation="step",
            value=math.nan,
            frameworks=["mx"],
        )
    for part in ("init: 9 problems", "'glorot'", "'mx'", "kernel is 3", "groups is 2", "draws is 0", "seed is -1"):
        assert part in str(caught.value)
    for options, part in (
        ({"inputs": 10**6, "outputs": 10**6}, "20 draws of 1,000,000,000,000 weights are too many"),
        ({"layer": "grouped", "inputs": 5, "groups": 2}, "groups is 2; expected a divisor of 5 inputs and 64 outputs"),
        ({"layer": "pooling"}, "layer is 'pooling'"),
        ({"draws": 10**9}, "draws is 1000000000"),
    ):
        with pytest.raises(GradlabError, match=part):
            study_initializers(**options)
