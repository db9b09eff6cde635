"""Models and inputs as users have them: other losses, labels, precisions, modes, and models that return more."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch.utils.checkpoint import checkpoint

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec, TrainSpec

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 3)).astype(np.float32)


def torch_net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


class Once:
    """One batch an epoch."""

    def __init__(self, x, y):
        self.batch = x, y

    def epoch(self, epoch):
        return [self.batch]


def test_a_loss_of_ones_own_takes_labels_of_its_own():
    targets = RNG.standard_normal((6, 2)).astype(np.float32)
    torch_mse = torch.nn.functional.mse_loss
    torch_flow = gradlab_torch.gradient_flow(torch_net(), torch.from_numpy(X), targets, loss=torch_mse)

    def mse(out, y):
        return jnp.mean(optax.squared_error(out, y))

    jax_net = nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    jax_flow = gradlab_jax.gradient_flow(jax_net, jnp.asarray(X), targets, loss=mse)
    assert min(torch_flow.global_norm, jax_flow.global_norm) > 0
    for twin, net, loss in ((gradlab_torch, torch_net(), torch_mse), (gradlab_jax, jax_net, mse)):
        record = twin.train(net, Once(X, targets), TrainSpec(epochs=2), loss=loss)
        assert record.steps[1].loss < record.steps[0].loss


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_labels_of_any_integer_type(dtype):
    labels = np.array([0, 1, 0, 1, 0, 1], dtype)
    gradlab_torch.gradient_flow(torch_net(), torch.from_numpy(X), labels)
    gradlab_torch.train(torch_net(), Once(X, labels), TrainSpec())
    gradlab_jax.gradient_flow(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.asarray(X), labels)


BAD_BATCHES = {
    "class out of range": (X, np.array([0, 1, 0, 1, 0, 2]), "class 2 is out of range"),
    "NaN": (np.where(X > 1, np.nan, X), np.zeros(6, int), "NaN or Inf"),
    "too few labels": (X, np.zeros(5, int), "one label per example"),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_bad_batches(case):
    x, y, message = BAD_BATCHES[case]
    for twin, net in ((gradlab_torch, torch_net()), (gradlab_jax, nnx.Linear(3, 2, rngs=nnx.Rngs(0)))):
        with pytest.raises(GradlabError, match=message):
            twin.gradient_flow(net, twin.to_native(x), y)
        with pytest.raises(GradlabError, match=message):
            twin.train(net, Once(x, y), TrainSpec())


def test_nan_in_half_precision_is_seen():
    x = np.where(X > 1, np.nan, X)
    with pytest.raises(GradlabError, match="NaN"):
        gradlab_torch.activation_stats(torch_net(), torch.from_numpy(x).bfloat16(), mode="eval")
    with pytest.raises(GradlabError, match="NaN"):
        gradlab_jax.activation_stats(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.asarray(x, jnp.bfloat16), mode="eval")


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 8), (2, 3, 9, 9)])
def test_wrong_input_shape(shape):
    for twin in (gradlab_torch, gradlab_jax):
        model = twin.build(ModelSpec(kind="residual_toy", base=2), seed=0)
        x = twin.to_native(RNG.standard_normal(shape).astype(np.float32))
        with pytest.raises(GradlabError, match=r"expected \(N, 3, 8, 8\)"):
            twin.gradient_flow(model, x, np.zeros(2, int))


def test_modules_under_a_private_name_count():
    class Net(nnx.Module):
        def __init__(self):
            self._enc = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self._enc(x)

    flow = gradlab_jax.gradient_flow(Net(), jnp.asarray(X), np.zeros(6, int))
    assert list(flow.layers) == ["_enc.weight", "_enc.bias"] == list(gradlab_jax.to_canonical(Net()))


def test_a_module_may_hold_settings_that_cannot_be_hashed():
    """And they may change in place: then it is another program."""

    class Net(nnx.Module):
        def __init__(self):
            self.fc = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
            self.factors, self.options = [1.0, 2.0], {"shift": [0.5], "act": nnx.relu}

        def __call__(self, x):
            return self.options["act"](self.fc(x)) * self.factors[0] + self.options["shift"][0]

    def norm(model):
        return gradlab_jax.gradient_flow(model, jnp.asarray(X), labels, loss=lambda out, y: out.sum()).global_norm

    model, labels = Net(), np.zeros(len(X), np.int32)
    first = norm(model)
    model.factors[0] = 3.0
    assert norm(model) == pytest.approx(3 * first, rel=1e-6)


def test_gradients_of_flaxs_own_making_carry_canonical_names():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    grads = nnx.grad(lambda m: jnp.sum(m(jnp.asarray(X)) ** 2))(model)
    assert set(gradlab_jax.leaf_norms(grads)) == {"weight", "bias"}
    assert float(gradlab_jax.trust_ratios(model, grads)[""]) > 0
    with pytest.raises(GradlabError, match="stands in one tree only"):
        gradlab_jax.update_ratios({"a": jnp.ones(2)}, {"b": jnp.ones(2)})
    with pytest.raises(GradlabError, match="stands in one tree only"):
        gradlab_torch.update_ratios({"a": torch.ones(2)}, {"b": torch.ones(2)})


class Checkpointed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch_net()

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


def test_activation_checkpointing_is_measured_and_left_alone():
    net, labels = Checkpointed().eval(), np.zeros(6, int)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flow = gradlab_torch.gradient_flow(net, torch.from_numpy(X).requires_grad_(), labels, mode="train")
    plain = gradlab_torch.gradient_flow(net.inner, torch.from_numpy(X), labels, mode="train")
    assert list(flow.layers.values()) == pytest.approx(list(plain.layers.values()))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not net.training


def test_measuring_in_inference_mode():
    labels = np.zeros(6, int)
    with torch.inference_mode():
        states = gradlab_torch.check_gradients(torch_net(), torch.from_numpy(X), labels)
    assert set(states.values()) <= {"ok", "tiny", "zero"}
    assert states["3.weight"] == "ok"


def test_several_threads_may_measure_one_model():
    net, found = torch_net(), []
    threads = [
        threading.Thread(
            target=lambda: found.extend(
                gradlab_torch.activation_stats(net, torch.from_numpy(X), mode="train") for _ in range(5)
            )
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 15
    assert all(rows == found[0] for rows in found)


def test_more_than_logits():
    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x), torch.relu(x)

    class Jax(nnx.Module):
        def __init__(self):
            self.fc = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.fc(x), nnx.relu(x)

    for twin, net in ((gradlab_torch, Torch()), (gradlab_jax, Jax())):
        x = twin.to_native(X)
        assert [row.kind for row in twin.activation_stats(net, x, mode="eval")] == ["relu"]
        for call in (
            lambda twin=twin, net=net, x=x: twin.gradient_flow(net, x, np.zeros(6, int)),
            lambda twin=twin, net=net, x=x: twin.input_sensitivity(net, x, x),
            lambda twin=twin, net=net: twin.train(net, Once(X, np.zeros(6, int)), TrainSpec()),
        ):
            with pytest.raises(GradlabError, match="the model returned a tuple"):
                call()
        flow = twin.gradient_flow(
            net, x, np.zeros(6, int), loss=lambda out, y, twin=twin: twin.cross_entropy(out[0], y)
        )
        assert flow.global_norm > 0


def test_bfloat16_models():
    for twin, net in ((gradlab_torch, torch.nn.Linear(3, 2)), (gradlab_jax, nnx.Linear(3, 2, rngs=nnx.Rngs(0)))):
        half = twin.astype(net, "bfloat16")
        arrays = twin.to_canonical(half)
        assert arrays["weight"].dtype == np.float32
        twin.from_canonical(half, arrays)


@pytest.mark.parametrize(
    ("magnitude", "dtype"),
    [(1e30, "float32"), (1e-30, "float32"), (1e200, "float64"), (1e-250, "float64")],
)
def test_activation_statistics_over_the_whole_range(magnitude, dtype):
    x = np.array([[-1.0, 2.0], [3.0, 4.0]], dtype) * np.asarray(magnitude, dtype)
    expected = {"mean": 2.0, "std": np.std([-1, 2, 3, 4]), "rms": np.sqrt(7.5)}
    twin = nnx.Sequential(lambda x: jax.nn.leaky_relu(x, 1.0))
    with jax.enable_x64(dtype == "float64"):
        rows = (
            gradlab_torch.activation_stats(torch.nn.LeakyReLU(1.0), torch.from_numpy(x), mode="eval")[0],
            gradlab_jax.activation_stats(twin, jnp.asarray(x), mode="eval")[0],
        )
    for row in rows:
        for name, value in expected.items():
            assert getattr(row, name) / magnitude == pytest.approx(value, rel=1e-5)


def test_fused_layers_are_counted():
    lstm = torch.nn.LSTM(4, 8, batch_first=True)
    steps, gates = 5, 4 * 8
    assert gradlab_torch.count_flops(lstm, torch.zeros(2, steps, 4)) == 2 * 2 * steps * gates * (4 + 8)


@pytest.mark.parametrize("twin", [gradlab_torch, gradlab_jax], ids=["torch", "jax"])
def test_what_is_no_model_is_refused(twin):
    x = twin.to_native(X)
    for call in (
        lambda: twin.activation_stats("model", x, mode="eval"),
        lambda: twin.gradient_flow("model", x, np.zeros(6, int)),
    ):
        with pytest.raises(GradlabError, match="model is a str"):
            call()
