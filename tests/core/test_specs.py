"""Specs, bands, weights and starting numbers: what is wrong is said, all of it, and nothing is guessed."""

from __future__ import annotations

import numpy as np
import pytest

from gradlab_core.definitions import checks
from gradlab_core.definitions.initializers import Tensor, initial_arrays
from gradlab_core.errors import GradlabError, MissingDependency, require
from gradlab_core.judge import bands
from gradlab_core.parity.weights import check_weights, load_weights, save_weights
from gradlab_core.programs.specs import USES, ModelSpec, TrainSpec


def test_all_problems_at_once():
    with pytest.raises(GradlabError) as caught:
        ModelSpec(block="postakt", base=0, layers=(2, 0), num_classes=0)
    for word in ("4 problems", "postakt", "base is 0", "stage 2", "num_classes is 0"):
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", USES)
def test_a_field_of_another_kind_is_refused(kind):
    """It would change nothing, and whoever reads the spec would think that it does."""
    others = {"block": "plain", "base": 3, "layers": (1,), "image_size": 9, "skip": False, "features": 3}
    others |= {"widths": (), "activation": "tanh", "cell": "gru", "hidden": 40, "heads": 2, "depth": 3}
    assert set(others) == set().union(*USES.values())
    own = {name: value for name, value in others.items() if name in USES[kind]}
    assert ModelSpec(kind=kind, **own).kind == kind
    with pytest.raises(GradlabError) as caught:
        ModelSpec(kind=kind, **others)
    for name in set(others) - set(own):
        assert f"{name} is {others[name]!r}; expected it left out, as a {kind} has none" in str(caught.value)
    assert all(f"{name} is" not in str(caught.value) for name in own)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -0.1, True, "0.1"])
def test_a_learning_rate_is_a_number(rate):
    with pytest.raises(GradlabError, match="learning_rate"):
        TrainSpec(learning_rate=rate)


@pytest.mark.parametrize(
    ("figure", "value", "level"),
    [
        ("mean_std", 0.59, "watch"), ("mean_std", 0.6, "good"), ("mean_std", 0.9, "good"),
        ("mean_std", 0.91, "watch"),
        ("min_std", 0.29, "bad"), ("min_std", 0.31, "good"), ("max_std", 1.29, "good"), ("max_std", 1.31, "watch"),
        ("relu_zero_frac_mean", 0.29, "bad"), ("relu_zero_frac_mean", 0.5, "good"),
        ("relu_zero_frac_mean", 0.71, "bad"),
        ("global_norm", 2.9, "bad"), ("global_norm", 4.0, "watch"), ("global_norm", 10.0, "good"),
        ("global_norm", 20.1, "bad"),
        ("ratio", 0.29, "bad"), ("ratio", 1.0, "good"), ("ratio", 5.5, "watch"), ("ratio", 6.1, "bad"),
        ("sensitivity", 0.0019, "good"), ("sensitivity", 0.0029, "good"), ("sensitivity", 0.0035, "watch"),
        ("sensitivity", 0.0041, "bad"), ("ratio", float("inf"), "bad"), ("ratio", float("nan"), "unknown"),
        ("ratio", None, "unknown"),
    ],
)  # fmt: skip
def test_published_bands(figure, value, level):
    verdict = bands.TINYNET_CIFAR10[figure].judge(value, "tinynet-cifar10")
    assert verdict.level == level
    assert verdict.band == "tinynet-cifar10"


def test_band_sets_are_named():
    assert bands.band_set("tinynet-cifar10") is bands.TINYNET_CIFAR10
    with pytest.raises(GradlabError, match="tinynet-cifar10"):
        bands.band_set("universal")


def test_starting_numbers_follow_pytorchs_default_distribution():
    tensors = {"conv.weight": Tensor("conv", (64, 32, 3, 3)), "conv.bias": Tensor("conv", (64,))}
    arrays = initial_arrays("torch_default", tensors, seed=0)
    bound = 1 / np.sqrt(32 * 9)
    assert abs(arrays["conv.weight"]).max() <= bound
    assert arrays["conv.weight"].std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert abs(arrays["conv.bias"]).max() <= bound
    again, other = (initial_arrays("torch_default", tensors, seed=seed) for seed in (0, 1))
    assert (again["conv.weight"] == arrays["conv.weight"]).all()
    assert (other["conv.weight"] != arrays["conv.weight"]).any()
    # Without its neighbours a tensor starts from the same numbers; and these are the ones of every release.
    alone = initial_arrays("torch_default", {"conv.weight": tensors["conv.weight"]}, seed=0)
    assert (alone["conv.weight"] == arrays["conv.weight"]).all()
    assert arrays["conv.weight"][0, 0, 0].tolist() == pytest.approx(
        [-0.033659112, -0.023541326, -0.028563233], rel=1e-6
    )


def test_what_a_spec_says_of_other_kinds_is_checked():
    with pytest.raises(GradlabError) as caught:
        ModelSpec(kind="mlp", features=0, widths=(4, 0), activation="swish", cell="rnn", hidden=0, init="xavier")
    for word in (
        "6 problems",
        "features is 0",
        "widths (layer 2)",
        "swish",
        "cell is 'rnn'; expected it left out",
        "hidden is 0; expected it left out",
        "xavier_u",
    ):
        assert word in str(caught.value)
    for init, number, message in (
        ("constant", None, "init_number: value is missing"),
        ("normal", -1.0, "std is -1.0"),
        ("xavier_uniform", float("inf"), "gain is inf"),
        ("torch_default", 1.0, "takes none"),
        ("orthogonal", "2", "gain is '2'"),
    ):
        with pytest.raises(GradlabError, match=message):
            ModelSpec(init=init, init_number=number)
    assert ModelSpec(init="constant", init_number=-0.5).init_number == -0.5
    with pytest.raises(GradlabError, match="hidden is 30; expected a multiple of heads, which is 4"):
        ModelSpec(kind="transformer", hidden=30)
    with pytest.raises(GradlabError, match="2 problems") as caught:
        ModelSpec(kind="transformer", heads=0, depth=0)
    assert "heads is 0" in str(caught.value)
    assert ModelSpec(kind="recurrent", hidden=30).hidden == 30  # has no heads to divide by
    assert ModelSpec(kind="mlp", num_classes=1).num_classes == 1  # a regression
    with pytest.raises(GradlabError, match="one whole number for each layer"):
        ModelSpec(kind="mlp", widths=[4])


def test_weights_on_disk(tmp_path):
    arrays = {"z.weight": np.arange(3.0), "a.bias": np.zeros(2, np.float32)}
    save_weights(tmp_path / "w.npz", arrays)
    back = load_weights(tmp_path / "w.npz")
    assert list(back) == list(arrays)
    assert all((back[k] == arrays[k]).all() for k in arrays)
    np.savez(tmp_path / "pickle.npz", w=np.array([{}], dtype=object))
    for name in ("pickle.npz", "missing.npz"):
        with pytest.raises(GradlabError, match="not a readable"):
            for _ in load_weights(tmp_path / name).values():
                pass
    with pytest.raises(GradlabError, match="cannot write"):
        save_weights(tmp_path / "no" / "w.npz", arrays)


def test_misfits_are_listed_together():
    with pytest.raises(GradlabError) as caught:
        check_weights({"a": np.zeros(2), "c": np.zeros(1)}, {"a": (3,), "b": (1,)})
    for word in ("3 problems", "b is missing", "c is not a tensor", "a has shape (2,); expected (3,)"):
        assert word in str(caught.value)


def test_batches_that_give_no_honest_number():
    x = np.ones((2, 3, 4, 4), np.float32)
    checks.check_inputs(x)
    checks.check_image_shape(x.shape)
    checks.check_image_shape(x.shape, size=4)
    for bad, message in ((x[:0], "no example"), (x * np.nan, "NaN or Inf")):
        with pytest.raises(GradlabError, match=message):
            checks.check_inputs(bad)
    with pytest.raises(GradlabError, match=r"expected \(N, 3, H, W\)"):
        checks.check_image_shape(x[:, :1].shape)
    with pytest.raises(GradlabError, match=r"expected \(N, 3, 8, 8\)"):
        checks.check_image_shape(x.shape, size=8)
    for labels, message in (([0, -1], "class -1"), ([0, 10], "class 10"), ([0.0, 1.0], "integers"), ([0], "one label")):
        with pytest.raises(GradlabError, match=message):
            checks.check_labels(np.array(labels), batch=2, num_classes=10)


def test_a_missing_library_says_how_to_get_it():
    with pytest.raises(MissingDependency, match=r"pip install 'gradlab-parity\[jax\]'"):
        require("no_such_library_for_gradlab", extra="jax")
