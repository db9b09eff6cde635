"""The judge is judged: each planted fault is found, and found where it is; healthy pairs raise no alarm."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.parity import compare
from gradlab_core.programs.specs import ModelSpec, TrainSpec
from gradlab_jax.programs.models.blocks import PreActNoSkip
from gradlab_jax.programs.models.layers import BatchNorm
from gradlab_jax.programs.training import sgd
from parity_tests.conftest import SPECS, batch_for, pair

TRAINING = TrainSpec(learning_rate=0.05, momentum=0.9, weight_decay=5e-2)
# No deeper than the faults in them: what a net costs here is that JAX compiles it, anew with each fault.
PLAIN, PREACT = (ModelSpec(block=block, base=3, layers=(1,)) for block in ("plain", "preact"))
TWO_STAGES = dataclasses.replace(PREACT, layers=(1, 1))


def judged(spec, *, plant=lambda model: None, optimizer=TRAINING, load=None, steps=3):
    torch_model, jax_model = pair(spec)
    plant(jax_model)
    candidate = gradlab_jax.Subject(jax_model, optimizer=optimizer)
    if load is not None:
        candidate = Misloaded(candidate, load)
    return compare(gradlab_torch.Subject(torch_model, optimizer=TRAINING), candidate, batch_for(spec), steps=steps)


def first_divergence(spec, **options):
    return judged(spec, **options).first_divergence


def first_and_causes(spec, **options):
    """Where it diverges first, and of each fault the codes of what explains it."""
    report = judged(spec, **options)
    return report.first_divergence, [
        [c.code for c in f.explanations[0].causes] for f in report.faults if f.explanations
    ]


class Misloaded:
    """A port whose weight loader is wrong: it reads back what it was given, and computes with something else."""

    framework = "jax"

    def __init__(self, subject, change):
        self.subject, self.change = subject, change

    def cast(self, dtype):
        return Misloaded(self.subject.cast(dtype), self.change)

    def at(self, precision):
        return Misloaded(self.subject.at(precision), self.change)

    def arithmetic(self):
        return self.subject.arithmetic()

    def perturbed(self, arithmetic, seed):
        return self.subject.perturbed(arithmetic, seed)

    def local_step(self, x, y, epoch, given):
        return self.subject.local_step(x, y, epoch, given)

    def state(self):
        return self.subject.state()

    def load(self, arrays):
        self.subject.load(self.change(dict(arrays)))

    def step(self, x, y, epoch):
        return self.subject.step(x, y, epoch)


def modules(model, kind):
    return [module for _, module in nnx.iter_modules(model) if isinstance(module, kind)]


class BiasedVariance(BatchNorm):
    def _observe(self, x, count):
        old = self.var.get_value()
        mean, var = super()._observe(x, count)
        self.var.set_value((1 - self.momentum) * old + self.momentum * var)
        return mean, var


class Frozen(BatchNorm):
    """Normalises by its running statistics in training too."""

    def __call__(self, x):
        self.eval()
        return super().__call__(x)


class FlaxFlatten(type(gradlab_jax.build(SPECS["residual_toy"], seed=0))):
    """Flattens in Flax's own order, channels last, which leaves every norm and mean as it is."""

    def __call__(self, x):
        x = nnx.relu(self.stem(x))
        x = nnx.relu(self.conv(x) + x)
        x = x.reshape(len(x), -1)
        return self.head(nnx.relu(self.fc2(jnp.tanh(self.fc1(x)))))


def test_transposed_square_kernel():
    def transpose(arrays):
        return {**arrays, "fc2.weight": arrays["fc2.weight"].T}

    found, causes = first_and_causes(SPECS["residual_toy"], load=transpose)
    assert (found.step, found.quantity, found.path) == (0, "activation", "fc2")
    assert causes == [["square-kernel"]]


def test_transposed_square_convolution():
    def transpose(arrays):
        return {**arrays, "stage1.0.conv1.weight": arrays["stage1.0.conv1.weight"].swapaxes(0, 1)}

    found, causes = first_and_causes(PREACT, load=transpose)
    assert (found.step, found.quantity, found.path) == (0, "activation", "stage1.0.conv1")
    assert causes == [["square-kernel"]]


def test_biased_running_variance():
    def plant(model):
        for module in modules(model, BatchNorm):
            module.__class__ = BiasedVariance

    found, causes = first_and_causes(PLAIN, plant=plant)
    assert (found.step, found.quantity, found.path) == (0, "statistic", "bn1.running_var")
    assert causes == [["bn-running-var"]]


def test_wrong_batchnorm_momentum():
    def plant(model):
        for module in modules(model, BatchNorm):
            module.momentum = 0.01

    found, causes = first_and_causes(PLAIN, plant=plant)
    assert (found.step, found.quantity, found.path) == (0, "statistic", "bn1.running_mean")
    assert causes == [["bn-momentum"]]


def test_wrong_optimizer_momentum():
    found, causes = first_and_causes(
        SPECS["residual_toy"], optimizer=TrainSpec(learning_rate=0.05, momentum=0.8, weight_decay=5e-2)
    )
    assert (found.step, found.quantity) == (1, "optimizer")
    assert causes == [["momentum"]]


def test_swapped_flatten():
    def plant(model):
        model.__class__ = FlaxFlatten

    found, causes = first_and_causes(SPECS["residual_toy"], plant=plant)
    assert (found.step, found.quantity, found.path) == (0, "activation", "fc1")
    assert causes == [["flatten-order"]]


def test_two_faults_in_one_run_are_both_found():
    """One in a layer does not hide one in the optimizer, nor one of the statistics another one of theirs."""

    def transpose(arrays):
        return {**arrays, "fc2.weight": arrays["fc2.weight"].T}

    slow = TrainSpec(learning_rate=0.05, momentum=0.8, weight_decay=5e-2)
    _, causes = first_and_causes(SPECS["residual_toy"], load=transpose, optimizer=slow)
    assert causes == [["square-kernel"], ["momentum"]]

    def plant(model):
        for module in modules(model, BatchNorm):
            module.__class__, module.momentum = BiasedVariance, 0.01

    _, causes = first_and_causes(PLAIN, plant=plant)
    assert causes == [["bn-momentum"], ["bn-momentum", "bn-running-var"]]


def test_running_statistics_in_training():
    def plant(model):
        for module in modules(model, BatchNorm):
            module.__class__ = Frozen

    found, causes = first_and_causes(PLAIN, plant=plant)
    assert (found.step, found.quantity, found.path) == (0, "activation", "bn1")
    assert causes[0] == ["batchnorm-mode"]


def test_missing_skip():
    def plant(model):
        for module in (model.stage1, model.stage2):
            module.layers[0].__class__ = PreActNoSkip

    found, causes = first_and_causes(TWO_STAGES, plant=plant)
    assert (found.step, found.quantity, found.path) == (0, "activation", "stage2.0.bn1")
    assert causes == [["another-input"], ["another-input"]]


def test_reversed_weight_decay_order():
    reversed_order = optax.chain(
        optax.trace(decay=0.9), optax.scale(-0.05), optax.add_decayed_weights(TRAINING.weight_decay)
    )
    found = first_divergence(SPECS["residual_toy"], optimizer=reversed_order)
    assert (found.step, found.quantity) == (0, "parameter")
    # The same chain in the right order differs in nothing.
    right = optax.chain(sgd(0.9, TRAINING.weight_decay), optax.scale(-0.05))
    assert first_divergence(SPECS["residual_toy"], optimizer=right) is None


@pytest.mark.parametrize("epsilon", [1e-6, 1e-4])
def test_other_epsilon(epsilon):
    def plant(model):
        for module in modules(model, BatchNorm):
            module.epsilon = epsilon

    found, causes = first_and_causes(PLAIN, plant=plant)
    assert (found.step, found.quantity, found.path) == (0, "activation", "bn1")
    assert "another definition" in found.problem
    assert causes == [["norm-eps"]]


def test_lost_digits_are_a_fault_of_rounding_not_of_definition():
    """The same program in a coarser precision: equal in float64, but worse in float32 than rounding explains."""

    class Coarse(type(gradlab_jax.build(SPECS["residual_toy"], seed=0))):
        def __call__(self, x):
            if x.dtype == jnp.float32:
                x = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
            return super().__call__(x)

    def plant(model):
        model.__class__ = Coarse

    found = first_divergence(SPECS["residual_toy"], plant=plant)
    assert (found.step, found.quantity, found.path) == (0, "activation", "stem")
    assert "candidate rounds worse" in found.problem


@pytest.mark.parametrize("seed", range(6))
def test_healthy_pairs_drawn_at_random_raise_no_alarm(seed):
    rng = np.random.default_rng(100 + seed)
    spec = ModelSpec(
        kind="residual_toy", base=int(rng.integers(2, 9)), image_size=int(rng.integers(4, 10)), skip=bool(seed % 2)
    )
    training = TrainSpec(
        learning_rate=float(10 ** rng.uniform(-3, -1)), momentum=float(rng.uniform(0, 0.95)), weight_decay=1e-3
    )
    torch_model, jax_model = pair(spec)
    report = compare(
        gradlab_torch.Subject(torch_model, optimizer=training),
        gradlab_jax.Subject(jax_model, optimizer=training),
        batch_for(spec, examples=int(rng.integers(2, 12)), seed=seed),
        steps=4,
    )
    assert not report.failures, str(report)


class TestHidingPlaces:
    """Inputs under which different programs agree are refused."""

    def judge(self, x=None, weights=None):
        spec = SPECS["residual_toy"]
        torch_model, jax_model = pair(spec)
        if weights is not None:
            gradlab_torch.from_canonical(torch_model, weights(gradlab_torch.to_canonical(torch_model)))
        batch = batch_for(spec)
        batch = (batch[0] if x is None else x(batch[0]), batch[1])
        return compare(gradlab_torch.Subject(torch_model), gradlab_jax.Subject(jax_model), batch, steps=1)

    def test_all_ones(self):
        with pytest.raises(GradlabError, match="ties"):
            self.judge(x=np.ones_like)

    def test_nan(self):
        with pytest.raises(GradlabError, match="NaN or Inf"):
            self.judge(x=lambda x: np.where(x > 2, np.nan, x))

    def test_one_example(self):
        with pytest.raises(GradlabError, match="one example"):
            self.judge(x=lambda x: x[:1])

    def test_symmetric_square_weight(self):
        def symmetric(arrays):
            return {**arrays, "fc2.weight": arrays["fc2.weight"] + arrays["fc2.weight"].T}

        with pytest.raises(GradlabError, match="symmetric"):
            self.judge(weights=symmetric)
