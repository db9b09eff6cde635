"""Models that are no Flax modules: pure functions written by hand, as Haiku has them, and the modules of Equinox."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.parity import assert_parity, compare, moved
from gradlab_jax.model.modules import functional
from gradlab_jax.model.taps import run_tapped

rng = np.random.default_rng(0)
Y = np.array([0, 1, 1, 0, 1, 0])
VECTORS = rng.standard_normal((6, 5)).astype(np.float32)
IMAGES = rng.standard_normal((6, 3, 7, 8)).astype(np.float32)


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.ln, self.fc2 = torch.nn.Linear(5, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 8)
        self.fc3 = torch.nn.Linear(8, 2)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.ln(self.fc1(x)))
        return self.fc3(torch.relu(self.fc2(x)))


class Cnn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def original(build):
    torch.manual_seed(0)
    net = build()
    gradlab_torch.from_canonical(net, moved(gradlab_torch.to_canonical(net), seed=1))
    return net


def trees(net, statistics=("running_mean", "running_var")):
    """Weights and statistics as nested dicts of PyTorch's names."""
    found = {}, {}
    for name, array in gradlab_torch.to_canonical(net).items():
        module, _, leaf = name.rpartition(".")
        found[leaf in statistics].setdefault(module, {})[leaf] = jnp.asarray(array)
    return found


def dense(params, x):
    return x @ params["weight"].T + params["bias"]


def mlp(params, x, *, fault=None):
    x = dense(params["fc1"], x)
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    x = params["ln"]["weight"] * x + params["ln"]["bias"]
    x = jax.nn.gelu(x, approximate=fault == "the other gelu")
    turned = {**params["fc2"], "weight": params["fc2"]["weight"].T}
    x = jax.nn.relu(jax.jit(dense)(turned if fault == "a transposed weight" else params["fc2"], x))
    return dense(params["fc3"], x)


def cnn(params, state, x, *, last=False, momentum=0.1):
    """With `last`, images have their channels last, and the kernel is turned as JAX has it there."""
    weight, bias = params["conv"]["weight"], params["conv"]["bias"]
    layout = ("NHWC", "HWIO", "NHWC") if last else ("NCHW", "OIHW", "NCHW")
    x = jax.lax.conv_general_dilated(
        x, weight.transpose(2, 3, 1, 0) if last else weight, (1, 1), "SAME", dimension_numbers=layout
    )
    axes, each = ((0, 1, 2), lambda v: v) if last else ((0, 2, 3), lambda v: v[:, None, None])
    x = x + each(bias)
    mean, var, count = x.mean(axes), x.var(axes), x.size / len(bias)
    old, bn = state["bn"], params["bn"]
    new = {
        "running_mean": (1 - momentum) * old["running_mean"] + momentum * mean,
        "running_var": (1 - momentum) * old["running_var"] + momentum * var * count / (count - 1),
    }
    x = (x - each(mean)) * each(bn["weight"] * jax.lax.rsqrt(var + 1e-5)) + each(bn["bias"])
    return dense(params["fc"], jax.nn.relu(x).mean(axes[1:])), {"bn": new}


def activations(report):
    return {row.path for row in report.rows if row.quantity == "activation"}


@pytest.mark.parametrize(
    ("fault", "first"),
    [(None, None), ("a transposed weight", "activation fc2"), ("the other gelu", "activation (call 0)")],
)
def test_a_function_is_a_subject(fault, first):
    net = original(Mlp)
    port = gradlab_jax.Function(lambda params, x: mlp(params, x, fault=fault), trees(net)[0])
    report = compare(gradlab_torch.Subject(net), gradlab_jax.Subject(port), (VECTORS, Y), steps=2)
    if fault is None:
        assert not report.failures
        assert activations(report) == {"", "fc1", "ln", "fc2", "fc3"}
        assert report.worst("logic_error") < 1e-9
    else:
        assert report.first_divergence.name == f"step 0, {first.removesuffix(' (call 0)')}"


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 0.2])
def test_a_state_is_compared_as_running_statistics(last, momentum):
    net = original(Cnn)
    port = gradlab_jax.Function(lambda p, s, x: cnn(p, s, x, last=last, momentum=momentum), *trees(net))
    subject = gradlab_jax.Subject(port, layout="NHWC" if last else "NCHW")
    report = compare(gradlab_torch.Subject(net), subject, (IMAGES, Y), steps=2)
    wrong = {("statistic", f"bn.running_{what}") for what in ("mean", "var")} if momentum == 0.2 else set()
    assert {(row.quantity, row.path) for row in report.failures} == wrong
    assert activations(report) == {"", "conv", "bn", "fc"}
    assert {row.path for row in report.rows if row.quantity == "statistic"} == {"bn.running_mean", "bn.running_var"}
    # It is its own copy that was trained.
    assert (np.asarray(port.params["fc"]["weight"]) == net.fc.weight.detach().numpy()).all()


@pytest.mark.parametrize("last", [False, True])
def test_whatever_has_a_subject_can_be_measured(last):
    net = original(Cnn)
    port = gradlab_jax.Function(lambda p, s, x: cnn(p, s, x, last=last), *trees(net))
    there, here = torch.as_tensor(IMAGES), jnp.asarray(np.moveaxis(IMAGES, 1, -1) if last else IMAGES)
    truth = gradlab_torch.activation_stats(net, there, mode="train")
    found = gradlab_jax.activation_stats(port, here, mode="train")
    for a, b in zip(truth, found, strict=True):
        assert (a.path, a.kind, a.call, a.shape) == (b.path, b.kind, b.call, b.shape)
        assert (b.mean, b.rms) == pytest.approx((a.mean, a.rms), rel=1e-4, abs=1e-6)
        assert b.dead_unit_frac == a.dead_unit_frac
    flows = gradlab_torch.gradient_flow(net, there, Y), gradlab_jax.gradient_flow(port, here, Y)
    assert list(flows[1].layers) == list(flows[0].layers)
    for name in flows[0].layers:
        assert flows[1].layers[name] == pytest.approx(flows[0].layers[name], rel=1e-3, abs=1e-6)
    assert (flows[1].loss, flows[1].ratio) == pytest.approx((flows[0].loss, flows[0].ratio), rel=1e-3)
    assert gradlab_jax.check_gradients(port, here, Y) == gradlab_torch.check_gradients(net, there, Y)
    assert gradlab_jax.count_params(port) == gradlab_torch.count_params(net)
    assert gradlab_jax.count_flops(port, here) == gradlab_torch.count_flops(net, there)
    probes = gradlab_torch.probe(net, there, Y), gradlab_jax.probe(port, here, Y)
    assert probes[1].shapes == probes[0].shapes
    assert probes[1].copies == pytest.approx(probes[0].copies)
    assert probes[1].output.rms == pytest.approx(probes[0].output.rms, rel=1e-4)
    noise = 0.1 * rng.standard_normal(IMAGES.shape).astype(np.float32)
    moved_by = gradlab_torch.input_sensitivity(net, there, torch.as_tensor(noise), mode="train")
    turned = jnp.asarray(np.moveaxis(noise, 1, -1) if last else noise)
    assert gradlab_jax.input_sensitivity(port, here, turned, mode="train") == pytest.approx(moved_by, rel=1e-3)
    holed = {**trees(net)[1], "bn": {"running_mean": jnp.full(4, jnp.nan), "running_var": jnp.ones(4)}}
    used = gradlab_jax.Function(
        lambda p, s, x: (cnn(p, s, x)[0] + s["bn"]["running_mean"].sum(), s), port.params, holed
    )
    origin = gradlab_jax.nonfinite_origin(used, jnp.asarray(IMAGES), Y)
    assert (origin.path, origin.operation) == ("bn.running_mean", "buffer")


def test_gradients_of_single_examples_work_under_jit():
    net = original(Mlp)
    port = gradlab_jax.Function(mlp, trees(net)[0])
    truth = gradlab_torch.per_example_grad_norms(net, torch.as_tensor(VECTORS), Y)
    found = jax.jit(lambda x: gradlab_jax.per_example_grad_norms(port, x, Y))(VECTORS)
    np.testing.assert_allclose(found, truth, rtol=1e-4)


W = {"a": {"w": jnp.asarray(rng.standard_normal((5, 5)), jnp.float32)}, "b": {"w": jnp.eye(5) + 0.1}}
STACKED = {"blocks": {"w": jnp.stack([W["a"]["w"], W["b"]["w"]]), "b": jnp.ones((2, 5))}}


def scanned(params, x):
    return jax.lax.scan(lambda x, p: (jnp.tanh(x @ p["w"] + p["b"]), None), x, params["blocks"])[0]


PROGRAMS = {
    "a layer called twice": (W, lambda p, x: jnp.tanh(x @ p["a"]["w"]) @ p["b"]["w"] @ p["a"]["w"], "a:0 :0 b:0 a:1"),
    "jit inside": (W, lambda p, x: jax.jit(lambda w, x: jax.nn.relu(x @ w))(p["a"]["w"], x), "a:0 :0"),
    "vmap inside": (W, lambda p, x: jax.vmap(lambda x: jax.nn.relu(p["a"]["w"] @ x))(x), "a:0 :0"),
    "remat inside": (W, lambda p, x: jax.checkpoint(lambda w, x: jnp.tanh(x @ w))(p["a"]["w"], x), "a:0 :0"),
    "scan inside": (STACKED, scanned, "blocks:0 :0 blocks:1 :1"),
    "an embedding": (W, lambda p, x: p["a"]["w"][jnp.int32(jnp.abs(x[:, 0]))], "a:0"),
    "weights in one place": ([W["a"]["w"], W["b"]["w"]], lambda p, x: x @ p[0] @ p[1], "0:0 1:0"),
    "a parameter that is no layer": ({"fc": W["a"], "scale": jnp.ones(5)}, lambda p, x: p["scale"] * (x @ p["fc"]["w"]),
                                     "fc:0"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_layers_are_named_by_their_parameters(name):
    params, apply, wanted = PROGRAMS[name]
    f, leaves, rest = functional(gradlab_jax.Function(apply, params), "train")
    x = jnp.asarray(VECTORS)
    out, _, handed = run_tapped(f, leaves, rest, x, lambda tap, value: (value, value))
    seen = [f"{tap.path}:{tap.call}" for tap, _ in handed]
    assert " ".join(seen) == wanted
    np.testing.assert_allclose(out, apply(params, x), rtol=1e-5, atol=1e-5)
    assert all(value.shape == (6, 5) for _, value in handed)

    def tapped(leaves):
        return run_tapped(f, leaves, rest, x, lambda tap, value: (value, None), differentiable=True)[0].sum()

    truth = jax.grad(lambda leaves: f.apply(leaves, rest, x)[0].sum())(leaves)
    for found, slope in zip(jax.grad(tapped)(leaves), truth, strict=True):
        np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-5)
    gradlab_jax.Subject(gradlab_jax.Function(apply, params)).step(VECTORS, Y, 0)


def test_names_and_what_is_no_parameter():
    params = {
        "net/~/b": {"w": rng.standard_normal((5, 2)).astype(np.float32), "order": np.arange(5)[::-1], "act": "relu"},
        "a": [W["a"]["w"]],
    }

    def apply(p, x):
        assert p["net/~/b"]["act"] == "relu"
        return jax.nn.relu(x @ p["a"][0])[:, p["net/~/b"]["order"]] @ p["net/~/b"]["w"]

    port = gradlab_jax.Subject(gradlab_jax.Function(apply, params), layout="none")
    assert list(port.state()) == ["net.~.b.w", "a.0"]
    before = port.state()
    port.step(VECTORS, Y, 0)
    assert all((before[name] != array).any() for name, array in port.state().items())


def test_a_layer_that_only_a_function_shows_is_no_fault():
    """PyTorch's attention calls no modules inside."""

    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = torch.nn.MultiheadAttention(8, 1, batch_first=True)
            self.fc = torch.nn.Linear(8, 2)

        def forward(self, x):
            return self.fc(self.attn(x, x, x, need_weights=False)[0].mean(1))

    def apply(p, x):
        q, k, v = jnp.split(x @ p["attn"]["in_proj_weight"].T + p["attn"]["in_proj_bias"], 3, -1)
        mixed = jax.nn.softmax(q @ k.mT / 8**0.5) @ v
        return dense(p["fc"], dense(p["attn.out_proj"], mixed).mean(1))

    net = original(Attention)
    x = rng.standard_normal((6, 4, 8)).astype(np.float32)
    port = gradlab_jax.Subject(gradlab_jax.Function(apply, trees(net)[0]))
    assert activations(assert_parity(gradlab_torch.Subject(net), port, (x, Y), steps=1)) == {"fc"}


FC = {"fc": {"weight": jnp.ones((2, 5)), "bias": jnp.zeros(2)}}


def run(apply, state=None, params=FC):
    return gradlab_jax.Subject(gradlab_jax.Function(apply, params, state)).step(VECTORS, Y, 0)


BAD = {
    "no function": (lambda: run("mlp"), "apply is a str; expected a function"),
    "nothing to train": (lambda: run(mlp, params={"steps": np.arange(3), "act": "relu"}), "params hold no floating"),
    "one name twice": (lambda: run(mlp, state=FC), "fc.weight, fc.bias: each is the name of several"),
    "no state back": (
        lambda: run(lambda p, s, x: dense(p["fc"], x), {"n": jnp.ones(2)}),
        "expected .output, new state",
    ),
    "another state": (
        lambda: run(lambda p, s, x: (dense(p["fc"], x), {"m": s["n"]}), {"n": jnp.ones(2)}),
        "apply returned a state of the structure",
    ),
    "a state of another shape": (
        lambda: run(lambda p, s, x: (dense(p["fc"], x), {"n": s["n"][:1]}), {"n": jnp.ones(2)}),
        r"other shapes: n is \(1,\), and was \(2,\)",
    ),
    "several outputs": (lambda: run(lambda p, x: (dense(p["fc"], x), x)), "the model returned a tuple"),
    "no model": (lambda: gradlab_jax.Subject(dense), "pass a model, or gradlab_jax.Function of one"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_told(case):
    run, message = BAD[case]
    with pytest.raises(GradlabError, match=message):
        run()
