"""The sentiment of film reviews, read without TensorFlow from a copy of TFDS's `imdb_reviews` on this machine."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradlab_core.errors import GradlabError
from gradlab_core.programs.data.tfds_tools import quiet, require_tfds
from gradlab_core.programs.tasks.task import pick

NAME = "imdb_reviews"

_BUCKETS = 2**14
# The seed is part of the definition of the task and not a setting: a word is the same vector in every run.
_EMBEDDING_SEED = 0
_BREAK, _WORD = re.compile(r"<br\s*/?>"), re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class Imdb:
    """Negative (0) or positive (1) reviews as sequences (N, length, features) of word vectors.

    An example is the last `length` words of a review, where its verdict usually stands, in lower case. Zeros precede a
    shorter review. The CRC-32 of a word picks one of 16,384 fixed normal vectors, which are standardised, feature by
    feature, over the words of the training part. Reviews are sorted by their text, so that the batches are the same
    whoever prepared the copy.

    Source: A. Maas et al., "Learning Word Vectors for Sentiment Analysis", 2011.
    """

    outputs, is_regression = 2, False

    def __init__(self, length: int, features: int, data_dir: str | None) -> None:
        self.features = features
        self._parts = {part: _words(reviews, length) for part, reviews in _read(data_dir).items()}
        vectors = np.random.default_rng(_EMBEDDING_SEED).standard_normal((_BUCKETS, features))
        words, _ = self._parts["train"]
        share = np.bincount(words[words < _BUCKETS], minlength=_BUCKETS) / max((words < _BUCKETS).sum(), 1)
        vectors = vectors - share @ vectors
        spread = np.sqrt(share @ np.square(vectors))
        vectors = vectors / np.where(spread > 0, spread, 1.0)
        self._vectors = np.concatenate(
            [vectors, np.zeros((1, features))]
        )  # the last row stands for the absence of a word

    def draw(self, rng: np.random.Generator, size: int, *, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        words, labels = self._parts["test" if test else "train"]
        chosen = pick(rng, size, len(labels), test=test)
        return self._vectors[words[chosen]], labels[chosen]


def _words(reviews: list[tuple[bytes, int]], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The buckets of the words (N, length), with `_BUCKETS` where there is no word, and the labels (N,)."""
    buckets = np.full((len(reviews), length), _BUCKETS)
    for row, (text, _) in zip(buckets, reviews, strict=True):
        words = _WORD.findall(_BREAK.sub(" ", text.decode("utf-8", errors="replace").lower()))[-length:]
        if words:
            # Python's own `hash` differs from one process to the next.
            row[-len(words) :] = [zlib.crc32(word.encode()) % _BUCKETS for word in words]
    return buckets, np.array([label for _, label in reviews])


def _read(data_dir: str | None) -> dict[str, list[tuple[bytes, int]]]:
    """The text and the label of every review, for both parts."""
    if data_dir is None:
        raise GradlabError(f"imdb needs the folder that holds {NAME}; give it as TaskSpec(name='imdb', data_dir=...)")
    folder = Path(data_dir).expanduser()
    advice = (
        'on a machine with network: pip install tensorflow tensorflow-datasets, then python -c "import '
        f"tensorflow_datasets as tfds; tfds.data_source('{NAME}', data_dir='FOLDER')\", and take FOLDER here"
    )
    if not any(folder.glob(f"{NAME}/*/*/dataset_info.json")):
        raise GradlabError(
            f"{folder} holds no {NAME}; expected {NAME}/plain_text/<version>/dataset_info.json; {advice}"
        )
    tfds = require_tfds()
    try:
        with quiet():
            sources = tfds.data_source(NAME, split=["train", "test"], data_dir=folder, download=False)
            return {part: _reviews(source) for part, source in zip(("train", "test"), sources, strict=True)}
    # TFDS raises many unrelated errors for a damaged copy, and the user needs one sentence instead of a traceback.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise GradlabError(
            f"{folder / NAME} cannot be read: {reason}; expected the array_record files of TFDS; to have them anew, "
            f"{advice}"
        ) from error


def _reviews(source: Any) -> list[tuple[bytes, int]]:
    # All records are requested at once, since one request for each takes several times as long.
    return sorted((example["text"], int(example["label"])) for example in source.__getitems__(range(len(source))))
