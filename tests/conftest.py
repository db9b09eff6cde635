"""What user-level tests share: the command line without a new process for every call, and a real browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.cli import main

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


SLOW = frozenset(
    "test_scenarios test_sinks test_jsonl test_tables test_trackers test_packaging test_readme test_examples "
    "test_processors".split()
)
"""What compiles, installs or starts processes by the dozen; `make quick` leaves it out, and what needs a browser."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        of_a_twin = item.name.startswith("test_docstring_examples_run[") and "[gradlab_core" not in item.name
        if item.path.stem in SLOW or of_a_twin or "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The console script in this process, in an empty folder: no second import of the frameworks for every case."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["gradlab", *arguments])
        with pytest.raises(SystemExit) as stop:
            main.run()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(str(stop.value.code)), said.out, said.err)

    return call


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page at a width, light or dark, without a network, once its charts are drawn: it says nothing on the
    console, asks for nothing, runs no script of its data and is no wider than the window."""
    contexts = []

    def call(path: Path, width: int, scheme: str = "light") -> Any:
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, offline=True, color_scheme=scheme)
        )
        page = contexts[-1].new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.absolute().as_uri())
        page.wait_for_selector("html[data-rendered=yes]", timeout=30_000)
        assert said == []
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        return page

    yield call
    for context in contexts:
        context.close()
