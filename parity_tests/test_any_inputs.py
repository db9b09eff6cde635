"""Models of several inputs, by name and by place: both twins measure them as they measure a model of one."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError

rng = np.random.default_rng(0)
WEIGHTS = {"a.weight": rng.standard_normal((5, 3)), "b.weight": rng.standard_normal((2, 5))}
# In this order the first input is not the first of the alphabet, and the first of numbers is the second.
TOKENS, X, BIAS = np.arange(6) % 5, rng.standard_normal((6, 3)) + 1, rng.standard_normal(5) * 7
HOLED = np.where(np.arange(18).reshape(6, 3) == 0, np.nan, X)
Y = np.arange(6) % 2


class Torch(torch.nn.Module):
    """Two layers, one input more in between, and one that chooses which rows count."""

    def __init__(self):
        super().__init__()
        self.a, self.act = torch.nn.Linear(3, 5, bias=False), torch.nn.Tanh()
        self.b = torch.nn.Linear(5, 2, bias=False)
        self.double()
        gradlab_torch.from_canonical(self, WEIGHTS)

    def forward(self, tokens, x, bias=None):
        h = self.a(x) if bias is None else self.a(x) + bias
        return self.b(self.act(h)) * (1 + tokens[:, None])


class Jax(nnx.Module):
    def __init__(self):
        wide = {"use_bias": False, "param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
        self.a, self.b = nnx.Linear(3, 5, **wide), nnx.Linear(5, 2, **wide)
        gradlab_jax.from_canonical(self, WEIGHTS)

    def __call__(self, tokens, x, bias=None):
        h = self.a(x) if bias is None else self.a(x) + bias
        return self.b(jnp.tanh(h)) * (1 + tokens[:, None])


class One(torch.nn.Module):
    """The same, of one input: what it must come out as."""

    def __init__(self, bias):
        super().__init__()
        self.inner, self.bias = Torch(), bias

    def forward(self, x):
        return self.inner(torch.as_tensor(TOKENS), x, self.bias)


def named(tensor):
    return {"tokens": tensor(TOKENS), "x": tensor(X), "bias": tensor(BIAS)}


def placed(tensor):
    return [tensor(TOKENS), tensor(X), tensor(BIAS)]


SHAPES = {
    "mapping": named,
    "other mapping": lambda tensor: collections.UserDict(named(tensor)),
    "list": placed,
    "tuple with None": lambda tensor: (*placed(tensor)[:2], None),
}
SIDES = {"torch": (gradlab_torch, Torch, torch.as_tensor), "jax": (gradlab_jax, Jax, jnp.asarray)}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("shape", SHAPES)
def test_both_twins_measure_what_one_input_gives(shape):
    bias = None if shape == "tuple with None" else torch.as_tensor(BIAS)
    truth = gradlab_torch.probe(One(bias), torch.as_tensor(X), Y)
    flow = gradlab_torch.gradient_flow(One(bias), torch.as_tensor(X), Y)
    for twin, build, tensor in SIDES.values():
        model, given = build(), SHAPES[shape](tensor)
        found = twin.probe(model, given, Y)
        assert (found.batch, found.classes) == (6, 2)
        assert found.loss == pytest.approx(truth.loss, rel=1e-9)
        for name in ("input", "output"):  # the input: that of x, whatever stands before it
            numbers, wanted = (dataclasses.asdict(getattr(p, name)) for p in (found, truth))
            assert numbers.pop("shape") == wanted.pop("shape")
            assert numbers == pytest.approx(wanted, rel=1e-9)
        (row,) = twin.activation_stats(model, given, mode="train")
        assert row.std == pytest.approx(truth.layers[0].std, rel=1e-9)
        assert list(twin.gradient_flow(model, given, Y).layers.values()) == pytest.approx(
            list(flow.layers.values()), rel=1e-9
        )
        assert {state.value for state in twin.check_gradients(model, given, Y).values()} == {"ok"}


@pytest.mark.parametrize("shape", SHAPES)
def test_both_doctors_see_what_one_input_gives(shape):
    bias = None if shape == "tuple with None" else torch.as_tensor(BIAS)
    truth = gradlab_torch.init_doctor(One(bias), torch.as_tensor(X))
    repaired = gradlab_torch.lsuv(One(bias), torch.as_tensor(X)).layers
    for twin, build, tensor in SIDES.values():
        found = twin.init_doctor(build(), SHAPES[shape](tensor))
        assert [f"inner.{row.path}" for row in found] == [row.path for row in truth]
        for row, wanted in zip(found, truth, strict=True):
            assert row.variance == pytest.approx(wanted.variance, rel=1e-9)
            assert row.ratio == (None if wanted.ratio is None else pytest.approx(wanted.ratio, rel=1e-9))
        layers = twin.lsuv(build(), SHAPES[shape](tensor)).layers
        assert [layer.factor for layer in layers] == pytest.approx([layer.factor for layer in repaired], rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("which", ["x", "bias"])
def test_the_origin_of_a_nan_is_the_input_that_held_it(shape, which):
    if (shape, which) == ("tuple with None", "bias"):
        pytest.skip("there it is None")
    holed = {"x": HOLED, "bias": np.where(np.arange(5) == 0, np.nan, BIAS)}[which]
    for twin, build, tensor in SIDES.values():
        given = SHAPES[shape](tensor)
        by_name = isinstance(given, collections.abc.Mapping)
        given = dict(given) if by_name else list(given)
        given[which if by_name else {"x": 1, "bias": 2}[which]] = tensor(holed)
        found = twin.nonfinite_origin(build(), given, Y)
        wanted = which if isinstance(given, dict) else {"x": "1", "bias": "2"}[which]
        assert (found.phase, found.path, found.operation, found.value) == ("forward", wanted, "input", "nan")
    alone = gradlab_torch.nonfinite_origin(One(None), torch.as_tensor(HOLED), Y)
    assert (alone.path, alone.operation) == (None, "input")


def test_states_of_a_recurrent_net_of_several_inputs():
    spec = gradlab_torch.ModelSpec(kind="recurrent", cell="gru", features=3, hidden=4, num_classes=2)
    x = rng.standard_normal((6, 5, 3)).astype(np.float32)

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = gradlab_torch.build(spec, seed=0)

        def forward(self, x, scale):
            return self.net(x * scale)

    class Jax(nnx.Module):
        def __init__(self):
            self.net = gradlab_jax.build(spec, seed=0)

        def __call__(self, x, scale):
            return self.net(x * scale)

    truth = gradlab_torch.hidden_state_norms(gradlab_torch.build(spec, seed=0), torch.as_tensor(x * 2), Y)
    for twin, model, tensor in ((gradlab_torch, Torch(), torch.as_tensor), (gradlab_jax, Jax(), jnp.asarray)):
        two = tensor(np.float32(2.0))
        for given in ({"x": tensor(x), "scale": two}, [tensor(x), two]):
            found = twin.hidden_state_norms(model, given, Y)
            assert found.path == f"net.{truth.path}"
            assert found.states == pytest.approx(truth.states, rel=1e-5)
            assert found.gradients == pytest.approx(truth.gradients, rel=1e-4)


def test_a_linen_model_gets_them_too():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, scale, *, train=False):
            return linen.Dense(2)(x) * scale * (2 if train else 1)

    given = {"x": jnp.asarray(X), "scale": jnp.asarray(3.0)}
    net = Net()
    model = net.bind(net.init(jax.random.key(0), **given))
    found = {mode: gradlab_jax.probe(model, given, Y, mode=mode).output.std for mode in ("train", "eval")}
    assert found["train"] == pytest.approx(2 * found["eval"])
    assert gradlab_jax.probe(model, (given["x"], given["scale"]), Y).output.std == pytest.approx(found["train"])


@pytest.mark.parametrize("side", SIDES)
def test_what_no_model_can_take_is_refused_in_words(side):
    twin, build, tensor = SIDES[side]
    pair = collections.namedtuple("Pair", "tokens x")
    cases = {
        "input 'bias' is a bool; expected": {**named(tensor), "bias": True},
        "input batch is a dict": {},
        "input batch is a list": [1, 2],
        "input batch is a Pair": pair(tensor(TOKENS), tensor(X)),
    }
    for message, given in cases.items():
        with pytest.raises(GradlabError, match=message):
            twin.probe(build(), given, Y)
    for measure in (twin.gradient_flow, twin.check_gradients):
        with pytest.raises(GradlabError, match="1 of 18 elements are NaN or Inf"):
            measure(build(), {**named(tensor), "x": tensor(HOLED)}, Y)
    holed = twin.probe(build(), {**named(tensor), "x": tensor(HOLED)}, Y)
    assert holed.input.nonfinite == 1


@pytest.mark.parametrize("side", SIDES)
def test_a_recurrent_net_of_several_inputs_shows_its_states(side):
    twin, tensor = SIDES[side][0], SIDES[side][2]
    spec = gradlab_torch.ModelSpec(kind="recurrent", cell="lstm", features=3, hidden=4, num_classes=2)
    inner = twin.astype(twin.build(spec, seed=0), "float64")
    if side == "torch":

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = inner

            def forward(self, x, scale):
                return self.inner(x * scale)
    else:

        class Net(nnx.Module):
            def __init__(self):
                self.inner = inner

            def __call__(self, x, scale):
                return self.inner(x * scale)

    x = rng.standard_normal((4, 5, 3))
    found = twin.probe(Net(), {"x": tensor(x), "scale": tensor(2.0)}, np.arange(4) % 2)
    plain = twin.probe(inner, tensor(2 * x), np.arange(4) % 2)
    assert found.hidden is not None
    assert found.hidden.gradients == pytest.approx(plain.hidden.gradients)
