"""TensorBoard, Weights & Biases and MLflow hold the numbers of the records."""

from __future__ import annotations

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
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradlab_core.records import StepRecord
from gradlab_core.sinks import open_sink
from gradlab_core.sinks.flat import scalars
from gradlab_core.sinks.mlflow import LONGEST_NAME, MOST_METRICS, named
from gradlab_core.sinks.tensorboard import single
from tests.recorded import CUT, DEAD, ODD, alike, eventful, step


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
