"""`gradlab lab propagate`: the map, Jacobians, what is said and drawn of a random net."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
from typing import Any

import numpy as np
import pytest

from gradlab_core import backends
from gradlab_core.lab.isometry import LogSpectrum, jacobian_spectrum
from gradlab_core.lab.pages.propagation import propagation_section
from gradlab_core.lab.pages.spectrum import spectrum_sheet
from gradlab_core.lab.phases import phase_map
from gradlab_core.lab.random_mlp import RandomMlp, draw_inputs, draw_layer
from gradlab_core.lab.simulation import propagate
from gradlab_core.lab.studies.propagation import PropagationStudy, square_net, standard_errors, study_propagation
from gradlab_core.lab.theory_comparison import predict

LN10 = math.log(10)


@pytest.mark.parametrize(("activation", "sigma_b"), [("tanh", 0.0), ("tanh", 0.3), ("relu", 0.5), ("gelu", 0.0)])
def test_the_map_is_theory_net_by_net(activation: str, sigma_b: float) -> None:
    sigmas, depth = [0.3, 1.0, 1.4, 3.0], 30
    found = phase_map(activation, sigmas, depth=depth, sigma_b=sigma_b)
    for column, sigma_w in enumerate(sigmas):
        for layers in (1, 2, 30):
            net = RandomMlp(widths=(50,) * (layers + 1), activation=activation, sigma_w=sigma_w, sigma_b=sigma_b)
            expected = {(quantity, layer): e.limit for quantity, layer, e in predict(net)}
            assert abs(found.log_gradient[layers - 1][column] - expected["gradient", 1]) < 1e-7 * layers
            assert abs(found.log_signal[layers - 1][column] - expected["preactivation", layers]) < 1e-7 * layers


def test_a_map_of_anything_is_finite() -> None:
    found = phase_map("relu", [1e-3, 1.0, 1e3], depth=1000)
    assert np.isfinite(found.log_gradient).all()
    assert np.isfinite(found.log_signal).all()
    assert found.log_gradient[-1][2] > 12_000


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
def test_jacobians_against_a_plain_product(activation: str) -> None:
    net = RandomMlp(widths=(12, 20, 16, 9), activation=activation, sigma_w=1.3, sigma_b=0.2)
    slope = {"tanh": lambda z: 1 - np.tanh(z) ** 2, "relu": lambda z: 1.0 * (z > 0), "identity": np.ones_like}
    value = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "identity": lambda z: z}
    x, jacobian = draw_inputs(net, [3])[0], np.eye(12)
    for layer in range(3):
        weight, bias = (part[0] for part in draw_layer(net, layer, [3]))
        z = weight @ x + bias
        jacobian = weight @ jacobian
        if layer < 2:
            jacobian, x = slope[activation](z)[:, None] * jacobian, value[activation](z)
    values = np.linalg.svd(jacobian, compute_uv=False)
    found = jacobian_spectrum(net, seed=3)
    kept = values > 1e-12 * values[0]
    assert np.allclose(np.exp(found.log_values)[kept], values[kept], rtol=1e-9)
    assert abs(found.log_mean_squared - math.log(np.mean(values**2))) < 1e-9


@pytest.mark.parametrize("sigma_w", [1e-3, 1e3])
def test_jacobians_of_a_thousand_layers_overflow_nothing(sigma_w: float) -> None:
    found = jacobian_spectrum(RandomMlp(widths=(8,) * 1001, activation="relu", sigma_w=sigma_w))
    assert math.isfinite(found.log_values[0]) == math.isfinite(found.log_mean_squared)
    dead = jacobian_spectrum(RandomMlp(widths=(4,) * 60, activation="relu", init="constant", init_number=-1.0))
    assert set(dead.log_values) == {-math.inf}
    assert dead.log_mean_squared == -math.inf


def study(**net: Any) -> PropagationStudy:
    return study_propagation(square_net(net.pop("depth", 20), 30, net.pop("activation", "relu"), **net), nets=12)


def words(found: PropagationStudy) -> str:
    return " ".join(propagation_section(found).said)


def test_verdicts() -> None:
    healthy = study(init="kaiming_normal")
    assert propagation_section(healthy).level == "good"
    assert "The signal survives" in words(healthy)
    assert "The critical σ_w is 1.41, that of this net 1.41." in words(healthy)
    low, high = study(sigma_w=0.3), study(sigma_w=4.0, activation="tanh", depth=60)
    assert propagation_section(low).level == propagation_section(high).level == "bad"
    assert "The signal vanishes" in words(low)
    assert "The gradient vanishes" in words(low)
    assert "The signal survives" in words(high)  # tanh holds it
    assert "The gradient explodes" in words(high)


def test_a_factor_a_little_off_1_is_said_with_the_layers_it_takes() -> None:
    """χ = 1.003 is chaotic in the limit, and takes 334 layers for a factor of e: one word for both."""
    found = study(sigma_w=(2 * 1.003) ** 0.5, depth=50)
    section = propagation_section(found)
    assert found.field.phase == "chaotic"
    (said,) = [sentence for sentence in section.said if "gradient" in sentence]
    assert "survives" in said
    assert "grows by e in 334 layers" in said
    (phase,) = [row[1] for sheet in section.sheets for row in sheet.rows if row[0] == "phase"]
    assert phase == "chaotic: a gradient's second moment grows by e in 334 layers"
    assert "explode" not in " ".join([*section.said, phase])


def test_a_constant_start_has_no_map_and_a_dead_net_no_number() -> None:
    found = study(init="constant", init_number=0.05)
    assert found.phases is found.field is found.edge is found.largest_z is None
    section = propagation_section(found)
    assert section.level == "bad"
    assert "becomes exactly 0 in at least one of the nets" in words(found)
    assert "exactly 0" in section.sheets[0].rows[-1][1]
    strip = [trace for trace in section.charts[0].figure["data"] if trace["name"] == "exactly 0"]
    assert len(strip[0]["x"]) > 0
    assert [chart.key for chart in section.charts] == ["propagation", "spectra"]


def test_an_activation_without_a_critical_scale() -> None:
    found = study(activation="softplus", init="lecun_normal", depth=5)
    assert "No σ_w is critical for softplus" in words(found)
    assert list(found.spectra) == ["this net"]


def test_few_nets_are_far_off_by_chance_and_many_are_not() -> None:
    few = study_propagation(square_net(20, 20, "tanh"), nets=2)
    assert few.largest_z is not None
    assert few.largest_z > 1000
    assert not few.doubtful
    assert "no more than chance, with 2 nets" in words(few)
    rough = study_propagation(square_net(20, 30, "gelu", sigma_w=1.4), nets=100)
    assert rough.doubtful
    assert "more than chance, so theory is rough here" in words(rough)
    assert round(standard_errors(0.05, 2), 1) == 12.7


def test_figures_and_ranges_are_of_the_root_mean_square() -> None:
    found = study_propagation(square_net(4, 10, "tanh"), nets=5)
    drawn = propagate(found.net, seeds=range(5))
    assert found.log_signal == pytest.approx(drawn.preactivations[:, -1].mean() / 2)
    assert found.log_gradient == pytest.approx(drawn.gradients[:, 0].mean() / 2)
    traces = {t["name"]: t["y"] for t in propagation_section(found).charts[0].figure["data"] if t["yaxis"] == "y"}
    row = next(row for row in found.measured["numpy"] if (row.quantity, row.layer) == ("preactivation", 2))
    middle, spread = row.expected.centre / 2 / LN10, 2 * row.expected.spread / 2 / LN10
    upper, lower = (traces["theory for this width, 95 % of nets: range over seeds"][i] for i in (1, 6))
    assert (upper, lower) == pytest.approx((middle + spread, middle - spread), rel=1e-3)
    upper, lower = (traces["measured, mean with 95 % interval: range over seeds"][i] for i in (1, 6))
    error = 2.776 * row.standard_error / 2 / LN10  # Student's, of 4 degrees of freedom
    assert (upper, lower) == pytest.approx((row.mean / 2 / LN10 + error, row.mean / 2 / LN10 - error), rel=1e-3)


def test_the_table_of_singular_values() -> None:
    values = (math.log(8.0), math.log(1.5), 0.0, math.log(0.6), math.log(0.1))
    sheet = spectrum_sheet({"a": LogSpectrum(log_values=values, log_mean_squared=math.log(4.0))}, 1.5)
    assert sheet.title.endswith("critical: σ_w = 1.5, no biases")
    assert list(sheet.rows[0]) == ["a", "8", "1", "0.1", "4", "60.0 %"]


def test_what_has_no_standard_error_is_no_number_of_them() -> None:
    alike = study_propagation(square_net(3, 1, "tanh", init="orthogonal"), nets=5)
    assert alike.largest_z == math.inf
    assert "all nets are alike" in words(alike)
    dead = study_propagation(square_net(30, 2, "relu"), nets=20)
    assert dead.largest_z is not None
    assert dead.largest_z < 6
    assert "cannot be held against theory" in words(dead)
    assert "NaN" not in words(dead)
    assert study_propagation(square_net(3, 4, "tanh", sigma_w=0.0), nets=3).largest_z is None


def test_captions_say_what_their_charts_show() -> None:
    def caption(found: PropagationStudy, key: str) -> str:
        return next(chart.caption for chart in propagation_section(found).charts if chart.key == key)

    stable, unstable = study(activation="tanh", sigma_w=1.0), study(activation="gelu", sigma_w=1.5)
    assert "around the edge of chaos" in caption(stable, "phases")
    assert "does not stay there" in caption(unstable, "phases")
    assert "no edge of chaos" in caption(study(activation="softplus", init="lecun_normal", depth=5), "phases")
    saturated = study(activation="tanh", sigma_w=1000.0, depth=50)
    assert saturated.log_gradient < -100 * LN10  # and the map, of infinite width, has it explode
    assert "measured, the gradient vanishes" in caption(saturated, "phases")
    assert "Not so" not in caption(stable, "phases")
    assert "Gaussian weights of this width" in caption(study(init="orthogonal"), "propagation")
    logs = stable.spectra["critical, orthogonal"].log_values
    kept = sum(log >= logs[0] - math.log(1e3) for log in logs)
    assert list(stable.spectra) == ["this net", "critical, orthogonal"]  # it is the Gaussian one itself
    assert list(unstable.spectra) == ["this net"]
    assert f"{kept} of 30 (critical, orthogonal)" in caption(stable, "spectra")


def test_the_net_is_marked_on_the_map() -> None:
    found = study(sigma_w=0.7, activation="tanh")
    chart = propagation_section(found).charts[1].figure
    heat, contour, edge, star = chart["data"]
    assert (star["x"], star["y"], star["marker"]["symbol"]) == ([0.7], [20], "star")
    assert edge["x"] == [1.0, 1.0]
    low, high = (10**bound for bound in chart["layout"]["xaxis"]["range"])
    assert low < 0.7 < high
    assert chart["layout"]["yaxis"]["range"][1] > 20
    z, sigmas = np.array(heat["z"]), np.array(heat["x"])
    assert np.isfinite(z).all()
    assert (np.abs(z) <= 9).all()
    assert (z[-1, sigmas < 0.3] < -6).all()  # blue
    assert (z[-1, sigmas > 3.5] > 3).all()  # red
    assert abs(z[-1, np.argmin(np.abs(sigmas - 1.0))]) < 1.5  # white
    assert contour["contours"]["end"] == 3.0
    assert [note["text"] for note in chart["layout"]["annotations"]] == ["<b>vanishing</b>"]


def test_a_net_deeper_than_the_map_is_marked_at_its_edge() -> None:
    found = study_propagation(square_net(500, 2, "tanh"), nets=2)
    chart = propagation_section(found).charts[1].figure
    assert chart["data"][-1]["y"][0] <= 400
    assert "500 layers" in chart["data"][-1]["name"]
    json.dumps([one.figure for one in propagation_section(found).charts], allow_nan=False)


def test_a_twin_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(change: float, net: RandomMlp, *, seeds: Any, dtype: str) -> Any:
        assert dtype == "float64"
        found = propagate(net, seeds=seeds)
        return dataclasses.replace(found, gradients=found.gradients + change)

    for change, level in ((0.0, "good"), (1e-6, "bad"), (math.nan, "bad")):
        twin = types.SimpleNamespace(propagate=functools.partial(other, change))
        monkeypatch.setattr(backends, "load", lambda name, twin=twin: twin)
        net = square_net(4, 10, "relu", init="kaiming_normal")
        assert propagation_section(study_propagation(net, nets=3, frameworks=["torch"])).level == level
