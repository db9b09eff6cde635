"""The README's snippets run, and print what they say they print."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from gradlab_core.sinks import load_records
from tests.snippets import SNIPPETS, promised

ROOT = Path(__file__).parents[2]


def test_the_first_two_snippets_differ_in_the_import_and_in_comments_only():
    torch, jax = ([line.split("#")[0].rstrip() for line in snippet.splitlines()] for snippet in SNIPPETS[:2])
    assert [(a, b) for a, b in zip(torch, jax, strict=True) if a != b] == [
        ("import gradlab_torch as gl", "import gradlab_jax as gl")
    ]


@pytest.mark.parametrize("index", range(4))
def test_a_snippet_prints_what_it_says(index, tmp_path, monkeypatch, capsys):
    """Run as a script, in this process: each has a namespace and a folder of its own."""
    snippet = SNIPPETS[index]
    assert len(SNIPPETS) == 4
    monkeypatch.chdir(tmp_path)
    Path("snippet.py").write_text(snippet)
    runpy.run_path("snippet.py", run_name="__main__")
    assert capsys.readouterr().out.splitlines() == promised(snippet)
    files = list(tmp_path.glob("*.gradlab"))
    assert len(files) == ("ColumnSink" in snippet)
    for file in files:
        assert [record.step for record in load_records(file)] == list(range(50))


def test_the_example_runs(capsys):
    runpy.run_path(str(ROOT / "examples" / "parity_of_a_port.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "parity holds" in printed
    assert "parity broken at step 0, statistic stage2.0.bn1.running_mean" in printed


def test_the_tutorial_shows_what_the_example_prints(capsys):
    runpy.run_path(str(ROOT / "examples" / "mend_a_port.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    tutorial = (ROOT / "docs" / "porting.md").read_text()
    faults = [line for line in printed if line.startswith("  fault ")]
    assert len(faults) == 4
    assert all(line in tutorial for line in faults)
    assert printed[-1].startswith("parity holds: 78 tensors compared")
    code = re.search(r"```python\n(class Port.*?)```", tutorial, re.DOTALL)[1].splitlines()
    example = re.sub(r": nnx.Rngs|: jnp.ndarray| -> [\w.]+", "", (ROOT / "examples" / "mend_a_port.py").read_text())
    assert all(line in example for line in code)


def test_links_lead_somewhere():
    texts = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for text in texts:
        for link in re.findall(r"\]\(([^)#]+)\)", text.read_text()):
            assert link.startswith("http") or (text.parent / link).exists(), f"{text.name}: {link}"
