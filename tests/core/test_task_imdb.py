"""The task of film reviews, on a tiny copy in the layout of TFDS."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_core.programs.program import TaskSpec
from gradlab_core.programs.tasks import open_task

REVIEWS = {
    "train": [
        ("A dull, dull film. Don't go!", 0),
        ("Wonderful<br /><br />AND moving", 1),
        (" ".join(f"word{n}" for n in range(40)) + " the END", 1),
        ("...", 0),
    ],
    "test": [("Wonderful film", 1), ("dull and long", 0), ("A dull, dull film. Don't go!", 0)],
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two copies of the same reviews, written in opposite orders."""
    return [write(tmp_path_factory.mktemp("imdb"), order) for order in (1, -1)]


def write(root: Path, order: int) -> Path:
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    from gradlab_core.programs.data.tfds_tools import quiet

    with quiet():
        info = tfds.builder("imdb_reviews", data_dir=root, file_format="array_record").info
        folder = Path(info.data_dir)
        folder.mkdir(parents=True)
        splits = []
        for split, reviews in REVIEWS.items():
            template = tfds.core.ShardedFileTemplate(
                data_dir=info.data_dir, dataset_name="imdb_reviews", split=split, filetype_suffix="array_record"
            )
            records = [info.features.serialize_example({"text": t, "label": n}) for t, n in reviews[::order]]
            out = ArrayRecordWriter(str(template.sharded_filepath(shard_index=0, num_shards=1)), "group_size:1")
            for record in records:
                out.write(record)
            out.close()
            size = sum(map(len, records))
            splits.append(tfds.core.SplitInfo(name=split, shard_lengths=[len(records)], num_bytes=size))
        info.set_splits(tfds.core.SplitDict(splits))
        info.write_to_directory(folder)
    return root


def imdb(folder: Path, **changes) -> TaskSpec:
    return TaskSpec(name="imdb", data_dir=str(folder), **{"length": 10, "features": 4, **changes})


def test_imdb_reads_words_from_the_end(copies):
    task = open_task(imdb(copies[0]), seed=0)
    assert (task.features, task.outputs, task.is_regression) == (4, 2, False)
    x, y = task.batch(0, 4)
    assert (x.shape, x.dtype, y.dtype) == ((4, 10, 4), np.float32, np.int64)
    lengths = (x != 0).any(axis=-1).sum(axis=1)
    rows = {int(length): (row, int(label)) for length, row, label in zip(lengths, x, y, strict=True)}
    assert {length: label for length, (_, label) in rows.items()} == {6: 0, 3: 1, 10: 1, 0: 0}
    dull, good = rows[6][0], rows[3][0]
    assert (dull[:4] == 0).all()  # zeros come before
    np.testing.assert_array_equal(dull[5], dull[6])  # dull, dull
    # "Wonderful film" of the test part: the same words are the same vectors.
    test_x, test_y = task.test_batch(10)
    pair = test_x[(test_x != 0).any(axis=-1).sum(axis=1) == 2][0]
    np.testing.assert_array_equal(pair[8], good[7])
    np.testing.assert_array_equal(pair[9], dull[7])
    assert sorted(test_y) == [0, 0, 1]
    # Standardised over the words of the training part.
    longer = open_task(imdb(copies[0], length=50), seed=0).batch(0, 4)[0]
    words = longer[(longer != 0).any(axis=-1)]
    assert len(words) == 6 + 3 + 42
    np.testing.assert_allclose(words.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(words.std(axis=0), 1, atol=1e-6)


def test_a_word_is_the_same_vector_in_every_process():
    from gradlab_core.programs.tasks.imdb import _words

    buckets, _ = _words([("A film, \u00e9t\u00e9".encode(), 1)], 2)  # the last two
    assert buckets.tolist() == [[15906, 11476]]


def test_imdb_is_the_same_whoever_wrote_the_copy(copies):
    for draw in (lambda task: task.batch(1, 3), lambda task: task.test_batch(3)):
        one, other = (draw(open_task(imdb(folder), seed=2)) for folder in copies)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_imdb_says_how_to_get_it(copies, tmp_path, monkeypatch):
    with pytest.raises(GradlabError, match=r"imdb needs the folder.*data_dir"):
        open_task(TaskSpec(name="imdb"), seed=0)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(GradlabError, match=r"holds no imdb_reviews.*tfds.data_source\('imdb_reviews'"):
            open_task(imdb(folder), seed=0)
    with pytest.raises(GradlabError, match="size is 5; expected at most 4"):
        open_task(imdb(copies[0]), seed=0).batch(0, 5)
    damaged = write(tmp_path / "damaged", 1)
    next(damaged.rglob("*train.array_record*")).write_bytes(b"x" * 1000)
    with pytest.raises(GradlabError, match=r"imdb_reviews cannot be read: .*tfds.data_source") as caught:
        open_task(imdb(damaged), seed=0)
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingDependency, match=r"tensorflow_datasets is not installed: .*\[tfds\]"):
        open_task(imdb(copies[0]), seed=0)
