"""Subjects of any inputs and outputs: tokens, masks, several arrays by name or by place, a part of what is returned."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen, nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.parity import assert_parity, compare, moved
from gradlab_core.programs.specs import TrainSpec

rng = np.random.default_rng(0)
WORDS, WIDTH, TIME, EXAMPLES = 11, 6, 5, 4
LENGTHS = np.array([5, 3, 4, 2])
TOKENS = rng.integers(0, WORDS, (EXAMPLES, TIME)).astype(np.int32)
HERE = np.arange(TIME) < LENGTHS[:, None]
# (N, 1, T, T), of four axes and no image: below the diagonal, and not at what is padding.
MASK = np.where(np.tril(np.ones((TIME, TIME), bool)) & HERE[:, None, None, :], 0.0, -1e4).astype(np.float32)
SHIFT = rng.standard_normal((EXAMPLES, WIDTH)).astype(np.float32)
BATCH = {"tokens": TOKENS, "mask": MASK, "shift": SHIFT}
TARGET = {"labels": rng.integers(0, WORDS, (EXAMPLES, TIME)), "weights": HERE.astype(np.float32)}
LAYERS = ("q", "k", "v", "out")


class Torch(torch.nn.Module):
    """One head of attention over embedded tokens; gives a dict of logits and of what nobody asked for."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(WORDS, WIDTH)
        for name in LAYERS:
            setattr(self, name, torch.nn.Linear(WIDTH, WORDS if name == "out" else WIDTH))

    def forward(self, tokens, mask, shift=None):
        h = self.embed(tokens)
        h = h if shift is None else h + shift[:, None]
        scores = (self.q(h) @ self.k(h).mT / WIDTH**0.5)[:, None] + mask
        h = h + torch.softmax(scores[:, 0], -1) @ self.v(h)
        return {"logits": self.out(h), "hidden": h}


@dataclasses.dataclass
class Output:
    logits: jax.Array
    hidden: jax.Array


jax.tree_util.register_dataclass(Output, ["logits", "hidden"], [])


class Jax(nnx.Module):
    """The same, with a fault on request; gives a dataclass."""

    def __init__(self, fault=None):
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(WORDS, WIDTH, rngs=rngs)
        for name in LAYERS:
            setattr(self, name, nnx.Linear(WIDTH, WORDS if name == "out" else WIDTH, rngs=rngs))
        self.fault = fault

    def __call__(self, tokens, mask, shift=None):
        h = self.embed(tokens)
        if shift is not None and self.fault != "an input is left out":
            h = h + shift[:, None]
        mask = jnp.swapaxes(mask, 2, 3) if self.fault == "a mask is transposed" else mask
        keys = self.q if self.fault == "keys are queries" else self.k
        scores = (self.q(h) @ jnp.swapaxes(keys(h), 1, 2) / WIDTH**0.5)[:, None] + mask
        h = h + jax.nn.softmax(scores[:, 0], -1) @ self.v(h)
        return Output(self.out(h), h)


class Linen(linen.Module):
    """The same in Linen, which knows no weights of its own."""

    fault: str | None = None

    @linen.compact
    def __call__(self, tokens, mask, shift=None):
        h = linen.Embed(WORDS, WIDTH, name="embed")(tokens)
        h = h if shift is None else h + shift[:, None]
        q, k, v = (linen.Dense(WIDTH, name=name)(h) for name in LAYERS[:3])
        scores = (q @ jnp.swapaxes(k, 1, 2) / (WIDTH if self.fault else WIDTH**0.5))[:, None] + mask
        h = h + jax.nn.softmax(scores[:, 0], -1) @ v
        return linen.Dense(WORDS, name="out")(h), h


def torch_loss(logits, target):
    each = torch.nn.functional.cross_entropy(logits.mT, target["labels"], reduction="none")
    return (each * target["weights"]).sum() / target["weights"].sum()


def jax_loss(logits, target, weighed=True):
    each = optax.softmax_cross_entropy_with_integer_labels(logits, target["labels"])
    weights = target["weights"].astype(each.dtype)
    return (each * weights).sum() / weights.sum() if weighed else each.mean()


def subjects(fault=None, loss=jax_loss, pick="logits", **options):
    torch.manual_seed(0)
    original, port = Torch(), Jax(fault)
    weights = moved(gradlab_torch.to_canonical(original), seed=1)
    gradlab_torch.from_canonical(original, weights)
    gradlab_jax.from_canonical(port, weights)
    options = {"layout": {"mask": "none"}, **options}
    return (
        gradlab_torch.Subject(original, loss=torch_loss, pick="logits"),
        gradlab_jax.Subject(port, loss=loss, pick=pick, **options),
    )


@pytest.mark.parametrize("shape", ["by name", "by place", "without the last"])
def test_a_healthy_port_holds(shape):
    x = {"by name": BATCH, "by place": tuple(BATCH.values()), "without the last": (TOKENS, MASK, None)}[shape]
    layout = {"mask" if shape == "by name" else "1": "none"}
    report = assert_parity(*subjects(layout=layout), (x, TARGET), steps=3)
    assert {row.path for row in report.rows if row.quantity == "activation"} == {"embed", *LAYERS}
    assert report.worst("logic_error") < 1e-9


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        ("an input is left out", "activation q"),
        ("a mask is transposed", "activation out"),
        ("keys are queries", "activation k"),
    ],
)
def test_a_fault_in_how_inputs_are_used_is_found(fault, first):
    report = compare(*subjects(fault), (BATCH, TARGET), steps=1)
    assert first in {row.name.removeprefix("step 0, ") for row in report.failures}
    assert report.first_divergence.quantity == "activation"


def test_a_loss_that_forgets_the_padding_is_found_at_the_loss():
    report = compare(*subjects(loss=lambda out, target: jax_loss(out, target, weighed=False)), (BATCH, TARGET), steps=1)
    assert report.first_divergence.quantity == "loss"


def test_another_part_of_the_output_is_another_answer():
    report = compare(*subjects(pick=lambda out: out.logits[:, ::-1]), (BATCH, TARGET), steps=1)
    assert report.first_divergence.quantity == "logits"


def test_a_mask_taken_for_an_image_is_found():
    """Without `layout` an array of four axes is an image, and comes with its channels last."""
    assert compare(*subjects(layout="NHWC"), (BATCH, TARGET), steps=1).first_divergence.name == "step 0, activation out"


@pytest.mark.parametrize("fault", [None, "scores are divided by the width"])
def test_a_bound_linen_module_is_a_subject(fault):
    original, _ = subjects()
    module = Linen(fault)
    variables = module.init(jax.random.key(0), *map(jnp.asarray, BATCH.values()))
    port = gradlab_jax.Subject(
        module.bind(variables), loss=jax_loss, pick=0, layout={"mask": "none"}, optimizer=TrainSpec(momentum=0.9)
    )
    before = [np.array(leaf) for leaf in jax.tree.leaves(variables)]
    reference = gradlab_torch.Subject(original.model, loss=torch_loss, pick="logits", optimizer=TrainSpec(momentum=0.9))
    report = compare(reference, port, (BATCH, TARGET), steps=3)
    if fault is None:
        assert not report.failures
        assert {row.path for row in report.rows if row.quantity == "activation"} == {"embed", *LAYERS}
    else:
        assert report.first_divergence.name == "step 0, activation out"
    # Like the original, the module's variables are as they were.
    assert all((a == b).all() for a, b in zip(before, jax.tree.leaves(variables), strict=True))


def spoiled(name, value):
    array = BATCH[name].copy()
    array.flat[0] = value
    return {**BATCH, name: array}


BAD = {
    "a NaN, by name": (lambda: compare(*subjects(), (spoiled("shift", np.nan), TARGET)), "NaN or Inf in shift"),
    "one example": (
        lambda: compare(*subjects(), ({n: a[:1] for n, a in BATCH.items()}, TARGET)),
        "holds one example",
    ),
    "nothing but ties": (
        lambda: compare(*subjects(), ({**BATCH, "tokens": TOKENS * 0, "shift": SHIFT * 0}, TARGET)),
        "are ties",
    ),
    "a layout": (lambda: gradlab_torch.Subject(Torch(), layout="HWC"), "expected one of NCHW"),
    "a layout, by name": (lambda: gradlab_jax.Subject(Jax(), layout={"mask": 3}), "of 'mask' it is 3; expected one"),
    "a pick": (lambda: gradlab_jax.Subject(Jax(), pick=1.5), "pick is 1.5"),
    "a key that is not there": (
        lambda: gradlab_torch.Subject(Torch(), pick="logit").step(BATCH, TARGET, 0),
        "pick is 'logit', and the model returned a dict of logits, hidden",
    ),
    "an attribute that is not there": (
        lambda: gradlab_jax.Subject(Jax(), pick="logit", layout="none").step(BATCH, TARGET, 0),
        "pick is 'logit', and the model returned a Output",
    ),
    "an unbound module": (lambda: gradlab_jax.Subject(Linen()), "bind the Linen module"),
    "no pick": (lambda: gradlab_torch.Subject(Torch()).step(BATCH, TARGET, 0), "the model returned a dict"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_told(case):
    run, message = BAD[case]
    with pytest.raises(GradlabError, match=message):
        run()
