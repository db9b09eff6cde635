"""Runs on disk: judged as they are judged live, read lazily, and told apart from everything that is no trace."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.parity import Key, compare, compare_traces, record, tolerance
from gradlab_core.parity.arithmetic import ARITHMETICS
from gradlab_core.parity.trace_file import Reader
from tests.core.test_parity_judge import ACTIVATION, FAULTS, GRADIENT, Chaos, Stub, X, Y

BATCH = X, Y


@pytest.fixture
def as_many_draws(monkeypatch):
    """The live judgement draws as often as a trace does."""
    monkeypatch.setattr(tolerance, "DRAWS", (24, 24, 24))


def judged(folder, reference, candidate, *, steps=1, precision=None, batch=BATCH):
    record(reference, batch, folder / "r.trace", steps=steps, precision=precision)
    record(candidate, None, folder / "c.trace", like=folder / "r.trace")
    return compare_traces(folder / "r.trace", folder / "c.trace")


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_the_rows_are_those_of_the_live_judgement(fault, tmp_path, as_many_draws):
    sides = Stub(), Stub(change=FAULTS[fault]) if fault else Stub()
    report, live = judged(tmp_path, *sides), compare(*sides, BATCH, steps=1)
    assert report.rows == live.rows
    assert bool(report.failures) == (fault is not None)
    assert str(report).split(" note: ")[0] == str(live).split(" note: ")[0]


class Step(Stub):
    """A gradient that is another at every step, and no path for a tensor of its own."""

    def cast(self, dtype):
        return Step(self.gradient, self.change, self.rounding, dtype)

    def step(self, x, y, epoch):
        return {**super().step(x, y, epoch), Key("gradient", "steps"): np.array([epoch, len(x), y.sum()])}


def test_every_step_has_its_own_tensors(tmp_path, as_many_draws):
    report = judged(tmp_path, Step(), Step(), steps=3)
    assert report.rows == compare(Step(), Step(), BATCH, steps=3).rows
    with Reader(tmp_path / "c.trace") as reader:
        assert [reader.trace("float32", step)[Key("gradient", "steps")][0] for step in range(3)] == [0, 1, 2]


def test_where_float32_has_no_digit_left_the_arithmetic_between_is_in_the_trace(tmp_path, as_many_draws):
    sides = Chaos(lambda x: 4 * x * (1 - x)), Chaos(lambda x: 4 * x - (2 * x) ** 2)
    report = judged(tmp_path, *sides, steps=44)
    assert not report.failures
    assert report.rows == compare(*sides, BATCH, steps=44).rows


BATCHES = {
    "by name": ({"tokens": np.array([[1, 2], [3, 4]]), "mask": None, "../x": X[:2]}, {"target": Y[:2]}),
    "by place": ((X, None, X + 1), Y),
    "a list of labels": (X, [0, 1, 0, 1]),
}


@pytest.mark.parametrize("case", BATCHES)
def test_a_batch_comes_back_as_it_was(case, tmp_path):
    x, y = BATCHES[case]

    class Seen(Stub):
        def cast(self, dtype):
            return Seen(dtype=dtype)

        def step(self, given, labels, epoch):
            seen.append((given, labels))
            return super().step(given, labels, epoch)

    seen = []
    record(Seen(), (x, y), tmp_path / "r.trace", steps=1)
    first, seen = seen[0], []
    record(Seen(), None, tmp_path / "c.trace", like=tmp_path / "r.trace")
    assert type(seen[0][0]) is type(x)
    np.testing.assert_equal(seen[0], first)


class Coarse(Stub):
    """A candidate that multiplies in TF32."""

    def cast(self, dtype):
        return Coarse(dtype=dtype)

    def arithmetic(self):
        return ARITHMETICS["tf32"]


def test_a_reference_as_is_knows_what_to_expect_of_every_arithmetic(tmp_path):
    assert not judged(tmp_path, Stub(), Coarse(), precision="as-is").failures
    with pytest.raises(GradlabError, match=r"candidate multiplies in TF32 .*record the reference with precision as-is"):
        judged(tmp_path, Stub(), Coarse())


def test_a_coarser_arithmetic_that_explains_all_is_named(tmp_path):
    class Rough(Stub):
        def cast(self, dtype):
            return Rough(rounding=1e-4 if dtype == "float32" else 0.0, dtype=dtype)

    class Honest(Stub):
        def perturbed(self, arithmetic, seed):
            made = Stub(rounding=arithmetic.products, dtype="float32")
            made.seed = seed + 2
            return made

    report = judged(tmp_path, Honest(), Rough(), precision="as-is")
    assert report.failures
    assert report.explanation.name == "tf32"


def test_one_tensor_is_read_at_a_time(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(Reader, "array", lambda self, member, of=Reader.array: read.append(member) or of(self, member))
    judged(tmp_path, Stub(), Stub())
    before = len(read)
    with Reader(tmp_path / "r.trace") as reader:
        trace = reader.trace("float64", 0)
        assert len(trace) == 2
        assert Key("gradient", "w") in trace
        assert len(read) == before
        assert trace[Key("gradient", "w")].shape == GRADIENT.shape
        assert len(read) == before + 1


def test_a_run_that_fails_leaves_no_file(tmp_path):
    class Fails(Stub):
        def step(self, x, y, epoch):
            raise RuntimeError("out of luck")

        def cast(self, dtype):
            return Fails()

    with pytest.raises(RuntimeError, match="luck"):
        record(Fails(), BATCH, tmp_path / "r.trace")
    assert not list(tmp_path.iterdir())


def rewritten(path, change):
    """The same archive with another JSON."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    body = json.loads(members["trace.json"])
    change(body, members)
    members["trace.json"] = json.dumps(body).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)


def spoiled(path, case):
    if case == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    elif case == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "")
    elif case == "text":
        path.write_text("PK, but not really")
    elif case == "gone":
        path.unlink()
    elif case == "a byte of a tensor":
        path.write_bytes(path.read_bytes().replace(ACTIVATION.tobytes(), (ACTIVATION + 1).tobytes()))
    else:
        rewritten(path, CHANGES[case][0])


def a_name_of_a_file(body, members):
    body["float64"][0]["member"] = "/etc/passwd"


def pickled(body, members):
    header = members["0.npy"][:10] + members["0.npy"][10:].replace(b"'<f8'", b"'|O' ")
    members[body["float64"][0]["member"]] = header


CHANGES = {
    "another version": (lambda body, members: body.update(version=99), "of version 99; this gradlab reads 1"),
    "another format": (lambda body, members: body.update(format="x"), "is no trace"),
    "a field too many": (lambda body, members: body.update(more=1), "unknown"),
    "a step too few": (lambda body, members: body.update(steps=10**15), "float64 does not hold"),
    "a spread too few": (lambda body, members: body["drawn"][0]["totals"].pop(), "spreads of highest"),
    "the name of a file": (a_name_of_a_file, "is damaged"),
    "a pickle": (pickled, "is damaged"),
}
MESSAGES = {
    "cut off": "is cut off",
    "another zip": "is a zip, but no trace",
    "text": "is no trace",
    "gone": "cannot read",
    "a byte of a tensor": "is damaged",
} | {case: message for case, (_, message) in CHANGES.items()}


@pytest.mark.parametrize("case", MESSAGES)
def test_what_is_no_whole_trace_is_told(case, tmp_path):
    judged(tmp_path, Stub(), Stub())
    spoiled(tmp_path / "r.trace", case)
    with pytest.raises(GradlabError, match=MESSAGES[case]):
        compare_traces(tmp_path / "r.trace", tmp_path / "c.trace")


class Other(Stub):
    def state(self):
        return {"w": np.full(2, 2.0)}


STRANGERS = {
    "two references": (lambda: ("r.trace", "r.trace"), "is a reference's trace; expected a candidate's"),
    "the wrong way round": (lambda: ("c.trace", "r.trace"), "2 problems"),
    "other weights": (lambda: ("weights.trace", "c.trace"), "started from other weights; record it again with --like"),
    "another batch": (lambda: ("batch.trace", "c.trace"), "was recorded on another batch"),
    "other steps": (lambda: ("steps.trace", "c.trace"), "holds 1 steps, the reference 2"),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_traces_that_do_not_belong_together_are_told(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judged(tmp_path, Stub(), Stub())
    record(Other(), BATCH, "weights.trace", steps=1)
    record(Stub(), (X + 1, Y), "batch.trace", steps=1)
    record(Stub(), BATCH, "steps.trace", steps=2)
    pair, message = STRANGERS[case]
    with pytest.raises(GradlabError, match=message):
        compare_traces(*pair())


def like(name, **options):
    return lambda: record(Stub(), None, "new.trace", like=name, **options)


BAD = {
    "like a candidate": (like("c.trace"), "c.trace is a candidate's trace; expected a reference's"),
    "steps of its own": (like("r.trace", steps=2, precision="tf32"), "2 problems"),
    "no batch": (lambda: record(Stub(), None, "new.trace"), "there is no batch"),
    "no step": (lambda: record(Stub(), BATCH, "new.trace", steps=0), "steps is 0"),
    "a precision": (lambda: record(Stub(), BATCH, "new.trace", precision="fp8"), "precision is 'fp8'"),
    "ties": (lambda: record(Stub(), (np.ones((4, 3)), Y), "new.trace"), "ties"),
    "words": (lambda: record(Stub(), (X, np.array(["a"] * 4)), "new.trace"), "is no array of numbers"),
    "no folder": (lambda: record(Stub(), BATCH, "no/such/new.trace"), "cannot write"),
    "itself": (lambda: record(Stub(), None, "r.trace", like="r.trace"), "the reference's own trace"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_recorded_is_told(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judged(tmp_path, Stub(), Stub())
    run, message = BAD[case]
    with pytest.raises(GradlabError, match=message):
        run()
    assert {path.name for path in tmp_path.iterdir()} == {"r.trace", "c.trace"}
