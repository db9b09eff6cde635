"""The page of a parity report: the verdict, the first divergence, and every tensor as what it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.parity import Cause, Explanation, Fault, Key, ParityReport, ParityRow
from gradlab_core.parity.arithmetic import ARITHMETICS
from gradlab_core.report import write_html
from gradlab_core.show.parity.cells import LEVELS, MISSING, NOTHING, ODD, cell
from gradlab_core.show.parity.page import content, render
from gradlab_core.show.parity.tree import every, tree
from tests.recorded import step

from .test_pages_look import CONTRASTS, CUT, DANGLING

EVIL = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>'
LAYERS = ("embed", *(f"encoder.layers.{i}.{name}" for i in range(2) for name in ("norm", "fc")), EVIL)
NUMBERS = [f"{side}_{what}" for side in ("reference", "candidate") for what in ("error", "expected", "tolerance")]
NONE: dict[str, None] = dict.fromkeys(["logic_error", "logic_tolerance", *NUMBERS])


def row(at: int, quantity: str, path: str = "", **changes: Any) -> ParityRow:
    fields: dict[str, Any] = dict.fromkeys(NUMBERS, 1e-7) | {"call": 0, "missing": None}
    fields |= {"logic_error": 1e-15, "logic_tolerance": 1e-9, "reference_error": 1e-8, "candidate_error": 1e-8}
    return ParityRow(step=at, quantity=quantity, path=path, **(fields | changes))


def report(steps: int = 4, **changes: dict[str, Any]) -> ParityReport:
    """`changes` are by `quantity|path|step`."""
    keys = [("activation", path) for path in LAYERS] + [("logits", ""), ("loss", "")]
    keys += [(quantity, f"{path}.weight") for quantity in ("gradient", "parameter") for path in LAYERS]
    rows = [row(i, *key, **changes.get(f"{key[0]}|{key[1]}|{i}", {})) for i in range(steps) for key in keys]
    coarse = "tf32" if changes else "highest"
    return ParityReport(rows=tuple(rows), arithmetic=(ARITHMETICS["highest"], ARITHMETICS[coarse]))


BROKEN: dict[str, dict[str, Any]] = {
    "activation|encoder.layers.1.fc|1": {"logic_error": 2e-6},
    "gradient|encoder.layers.1.fc.weight|1": {"candidate_error": 5e-7},
    "activation|embed|2": {"logic_error": math.inf, "candidate_error": math.inf},
    "gradient|embed.weight|3": {**NONE, "missing": "has a value in the reference, is absent in the candidate"},
    "gradient|encoder.layers.0.fc.weight|0": NONE,
}


def levels(given: ParityReport) -> dict[str, list[int]]:
    return {str(leaf.key): [each.level for each in leaf.cells] for leaf in every(tree(given))}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "up to 1: holds"),
        ({"reference_error": 0.0, "candidate_error": 0.0, "logic_error": 0.0}, "up to 0.001"),
        ({"candidate_error": 1e-7}, "up to 1: holds"),
        ({"candidate_error": 1.1e-7}, "up to 10: broken"),
        ({"logic_error": 2e-6}, "more"),
        ({"logic_error": 1e-3, "logic_tolerance": 0.0}, "more"),
        ({"logic_error": math.inf}, ODD),
        ({"reference_error": math.nan}, ODD),
        ({**NONE, "missing": "is absent in the candidate"}, MISSING),
        (NONE, NOTHING),
    ],
)
def test_a_colour_says_what_the_judge_says(changes: dict[str, Any], level: str) -> None:
    one = row(0, "activation", "fc", **{"reference_error": 2e-8, "candidate_error": 2e-8, **changes})
    found = cell(one).level
    assert LEVELS[found] == level
    assert (one.problem is not None) == (found > LEVELS.index("up to 1: holds"))


def test_every_tensor_of_every_step_is_in_the_tree_once() -> None:
    given = report(**BROKEN)
    found = levels(given)
    assert len(found) == len({one.key for one in given.rows})
    assert {len(cells) for cells in found.values()} == {4}
    broken = {(key, at) for key, cells in found.items() for at, level in enumerate(cells) if level > 4}
    assert broken == {(str(one.key), one.step) for one in given.failures}


def test_of_a_long_run_a_column_shows_the_worst_of_its_steps() -> None:
    found = levels(report(40, **{"logits||38": {"logic_error": 1e-8}}))
    assert {len(cells) for cells in found.values()} == {14}
    assert [level > 4 for level in found["logits"]] == [False] * 12 + [True, False]


def test_branches_lead_to_the_first_divergence() -> None:
    root = tree(report(**BROKEN))
    assert [child.name for child in root.children] == ["embed", "encoder.layers", EVIL]
    assert [leaf.name for leaf in root.leaves] == ["logits", "loss"]
    assert root.cells[1].level == max(part.cells[1].level for part in root.children)
    assert all(child.open for child in root.children), "it is a small one"
    big = report(**BROKEN)
    rows = [*big.rows, *(row(0, "gradient", f"more.{i}.weight") for i in range(30))]
    opened_branches = tree(ParityReport(rows=tuple(rows), arithmetic=big.arithmetic))
    assert {child.name: child.open for child in opened_branches.children} == {
        "embed": False, "encoder.layers": True, EVIL: False, "more": False,
    }  # fmt: skip


def test_a_path_of_a_thousand_parts_is_a_path() -> None:
    rows = (row(0, "activation", ".".join(["a"] * 1000)), row(0, "loss"))
    assert content({"deep": ParityReport(rows=rows, arithmetic=report().arithmetic)})["title"] == "Parity holds"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("parity")
    found = {name: folder / f"{name}.html" for name in ("broken", "several", "one")}
    write_html({f"a:x and {EVIL}": report(**BROKEN)}, found["broken"])
    write_html({"plain": report(), "preact": report(40, **BROKEN)}, found["several"])
    write_html(report(1), found["one"])
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["broken", "several", "one"])
def test_everything_can_be_read(
    opened: Callable[..., Any], pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    page = opened(pages[name], width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 20
    assert [each for each in found if each[0] < 4.5] == []
    assert page.evaluate(CUT) == []
    assert page.evaluate(DANGLING) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "[...document.querySelectorAll('.strip')].every(e => e.getBoundingClientRect().right <= innerWidth)"
    )


def test_the_verdict_comes_first_and_the_divergence_with_its_numbers(
    opened: Callable[..., Any], pages: dict[str, Path]
) -> None:
    page = opened(pages["broken"], 1280)
    section = page.locator("main section").inner_text()
    order = [
        "Parity is broken at step 1, activation encoder.layers.1.fc.",
        "The first divergence",
        "What to do: what goes into this layer agrees",
        "2.00e-06",
        "2,000 × its limit",
        "the candidate multiplies in TF32",
        "Every tensor",
    ]
    places = [section.find(words) for words in order]
    assert -1 not in places
    assert places == sorted(places)
    assert page.locator("h1").inner_text() == "Parity is broken"
    leaf = page.locator(".tree details:not(.branch)", has_text="activation").first
    titles = page.locator(".tree i").evaluate_all("all => all.map(each => each.title)")
    assert any("(error Inf)" in title for title in titles)
    assert any("is absent in the candidate" in title for title in titles)
    assert "step 0: no gradient path on either side" in titles
    leaf.locator("summary").first.evaluate("e => e.parentElement.open = true")
    assert "Held against the oracle" in leaf.inner_text()


def test_a_page_without_charts_is_small(pages: dict[str, Path]) -> None:
    assert max(path.stat().st_size for path in pages.values()) < 300_000


def test_reports_and_records_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(GradlabError, match="is a parity report beside recorded runs"):
        write_html({"a": report(), "b": [step(0)]}, tmp_path / "x.html")  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


def test_every_level_has_a_colour_of_its_own() -> None:
    css = Path(__file__).parents[2].joinpath("gradlab_core/show/parity/parity.css").read_text()
    assert all(f".l{level} {{ background" in css for level in range(len(LEVELS)))


def test_faults_are_listed_with_cause_fix_and_what_follows():
    key = Key("activation", "encoder.layers.1.fc")
    known = Explanation((Cause("square-kernel", "the kernel is transposed", "transpose it"),), 0.0)
    other = Explanation((Cause("factor", "it is 3 ×", "divide by 3"),), 0.0)
    about = {"step": 1, "key": key, "error": 1.0, "relative": 0.5, "shape": "differs everywhere"}
    faults = (
        Fault(**about, explanations=(known, other), follow=(Key("logits"), Key("loss"))),
        Fault(**{**about, "key": Key("loss")}, explanations=()),
    )
    page = render({"pair": dataclasses.replace(report(**BROKEN), faults=faults)})
    for words in (
        "The faults, one by one",
        "step 1, activation encoder.layers.1.fc</strong>: the kernel is transposed. Fix: transpose it.",
        "2 tensors differ because of it",
        "<li>it is 3 ×</li>",
        "step 1, loss</strong>: nothing that is known explains it; differs everywhere.",
        "What to do: transpose it.",
    ):
        assert words in page, words
