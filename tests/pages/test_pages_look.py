"""How the pages look in a browser, in a wide and in a narrow window, light and dark: what is there can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.lab.pages.chain_rule import chain_section
from gradlab_core.lab.pages.page import write_lab
from gradlab_core.lab.pages.propagation import propagation_section
from gradlab_core.lab.studies.chain_rule import ChainStudy
from gradlab_core.lab.studies.propagation import square_net, study_propagation
from gradlab_core.records import ChainRule, LayerFactor
from gradlab_core.report import write_html
from tests.recorded import eventful, step

from .test_report import everything

Opened = Callable[..., Any]

# The relative luminance and contrast of WCAG 2.1, of every text that stands on a colour of the page itself. 4.5 is what
# it asks of body text.
CONTRASTS = """() => {
  const parts = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest(".plot, script, style") || !e.getClientRects().length) continue;
    const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 30)}`]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""

# Captions of tables and charts that reach beyond what is seen of their table, or beyond the window.
CUT = """() => [...document.querySelectorAll("caption span, figcaption, nav a")].filter((e) => {
  const box = e.getBoundingClientRect(), shown = (e.closest(".scroll") || document.body).getBoundingClientRect();
  return box.width && (box.right > shown.right + 1 || box.left < shown.left - 1);
}).map((e) => e.textContent)"""

# Entries of legends that lie on one another or reach out of their chart.
CROWDED = """() => [...document.querySelectorAll("[data-chart]")].flatMap((plot) => {
  const frame = plot.getBoundingClientRect();
  const boxes = [...plot.querySelectorAll(".legendtext")].map((e) => [e.textContent, e.getBoundingClientRect()]);
  return boxes.filter(([, a], i) => a.right > frame.right + 1 || boxes.some(([, b], j) => j > i
    && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3))
    .map(([name]) => `${plot.dataset.chart}: ${name}`);
})"""

DANGLING = """() => [...document.querySelectorAll("a[href^='#']")].map((a) => a.getAttribute("href").slice(1))
  .filter((id) => !document.getElementById(id))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in ("runs", "comparison", "lab")}
    write_html(
        {"runs/with/a/long/name/sigmoid.jsonl": eventful(), "healthy.jsonl": [step(i) for i in range(60)]},
        found["runs"],
    )
    write_html(everything(), found["comparison"])
    propagation = propagation_section(study_propagation(square_net(6, 16, "tanh"), nets=4))
    write_lab([propagation, chain_section("mypackage.training.image_classification:build", chained())], found["lab"])
    return found


def chained() -> ChainStudy:
    """Twenty layers with long names, through one of which nothing comes."""
    rows = [
        LayerFactor(
            path=f"encoder.blocks.{i}.feed_forward",
            kind="linear",
            call=0,
            layer=f"encoder.blocks.{i}.feed_forward",
            log_factor=-float("inf") if i == 9 else 0.3 * (-1) ** i,
            log_after=None if i == 9 else 0.2 * (i == 15),
            reached=True,
        )
        for i in range(20)
    ]
    chain = ChainRule(mode="train", layers=tuple(rows), log_product=0.3, log_whole=0.5, start=rows[0].layer)
    parts, cut = (rows[15].layer,), (rows[9].layer,)
    return ChainStudy(framework="jax", chain=chain, log_between=0.2, parts=parts, cut=cut, unreached=())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["runs", "comparison", "lab"])
def test_every_text_stands_out_from_what_is_behind_it(
    opened: Opened, pages: dict[str, Path], name: str, scheme: str
) -> None:
    page = opened(pages[name], 1280, scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 20
    assert [each for each in found if each[0] < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    # A chart is drawn on nothing, and turned over on a dark page.
    turned = page.evaluate("[...document.querySelectorAll('.plot')].map(p => getComputedStyle(p).filter)")
    assert {each.startswith("invert(1)") for each in turned} == {scheme == "dark"}
    papers = page.evaluate("[...document.querySelectorAll('.plot')].map(p => p.layout.paper_bgcolor)")
    assert set(papers) == {"rgba(0,0,0,0)"}


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["runs", "comparison", "lab"])
def test_captions_and_legends_are_whole_and_links_lead_somewhere(
    opened: Opened, pages: dict[str, Path], name: str, width: int
) -> None:
    page = opened(pages[name], width)
    assert page.evaluate(CUT) == []
    assert page.evaluate(CROWDED) == []
    assert page.evaluate(DANGLING) == []
    assert page.evaluate("document.querySelectorAll('caption span').length") > 0


def test_of_several_runs_the_findings_stand_on_top_and_lead_to_themselves(
    opened: Opened, pages: dict[str, Path]
) -> None:
    page = opened(pages["runs"], 1280)
    first = page.locator("main section").first
    assert first.get_attribute("id") == "short"
    assert "The loss is NaN or Inf" in first.inner_text()
    assert "healthy.jsonl: nothing found" in first.inner_text()
    links = first.locator("ol a")
    assert links.count() == page.locator("#run-0 .findings > li").count()
    links.first.click()
    page.wait_for_function("location.hash === '#run-0-finding-1'")
    parts = page.locator("#run-0 > nav a").all_inner_texts()
    assert parts == ["Diagnosis", "What was recorded", "Charts", "Norm report", "Trends", "States of the parameters"]
