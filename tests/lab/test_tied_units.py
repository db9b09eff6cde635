"""Units that are copies of each other: found wherever they stand, and tied for as long as nothing parts them."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from gradlab_core.definitions.symmetry_defect import SymmetryDefect, symmetry_defect
from gradlab_core.errors import GradlabError
from gradlab_core.lab.tie import tie_over_steps
from gradlab_core.records.codec import decode, encode


def net(*widths, seed=0, bias=True):
    rng = np.random.default_rng(seed)
    params = {}
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        params[f"fc{i}.weight"] = rng.standard_normal((b, a))
        if bias:
            params[f"fc{i}.bias"] = rng.standard_normal(b)
    return params


def duplicated(params, layer, source, target):
    """Unit `target` of a hidden layer made a copy of `source`, in what it takes and in what it gives."""
    params = {path: array.copy() for path, array in params.items()}
    for name in ("weight", "bias"):
        params[f"fc{layer}.{name}"][target] = params[f"fc{layer}.{name}"][source]
    params[f"fc{layer + 1}.weight"][:, target] = params[f"fc{layer + 1}.weight"][:, source]
    return params


def groups(params):
    return [layer.groups for layer in symmetry_defect(params).layers]


def test_copies_are_found_wherever_they_stand():
    params = duplicated(duplicated(net(5, 7, 6, 3), 0, 1, 4), 1, 5, 0)
    found = symmetry_defect(params)
    assert [layer.groups for layer in found.layers] == [((1, 4),), ((0, 5),)]
    assert (found.units, found.distinct, found.defect) == (13, 11, pytest.approx(2 / 13))
    assert [layer.closest for layer in found.layers] == [0.0, 0.0]
    order = np.random.default_rng(1).permutation(7)
    params["fc0.weight"], params["fc0.bias"] = params["fc0.weight"][order], params["fc0.bias"][order]
    params["fc1.weight"] = params["fc1.weight"][:, order]
    assert groups(params)[0] == (tuple(sorted(int(np.flatnonzero(order == u)[0]) for u in (1, 4))),)
    assert decode(SymmetryDefect, encode(found)) == found


@pytest.mark.parametrize("path", ["fc0.weight", "fc0.bias", "fc1.weight"])
def test_a_difference_anywhere_tells_units_apart(path):
    params = duplicated(net(5, 7, 3), 0, 1, 4)
    params[path][(..., 4) if path == "fc1.weight" else 4] += 1e-2
    found = symmetry_defect(params)
    assert found.layers[0].groups == ()
    assert 1e-4 < found.layers[0].closest < 0.05
    assert symmetry_defect(net(5, 7, 3)).layers[0].closest > 0.3


def test_rounding_does_not_tell_units_apart():
    params = duplicated(net(5, 7, 3), 0, 1, 4)
    noisy = {
        path: array * (1 + 1e-6 * np.random.default_rng(2).standard_normal(array.shape))
        for path, array in params.items()
    }
    assert groups(noisy) == [((1, 4),)]
    assert 0 < symmetry_defect(noisy).layers[0].closest < 1e-5


def test_units_that_are_tied_through_others():
    """Two units read two copies with weights that change places: they are the same function, and stay so."""
    params = {
        "a.weight": np.array([[1.0, 2.0], [1.0, 2.0]]),
        "b.weight": np.array([[3.0, 4.0], [4.0, 3.0]]),
        "c.weight": np.array([[5.0, 5.0]]),
    }
    assert groups(params) == [((0, 1),), ((0, 1),)]
    params["c.weight"] = np.array([[5.0, 6.0]])  # now b's gradients differ, and through them a's
    assert groups(params) == [(), ()]
    params["c.weight"], params["a.weight"][1, 0] = np.array([[5.0, 5.0]]), 1.1
    assert groups(params) == [(), ()]


def test_a_random_net_has_no_tie_and_a_constant_one_nothing_else():
    healthy = symmetry_defect(net(4, 30, 30, 30, 2))
    assert (healthy.defect, healthy.unread) == (0, ())
    constant = symmetry_defect({path: np.full_like(array, 0.3) for path, array in net(4, 30, 30, 30, 2).items()})
    assert [layer.distinct for layer in constant.layers] == [1, 1, 1]
    assert constant.defect == pytest.approx(87 / 90)
    centred = {p: a - a.mean(axis=1, keepdims=True) if a.ndim == 2 else 0 * a for p, a in net(4, 30, 30, 2).items()}
    assert symmetry_defect(centred).defect == 0  # sums that are 0 make no tie


def test_convolutions_flattened_grouped_and_normalised():
    rng = np.random.default_rng(3)
    params = {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)),
        "norm.weight": np.ones(4),
        "norm.running_mean": rng.standard_normal(4),
        "depthwise.weight": rng.standard_normal((8, 1, 3, 3)),
        "fc.weight": rng.standard_normal((5, 8 * 6)),
        "out.weight": rng.standard_normal((2, 5)),
    }
    assert groups(params) == [(), (), ()]
    params["conv.weight"][3] = params["conv.weight"][0]
    params["depthwise.weight"][6:] = params["depthwise.weight"][:2]
    pixels = params["fc.weight"].reshape(5, 8, 6)
    pixels[:, 6:] = pixels[:, :2]
    assert groups(params) == [((0, 3),), ((0, 6), (1, 7)), ()]
    params["norm.weight"][3] = 2.0
    assert groups(params) == [(), (), ()]


def test_recurrent_units():
    rng = np.random.default_rng(4)
    shapes = {"rnn.weight_ih_l0": (12, 3), "rnn.weight_hh_l0": (12, 4), "rnn.bias_ih_l0": (12,), "fc.weight": (2, 4)}
    params = {path: rng.standard_normal(shape) for path, shape in shapes.items()}
    assert groups(params) == [()]
    for path in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0"):
        gates = params[path].reshape(3, 4, -1)
        gates[:, 2] = gates[:, 0]
    params["rnn.weight_hh_l0"][:, 2] = params["rnn.weight_hh_l0"][:, 0]
    params["fc.weight"][:, 2] = params["fc.weight"][:, 0]
    assert groups(params) == [((0, 2),)]
    params["rnn.weight_hh_l0"][0, 1] += 1
    assert groups(params) == [()]


def test_what_cannot_be_read_is_said():
    params = net(4, 6, 3) | {"side.weight": np.ones((7, 5)), "last.weight": np.ones((2, 7))}
    found = symmetry_defect(params)
    assert found.unread == ("fc1.weight",)
    assert [layer.path for layer in found.layers] == ["fc0.weight", "side.weight"]
    twice = {"a.weight": np.ones((4, 3)), "b.weight": np.ones((5, 8))}  # eight inputs are not four units, seen twice
    assert symmetry_defect(twice).unread == ("a.weight",)
    nothing = symmetry_defect({"fc.weight": np.ones((2, 3))})
    assert (nothing.defect, nothing.units, nothing.layers) == (None, 0, ())
    single = symmetry_defect({"a.weight": np.ones((1, 3)), "b.weight": np.ones((2, 1))})
    assert (single.defect, single.layers[0].closest) == (0, None)
    broken = duplicated(net(5, 7, 3), 0, 1, 4)
    broken["fc0.weight"][4, 0] = np.nan
    assert groups(broken) == [()]
    with pytest.raises(GradlabError, match="a list; expected a mapping"):
        symmetry_defect([np.ones((2, 2))])  # type: ignore[arg-type]
    with pytest.raises(GradlabError, match=r"2 problems\n.*a is a str.*\n.*b is a ndarray of complex128"):
        symmetry_defect({"a": "x", "b": np.ones(2, complex)})


def test_sgd_keeps_a_tie_and_dropout_breaks_it():
    kept, broken = (tie_over_steps(steps=60, every=20, dropout=p) for p in (0.0, 0.3))
    assert [s.distinct for s in kept] == [1, 1, 1, 1]
    assert max(s.closest for s in kept) < 1e-12
    assert [s.distinct for s in broken] == [1, 8, 8, 8]
    assert broken[0].defect == 7 / 8
    assert broken[-1].closest > 0.01
    free = tie_over_steps(steps=200, start="normal")
    assert [s.step for s in free] == list(range(0, 201, 20))
    assert all(s.distinct == 8 for s in free)
    # One unit, however often it is there, learns less.
    assert free[-1].loss < 0.5 * tie_over_steps(steps=200)[-1].loss
    with pytest.raises(GradlabError, match="3 problems"):
        tie_over_steps(steps=-1, dropout=1.0, start="zero")


def test_the_tie_is_exact_in_the_gradient():
    """The demonstration's gradient, written out by hand, is the derivative of its loss."""
    from gradlab_core.lab import tie

    rng = np.random.default_rng(5)
    params = {"fc1.weight": rng.standard_normal((3, 4)), "fc1.bias": rng.standard_normal(3)}
    params["fc2.weight"] = rng.standard_normal((1, 3))
    x, y, mask = rng.standard_normal((6, 4)), rng.standard_normal((6, 1)), rng.integers(0, 2, (6, 3)) * 2.0

    def loss(p):
        h = np.tanh(x @ p["fc1.weight"].T + p["fc1.bias"]) * mask
        return statistics.fmean(np.square(h @ p["fc2.weight"].T - y).ravel().tolist()) / 2

    grads = tie._gradients(params, x, y, mask)
    for path, array in params.items():
        for index in np.ndindex(array.shape):
            moved = [{**params, path: array.copy()} for _ in range(2)]
            for p, step in zip(moved, (1e-6, -1e-6), strict=True):
                p[path][index] += step
            assert (loss(moved[0]) - loss(moved[1])) / 2e-6 == pytest.approx(grads[path][index], abs=1e-8)
