"""Record files that are not as gradlab writes them: exit code 2 and a line that names the place, no traceback."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.records import Probe, StepRecord, codec
from gradlab_core.records.decoding import decode
from gradlab_core.sinks import load_records
from gradlab_core.sinks.jsonl import HEADER, line
from tests import runs
from tests.cli.mutants import DEEP, mutant
from tests.recorded import eventful

OUT_OF_RANGE: dict[str, tuple[str, Any]] = {
    "a negative norm": ("grad_norm", -1.0),
    "a negative norm of a tensor": ("tensors['fc.bias'].grad", -0.5),
    "a norm of minus Inf": ("param_norm", "-Infinity"),
    "a norm of 400 digits": ("update_norm", 10**400),
    "a negative ratio": ("update_ratio", -1e-9),
    "a cosine of two": ("grad_cosine", 2.0),
    "a negative step": ("step", -1),
    "a step beyond 64 bits": ("step", 2**63),
    "a step that is a fraction": ("step", 1.5),
    "a share above one": ("probe.layers[0].zero_frac", 1.5),
    "a negative size": ("probe.shapes['fc1.weight'][1]", -32),
    "a mode there is not": ("probe.mode", "test"),
    "a state there is not": ("states['fc.bias']", "fine"),
    "a list as a state": ("states['fc.bias']", ["ok"]),
    "yes as a number": ("loss", True),
    "a number as yes": ("skipped", 1),
    "a number in a list": ("probe.hidden.states[3]", None),
}


def probed() -> list[StepRecord]:
    """A run with every kind of field."""
    probe = runs.probe(hidden=runs.hidden(2.0))
    extra = {"grad_cosine": 0.5, "update_cosine": 0.1, "distance": 1.0, "raw_grad_norm": 2.0, "clipped": True}
    return [dataclasses.replace(r, probe=probe if r.step % 20 == 0 else None, **extra) for r in eventful()[28:44]]


def as_lines(records: list[StepRecord]) -> list[str]:
    return [HEADER.decode().strip(), *(line(record).decode().strip() for record in records)]


def put(body: Any, place: str, value: Any) -> None:
    """Replace what lies at a place, which is written as the messages write it."""
    *path, last = [
        int(index) if index else name or word
        for name, index, word in re.findall(r"\['([^']+)'\]|\[(\d+)\]|(\w+)", place)
    ]
    for key in path:
        body = body[key]
    body[last] = value


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_a_field_out_of_range_is_named_with_its_line(case: str, tmp_path: Path, console: Callable[..., Any]) -> None:
    place, value = OUT_OF_RANGE[case]
    lines = as_lines(probed()[12:14])  # the first has a probe
    body = json.loads(lines[1])
    put(body, place, value)
    (tmp_path / "run.jsonl").write_text("\n".join([lines[0], lines[2], json.dumps(body), ""]))
    for verb in (["report", "run.jsonl", "--out", "o.html"], ["diagnose", "run.jsonl"]):
        done = console(*verb)
        assert done.returncode == 2
        assert f"line 3, {place}: " in done.stderr.replace("\n", " ")
    assert not (tmp_path / "o.html").exists()


def test_a_row_of_a_document_is_named_too(tmp_path: Path) -> None:
    body = json.loads(codec.document("step", probed()[:3]))
    body["rows"][2]["tensors"]["fc.bias"]["ratio"] = -1
    (tmp_path / "run.json").write_text(json.dumps(body))
    with pytest.raises(GradlabError, match=r"line 1, row 2, tensors\['fc.bias'\]\.ratio: -1\.0 is out of range"):
        load_records(tmp_path / "run.json")


@pytest.mark.parametrize("text", [DEEP, DEEP + "\n", '{"a":' * 5000 + "1" + "}" * 5000])
def test_json_nested_too_deeply(text: str, tmp_path: Path, console: Callable[..., Any]) -> None:
    lines = as_lines(probed()[:1])
    for name, whole, place in (("a.json", text, "line 1"), ("b.jsonl", "\n".join([*lines, text, ""]), "line 3")):
        (tmp_path / name).write_text(whole)
        done = console("diagnose", name)
        assert done.returncode == 2
        assert f"{place} is nested too deeply" in done.stderr.replace("\n", " ")


@pytest.mark.parametrize("word", ["NaN", "1e999", "1" + "0" * 5000])
def test_numbers_that_json_has_not_got(word: str, tmp_path: Path) -> None:
    lines = as_lines(probed()[:1])
    body = json.loads(lines[1]) | {"grad_norm": "@"}
    (tmp_path / "run.jsonl").write_text("\n".join([lines[0], json.dumps(body).replace('"@"', word), ""]))
    with pytest.raises(GradlabError, match="line 2"):
        load_records(tmp_path / "run.jsonl")


def test_lists_of_a_fixed_length() -> None:
    assert decode(tuple[int, str], [1, "a"]) == (1, "a")
    with pytest.raises(GradlabError, match="a list of 3; expected 2"):
        decode(tuple[int, str], [1, "a", "b"])


def test_what_was_written_before_a_field_came_to_be_still_loads(tmp_path: Path) -> None:
    records = eventful()[:3]
    bodies = [json.loads(text) for text in as_lines(records)]
    later = [f.name for f in dataclasses.fields(StepRecord) if f.default is not dataclasses.MISSING]
    for body in bodies[1:]:
        for name in later:
            del body[name]
    (tmp_path / "run.jsonl").write_text("".join(json.dumps(body) + "\n" for body in bodies))
    back = load_records(tmp_path / "run.jsonl")
    assert [r.step for r in back] == [r.step for r in records]
    assert all(r.probe is None and not r.skipped for r in back)


def test_no_change_of_a_file_ends_in_a_traceback(tmp_path: Path, console: Callable[..., Any]) -> None:
    records = probed()
    sources = {"m.jsonl": as_lines(records), "m.json": [codec.document("step", records[:6])]}
    verbs = [["report", "--out", f"o.{kind}"] for kind in ("html", "csv", "parquet")]
    verbs += [["diagnose"], ["diagnose", "--norms", "--json"], ["diagnose", "--norms", "--step", "30"]]
    rng = random.Random(0)
    codes = set()
    for number in range(60):
        name = rng.choice(list(sources))
        (tmp_path / name).write_bytes(mutant(sources[name], rng))
        verb, *options = verbs[number % len(verbs)]
        done = console(verb, name, *options)  # anything but an exit comes out here, as it would at a terminal
        assert done.returncode in ((0, 1, 2) if verb == "diagnose" else (0, 2))
        assert (done.returncode == 2) == ("gradlab: " in done.stderr)
        codes.add(done.returncode)
    assert codes == {0, 1, 2}  # else they test nothing but the first line of the reader


def test_half_a_character_in_a_path_is_spelled_out(tmp_path: Path, console: Callable[..., Any]) -> None:
    lines = [text.replace('"fc.bias"', r'"fc.\ud800"') for text in as_lines(probed()[:2])]
    (tmp_path / "run.jsonl").write_text("\n".join([*lines, ""]))
    for kind in ("html", "csv"):
        assert console("report", "run.jsonl", "--out", f"o.{kind}").returncode == 0
        assert r"fc.\ud800" in (tmp_path / f"o.{kind}").read_text()


def test_a_probe_comes_back_whole() -> None:
    probe = runs.probe(hidden=runs.hidden(2.0))
    assert decode(Probe, json.loads(json.dumps(codec.encode(probe)))) == probe
