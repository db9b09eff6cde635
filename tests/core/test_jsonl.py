"""JSON lines: what is written is read back, and a kill loses nothing that was acknowledged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.records import StepRecord, codec
from gradlab_core.sinks import JsonlSink, load_records
from gradlab_core.sinks.jsonl import HEADER
from tests.recorded import ODD, alike, eventful, onto_a_disk, step

WRITER = Path(__file__).with_name("killed_writer.py")


def written(path: Path, records: list[StepRecord]) -> Path:
    with JsonlSink(path) as sink:
        for record in records:
            sink(record)
    return path


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
    left = [1000]
    with JsonlSink(tmp_path / "run.jsonl") as sink:
        sink(step(0))
        monkeypatch.setattr(os, "write", onto_a_disk(left))
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
