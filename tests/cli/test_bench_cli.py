"""`gradlab bench`: what a benchmark declares is what the command line offers, refuses and explains."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gradlab_core.cli import bench, main
from gradlab_core.records import codec

ROOT = Path(__file__).parents[2]
GROUP = typer.main.get_command(bench.app)
NAMES = ["analysis", "causes", "derivatives", "diagnosis", "monitor", "norms", "parity", "records", "step", "sweep"]
ITSELF = '''
"""Counts to a number.

Example: `gradlab bench counting --upto 3`
"""

from typing import Annotated

import typer

from .options import answering


def run(*, upto: Annotated[int, typer.Option(help="The last number.")] = 2, start=1, on_call):
    on_call("counting")
    return list(range(start, upto + 1))


command = answering(run, "count", lambda rows: [f"{len(rows)} numbers"])
'''


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["gradlab", "bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main.run()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    return " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["step", "--elements", "5"], "gradlab: --elements is for bench norms; came with bench step"),
        (["norms", "--block=plain"], "gradlab: --block is for bench analysis, step; came with bench norms"),
        (
            ["parity", "-f", "torch"],
            "gradlab: -f is for bench analysis, derivatives, diagnosis, monitor, norms, step; came",
        ),
        (["norms", "--no-planted"], "gradlab: --no-planted is for bench parity; came with bench norms"),
        (
            ["nrms"],
            "gradlab: benchmark is 'nrms'; expected one of analysis, causes, derivatives, diagnosis, monitor, "
            "norms, parity, records, step, sweep",
        ),
        (["norms", "--nosuch", "5"], "No such option: --nosuch"),
        (["norms", "--elements"], "Option '--elements' requires an argument"),
        (["norms", "--elements", "many"], "Invalid value for '--elements'"),
    ],
)
def test_what_is_not_asked_that_way_is_refused_in_words(arguments, words, capsys, monkeypatch):
    assert words in refused(capsys, monkeypatch, *arguments)


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_each_has_an_example_that_is_one(name):
    shown = CliRunner().invoke(bench.app, [name, "--help"]).stdout
    module = sys.modules[f"gradlab_benchmarks.bench_{name}"]
    example = re.search(r"`gradlab bench (.+?)(?: >.*)?`", module.__doc__)[1]
    assert f"gradlab bench {example}" in " ".join(shown.split())
    first, *options = shlex.split(example)
    assert first == name
    context = GROUP.make_context("bench", [name])
    GROUP.get_command(context, name).make_context(name, options, parent=context)


def test_help_names_all_and_imports_no_framework():
    code = f"""
import sys
from gradlab_core.cli.main import run
sys.argv = ['gradlab', 'bench', '--help']
try:
    run()
except SystemExit as stop:
    assert stop.code == 0
assert {NAMES!r} == [n[len('gradlab_benchmarks.bench_'):] for n in sorted(sys.modules) if '.bench_' in n]
print('HEAVY', [m for m in ('torch', 'jax', 'flax', 'optax', 'sklearn', 'plotly') if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "HEAVY []" in done.stdout, done.stderr
    assert all(f" {name} " in done.stdout for name in NAMES)


def test_a_new_module_is_a_new_benchmark(tmp_path, monkeypatch):
    (tmp_path / "bench_counting.py").write_text(ITSELF.lstrip())
    monkeypatch.setattr(bench.benchmarks(), "__path__", [*bench.benchmarks().__path__, str(tmp_path)])
    run = CliRunner()
    assert "Counts to a number." in run.invoke(bench.app, ["--help"]).stdout
    assert run.invoke(bench.app, ["counting", "--upto", "4"]).stdout == "4 numbers\n"
    out = tmp_path / "made" / "rows.json"
    assert run.invoke(bench.app, ["counting", "--json", "--out", str(out)]).stdout == out.read_text()
    assert out.read_text() == codec.document("count", [1, 2]) + "\n"
    assert "--start" not in run.invoke(bench.app, ["counting", "--help"]).stdout
