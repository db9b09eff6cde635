"""An observed loss function gives what it gave, and a look at what happens inside: in any form that users write one."""

from __future__ import annotations

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import lax

import gradlab_jax as gl

X, Y = jax.random.normal(jax.random.key(0), (32, 8)), jnp.arange(32) % 3
PARAMS = {
    "0": {"weight": jax.random.normal(jax.random.key(1), (8, 16)) / 3, "bias": jnp.zeros(16)},
    "2": {"weight": jax.random.normal(jax.random.key(2), (16, 3)) / 4},
}


def ce(z, y):
    return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()


def model(p, x):
    return jax.nn.relu(x @ p["0"]["weight"] + p["0"]["bias"]) @ p["2"]["weight"]


def plain(p, x, y):
    return ce(model(p, x), y)


def seen(loss, *args, **options):
    return jax.jit(lambda *args: gl.observed(loss, **options)(*args)[1])(*args).probe()


def test_it_gives_what_it_gave_and_looks_when_it_is_due():
    tx, watched = gl.monitor(optax.adam(0.01)), gl.observed(plain, every=3)

    @jax.jit
    def step(params, state):
        (loss, look), grads = jax.value_and_grad(watched, has_aux=True)(params, X, Y, step=state.seen)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state, look

    @jax.jit
    def bare(params, state):
        loss, grads = jax.value_and_grad(plain)(params, X, Y)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    params, state, others, other = PARAMS, tx.init(PARAMS), PARAMS, tx.init(PARAMS)
    probes = {}
    for i in range(7):
        params, state, look = step(params, state)
        others, other = bare(others, other)
        probes[i] = gl.read_record(state, look=look).probe
    assert [i for i, probe in probes.items() if probe] == [0, 3, 6]
    jax.tree.map(lambda a, b: None if jnp.allclose(a, b, rtol=1e-6) else pytest.fail("another run"), params, others)
    probe = probes[0]
    assert (probe.classes, probe.batch, probe.answers.reduction) == (3, 32, "mean")
    assert [(row.kind, row.shape) for row in probe.layers] == [("relu", (32, 16))]
    assert probe.shapes == {"0.weight": (16, 8), "0.bias": (16,), "2.weight": (3, 16)}  # (out, in), as in PyTorch
    assert probe.loss == pytest.approx(float(plain(PARAMS, X, Y)))


def test_nothing_is_computed_where_it_is_not_due():
    program = jax.make_jaxpr(gl.observed(plain))(PARAMS, X, Y, step=jnp.array(1))
    branches = [eqn for eqn in program.jaxpr.eqns if eqn.primitive.name == "cond"]
    assert len(branches) == 1
    left, taken = (str(b) for b in branches[0].params["branches"])
    assert ("dot_general" in taken, "dot_general" in left) == (True, False)
    assert sum("dot_general" in str(eqn.primitive) for eqn in program.jaxpr.eqns) == 2  # the loss itself


def test_data_that_is_closed_over():
    probe = seen(lambda p: ce(model(p, X), Y), PARAMS)
    assert (probe.output.shape, probe.classes, probe.input.shape, probe.batch) == ((32, 3), 3, (32, 8), 32)


def test_a_penalty_on_the_parameters_is_no_answer():
    probe = seen(lambda p, x, y: plain(p, x, y) + 1e-3 * sum(jnp.sum(w**2) for w in jax.tree.leaves(p)), PARAMS, X, Y)
    assert (probe.output.shape, probe.classes, probe.answers.reduction) == ((32, 3), 3, "mean")


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(f))])
def test_programs_inside_programs(wrap):
    inner = wrap(model)
    for loss in (lambda p, x, y: ce(inner(p, x), y), wrap(plain)):
        probe = seen(loss, PARAMS, X, Y)
        assert (probe.output.shape, probe.classes, len(probe.layers)) == ((32, 3), 3, 1)


def test_a_loss_with_a_rule_of_its_own_keeps_it():
    @jax.custom_vjp
    def odd(z, y):
        return ce(z, y)

    odd.defvjp(lambda z, y: (ce(z, y), (z, y)), lambda kept, g: (jnp.full_like(kept[0], 7.0), None))
    assert seen(lambda p, x, y: odd(model(p, x), y), PARAMS, X, Y).answers is None


def test_has_aux_and_arguments_by_name():
    def loss(p, x, *, labels, scale=1.0):
        z = model(p, x)
        return ce(z, labels) * scale, {"logits": z}

    value, (aux, look) = jax.jit(gl.observed(loss, has_aux=True))(PARAMS, X, labels=Y)
    assert aux["logits"].shape == (32, 3)
    assert value == pytest.approx(look.probe().loss)


def test_probabilities_where_logits_belong():
    one_hot = jax.nn.one_hot(Y, 3)

    def told(loss):
        answers = seen(lambda p: loss(model(p, X)), PARAMS).answers
        return answers and (answers.loss, answers.are_probabilities)

    assert told(lambda z: ce(jax.nn.softmax(z), Y)) == ("cross-entropy", True)
    assert told(lambda z: -(one_hot * jnp.log(jax.nn.softmax(z))).sum(1).mean()) == ("cross-entropy", False)
    binary = optax.sigmoid_binary_cross_entropy
    assert told(lambda z: binary(jax.nn.sigmoid(z), one_hot).mean()) == ("binary-cross-entropy", True)
    assert told(lambda z: binary(z, one_hot).mean()) == ("binary-cross-entropy", False)
    assert told(lambda z: jnp.mean((jax.nn.sigmoid(z) - one_hot) ** 2)) is None


def test_scan_and_vmap():
    tx, watched = gl.monitor(optax.sgd(0.1)), gl.observed(plain, every=2)

    def turn(carry, _):
        params, state = carry
        (loss, look), grads = jax.value_and_grad(watched, has_aux=True)(params, X, Y, step=state.seen)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), look

    _, looks = jax.jit(lambda p: lax.scan(turn, (p, tx.init(p)), None, length=5))(PARAMS)
    assert looks.taken.tolist() == [True, False, True, False, True]
    assert jax.tree.map(lambda leaf: leaf[2], looks).probe().classes == 3
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), PARAMS)
    looks = jax.jit(jax.vmap(lambda p: gl.observed(plain)(p, X, Y)[1]))(several)
    stds = [jax.tree.map(lambda leaf, i=i: leaf[i], looks).probe().output.std for i in range(2)]
    assert stds[1] > 2 * stds[0]


def test_a_recurrent_net():
    params = {"in": jnp.eye(8, 6), "rec": jnp.eye(6) / 2, "out": jnp.eye(6, 3)}

    def loss(p, x, y):
        turn = lambda h, x: (jnp.tanh(x @ p["in"] + h @ p["rec"]), None)  # noqa: E731
        h, _ = lax.scan(turn, jnp.zeros((32, 6)), jnp.stack([x] * 40))
        return ce(h @ p["out"], y)

    probe = jax.jit(lambda p: gl.observed(loss)(p, X, Y)[1])(params).probe()
    assert [row.kind for row in probe.layers] == ["tanh"] * 16
    assert probe.classes == 3


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.bn = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.drop, self.head = nnx.Dropout(0.3, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        h = self.drop(nnx.relu(self.bn(self.conv(x))).mean((1, 2)))
        return self.head(h)


def test_nnx_with_statistics_and_dropout():
    """The look is at what the step computes: with its dropout, and neither draws nor updates anything itself."""
    images = jax.random.normal(jax.random.key(3), (32, 6, 6, 3))
    losses, means = [], []
    for wrap in (gl.observed, lambda f: lambda m, x, y, step: (f(m, x, y), None)):
        net = Net(nnx.Rngs(0))
        optimizer = nnx.Optimizer(net, gl.monitor(optax.sgd(0.1)), wrt=nnx.Param)
        watched = wrap(lambda m, x, y: ce(m(x), y))

        @nnx.jit
        def step(net, optimizer, watched=watched):
            at = optimizer.step[...]
            (loss, look), grads = nnx.value_and_grad(watched, has_aux=True)(net, images, Y, step=at)
            optimizer.update(net, grads, value=loss)
            return loss, look

        runs = [step(net, optimizer) for _ in range(3)]
        losses.append([float(loss) for loss, _ in runs])
        means.append(net.bn.mean.get_value())
        if runs[0][1] is not None:
            probe = gl.read_record(optimizer, look=runs[0][1]).probe
            assert probe is None  # the record is of step 2
            probe = runs[0][1].probe()
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert jnp.allclose(*means)
    assert probe.loss == pytest.approx(losses[0][0], rel=1e-6)
    assert [(row.path, row.kind) for row in probe.layers] == [("conv", "conv"), ("bn", "norm"), ("", "relu")]
    assert list(probe.copies) == ["conv.weight", "head.weight"]
    assert (probe.input.shape, probe.batch) == (images.shape, 32)
    assert probe.shapes["conv.weight"] == (4, 3, 3, 3)


def test_linen_and_equinox():
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.gelu(nn.LayerNorm()(nn.Dense(16)(x))))

    linen = Linen()
    tx = gl.monitor(optax.adam(0.01))
    state = TrainState.create(apply_fn=linen.apply, params=linen.init(jax.random.key(0), X)["params"], tx=tx)
    watched = gl.observed(lambda p, x, y: ce(state.apply_fn({"params": p}, x), y))
    (_, look), grads = jax.jit(jax.value_and_grad(watched, has_aux=True))(state.params, X, Y, step=state.step)
    record = gl.read_record(state.apply_gradients(grads=grads), look=look)
    assert list(record.probe.shapes) == list(record.tensors)
    assert record.probe.shapes["Dense_1.weight"] in ((16, 8), (3, 16))
    assert [(row.path, row.kind) for row in record.probe.layers] == [("LayerNorm_0", "norm"), ("", "gelu_tanh")]
    mlp = eqx.nn.MLP(8, 3, 16, 1, key=jax.random.key(0))
    probe = eqx.filter_jit(lambda m: gl.observed(lambda m, x, y: ce(jax.vmap(m)(x), y))(m, X, Y)[1])(mlp).probe()
    assert (probe.classes, [row.kind for row in probe.layers]) == (3, ["relu"])
    assert probe.shapes["layers.0.weight"] == (16, 8)


def test_bad_input_is_refused_in_words():
    with pytest.raises(gl.GradlabError, match="every is 0"):
        gl.observed(plain, every=0)
    with pytest.raises(gl.GradlabError, match="has an argument step"):
        gl.observed(lambda p, step: p)
    with pytest.raises(gl.GradlabError, match="holds no floating array"):
        gl.observed(lambda n: n * 1.0)(jnp.arange(3))
    with pytest.raises(gl.GradlabError, match=r"returned 1 arrays, the first of shape \(32, 3\)"):
        gl.observed(lambda p, x: model(p, x))(PARAMS, X)
    tx = gl.monitor(optax.sgd(0.1))
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    with pytest.raises(gl.GradlabError, match="the look is a float"):
        gl.read_record(state, look=1.0)
