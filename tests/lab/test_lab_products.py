"""`gradlab lab products`: the study against independent products, what is said of it, the charts, the command."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from gradlab_core import backends
from gradlab_core.cli.lab import app
from gradlab_core.errors import GradlabError
from gradlab_core.lab.pages.products import product_section
from gradlab_core.lab.products import ProductGrowth, draw_matrices, matrix_product_growth
from gradlab_core.lab.studies.products import ProductStudy, study_products
from gradlab_core.records import codec

DECADE = math.log(10)


def study(**changes: object) -> ProductStudy:
    return study_products(**{"factors": 40, "size": 3, "seeds": 4, **changes})  # type: ignore[arg-type]


def grown(found: ProductStudy, last: tuple[float, ...]) -> ProductStudy:
    """The same study with other logarithms after the last factor."""
    growth = dataclasses.replace(
        found.growth,
        log_spectral=(*found.growth.log_spectral[:-1], last[0]),
        log_singular_values=(*found.growth.log_singular_values[:-1], last),
    )
    return dataclasses.replace(found, growth=growth)


def test_the_norm_at_another_sigma_is_that_of_the_product_itself():
    found = study(sigma=0.9, seed=5)
    for row in found.rescaled:
        product = np.eye(3)
        for matrix in draw_matrices(40, 3, row.sigma, 5):
            product = matrix @ product
        assert row.log_spectral[-1] == pytest.approx(math.log(np.linalg.norm(product, 2)), abs=1e-9)
    by_mark = {mark: row for row in found.rescaled for mark in row.marks}
    assert set(by_mark) == {"asked", "critical", "rule", "below", "above"}
    assert by_mark["asked"].log_spectral == pytest.approx(found.growth.log_spectral)
    assert by_mark["below"].sigma == pytest.approx(0.8 * found.critical)
    assert by_mark["above"].sigma == pytest.approx(1.25 * found.critical)
    assert found.critical_error == pytest.approx(found.critical_measured * found.exponents.standard_errors[0])
    assert by_mark["critical"].exponent == pytest.approx(0, abs=1e-12)
    assert by_mark["asked"].exponent == pytest.approx(found.exponents.predicted[0])
    norms = [math.log(np.linalg.norm(matrix, 2)) for matrix in draw_matrices(40, 3, 0.9, 5)]
    assert found.log_bound == pytest.approx(np.cumsum(norms))
    assert found.log_bound[-1] == pytest.approx(found.bounds.log_of_factors[0])


def test_measured_and_predicted_critical_sigma_agree_and_uniform_has_only_the_measured():
    found = study_products(factors=300, size=4, seeds=8)
    assert abs(found.critical_measured - found.critical) < 5 * found.critical_error < 0.05
    uniform = study(matrices="uniform")
    assert uniform.critical is None
    assert all(row.exponent is None for row in uniform.rescaled)
    assert "there is no formula" in " ".join(product_section(uniform).said)
    assert study(matrices="orthogonal").rule == 1


@pytest.mark.parametrize("sigma", [1e-3, 1e3, 1e-300, 1e300])
def test_a_thousand_factors_at_any_sigma_are_finite(sigma: float):
    found = study_products(factors=1000 if 1e-4 < sigma < 1e4 else 50, size=3, sigma=sigma, seeds=2)
    assert np.isfinite(found.growth.log_singular_values).all()
    assert found.bounds.holds
    section = product_section(found)
    assert section.level == "bad"
    assert ("explodes" if sigma > 1 else "vanishes") in section.said[0]
    shown = json.dumps([item.figure for item in section.charts], allow_nan=False)
    assert "exactly 0" not in shown


def test_the_verdict_is_about_the_norm():
    found = study(sigma=0.7)
    for end, level, word in ((2.9, "good", "keeps its size"), (3.1, "bad", "explodes"), (-3.1, "bad", "vanishes")):
        section = product_section(grown(found, (end * DECADE, 0.0, -1.0)))
        assert section.level == level
        assert word in section.said[0]
    exploded = product_section(study_products(factors=100, size=4, seeds=2))
    assert "explodes: its norm grows by 23.9 orders of magnitude" in exploded.said[0]
    assert "only 2 are within the 16 digits" in exploded.said[1]
    assert "24.0 orders of magnitude too large" in " ".join(exploded.said)
    kept = product_section(study_products(factors=100, size=4, matrices="orthogonal", seeds=2))
    assert kept.level == "good"
    assert "norm itself" in " ".join(kept.said)
    assert not any("loses directions" in sentence for sentence in kept.said)


def test_zero_nan_and_infinity_are_told_apart():
    found = study(sigma=0.7)
    zero = product_section(grown(found, (0.1, 0.0, -math.inf)))
    assert zero.level == "good"
    assert "smallest singular value is exactly 0" in zero.said[1]
    assert zero.sheets[0].rows[-1][-1] == "exactly 0"
    assert "exactly 0" in zero.charts[0].figure["layout"]["yaxis2"]["ticktext"]
    for bad in ((math.nan,) * 3, (0.0, 0.0, math.nan)):
        section = product_section(grown(found, bad))
        assert section.level == "bad"
        assert "NaN" in section.said[0]
        assert section.charts[0].figure["layout"]["yaxis2"]["ticktext"] == ["NaN"]
    assert "exactly 0" in product_section(grown(found, (-math.inf,) * 3)).said[0]


def test_charts_show_the_lines_slopes_and_bound():
    found = study(size=9, factors=600)
    lines, norms = (item.figure for item in product_section(found).charts)
    solid = [trace for trace in lines["data"] if trace["line"]["dash"] == "solid"]
    dashed = [trace for trace in lines["data"] if trace["line"]["dash"] == "dash"]
    (dotted,) = [trace for trace in lines["data"] if trace["line"]["dash"] == "dot"]
    assert [trace["name"] for trace in solid][::5] == ["s₁", "s₉"]
    assert len({trace["line"]["color"] for trace in solid}) == len(solid) == len(dashed) == 6
    assert [trace["showlegend"] for trace in dashed] == [True, *[False] * 5]
    for trace in (*solid, dotted):
        assert (trace["x"][0], trace["y"][0], trace["x"][-1]) == (0, 0, 600)
        assert len(trace["x"]) <= 400
    assert solid[-1]["y"][-1] == pytest.approx(found.growth.log_singular_values[-1][-1] / DECADE, rel=1e-5)
    assert dashed[0]["y"] == pytest.approx([0, 600 * found.exponents.predicted[0] / DECADE], rel=1e-5)
    assert dotted["y"][-1] == pytest.approx(found.bounds.log_of_factors[0] / DECADE, rel=1e-5)
    assert len(norms["data"]) == len(found.rescaled)
    assert (norms["layout"]["shapes"][0]["y0"], norms["layout"]["shapes"][0]["y1"]) == (-3, 3)


def test_another_product_bounds_that_do_not_hold_and_rates_off_theory_are_caught(monkeypatch: pytest.MonkeyPatch):
    def twin(shift: float) -> SimpleNamespace:
        def grow(*arguments: int, init: str) -> ProductGrowth:
            growth = matrix_product_growth(*arguments, init=init)
            last = tuple(value + shift for value in growth.log_singular_values[-1])
            return dataclasses.replace(growth, log_singular_values=(*growth.log_singular_values[:-1], last))

        return SimpleNamespace(matrix_product_growth=grow)

    right = matrix_product_growth(40, 3, 0.7, 0).log_singular_values[-1][-1]
    for shift, wrong in ((1e-12, False), (3e-9 * (1 + abs(right)), True), (math.nan, True), (-math.inf, True)):
        monkeypatch.setattr(backends, "load", lambda name, shift=shift: twin(shift))
        found = study(sigma=0.7, frameworks=["jax", "jax"])
        assert found.wrong == (("jax",) if wrong else ())
        section = product_section(found)
        assert section.level == ("bad" if wrong else "good")
        assert section.sheets[-1].levels == (["bad"] if wrong else [""])
        assert "JAX" in section.said[-1]
        assert ("Another product" in section.said[-1]) == wrong
    sound = study(sigma=0.7)
    broken = dataclasses.replace(sound, bounds=dataclasses.replace(sound.bounds, holds=False))
    assert product_section(broken).level == "bad"
    off = tuple(m + 6 * e for m, e in zip(sound.exponents.measured, sound.exponents.predicted_errors, strict=True))
    doubtful = dataclasses.replace(sound, exponents=dataclasses.replace(sound.exponents, measured=off))
    assert product_section(doubtful).level == "bad"
    assert "too much for chance" in " ".join(product_section(doubtful).said)
    orthogonal = study(matrices="orthogonal")
    turned = dataclasses.replace(orthogonal.exponents, measured=(1e-3, 0.0, 0.0))
    assert product_section(orthogonal).level == "good"
    assert product_section(dataclasses.replace(orthogonal, exponents=turned)).level == "bad"


def test_all_problems_at_once_and_nothing_endless():
    with pytest.raises(GradlabError) as refused:
        study(factors=0, size=0, sigma=math.nan, matrices="normal", seed=-1, seeds=1, frameworks=["numpy"])
    assert str(refused.value).startswith("products: 7 problems")
    for sigma in (0.0, -1.0, math.inf, 1e305):
        with pytest.raises(GradlabError, match="sigma is"):
            study(sigma=sigma)
    for large in ({"size": 10**6}, {"factors": 10**12}, {"seeds": 10**9}, {"size": 512, "factors": 100}):
        with pytest.raises(GradlabError, match="would take"):
            study(**large)


def test_the_command(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = tmp_path / "new" / "page.html"
    few = ["products", "--factors", "60", "--seeds", "3"]
    exploded = CliRunner().invoke(app, [*few, "--out", str(page)])
    assert exploded.exit_code == 1
    assert "explodes" in exploded.output
    assert max(map(len, exploded.output.splitlines()[:-1])) <= 80
    assert {"product-singular-values", "product-norm"} <= set(page.read_text().split('"'))
    kept = CliRunner().invoke(app, [*few, "--matrices", "orthogonal", "--json"])
    assert kept.exit_code == 0
    (row,) = codec.parse(kept.stdout, "product", ProductStudy)
    assert row == study_products(factors=60, seeds=3, matrices="orthogonal")
    with pytest.raises(GradlabError, match="seeds is 1"):
        CliRunner().invoke(app, ["products", "--seeds", "1"], catch_exceptions=False)
