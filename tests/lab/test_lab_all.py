"""`gradlab lab all`: every study on one page, in a real browser without a network."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlab_core import backends
from gradlab_core.cli.lab import net
from gradlab_core.definitions.initializers import INITIALIZERS
from gradlab_core.lab.pages.page import write_lab
from gradlab_core.lab.pages.section import Section, Sheet
from gradlab_core.show.canvas import Illustration

Run = Callable[..., subprocess.CompletedProcess[str]]
Opened = Callable[[Path, int], Any]
SECTIONS = ["activations", "products", "symmetry", "initializers", "propagation", "doctor"]
CHARTS = [
    "activation-gradients", "product-singular-values", "product-norm", "tie", "initializer-weights",
    "initializer-starts", "propagation", "phases", "spectra", "doctor", "doctor-steps",
]  # fmt: skip


def test_one_page_in_a_browser_without_a_network(
    console: Run, opened: Callable[[Path, int], Any], tmp_path: Path
) -> None:
    done = console("lab", "all", "--depth", "8", "--width", "32", "--out", "lab.html")
    assert done.returncode == 0, done.stderr
    page = opened(tmp_path / "lab.html", 400)
    ids = page.evaluate("[...document.querySelectorAll('main section')].map(s => s.id)")
    assert ids == SECTIONS
    drawn = page.evaluate(
        "[...document.querySelectorAll('[data-chart]')].map(p => [p.dataset.chart, p.data.length, "
        "p.querySelectorAll('g.trace, g.hm, g.contour').length])"
    )
    assert [key for key, *_ in drawn] == CHARTS
    assert all(shown > 0 for _, _, shown in drawn), drawn
    assert "this net: 8 layers, σ_w = 1" in page.inner_text("#propagation")


def test_the_exit_code_is_that_of_the_net_under_test(console: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "available", lambda: ())  # the doctor has nothing to look at a model with
    done = console("lab", "all", "--depth", "30", "--width", "8", "--sigma-w", "0.2", "--json")
    assert done.returncode == 1
    assert "no init doctor: neither PyTorch nor JAX is installed" in done.stderr
    rows = {row["study"]: row["level"] for row in json.loads(done.stdout)["rows"]}
    assert rows["products"] == "bad"  # the hundred matrices of the textbook explode, whatever the net
    assert rows["propagate"] == "bad"
    assert "doctor" not in rows


def test_an_unknown_activation_is_refused_before_anything_is_measured(console: Run) -> None:
    done = console("lab", "all", "--activation", "swish", "--out", "x.html")
    assert done.returncode == 2
    assert "'swish'" in done.stderr
    assert not Path("x.html").exists()


def test_a_page_that_cannot_be_written_leaves_nothing(console: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = console("lab", "activations", "--out", "file/lab.html")
    assert done.returncode == 2
    assert "cannot write into file" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_names_of_users_are_escaped(tmp_path: Path) -> None:
    evil = "</script><script>window.hacked=1</script>"
    chart = Illustration("c", evil, evil, {"data": [], "layout": {"height": 100, "title": {"text": evil}}})
    sheet = Sheet(evil, [evil], [[evil]], levels=["bad"])
    write_lab([Section("key", evil, evil, "bad", [evil], [sheet], [chart])], tmp_path / "lab.html")
    assert evil not in (tmp_path / "lab.html").read_text()


def test_every_verb_gives_one_document_of_json(console: Run) -> None:
    for arguments in (["doctor", "--depth", "2", "--width", "8", "--repair"], ["symmetry"], ["all", "--depth", "3"]):
        done = console("lab", *arguments, "--json")
        assert done.returncode in (0, 1), done.stderr
        assert json.loads(done.stdout)["schema_version"] == 1


def test_the_help_names_the_initialisers_there_are() -> None:
    assert tuple(INITIALIZERS) == net.INITIALIZERS
