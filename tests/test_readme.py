"""The README's snippets run, and print what they say they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gradlab_core.sinks import load_records

ROOT = Path(__file__).parent.parent
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def test_the_first_two_snippets_differ_in_the_import_and_in_comments_only():
    torch, jax = ([line.split("#")[0].rstrip() for line in snippet.splitlines()] for snippet in SNIPPETS[:2])
    assert [(a, b) for a, b in zip(torch, jax, strict=True) if a != b] == [
        ("import gradlab_torch as gl", "import gradlab_jax as gl")
    ]


@pytest.mark.parametrize("index", range(4))
def test_a_snippet_prints_what_it_says(index, tmp_path):
    snippet = SNIPPETS[index]
    assert len(SNIPPETS) == 4
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    # What stands behind a print, or on a line of its own after it.
    promised = re.findall(r"^(?:print\(.*\)  )?# +(.*)$", snippet, flags=re.MULTILINE)
    assert done.stdout.splitlines() == promised
    for file in tmp_path.glob("*.jsonl"):
        assert [record.step for record in load_records(file)] == list(range(50))


def test_the_example_runs():
    done = subprocess.run([sys.executable, "examples/parity_of_a_port.py"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "parity holds" in done.stdout
    assert "parity broken at step 0, statistic stage2.0.bn1.running_mean" in done.stdout


def test_links_lead_somewhere():
    texts = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for text in texts:
        for link in re.findall(r"\]\(([^)#]+)\)", text.read_text()):
            assert link.startswith("http") or (text.parent / link).exists(), f"{text.name}: {link}"
