"""What `ImageData` refuses, the digits, and loading by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.programs.data import DATA_NAMES, ImageData, load_data


def tiny(**changes: object) -> ImageData:
    images = np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2)
    labels = np.array([0, 1, 1, 0])
    fields = {
        "name": "tiny",
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:2],
        "test_labels": labels[:2],
        "class_names": ("a", "b"),
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "augment": True,
    }
    return ImageData(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((4, 3, 2, 2))}, "train_images has dtype float64; expected uint8"),
        ({"train_images": np.zeros((4, 2, 2, 3), np.uint8)}, r"train_images has shape \(4, 2, 2, 3\); expected \(N, 3"),
        ({"test_images": np.zeros((2, 3, 2), np.uint8)}, "test_images has shape"),
        ({"test_images": np.zeros((2, 3, 5, 5), np.uint8)}, "expected one image shape"),
        ({"test_images": np.zeros((0, 3, 2, 2), np.uint8), "test_labels": np.zeros(0, np.int64)}, "test_images is emp"),
        ({"train_labels": np.zeros(4, np.int32)}, "train_labels has dtype int32; expected int64"),
        ({"train_labels": np.zeros(3, np.int64)}, r"train_labels has shape \(3,\); expected \(4,\)"),
        ({"train_labels": np.array([0, 1, 2, 0])}, r"train_labels holds 2; expected 0\.\.1"),
        ({"test_labels": np.array([0, -1])}, r"test_labels holds -1; expected 0\.\.1"),
        ({"class_names": ()}, "class_names is empty"),
        ({"mean": (0.5,)}, "mean is"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean is"),
        ({"std": (0.5, 0.0, 0.5)}, "expected numbers above 0"),
    ],
)
def test_refuses_what_does_not_hold(changes: dict[str, object], message: str) -> None:
    with pytest.raises(GradlabError, match=message):
        tiny(**changes)


def test_lists_every_problem_at_once() -> None:
    with pytest.raises(GradlabError, match="2 problems") as caught:
        tiny(train_labels=np.array([0, 1, 2, 0]), std=(1.0, 1.0))
    assert "train_labels holds 2" in str(caught.value)
    assert "std is" in str(caught.value)


def test_is_frozen_and_leaves_the_pixels_alone() -> None:
    data = tiny()
    before = data.train_images.copy()
    data.normalise(data.train_images)
    np.testing.assert_array_equal(data.train_images, before)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]


def test_normalised_images_are_c_contiguous_whatever_came_in() -> None:
    data = tiny()
    transposed = np.ascontiguousarray(data.train_images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    values = data.normalise(transposed)
    assert values.flags.c_contiguous
    np.testing.assert_array_equal(values, data.normalise(data.train_images))


def test_digits_are_the_8x8_ones_enlarged() -> None:
    from sklearn.datasets import load_digits

    data = load_data("digits")
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert images.shape == (1797, 3, 32, 32)
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_array_equal(images[:, 0], images[:, 1])
    np.testing.assert_array_equal(images[:, 0], images[:, 2])
    small = images[:, 0, ::4, ::4]
    np.testing.assert_array_equal(images[:, 0], np.kron(small, np.ones((1, 4, 4), np.uint8)))

    # The same (image, label) pairs as the source: the split loses, doubles and relabels none.
    source = load_digits()
    expected = np.column_stack([np.rint(source.data * 255 / 16), source.target])
    got = np.column_stack([small.reshape(-1, 64), labels])
    np.testing.assert_array_equal(got[np.lexsort(got.T)], expected[np.lexsort(expected.T)])


def test_digits_split_is_stratified_and_fixed() -> None:
    data, again = load_data("digits"), load_data("digits", data_dir="/nowhere")
    share = np.bincount(data.test_labels) / (np.bincount(data.test_labels) + np.bincount(data.train_labels))
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    np.testing.assert_array_equal(data.test_images, again.test_images)
    assert data.class_names == tuple("0123456789")
    assert not data.augment


def test_digits_normalised_have_mean_0_and_deviation_1() -> None:
    data = load_data("digits")
    values = data.normalise(data.train_images).astype(np.float64)
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), 1, atol=1e-5)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(GradlabError, match=f"'mnist' is unknown; expected one of {', '.join(DATA_NAMES)}"):
        load_data("mnist")


def test_cifar10_asks_for_its_folder() -> None:
    with pytest.raises(GradlabError, match="--data-dir"):
        load_data("cifar10")
