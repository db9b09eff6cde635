"""The tasks: labels follow from the inputs as defined, batches from seed and step alone, and nothing leaks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.programs.program import LAYOUTS, TASKS, TaskSpec
from gradlab_core.programs.tasks import open_task

ROOT = Path(__file__).parents[2]
LOCAL = tuple(name for name in TASKS if name != "imdb")
MANY = 4000


def test_every_task_says_what_it_gives():
    shapes = {
        "digits": ((64,), 64, 10),
        "temporal_order": ((12, 6), 6, 2),
        "adding": ((12, 2), 2, 1),
        "blobs": ((5,), 5, 3),
        "waves": ((5,), 5, 1),
    }
    assert set(shapes) == set(LOCAL)
    for name, (shape, features, outputs) in shapes.items():
        task = open_task(TaskSpec(name=name, length=12, features=5, classes=3), seed=0)
        regression = name in ("adding", "waves")
        assert (task.features, task.outputs, task.is_regression) == (features, outputs, regression)
        for x, y in (task.batch(0, 7), task.test_batch(7)):
            assert (x.shape, x.dtype) == ((7, *shape), np.float32)
            assert (y.shape, y.dtype) == (((7, 1), np.float32) if regression else ((7,), np.int64))


@pytest.mark.parametrize("name", LOCAL)
def test_a_batch_is_a_function_of_seed_and_step(name):
    spec = TaskSpec(name=name)
    task, again = open_task(spec, seed=3), open_task(spec, seed=3)
    first = task.batch(5, 16)
    again.batch(0, 9)
    again.test_batch(3)
    for a, b in zip(first, again.batch(5, 16), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(task.test_batch(16), again.test_batch(16), strict=True):
        np.testing.assert_array_equal(a, b)
    others = (task.batch(6, 16), task.test_batch(16), open_task(spec, seed=4).batch(5, 16))
    assert all((other[0] != first[0]).any() for other in others)
    zero = task.batch(0, 16), task.test_batch(16)  # the test batch is no step
    assert (zero[0][0] != zero[1][0]).any()


def test_another_process_draws_the_same():
    code = """
from gradlab_core.programs.program import TaskSpec
from gradlab_core.programs.tasks import open_task
print([float(open_task(TaskSpec(name=name), seed=1).batch(2, 8)[0].sum()) for name in %r])
"""
    done = subprocess.run([sys.executable, "-c", code % (LOCAL,)], capture_output=True, text=True, cwd=ROOT)
    here = [float(open_task(TaskSpec(name=name), seed=1).batch(2, 8)[0].sum()) for name in LOCAL]
    assert done.stdout == f"{here}\n", done.stderr


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    raw = load_digits()
    by_layout = {layout: open_task(TaskSpec(layout=layout), seed=0) for layout in LAYOUTS}
    batches = {layout: task.batch(0, 1438) for layout, task in by_layout.items()}
    flat, labels = batches["flat"]
    np.testing.assert_array_equal(batches["rows"][0].reshape(flat.shape), flat)
    for channel in range(3):
        np.testing.assert_array_equal(batches["image"][0][:, channel].reshape(flat.shape), flat)
    assert [task.features for task in by_layout.values()] == [64, 192, 8]
    assert flat.mean() == pytest.approx(0, abs=1e-4)
    assert flat.std() == pytest.approx(1, rel=1e-4)
    # Back to the seventeen values of ink, in which the digits are known.
    low, high = flat.min(), flat.max()
    ink = np.rint((flat - low) / (high - low) * 16).astype(int)
    known = {tuple(image.astype(int)): target for image, target in zip(raw.data, raw.target, strict=True)}
    assert [known[tuple(row)] for row in ink] == labels.tolist()
    assert len({tuple(row) for row in ink}) == 1438  # each once

    held_out, _ = by_layout["flat"].test_batch(10_000)
    assert len(held_out) == 359
    assert not {row.tobytes() for row in held_out} & {row.tobytes() for row in flat}


@pytest.mark.parametrize("length", [10, 47])
def test_temporal_order_is_the_order_of_two_signals(length):
    x, y = open_task(TaskSpec(name="temporal_order", length=length), seed=0).batch(0, MANY)
    assert ((x == 0) | (x == 1)).all()
    assert (x.sum(axis=-1) == 1).all()
    symbols = x.argmax(axis=-1)
    assert ((symbols == 0).sum(axis=1) == 1).all()
    assert ((symbols == 1).sum(axis=1) == 1).all()
    a, b = (symbols == 0).argmax(axis=1), (symbols == 1).argmax(axis=1)
    np.testing.assert_array_equal(y, (b < a).astype(int))
    first, second = np.minimum(a, b), np.maximum(a, b)
    for places, tenth in ((first, 1), (second, 4)):
        assert set(places) == set(range(tenth * length // 10, (tenth + 1) * length // 10 + 1))
    # What comes after the half says nothing: each letter as often in either class.
    late = x[:, length // 2 + 1 :].mean(axis=1)
    assert (late[:, :2] == 0).all()
    assert abs(late[y == 0].mean(axis=0) - late[y == 1].mean(axis=0)).max() < 0.02
    assert y.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("length", [10, 31])
def test_adding_is_the_sum_of_the_marked(length):
    x, y = open_task(TaskSpec(name="adding", length=length), seed=0).batch(0, MANY)
    numbers, markers = (x[..., 0] / np.sqrt(12) + 0.5).astype(float), x[..., 1]
    assert numbers.min() >= -1e-6
    assert numbers.max() <= 1 + 1e-6
    assert set(np.unique(markers)) == {0.0, 1.0}
    half = length // 2
    for part, where in ((markers[:, :half], range(half)), (markers[:, half:], range(length - half))):
        assert (part.sum(axis=1) == 1).all()
        assert set(part.argmax(axis=1)) == set(where)
    total = (numbers * markers).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(y, (total - 1) * np.sqrt(6), atol=1e-5)
    assert x[..., 0].mean() == pytest.approx(0, abs=0.02)
    assert x[..., 0].std() == pytest.approx(1, abs=0.02)
    assert y.mean() == pytest.approx(0, abs=0.05)
    assert y.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("features", "classes"), [(1, 3), (16, 4), (8, 10)])
def test_blobs_overlap_a_little(features, classes):
    task = open_task(TaskSpec(name="blobs", features=features, classes=classes), seed=0)
    (x, y), (test_x, test_y) = task.batch(0, MANY), task.test_batch(MANY)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.08)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=0.08)
    assert np.bincount(y, minlength=classes) / MANY == pytest.approx(np.full(classes, 1 / classes), abs=0.03)
    # One Gaussian a class, fitted to a training batch, tells the test batch apart: the clusters are the same.
    means = np.stack([x[y == k].mean(axis=0) for k in range(classes)])
    widths = np.concatenate([x[y == k] - means[k] for k in range(classes)]).std(axis=0)
    guess = np.square((test_x[:, np.newaxis] - means) / widths).sum(axis=-1).argmin(axis=1)
    assert 0.93 < (guess == test_y).mean() < 0.999
    other = open_task(TaskSpec(name="blobs", features=features, classes=classes), seed=1)._source.centres
    assert abs(other - task._source.centres).max() > 0.1


@pytest.mark.parametrize("features", [1, 16])
def test_waves_are_a_smooth_function_of_unit_variance(features):
    targets = []
    for seed in range(8):
        task = open_task(TaskSpec(name="waves", features=features), seed=seed)
        x, y = task.batch(0, MANY)
        assert x.mean() == pytest.approx(0, abs=0.06)
        assert x.std() == pytest.approx(1, abs=0.04)
        targets.append((y.mean(), y.std()))
        assert abs(y.mean()) < 0.08
        assert y.std() == pytest.approx(1, abs=0.08)
        source = task._source
        bound = np.abs(source.a) @ np.linalg.norm(source.w, axis=1) / source.std  # of the slope
        if features == 1:
            # Both batches lie on one line that is nowhere steeper than the waves are.
            both_x, both_y = (
                np.concatenate(pair) for pair in zip(task.batch(1, 500), task.test_batch(500), strict=True)
            )
            order = both_x[:, 0].argsort()
            rise, run = np.diff(both_y[order, 0]), np.diff(both_x[order, 0])
            assert (abs(rise) <= bound * run + 1e-5).all()
    # Over tasks the mean and the deviation scatter by chance alone, around 0 and 1.
    assert np.mean(targets, axis=0) == pytest.approx([0, 1], abs=0.03)


@pytest.mark.parametrize("name", LOCAL)
def test_scale_and_shift_come_last(name):
    plain, moved = (
        open_task(TaskSpec(name=name, **changes), seed=0).batch(1, 32)
        for changes in ({}, {"input_scale": 100.0, "input_shift": -3.0, "target_scale": 50.0})
    )
    np.testing.assert_allclose(moved[0], 100 * plain[0] - 3, rtol=1e-6, atol=1e-5)
    factor = 50 if plain[1].ndim == 2 else 1
    np.testing.assert_allclose(moved[1], factor * plain[1], rtol=1e-6)


@pytest.mark.parametrize("name", LOCAL)
def test_random_labels_have_nothing_to_do_with_the_input(name):
    true, drawn = (
        open_task(TaskSpec(name=name, target_scale=2.0, random_labels=chance), seed=0) for chance in (False, True)
    )
    (x, y), (same_x, other_y) = true.batch(3, 1400), drawn.batch(3, 1400)
    np.testing.assert_array_equal(x, same_x)
    assert (y.shape, y.dtype) == (other_y.shape, other_y.dtype)
    if true.is_regression:
        assert abs(np.corrcoef(y[:, 0], other_y[:, 0])[0, 1]) < 0.1
        assert other_y.std() == pytest.approx(2, abs=0.15)
    else:
        assert (y == other_y).mean() == pytest.approx(1 / true.outputs, abs=0.05)
        assert np.bincount(other_y, minlength=true.outputs) / 1400 == pytest.approx(1 / true.outputs, abs=0.05)
    assert (drawn.batch(4, 1400)[1] != other_y).any()
    assert (drawn.test_batch(300)[1] != true.test_batch(300)[1]).any()


def test_the_same_digit_gets_another_random_label_at_another_step():
    task = open_task(TaskSpec(random_labels=True), seed=0)
    labels = []
    for step in (0, 1):
        x, y = task.batch(step, 1438)
        labels.append(y[np.lexsort(x.T)])
    assert (labels[0] == labels[1]).mean() < 0.2


def test_what_cannot_be_drawn_is_refused():
    task = open_task(TaskSpec(), seed=0)
    with pytest.raises(GradlabError, match="2 problems") as caught:
        task.batch(-1, 0)
    for word in ("step is -1", "size is 0"):
        assert word in str(caught.value)
    with pytest.raises(GradlabError, match="size is 1439; expected at most 1438"):
        task.batch(0, 1439)
    with pytest.raises(GradlabError, match=r"size is 1\.5"):
        task.test_batch(1.5)
    for seed in (-1, 0.5, None):
        with pytest.raises(GradlabError, match="seed is"):
            open_task(TaskSpec(), seed=seed)
    with pytest.raises(GradlabError, match="data_dir is 3"):
        TaskSpec(name="imdb", data_dir=3)
