"""The file of columns: what is written is read back, attempts follow each other, and a kill loses nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.records import RecordedRun, StepRecord
from gradlab_core.sinks import ColumnSink, JsonlSink, load_records, load_run
from gradlab_core.sinks.columns import FRAME, HEADER, NOTE, NUMBER, frame
from tests.recorded import ODD, alike, eventful, healthy, onto_a_disk, step
from tests.runs import run

WRITER = Path(__file__).with_name("killed_writer.py")


def written(path: Path, records: list[StepRecord], **options: Any) -> Path:
    with ColumnSink(path, **options) as sink:
        for record in records:
            sink(record)
    return path


def frames(path: Path) -> list[tuple[int, bytes]]:
    data, at, found = path.read_bytes(), len(HEADER), []
    while at < len(data):
        (length, _), (number,) = FRAME.unpack_from(data, at), NUMBER.unpack_from(data, at + FRAME.size)
        begin = at + FRAME.size + NUMBER.size
        at = begin + length
        found.append((number, data[begin:at]))
    return found


def test_records_make_the_round_trip(tmp_path: Path) -> None:
    changed = [step(70 + i, paths=("new.weight",) * (i > 2) + ("fc.bias",)) for i in range(6)]  # names change midway
    records = [
        *eventful(),
        step(60, paths=(ODD,)),
        *changed,
        *(dataclasses.replace(r, step=r.step + 100) for r in run(50)),
    ]
    path = written(tmp_path / "run.gradlab", records)
    assert alike(load_records(path), records)
    assert load_run(path).paths == RecordedRun(records).paths
    assert diagnose(load_run(path)) == diagnose(records)


def test_names_are_written_once_and_numbers_in_little_room(tmp_path: Path) -> None:
    records = healthy(300)
    path, lines = written(tmp_path / "run.gradlab", records), tmp_path / "run.jsonl"
    with JsonlSink(lines) as sink:
        for record in records:
            sink(record)
    assert path.read_bytes().count(b"conv1.weight") < 20  # in the notes on layouts
    assert 4 * path.stat().st_size < lines.stat().st_size


def test_records_are_read_while_they_are_written(tmp_path: Path) -> None:
    with ColumnSink(tmp_path / "run.gradlab") as sink:
        for i, record in enumerate(eventful()):
            sink(record)
            if i % 20 == 0:
                assert len(load_records(sink.path)) == i + 1


def test_a_file_that_is_cut_off_anywhere_keeps_its_whole_records(tmp_path: Path) -> None:
    path = written(tmp_path / "run.gradlab", run(3))  # a probe, in a row of its own, comes with the first
    ends = []
    with ColumnSink(tmp_path / "again.gradlab") as sink:
        for record in run(3):
            sink(record)
            ends.append(sink.path.stat().st_size)
    whole = path.read_bytes()
    for size in {*range(0, len(whole), 13), *ends, *(end - 1 for end in ends)}:
        path.write_bytes(whole[:size])
        found = load_run(path)
        assert len(found) == sum(end <= size for end in ends)
    for size in (len(whole) - 1, ends[1] + 5, ends[0] - 1, 3):
        path.write_bytes(whole[:size])
        assert load_run(path).cut_off == (size > 3)
        kept = len(load_records(path))
        written(path, [step(kept)])
        assert not load_run(path).cut_off
        assert [r.step for r in load_run(path)] == list(range(kept + 1))
    path.write_bytes(whole + bytes(5000))  # room that a power cut left unfilled
    assert len(load_run(path)) == 3


def test_a_newer_attempt_takes_the_place_of_what_it_repeats(tmp_path: Path) -> None:
    for sink_of in (ColumnSink, JsonlSink):
        path = tmp_path / sink_of.__name__
        for begin, end in ((0, 10), (6, 8), (7, 9)):
            with sink_of(path) as sink:
                for number in range(begin, end):
                    sink(step(number, loss=float(begin)))
        with sink_of(path):
            pass  # an attempt that recorded nothing
        found = load_run(path)
        assert [r.step for r in found] == list(range(9))
        assert [r.attempt for r in found] == [0] * 6 + [1] + [2] * 2
        assert [r.loss for r in found] == [0.0] * 6 + [6.0] + [7.0] * 2
        assert found.repeated == 5
        assert len(load_records(path)) == 14


def test_a_run_has_its_hyperparameters(tmp_path: Path) -> None:
    path = written(tmp_path / "run.gradlab", [step(0)], config={"rate": 0.1, "net": "mlp", "path": Path("x")})
    assert load_run(path).config == {"rate": 0.1, "net": "mlp", "path": "x"}
    written(path, [step(1)], config={"rate": 0.2})
    assert load_run(path).config == {"rate": 0.2, "net": "mlp", "path": "x"}
    with JsonlSink(tmp_path / "run.jsonl") as sink:
        sink(step(0))
    assert load_run(tmp_path / "run.jsonl").config == {}
    (tmp_path / "hyperparameters.json").write_text('{"rate": 0.3}')
    assert load_run(tmp_path / "run.jsonl").config == {"rate": 0.3}
    assert load_run(path).config["rate"] == 0.2
    (tmp_path / "hyperparameters.json").write_text("[]")
    with pytest.raises(GradlabError, match="holds no object"):
        load_run(tmp_path / "run.jsonl")


def test_a_foreign_file_is_never_touched(tmp_path: Path) -> None:
    with JsonlSink(tmp_path / "run.jsonl") as sink:
        sink(step(0))
    before = (tmp_path / "run.jsonl").read_bytes()
    with pytest.raises(GradlabError, match="left as it is"):
        ColumnSink(tmp_path / "run.jsonl")
    assert (tmp_path / "run.jsonl").read_bytes() == before


def test_a_full_disk_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [100]
    with ColumnSink(tmp_path / "run.gradlab") as sink:
        sink(step(0))
        monkeypatch.setattr(os, "write", onto_a_disk(left))
        with pytest.raises(GradlabError, match="No space left"):
            sink(step(1, paths=("new.weight",)))
        left[0] = 10**9
        sink(step(2, paths=("new.weight",)))  # whose layout must be written again
    assert alike(load_records(tmp_path / "run.gradlab"), [step(0), step(2, paths=("new.weight",))])


def note_changed(path: Path, change: Any) -> None:
    """Write the file again with its first layout changed."""
    found = frames(path)
    place = next(i for i, (number, data) in enumerate(found) if number == NOTE and b"layout" in data)
    note = json.loads(found[place][1])
    change(note["layout"])
    found[place] = NOTE, json.dumps(note).encode()
    path.write_bytes(HEADER + b"".join(frame(number, data) for number, data in found))


def renamed(layout: dict[str, Any], old: str, new: str) -> None:
    layout["columns"] = [[new if name == old else name, *rest] for name, *rest in layout["columns"]]


BROKEN = {
    "a later field": (lambda note: renamed(note, "distance", "later"), r"unknown fields \['later'\]"),
    "a field that must be there": (lambda note: note["columns"].pop(1), "the field 'loss' is missing"),
    "a later field with a structure": (
        lambda note: note["structure"][0].__setitem__(0, "later"),
        "unknown field 'later'",
    ),
    "a later part": (lambda note: note.__setitem__("part", "later"), "unknown field 'later'"),
    "a later word": (lambda note: note["words"]["states[]"].append("later"), r"states\[\]: unknown \['later'\]"),
    "a later form": (lambda note: note["columns"][0].__setitem__(1, "<f2"), "unknown form"),
    "another length": (lambda note: note["columns"][0].__setitem__(2, 7), "no layout"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_another_version_wrote_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    change, message = BROKEN[case]
    path = written(tmp_path / "run.gradlab", [step(i, loss=None) for i in range(3)])
    note_changed(path, change)
    with pytest.raises(GradlabError, match=message) as refused:
        load_records(path)
    assert "run.gradlab" in str(refused.value)


def test_a_field_that_came_later_has_its_default(tmp_path: Path) -> None:
    path = written(tmp_path / "run.gradlab", [step(i) for i in range(3)])

    def without(layout: dict[str, Any]) -> None:
        gone = ("distance", "tensors[].distance", "quantities[].whole", "quantities[].tensors[]")
        layout["columns"] = [column for column in layout["columns"] if column[0] not in gone]
        layout["structure"] = [part for part in layout["structure"] if part[0] != "quantities"]

    note_changed(path, without)
    assert alike(load_records(path), [step(i) for i in range(3)])


def test_a_damaged_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path / "run.gradlab", [step(i) for i in range(3)])
    data = bytearray(path.read_bytes())
    length = len(frames(path)[-1][1])
    for place in (1, length + NUMBER.size):  # in a number, and in the number of the layout
        data[-place] ^= 1
        path.write_bytes(data)
        with pytest.raises(GradlabError, match=r"run\.gradlab, record 3: the checksum is wrong"):
            load_records(path)
        data[-place] ^= 1
    path.write_bytes(HEADER.replace(b"1", b"99") + data[len(HEADER) :])
    with pytest.raises(GradlabError, match="schema version 99"):
        load_records(path)


def test_a_number_out_of_range_is_an_error_that_names_its_field(tmp_path: Path) -> None:
    good = step(0)
    norms = dataclasses.replace(good.tensors["fc.bias"], grad=-1.0)
    path = written(tmp_path / "a.gradlab", [good, step(1, tensors={**good.tensors, "fc.bias": norms})])
    found = load_records(path)  # tensors are checked when they are looked at
    with pytest.raises(GradlabError, match=r"record 2, tensors\['fc.bias'\].grad: -1.0 is out of range: a norm"):
        found[1].tensors  # noqa: B018
    path = written(tmp_path / "b.gradlab", [good, step(1, grad_norm=-1.0)])
    with pytest.raises(GradlabError, match=r"record 2, grad_norm: -1.0 is out of range: a norm"):
        load_records(path)


def test_records_that_are_made_later_are_like_others(tmp_path: Path) -> None:
    records = eventful()
    found = load_records(written(tmp_path / "run.gradlab", records))
    assert found[3] == records[3]
    assert dataclasses.replace(found[3], loss=math.inf).tensors == records[3].tensors
    assert found[1].states is found[2].states  # what is the same is held once


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, WRITER, tmp_path, "columns"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["trials"] == 100
    assert found["acknowledged"] > 100
