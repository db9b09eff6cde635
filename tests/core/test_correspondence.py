"""Correspondence of weights by names and shapes, links there and back, and weights that somebody else has moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab_core.errors import GradlabError
from gradlab_core.parity import Link, Turn, check_transfer, transfer
from gradlab_core.parity.correspondence import find
from gradlab_core.parity.correspondence.links import Source
from gradlab_core.parity.correspondence.turns import turns
from gradlab_core.parity.weights import load_weights

RNG = np.random.default_rng(0)


class Weights:
    """A subject of which only the weights matter."""

    def __init__(self, **arrays):
        self.arrays = {name.replace("__", "."): np.array(array) for name, array in arrays.items()}

    def state(self):
        return dict(self.arrays)

    def load(self, arrays):
        self.arrays = dict(arrays)


def linked(reference, candidate, **options):
    return {name: link.name for link in find(reference, candidate, **options).links for name in link.candidate}


@given(st.permutations(range(4)), st.lists(st.sampled_from(range(4)), unique=True))
def test_a_turn_goes_back(axes, flipped):
    shape = (2, 3, 4, 5)
    turn = Turn(shape, tuple(shape[a] for a in axes), shape, tuple(axes), tuple(flipped))
    array = RNG.standard_normal(shape)
    np.testing.assert_array_equal(turn.back(turn.there(array)), array)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_fused_array_goes_there_and_back(heads):
    whole = RNG.standard_normal((12, 3))
    names = ("q", "k", "v")
    link = Link((Source("qkv"),), names, (Turn((4, 3), (3, 4), (4, 3), (1, 0)),) * 3, heads=heads)
    pieces = link.there({"qkv": whole})
    np.testing.assert_array_equal(link.back(pieces, {"qkv": whole.shape})["qkv"], whole)
    rows = whole.reshape(heads, 3, 4 // heads, 3)
    for i, name in enumerate(names):
        np.testing.assert_array_equal(pieces[name], rows[:, i].reshape(4, 3).T)


def test_several_arrays_of_the_reference_in_one():
    parts = {name: RNG.standard_normal((rows, 2)) for name, rows in (("a", 3), ("b", 5))}
    link = Link((Source("a"), Source("b")), ("c",), (Turn.same((8, 2)),))
    back = link.back(link.there(parts), {name: part.shape for name, part in parts.items()})
    assert back.keys() == parts.keys()
    for name, part in parts.items():
        np.testing.assert_array_equal(back[name], part)


@pytest.mark.parametrize(
    ("reference", "candidate", "words"),
    [
        ((8, 4), (4, 8), "transposed"),
        ((6, 3, 5, 5), (5, 5, 3, 6), "axes (2, 3, 1, 0)"),
        ((6,), (6, 1, 1), "as (6, 1, 1)"),
        ((6, 4), (4, 2, 3), "transposed, as (4, 2, 3)"),
    ],
)
def test_the_usual_turn_comes_first(reference, candidate, words):
    assert turns(reference, candidate, canonical=False)[0].words == words


def test_a_transposed_convolution_may_read_its_kernel_backwards():
    flipped = [turn.flipped for turn in turns((3, 6, 5, 5), (5, 5, 3, 6), canonical=False)]
    assert () in flipped
    assert (0, 1) in flipped


def test_names_that_count_otherwise():
    ours = {f"fc{i}.weight": (6, 6) for i in (1, 2, 3)}
    theirs = {f"Dense_{i}.kernel": (6, 6) for i in (2, 0, 1)}
    assert linked(ours, theirs) == {f"Dense_{i}.kernel": f"fc{i + 1}.weight" for i in range(3)}


def test_names_of_transformers():
    ours, theirs = {}, {}
    for i in range(12):
        for mine, other in (("attention.self.query", "attn.q_proj"), ("attention.self.key", "attn.k_proj")):
            ours |= {f"encoder.layer.{i}.{mine}.weight": (8, 8), f"encoder.layer.{i}.{mine}.bias": (8,)}
            theirs |= {f"blocks_{i}.{other}.kernel": (8, 8), f"blocks_{i}.{other}.bias": (8,)}
    found = linked(ours, dict(sorted(theirs.items())))
    assert found["blocks_10.attn.k_proj.kernel"] == "encoder.layer.10.attention.self.key.weight"
    assert found["blocks_2.attn.q_proj.bias"] == "encoder.layer.2.attention.self.query.bias"
    assert len(found) == 48


def test_queries_keys_and_values_in_one_on_either_side():
    fused = {"attn.in_proj_weight": (12, 4), "attn.in_proj_bias": (12,), "attn.out_proj.weight": (4, 4)}
    apart = {f"attn.{p}.{k}": s for p in ("key", "query", "value") for k, s in (("weight", (4, 4)), ("bias", (4,)))}
    apart["attn.out.weight"] = (4, 4)
    for ours, theirs in ((fused, apart), (apart, fused)):
        found = find(ours, theirs)
        assert not found.left_reference
        assert not found.left_candidate
        arrays = {name: RNG.standard_normal(shape) for name, shape in ours.items()}
        for name, array in found.back(found.there(arrays)).items():
            np.testing.assert_array_equal(array, arrays[name])
    link = next(k for k in find(fused, apart).links if k.name == "attn.in_proj_weight")
    assert link.candidate == ("attn.query.weight", "attn.key.weight", "attn.value.weight")


@pytest.mark.parametrize("gates", ["ifgo", "rzn"])
def test_the_gates_of_a_cell(gates):
    n = len(gates)
    ours = {"weight_ih_l0": (n * 5, 3), "weight_hh_l0": (n * 5, 5), "bias_ih_l0": (n * 5,), "bias_hh_l0": (n * 5,)}
    theirs = {f"cell.i{g}.weight": (5, 3) for g in gates} | {f"cell.h{g}.weight": (5, 5) for g in gates}
    biases = [f"cell.h{g}.bias" for g in gates] if n == 4 else ["cell.ir.bias", "cell.iz.bias", "cell.in.bias"]
    theirs |= dict.fromkeys([*biases, *(["cell.hn.bias"] if n == 3 else [])], (5,))
    found = find(ours, dict(sorted(theirs.items())))
    assert not found.left_reference
    assert not found.left_candidate
    arrays = {name: RNG.standard_normal(shape) for name, shape in ours.items()}
    port = found.there(arrays)
    np.testing.assert_array_equal(port[f"cell.h{gates[1]}.weight"], arrays["weight_hh_l0"][5:10])
    ih, hh = arrays["bias_ih_l0"], arrays["bias_hh_l0"]
    np.testing.assert_allclose(port[biases[1]], ih[5:10] + hh[5:10])
    if n == 3:
        np.testing.assert_array_equal(port["cell.in.bias"], ih[10:])
        np.testing.assert_array_equal(port["cell.hn.bias"], hh[10:])


def test_what_is_left_over_is_said_with_its_likeliest_partner():
    found = find({"fc.weight": (2, 3), "norm.weight": (7,)}, {"fc.weight": (2, 3), "ln.scale": (9,)})
    with pytest.raises(GradlabError, match=r"(?s)norm.weight of the reference.*ln.scale \(9,\).*ln.scale of the cand"):
        found.check()


def test_rules_come_first_and_bad_ones_are_refused_together():
    ours, theirs = {"a.weight": (4, 4), "b.weight": (4, 4)}, {"a.weight": (4, 4), "b.weight": (4, 4)}
    assert linked(ours, theirs, rules={"a.weight": "b.weight"}) == {"a.weight": "b.weight", "b.weight": "a.weight"}
    with pytest.raises(
        GradlabError, match=r"(?s)c.weight is no array of the candidate.*d.weight is no array of the ref"
    ):
        find(ours, theirs, rules={"c.weight": "a.weight", "a.weight": "d.weight"})


def test_transfer_writes_reads_back_and_saves(tmp_path):
    ours, theirs = Weights(fc__weight=RNG.standard_normal((2, 3))), Weights(dense__kernel=np.zeros((2, 3)))
    arrays = transfer(ours, theirs, path=tmp_path / "weights.npz")
    np.testing.assert_array_equal(theirs.state()["dense.kernel"], ours.state()["fc.weight"])
    np.testing.assert_array_equal(load_weights(tmp_path / "weights.npz")["dense.kernel"], arrays["dense.kernel"])

    class Deaf(Weights):
        def load(self, arrays):
            pass

    with pytest.raises(GradlabError, match=r"dense\.kernel was given and reads back otherwise"):
        transfer(ours, Deaf(dense__kernel=np.zeros((2, 3))))


W, V, B = RNG.standard_normal((6, 6)), RNG.standard_normal((6, 6)), RNG.standard_normal(6)
MOVED = {
    "equal": W,
    "turned": W.T,
    "permuted": W[[1, 0, 2, 3, 5, 4]],
    "scaled": 3.0 * W,
    "shifted": W + 1.0,
    "another": V,
    "unrelated": RNG.standard_normal((6, 6)),
    "different": W + 0.1 * RNG.standard_normal((6, 6)),
}


@pytest.mark.parametrize("verdict", MOVED)
def test_what_a_converter_did_is_named(verdict):
    ours = Weights(a__weight=W, b__weight=V, b__bias=B)
    found = check_transfer(ours, Weights(a__weight=MOVED[verdict], b__weight=V, b__bias=B))
    assert {row.candidate: row.verdict for row in found.rows} == {
        "a.weight": verdict,
        "b.weight": "equal",
        "b.bias": "equal",
    }
    assert ("a.weight" in str(found)) is (verdict != "equal")


def test_columns_in_another_order_are_named():
    found = check_transfer(Weights(a__weight=W), Weights(a__weight=W[:, ::-1]))
    assert "along axis 1" in str(found)
