"""Where a NaN or an Inf is born: both twins name the same phase, module and value for the same net."""

from __future__ import annotations

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
from gradlab_core.programs.specs import ModelSpec
from gradlab_core.records import NonfiniteOrigin
from gradlab_jax.model import losses as jax_losses
from gradlab_torch.model import losses as torch_losses

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
Y = np.arange(6) % 2
WEIGHTS = {
    "a.weight": np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32),
    "a.bias": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
    "b.weight": np.random.default_rng(2).standard_normal((2, 4)).astype(np.float32),
    "b.bias": np.array([0.5, -0.5], np.float32),
}
MASK = np.array([0, 0, 0, -np.inf], np.float32)
HALF = np.array([1, 1, 0, 0], np.float32)


class TorchNet(torch.nn.Module):
    """A dense layer, the function as a module `m`, and a dense layer."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        self.m = torch.nn.Module()
        self.m.forward = function

    def forward(self, x):
        return self.b(self.m(self.a(x)))


class Function(nnx.Module):
    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return self.function(x)


class JaxNet(nnx.Module):
    def __init__(self, function):
        self.a, self.b = nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(0))
        self.m = Function(function)

    def __call__(self, x):
        return self.b(self.m(self.a(x)))


def both(torch_function, jax_function, *, x=X, weights=WEIGHTS, dtype="float32", loss="cross_entropy"):
    """What each twin finds for the same net."""
    found = []
    for twin, losses, model in (
        (gradlab_torch, torch_losses, TorchNet(torch_function)),
        (gradlab_jax, jax_losses, JaxNet(jax_function)),
    ):
        twin.from_canonical(model, weights)
        batch = twin.to_native(x.astype(dtype))
        found.append(twin.nonfinite_origin(twin.astype(model, dtype), batch, Y, loss=getattr(losses, loss)))
    return found


def two(early, later):
    later = later()
    return (later + early) + later


def where(function, module):
    return lambda h: module.where(h > 1e9, function(h), h)


BORN = {
    # A zero activation; the input is such that ReLU leaves some.
    "log of zero": (
        lambda h: h.relu().log(),
        lambda h: jnp.log(jax.nn.relu(h)),
        ("forward", "m", "inf"),
        ("log", "log"),
    ),
    "normalisation without spread": (
        lambda h: (h * torch.tensor(HALF)) / (h * torch.tensor(HALF)).std(0, unbiased=False),
        lambda h: (h * HALF) / (h * HALF).std(0),
        ("forward", "m", "nan"),
        ("div", "div"),
    ),
    "overflow of exp": (
        lambda h: (h * 1e3).exp(),
        lambda h: jnp.exp(h * 1e3),
        ("forward", "m", "inf"),
        ("exp", "exp"),
    ),
    # The root of 0 is a number, its slope is not: Inf where a gradient arrives …
    "slope of the root": (
        lambda h: (h * torch.tensor(HALF)).abs().sqrt(),
        lambda h: jnp.sqrt(jnp.abs(h * HALF)),
        ("backward", "m", "inf"),
        ("div", "div"),
    ),
    # … and 0·Inf where none does.
    "slope of a root nobody uses": (
        where(lambda h: (h * 0).sqrt(), torch),
        where(lambda h: jnp.sqrt(h * 0), jnp),
        ("backward", "m", "nan"),
        ("div", "div"),
    ),
    "slope of a power nobody uses": (
        where(lambda h: (h * 0) ** 0.5, torch),
        where(lambda h: (h * 0) ** 0.5, jnp),
        ("backward", "m", "nan"),
        ("pow", "pow"),
    ),
    # The forward pass hides the overflow, its derivative is 0·Inf.
    "overflow nobody uses": (
        where(lambda h: (h.abs() * 1e6).exp(), torch),
        where(lambda h: jnp.exp(jnp.abs(h) * 1e6), jnp),
        ("forward", "m", "inf"),
        ("exp", "exp"),
    ),
    "a constant that masks everything": (
        lambda h: (h + torch.full_like(h, -torch.inf).unsqueeze(0).squeeze(0)).softmax(-1),
        lambda h: jax.nn.softmax(h + jnp.full_like(h, -jnp.inf)[None].squeeze(0)),
        ("forward", "m", "inf"),
        ("add", "add"),
    ),
    "two that meet": (
        lambda h: two(h.relu().log(), lambda: (h.abs() * 1e6).exp()),
        lambda h: two(jnp.log(jax.nn.relu(h)), lambda: jnp.exp(jnp.abs(h) * 1e6)),
        ("forward", "m", "inf"),
        ("log", "log"),
    ),
    # A mask is no fault; a softmax over nothing but masked elements is that of who masked them all.
    "everything masked": (
        lambda h: h.masked_fill(torch.tensor(MASK) < 1, -torch.inf).softmax(-1),
        lambda h: jax.nn.softmax(jnp.where(MASK < 1, -jnp.inf, h)),
        ("forward", "m", "inf"),
        ("masked_fill", "select_n"),
    ),
}


@pytest.mark.parametrize("name", BORN)
def test_both_twins_name_the_birthplace(name):
    functions, place, operations = BORN[name][:2], BORN[name][2], BORN[name][3]
    for found, operation in zip(both(*functions), operations, strict=True):
        assert (found.phase, found.path, found.value) == place
        assert found.operation == operation


@pytest.mark.parametrize(
    "functions",
    [
        (torch.tanh, jnp.tanh),
        (lambda h: (h + torch.tensor(MASK)).softmax(-1), lambda h: jax.nn.softmax(h + MASK)),
        (
            lambda h: h.masked_fill(torch.tensor(MASK) < 0, -torch.inf).softmax(-1),
            lambda h: jax.nn.softmax(jnp.where(MASK < 0, -jnp.inf, h)),
        ),
    ],
    ids=["nothing", "a mask", "a mask filled in"],
)
def test_what_reaches_neither_loss_nor_gradient_is_no_origin(functions):
    assert both(*functions) == [None, None]


def test_half_precision_overflows_in_a_matrix_product():
    weights = WEIGHTS | {"b.weight": WEIGHTS["b.weight"] * 0 + 60000}
    ours, theirs = both(lambda h: h * 0 + 2, lambda h: h * 0 + 2, weights=weights, dtype="float16")
    assert ours == NonfiniteOrigin(phase="forward", path="b", operation="addmm", value="inf")
    assert theirs == dataclasses.replace(ours, operation="dot_general")


def test_a_loss_as_the_formula_is_written():
    """exp(−1e3) is 0 in float32, and its log −Inf; exp(1e3) is Inf."""
    for shift, operation in (([0.0, -1e3], "log"), ([0.0, 1e3], "exp")):
        weights = WEIGHTS | {"b.bias": np.array(shift, np.float32)}
        for found in both(torch.tanh, jnp.tanh, weights=weights, loss="naive_cross_entropy"):
            assert found == NonfiniteOrigin(phase="loss", path=None, operation=operation, value="inf")


def test_what_comes_in_is_named_as_such():
    nan_input = NonfiniteOrigin(phase="forward", path=None, operation="input", value="nan")
    assert both(torch.tanh, jnp.tanh, x=np.where(X > 0, X, np.nan)) == [nan_input] * 2
    # What is taken out again is harmless.
    swallowed = both(lambda h: h.nan_to_num(), jnp.nan_to_num, x=np.where(X > 0, X, np.nan))
    assert [found.operation for found in swallowed] == ["input", "input"]  # the gradient of a.weight is x·g
    weights = WEIGHTS | {"b.weight": np.array([[1, 2, np.inf, 4]] * 2, np.float32)}
    inf_weight = NonfiniteOrigin(phase="forward", path="b.weight", operation="parameter", value="inf")
    assert both(torch.tanh, jnp.tanh, weights=weights) == [inf_weight] * 2
    target = NonfiniteOrigin(phase="loss", path=None, operation="target", value="nan")
    mse = lambda out, y: ((out - y) ** 2).mean()  # noqa: E731
    for twin, model in ((gradlab_torch, TorchNet(torch.tanh)), (gradlab_jax, JaxNet(jnp.tanh))):
        y = twin.to_native(np.full((6, 2), np.nan, np.float32))
        assert twin.nonfinite_origin(model, twin.to_native(X), y, loss=mse) == target


def test_statistics_that_are_not_finite():
    torch_net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch_net[1].running_var[0] = torch.nan
    net = nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
    net.layers[1].var.set_value(jnp.array([jnp.nan, 1.0]))
    expected = NonfiniteOrigin(phase="forward", path="1.running_var", operation="buffer", value="nan")
    assert gradlab_torch.nonfinite_origin(torch_net, torch.as_tensor(X), Y, mode="eval") == expected
    assert gradlab_jax.nonfinite_origin(net, jnp.asarray(X), Y, mode="eval") == expected
    # In training the batch has statistics of its own.
    assert gradlab_torch.nonfinite_origin(torch_net, torch.as_tensor(X), Y) is None
    assert gradlab_jax.nonfinite_origin(net, jnp.asarray(X), Y) is None

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            return linen.BatchNorm(use_running_average=not train, name="bn")(linen.Dense(2, name="fc")(x))

    shapes = jax.eval_shape(Net().init, jax.random.key(0), jnp.asarray(X))
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
    variables["batch_stats"]["bn"]["var"] = jnp.array([jnp.nan, 1.0])
    found = gradlab_jax.nonfinite_origin(Net().bind(variables), jnp.asarray(X), Y, mode="eval")
    assert found == dataclasses.replace(expected, path="bn.running_var")


def test_inside_a_loop():
    """A recurrent net that grows by 1e12 a step: PyTorch runs one operation, JAX a scan that is looked into."""
    spec = ModelSpec(kind="recurrent", cell="rnn_relu", features=3, hidden=4, num_classes=2)
    x = np.ones((6, 5, 3), np.float32)
    places = []
    for twin in (gradlab_torch, gradlab_jax):
        model = twin.build(spec, seed=0)
        arrays = twin.to_canonical(model)
        twin.from_canonical(model, arrays | {"rnn.weight_hh_l0": 1e12 * np.eye(4, dtype=np.float32)})
        found = twin.nonfinite_origin(model, twin.to_native(x), Y)
        places.append((found.phase, found.path, found.value))
    assert places == [("forward", "rnn", "inf")] * 2
    assert found.operation == "dot_general"

    class Branches(nnx.Module):
        def __call__(self, x):
            x = jax.lax.cond(x[0, 0] > 1e9, jnp.tanh, jnp.log, x * 0)
            return jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1] + 1), (0, x))[1]

    found = gradlab_jax.nonfinite_origin(Branches(), jnp.asarray(X), Y)
    assert found == NonfiniteOrigin(phase="forward", path="", operation="log", value="inf")


def test_in_place_views_and_garbage():
    """What PyTorch writes in place keeps its origin, and what nobody wrote yet has none."""

    def in_place(h):
        out = torch.empty_like(h).fill_(torch.nan)  # what it holds before it is written matters to nobody
        out.copy_(h)
        view = out[:, :1]
        view.log_()
        return out * 2

    model = TorchNet(in_place)
    gradlab_torch.from_canonical(model, WEIGHTS | {"a.weight": np.zeros((4, 3)), "a.bias": np.zeros(4)})
    found = gradlab_torch.nonfinite_origin(model, torch.as_tensor(X), Y)
    assert found == NonfiniteOrigin(phase="forward", path="m", operation="log_", value="inf")


def test_a_user_goes_on_as_if_nothing_had_run_and_bad_batches_are_refused():
    model = TorchNet(torch.tanh)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradlab_torch.nonfinite_origin(model, torch.as_tensor(X), Y)
    assert all((before[k] == v).all() for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for twin, net in ((gradlab_torch, model), (gradlab_jax, JaxNet(jnp.tanh))):
        for x, y, message in (
            (X.tolist(), Y, "input batch is a list"),
            (twin.to_native(X[:0]), Y[:0], "holds no example"),
            (twin.to_native(X), Y + 1, "class 2 is out of range"),
        ):
            with pytest.raises(GradlabError, match=message):
                twin.nonfinite_origin(net, x, y)
        with pytest.raises(GradlabError, match="expected one number"):
            twin.nonfinite_origin(net, twin.to_native(X), Y, loss=lambda out, y: out)
