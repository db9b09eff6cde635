"""Sinks: what is written is read back, a kill loses nothing that was acknowledged, and no number changes its kind."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
import re
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_core.records import StepRecord, codec
from gradlab_core.sinks import JsonlSink, TableSink, export, load_records, open_sink, open_sinks
from gradlab_core.sinks.flat import scalars
from gradlab_core.sinks.jsonl import HEADER
from gradlab_core.sinks.mlflow import LONGEST_NAME, MOST_METRICS, named
from gradlab_core.sinks.tensorboard import single
from tests.recorded import CUT, DEAD, NONFINITE_AT, alike, eventful, step

WRITER = Path(__file__).with_name("killed_writer.py")
ODD = "a/../b\n=1+1,\"'<b>\u2028\ud800é"
"""A path that no framework gives, and that no writer may fail on."""


def written(path: Path, records: list[StepRecord]) -> Path:
    with JsonlSink(path) as sink:
        for record in records:
            sink(record)
    return path


# JSON lines.


def test_json_lines_make_the_round_trip(tmp_path: Path) -> None:
    records = [*eventful(), step(60, paths=(ODD,))]
    path = written(tmp_path / "run.jsonl", records)
    assert alike(load_records(path), records)
    lines = path.read_bytes().split(b"\n")
    assert json.loads(lines[0]) == {"schema_version": 1, "kind": "step-log"}
    assert len(lines) == 1 + len(records) + 1
    for line in lines[:-1]:
        json.loads(line, parse_constant=pytest.fail)


def test_the_document_of_train_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(codec.document("step", eventful()))
    assert alike(load_records(tmp_path / "run.json"), eventful())


def test_a_file_is_continued_and_half_a_line_is_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", [step(0), step(1)])
    whole = path.read_bytes()
    for lost in (1, 20, 300):
        path.write_bytes(whole[:-lost])
        assert [r.step for r in load_records(path)] == [0]
        written(path, [step(7)])
        assert [r.step for r in load_records(path)] == [0, 7]


@pytest.mark.parametrize("kept", [0, 1, len(HEADER) - 1, len(HEADER)])
def test_a_writer_killed_at_its_header_leaves_an_empty_run(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(HEADER[:kept])
    assert load_records(path) == []
    written(path, [step(0)])
    assert [r.step for r in load_records(path)] == [0]


@pytest.mark.parametrize("text", ["precious", '{"step": 1}\n', codec.document("step", [step(0)]), "x" * 999 + "\n"])
def test_a_foreign_file_is_never_touched(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.txt").write_text(text)
    with pytest.raises(GradlabError, match="left as it is"):
        JsonlSink(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == text


def test_two_writers_of_one_file_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with JsonlSink(tmp_path / "run.jsonl"):
        code = f"from gradlab_core.sinks import JsonlSink; JsonlSink({str(tmp_path / 'run.jsonl')!r})"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process" in other.stderr
    JsonlSink(tmp_path / "run.jsonl").close()  # free again


def test_a_closed_sink_says_so(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "run.jsonl")
    sink.close()
    sink.close()
    with pytest.raises(GradlabError, match="closed"):
        sink(step(0))


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data)[:100]))
    assert alike(load_records(written(tmp_path / "run.jsonl", [step(0), step(1)])), [step(0), step(1)])


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = os.write, [1000]

    def filling(file: int, data: bytes) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(file, bytes(data)[: left[0]])
        left[0] -= count
        return count

    with JsonlSink(tmp_path / "run.jsonl") as sink:
        sink(step(0))
        monkeypatch.setattr(os, "write", filling)
        with pytest.raises(GradlabError, match="No space left"):
            sink(step(1))
        left[0] = 10**9
        sink(step(2))
    assert [r.step for r in load_records(tmp_path / "run.jsonl")] == [0, 2]


BROKEN = {
    "a line in the middle": (lambda lines: [*lines[:2], b'{"step": 1', *lines[3:]], "line 3 is not JSON"),
    "a line of another kind": (lambda lines: [*lines[:2], b"{}", *lines[3:]], "line 3: expected the fields"),
    "bytes": (lambda lines: [*lines[:2], b"\xff\xfe", *lines[3:]], "line 3 is not JSON"),
    "another version": (lambda lines: [lines[0].replace(b"1", b"99"), *lines[1:]], "schema version 99"),
    "no header": (lambda lines: lines[1:], "not JSON"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_an_error_with_its_place(tmp_path: Path, case: str) -> None:
    change, message = BROKEN[case]
    path = written(tmp_path / "run.jsonl", [step(i) for i in range(3)])
    path.write_bytes(b"\n".join(change(path.read_bytes().split(b"\n"))))
    with pytest.raises(GradlabError, match=message):
        load_records(path)


def test_places_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing" / "run.jsonl"):
        with pytest.raises(GradlabError, match="cannot write"):
            JsonlSink(place)
        with pytest.raises(GradlabError, match="cannot read"):
            load_records(place)


def kills(folder: Path, kind: str) -> Any:
    done = subprocess.run([sys.executable, WRITER, folder, kind], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    found = kills(tmp_path, "jsonl")
    assert found["wrong"] == []
    assert found["trials"] == 100
    assert found["acknowledged"] > 100  # else the kills came before there was anything to lose


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_the_kills_find_a_writer_that_keeps_a_buffer(tmp_path: Path) -> None:
    assert kills(tmp_path, "buffered")["wrong"]


# Tables.


def test_csv_keeps_nan_inf_missing_and_zero_apart(tmp_path: Path) -> None:
    export(eventful(), tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    at = {(int(r["step"]), r["path"], r["quantity"]): r for r in rows}
    assert at[NONFINITE_AT, "", "loss"]["value"] == "NaN"
    assert at[NONFINITE_AT, "", "grad_norm"]["value"] == "Inf"
    assert at[0, CUT, "grad"]["value"] == ""
    assert at[0, DEAD, "grad"]["value"] == "0.0"
    assert (at[0, CUT, "state"]["value"], at[0, CUT, "state"]["state"]) == ("", "disconnected")
    assert float(at[3, "fc.bias", "grad"]["value"]) == eventful()[3].tensors["fc.bias"].grad
    assert len(at) == len(rows)  # tidy: one number a row


def test_parquet_keeps_nan_and_null_apart(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [*eventful(), step(60, paths=("a<b>é",))]
    export(records, tmp_path / "run.parquet")
    table = parquet.read_table(tmp_path / "run.parquet")
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "string", "double", "string"]
    at = {(r["step"], r["path"], r["quantity"]): r for r in table.to_pylist()}
    assert math.isnan(at[NONFINITE_AT, "", "loss"]["value"])
    assert at[NONFINITE_AT, "", "grad_norm"]["value"] == math.inf
    assert at[0, CUT, "grad"]["value"] is None
    assert at[0, DEAD, "grad"]["value"] == 0.0
    assert at[60, "a<b>é", "state"]["state"] == "ok"
    missing = [r for r in at.values() if r["quantity"] != "state" and r["value"] is None]
    assert table["value"].null_count == len(missing) + sum(r["quantity"] == "state" for r in at.values())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_as_a_sink_is_the_table_of_an_export(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("pyarrow")
    export(eventful(), tmp_path / f"whole.{kind}")
    with open_sink(f"{kind}:{tmp_path / 'run'}") as sink:
        for record in eventful():
            sink(record)
        assert not (tmp_path / "run").exists()
    assert (tmp_path / "run").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    with pytest.raises(GradlabError, match="closed"):
        sink(step(0))
    with contextlib.suppress(KeyboardInterrupt), TableSink(tmp_path / f"cut.{kind}") as sink:
        sink(step(0))
        raise KeyboardInterrupt  # what was measured is kept
    assert (tmp_path / f"cut.{kind}").stat().st_size > 100
    with pytest.raises(GradlabError, match="is a folder"):
        TableSink(tmp_path, kind=f".{kind}")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> Iterator[StepRecord]:
        yield step(0)
        raise KeyboardInterrupt

    for name in ("run.csv", "run.parquet"):
        with pytest.raises(KeyboardInterrupt):
            export(failing(), tmp_path / name)
    with pytest.raises(GradlabError, match=r"'\.xlsx'; expected \.parquet or \.csv"):
        export([step(0)], tmp_path / "run.xlsx")
    assert list(tmp_path.iterdir()) == []


# Loggers, each read back from what it wrote.


def test_tensorboard_reads_the_same_numbers(tmp_path: Path) -> None:
    files = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    records = [*eventful(), step(60, grad_norm=1e300, update_norm=1e-300)]
    with open_sink(f"tensorboard:{tmp_path}") as sink:
        for number, record in enumerate(records):
            sink(record)
            if number == 9:  # on disk at once, for who looks and for a run that is killed
                read = files.EventFileLoader(str(next(tmp_path.iterdir()))).Load()
                assert max(event.step for event in read) == 9
    events = list(files.EventFileLoader(str(next(tmp_path.iterdir()))).Load())
    events = [event for event in events if event.summary.value]
    assert [event.step for event in events] == list(range(61))  # one event a step
    accumulator = accumulators.EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    accumulator.Reload()
    back: dict[int, dict[str, float]] = {}
    for tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            back.setdefault(event.step, {})[tag] = event.value
    assert alike([sorted(back[r.step].items()) for r in records], [sorted(in_float32(r).items()) for r in records])
    assert f"gradlab/tensors/{CUT}/grad" not in back[0]  # missing is no number
    assert back[60]["gradlab/grad_norm"] < math.inf  # 1e300 is no Inf, and 1e-300 no zero
    assert back[60]["gradlab/update_norm"] > 0


def in_float32(record: StepRecord) -> dict[str, float]:
    return {tag: float(np.float32(single(number))) for tag, number in scalars(record).items()}


def served(folder: Path, tags: list[str]) -> dict[str, list[Any]]:
    """What TensorBoard as people start it gives to its page, by its fast loader: `{tag: [[time, step, value], …]}`."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "(Press CTRL+C" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            assert "fast data loading" in said  # the default, where its server is installed
            address = re.search(r"http://\S+:\d+/", said)
            assert address is not None
            api = address[0] + "data/plugin/scalars/"
            ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

            def answer(query: str) -> Any:
                return json.load(ask(api + query, timeout=30))

            until = time.monotonic() + 30
            while not answer("tags") and time.monotonic() < until:  # it reads beside answering
                time.sleep(0.05)
            return {tag: answer(f"scalars?run=.&tag={urllib.parse.quote(tag)}") for tag in tags}
        finally:
            process.terminate()


def test_tensorboards_fast_loader_shows_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    if pytest.importorskip("tensorboard_data_server").server_binary() is None:
        pytest.skip("no fast loader for this system")
    records = [*eventful(), step(60, grad_norm=1e300, update_norm=1e-300)]
    with open_sink(f"tensorboard:{tmp_path}") as sink:
        for record in records:
            sink(record)
    tags = ["gradlab/loss", "gradlab/grad_norm", "gradlab/update_norm", f"gradlab/tensors/{DEAD}/grad"]
    for tag, points in served(tmp_path, tags).items():
        assert [number for _, number, _ in points] == list(range(61))
        assert alike([float(value) for *_, value in points], [in_float32(r)[tag] for r in records])


def test_tensorboard_needs_neither_torch_nor_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    code = (
        f"import sys\nfrom gradlab_core.sinks import open_sink\nopen_sink('tensorboard:{tmp_path}').close()\n"
        "print([m for m in ('torch', 'tensorflow', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def wandb_history(file: Path) -> list[dict[str, Any]]:
    """What an offline run holds: records of LevelDB's log format in blocks of 32 KiB, after a header of 7 bytes."""
    pytest.importorskip("wandb").teardown()  # `finish` may return before the last block is on disk
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    data, place, record, rows = file.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            message, record = proto.Record.FromString(record), b""
            if message.WhichOneof("record_type") == "history":
                rows.append({i.key or "".join(i.nested_key): json.loads(i.value_json) for i in message.history.item})
    return rows


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return tmp_path


def test_wandb_offline_holds_the_same_numbers(offline: Path) -> None:
    wandb = pytest.importorskip("wandb")
    records = eventful(32)
    with open_sink("wandb:project") as sink:
        assert wandb.run.settings.mode == "offline"
        for record in records:
            sink(record)
    assert wandb.run is None
    rows = wandb_history(next(offline.glob("wandb/offline-run-*/*.wandb")))
    ours = [{k: v for k, v in row.items() if k.startswith("gradlab/") and k != "gradlab/step"} for row in rows]
    back = [sorted((k, float(v)) for k, v in row.items()) for row in ours]
    assert alike(back, [sorted(scalars(r).items()) for r in records])
    assert [row["gradlab/step"] for row in rows] == list(range(32))


def test_a_run_of_the_user_stays_open(offline: Path) -> None:
    wandb = pytest.importorskip("wandb")
    run = wandb.init(project="mine", mode="offline")
    with open_sink("wandb:other") as sink:
        sink(step(0))
    assert wandb.run is run
    run.log({"mine": 1.0})
    file = Path(run.settings.sync_file)
    run.finish()
    rows = wandb_history(file)
    assert [row.get("gradlab/step") for row in rows] == [0, None]
    assert rows[1]["mine"] == 1.0


def mlflow_history(client: Any, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run_id, name)]


@pytest.mark.parametrize("store", ["sqlite:///runs.db", "file:./runs"])
def test_mlflow_holds_the_same_numbers(offline: Path, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store)
    try:
        records = eventful(32)[28:]
        with open_sink("mlflow:experiment") as sink:
            for record in records:
                sink(record)
        open_sink("mlflow:experiment").close()  # it exists by now
        client = mlflow.MlflowClient()
        runs = client.search_runs([client.get_experiment_by_name("experiment").experiment_id])
        run = next(r for r in runs if r.data.metrics)
        assert run.info.status == "FINISHED"
        # The databases have no Inf; the tag of the run says what stands for it.
        huge = sys.float_info.max if store.startswith("sqlite") else math.inf
        assert "±Inf" in run.data.tags["gradlab.infinity"]
        for name in ("loss", "grad_norm", f"tensors/{CUT}/param", "states/disconnected"):
            expected = [(r.step, scalars(r)[f"gradlab/{name}"]) for r in records]
            expected = [(s, huge if v == math.inf else v) for s, v in expected]
            assert alike(mlflow_history(client, run.info.run_id, f"gradlab/{name}"), expected)
        assert f"gradlab/tensors/{CUT}/grad" not in run.data.metrics
    finally:
        mlflow.set_tracking_uri(before)


def test_mlflow_gets_batches_and_names_it_takes(offline: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("sqlite:///runs.db")
    try:
        odd = (ODD, "['a']", "a//b", "/", "..", "./x", "w" * 400, "w" * 401)
        record = step(0, paths=(*odd, *(f"layer{i}.weight" for i in range(MOST_METRICS // 3))))
        assert len(scalars(record)) > MOST_METRICS
        with mlflow.start_run() as run:
            with open_sink("mlflow:ignored") as sink:
                sink(record)
            assert mlflow.active_run() is not None  # the user's run stays open
        metrics = mlflow.MlflowClient().get_run(run.info.run_id).data.metrics
        assert len(metrics) == len(scalars(record))  # no two names met
        assert all(len(name) <= LONGEST_NAME for name in named(scalars(record)))
    finally:
        mlflow.set_tracking_uri(before)


# Opening by words.


def test_all_problems_of_several_sinks_at_once(tmp_path: Path) -> None:
    with pytest.raises(GradlabError, match=r"2 problems[\s\S]*'josnl:x'[\s\S]*'jsonl:'"):
        open_sinks(["josnl:x", "jsonl:", f"jsonl:{tmp_path}/good.jsonl"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(GradlabError, match=r"2 problems[\s\S]*no1[\s\S]*no2"):
        open_sinks([f"jsonl:{tmp_path}/good.jsonl", "jsonl:no1/x", "jsonl:no2/x"])
    JsonlSink(tmp_path / "good.jsonl").close()  # the good one was not left open


def test_several_sinks_get_every_record(tmp_path: Path) -> None:
    with open_sinks([f"jsonl:{tmp_path}/a:b.jsonl", f"jsonl:{tmp_path}/c.jsonl"]) as sink:
        sink(step(0))
    for name in ("a:b.jsonl", "c.jsonl"):
        assert alike(load_records(tmp_path / name), [step(0)])


@pytest.mark.parametrize("library", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_says_how_to_install_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)

    class Gone:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name.split(".")[0] == library:
                raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr(sys, "meta_path", [Gone(), *sys.meta_path])
    with pytest.raises(MissingDependency, match=rf"pip install 'gradlab-parity\[{library}\]'"):
        open_sink(f"{library}:x")


def test_importing_the_sinks_loads_nothing_heavy() -> None:
    heavy = ("tensorboard", "wandb", "mlflow", "pyarrow", "pandas", "numpy", "torch", "jax")
    code = f"import sys, gradlab_core.sinks; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
