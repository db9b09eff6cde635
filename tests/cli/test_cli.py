"""The command line as a user meets it, with good input and with bad: through a subprocess where a verb does its work, a
framework is missing or a signal comes; the rest through the console script in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from gradlab_core.compare.comparison import Figure, Run
from gradlab_core.records import StepRecord, codec
from gradlab_core.sinks import load_records

GRADLAB = [sys.executable, "-c", "from gradlab_core.cli.main import run; run()"]
TINY = ["--base", "2", "--depth", "1,1,1", "--seeds", "1", "--block", "plain"]


def gradlab(*arguments, cwd, **options):
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run([*GRADLAB, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, **options)


def refused(done, *words):
    """Bad input: a message, exit code 2, no traceback, nothing on standard output."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in " ".join(done.stderr.split()), done.stderr


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """One real comparison in both frameworks, of nets as deep as the missing skip needs: JAX compiles all of it."""
    folder = tmp_path_factory.mktemp("compare")
    nets = [*TINY, "--depth", "1,1", "--block", "preact_noskip"]
    done = gradlab("compare", *nets, "--epochs", "1", "--out", "out", "--json", cwd=folder)
    return folder, done


def test_compare_prints_one_document_and_writes_report_and_records(compared):
    folder, done = compared
    assert done.returncode == 1, done.stderr  # preact_noskip has parameters without a gradient
    figures = codec.parse(done.stdout, "comparison", Figure)
    assert {(f.block, f.framework) for f in figures} == {
        (b, f) for b in ("plain", "preact_noskip") for f in ("torch", "jax")
    }
    cut = {(f.block, f.value) for f in figures if f.figure == "disconnected"}
    assert cut == {("plain", 0.0), ("preact_noskip", 1.0)}
    runs = codec.parse((folder / "out/runs.json").read_text(), "run", Run)
    assert len(runs) == 4
    assert all(run.training.epochs[0].test_accuracy is not None for run in runs)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["report.html", "runs.json"]


def test_the_frameworks_start_alike_and_agree_at_initialisation(compared):
    folder, _ = compared
    runs = codec.parse((folder / "out/runs.json").read_text(), "run", Run)
    for block in ("plain", "preact_noskip"):
        a, b = (next(r for r in runs if (r.block, r.framework) == (block, f)) for f in ("torch", "jax"))
        assert a.initial.flow.loss == pytest.approx(b.initial.flow.loss, rel=1e-5)
        assert a.initial.flow.global_norm == pytest.approx(b.initial.flow.global_norm, rel=1e-3)
        cut = [{p for p, state in r.training.steps[0].states.items() if state == "disconnected"} for r in (a, b)]
        assert cut[0] == cut[1] == set(a.initial.flow.disconnected)
        assert a.training.steps[0].loss == pytest.approx(b.training.steps[0].loss, rel=1e-5)


def test_report_draws_recorded_runs_again(compared):
    folder, _ = compared
    done = gradlab("report", "out/runs.json", "--out", "again.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "<html" in (folder / "again.html").read_text()[:500]


def test_a_person_gets_tables_and_words(console):
    done = console("compare", *TINY, "--epochs", "0", "-f", "torch")
    assert done.returncode == 0, done.stderr
    for words in ("at initialisation", "tracked layer calls", "every parameter gets a gradient", "report.html"):
        assert words in done.stdout
    assert "after training" not in done.stdout
    # The bands that there are were found on another set-up, so they judge only when asked.
    assert "No colours" in done.stdout
    assert "(good: " not in done.stdout


def test_bands_judge_where_they_are_asked_for(console, tmp_path):
    done = console("compare", *TINY, "--epochs", "0", "-f", "torch", "--bands", "tinynet-cifar10", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "(good: " in done.stdout
    assert "asked for by name" in (tmp_path / "out" / "report.html").read_text()
    again = console("report", "out/runs.json", "--json")
    rows = json.loads(again.stdout)["rows"]
    assert {row["band"] for row in rows} == {None}


def test_a_run_that_leaves_the_rails_keeps_its_records_and_says_where(console, tmp_path):
    done = console("train", "--base", "2", "--depth", "1,1,1", "--learning-rate", "1e30", "--out", "run.json")
    assert done.returncode == 1, done.stderr
    assert "diverged at step" in done.stdout
    steps = codec.parse((tmp_path / "run.json").read_text(), "step", StepRecord)
    assert 0 < len(steps) < 44


def test_train_writes_every_step_also_to_sinks_and_they_become_a_report_and_a_table(console, tmp_path):
    sinks = ["--sink", "jsonl:run.jsonl", "--sink", "jsonl:again.jsonl"]
    done = gradlab("train", "--base", "2", "--depth", "1,1,1", *sinks, "--out", "run.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    steps = codec.parse((tmp_path / "run.json").read_text(), "step", StepRecord)
    assert [s.step for s in steps] == list(range(44))
    assert "test accuracy" in done.stdout
    assert repr(load_records(tmp_path / "run.jsonl")) == repr(steps)
    assert (tmp_path / "run.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()

    done = console("report", "run.jsonl", "run.json", "--out", "page.html")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").read_text().count("44 steps recorded") == 2
    done = console("report", "run.jsonl", "--out", "run.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert repr(codec.parse(done.stdout, "step", StepRecord)) == repr(steps)
    assert (tmp_path / "run.csv").read_text().startswith("step,path,quantity,value,state\n")
    refused(console("report", "run.jsonl", "run.json", "--out", "x.csv"), "x.csv holds one run")
    refused(console("report", "run.jsonl", "no1", "no2"), "2 problems", "no1", "no2")
    # A file of another kind is not touched.
    refused(console("train", "--sink", "jsonl:run.json", "--base", "2"), "run.json", "left as it is")


def test_parity(tmp_path):
    done = gradlab("parity", "--block", "plain", "--base", "2", "--depth", "1", "--steps", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "parity holds" in done.stdout


def test_an_interrupt_keeps_what_was_measured(tmp_path):
    arguments = ["compare", *TINY, "--seeds", "500", "--epochs", "1", "-f", "torch", "--out", "out"]
    pipes: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # What a shell starts in the background, as these tests may be, does not hear an interrupt unless it says so.
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen([*GRADLAB[:2], hears + GRADLAB[2], *arguments], cwd=tmp_path, **pipes)
    records = tmp_path / "out/runs.json"
    deadline = time.monotonic() + 120
    try:
        while not records.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # whatever happens here, nothing goes on running behind the tests
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert codec.parse(records.read_text(), "run", Run)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "runs.json"]


BAD = {
    "unknown block": (["compare", "--block", "postakt"], ["postakt", "expected one of plain"]),
    "unknown bands": (["compare", "--bands", "universal", "-f", "torch"], ["universal", "tinynet-cifar10"]),
    "unknown framework": (["compare", "-f", "keras"], ["keras", "torch or jax"]),
    "all at once": (["compare", "--seeds", "0", "--base", "0"], ["2 problems", "seeds is 0", "base is 0"]),
    "depth": (["compare", "--depth", "2;2"], ["2;2", "as 2,2,2"]),
    "batch larger than the data": (["compare", "--batch-size", "5000", "-f", "torch"], ["5000", "1438"]),
    "learning rate": (["compare", "--learning-rate", "nan", "-f", "torch"], ["learning_rate", "nan"]),
    "unknown data": (["compare", "--data", "imagenet"], ["imagenet", "digits", "cifar10"]),
    "no data folder": (["compare", "--data", "cifar10"], ["--data-dir"]),
    "data not there": (["compare", "--data", "cifar10", "--data-dir", "nowhere"], ["nowhere"]),
    "unwritable folder": (["compare", "--out", "a-file/out"], ["cannot write", "a-file"]),
    "unknown option": (["compare", "--blok", "plain"], ["No such option", "--block"]),
    "no records": (["report", "missing.json"], ["missing.json", "gradlab compare"]),
    "foreign records": (["report", "foreign.json"], ["foreign.json", "schema_version"]),
    "no archive": (["data", "prepare", "cifar10", "--from", "no.tar.gz", "--data-dir", "d"], ["no.tar.gz"]),
    "other data set": (["data", "prepare", "mnist", "--from", "x", "--data-dir", "d"], ["mnist", "expected cifar10"]),
    "train block": (["train", "--block", "postakt"], ["postakt"]),
    "sinks": (["train", "--sink", "josnl:x", "--sink", "jsonl:"], ["2 problems", "josnl:x", "tensorboard:FOLDER"]),
    "table of a comparison": (["report", "foreign.json", "--out", "x.csv"], ["foreign.json", "schema_version"]),
    "parity steps": (["parity", "--steps", "0", "--block", "plain"], ["steps is 0"]),
}
# One case for each way out: a problem of ours, one of the command line, one met at work.
IN_A_PROCESS = ("all at once", "unknown option", "batch larger than the data")


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, console, tmp_path):
    arguments, words = BAD[case]
    (tmp_path / "a-file").write_text("")
    (tmp_path / "foreign.json").write_text("{}")
    refused(console(*arguments), *words)
    if case in IN_A_PROCESS:
        refused(gradlab(*arguments, cwd=tmp_path), *words)
    # A folder for the output may have been made, but nothing is in it.
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"a-file", "foreign.json"}


@pytest.mark.parametrize("gone", ["jax", "torch"])
def test_a_missing_framework(gone, tmp_path):
    guard = (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {gone!r}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        f"sys.argv = ['gradlab', 'compare', '-f', {gone!r}]\n"
    )
    done = subprocess.run([sys.executable, "-c", guard + GRADLAB[2]], capture_output=True, text=True, cwd=tmp_path)
    refused(done, f"pip install 'gradlab-parity[{gone}]'")


@pytest.mark.parametrize("verb", ["", "compare", "train", "parity", "report", "bench norms", "data prepare"])
def test_every_verb_has_help_with_an_example(verb, console):
    done = console(*verb.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert not verb or "Example" in done.stdout


def test_cifar10_from_archive_to_comparison(console, tmp_path):
    """The whole way of a user who has the archive: prepare, then compare."""
    rng = np.random.default_rng(0)
    files = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    source = tmp_path / "cifar-10-batches-bin"
    source.mkdir()
    for name in files:
        labels = rng.integers(0, 10, (20, 1), dtype=np.uint8)
        pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        (source / name).write_bytes(np.hstack([labels, pixels]).tobytes())
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (source / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(source, "cifar-10-batches-bin")
    prepare = ["data", "prepare", "cifar10", "--from", "cifar-10-binary.tar.gz", "--data-dir", "data"]
    row = json.loads(console(*prepare, "--json").stdout)["rows"][0]
    assert (row["name"], row["train"], row["test"]) == ("cifar10", 100, 20)
    assert Path(row["folder"]).is_dir()
    done = console(*prepare)
    assert done.returncode == 0, done.stderr
    assert "100 training and 20 test images" in " ".join(done.stdout.split())
    cifar = ["--data", "cifar10", "--data-dir", "data"]
    done = console("compare", *TINY, "-f", "torch", "--epochs", "1", *cifar, "--json")
    assert done.returncode == 0, done.stderr
    assert any(row["figure"] == "test_accuracy" for row in json.loads(done.stdout)["rows"])
    assert codec.parse(Path(tmp_path / "gradlab-report/runs.json").read_text(), "run", Run)[0].data == "cifar10"
