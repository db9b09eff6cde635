"""A training step that is watched, against the bare step and the ways people watch it today.

Example: `gradlab bench monitor --net wide --optimizer adam --rounds 11`
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gradlab_core.errors import GradlabError

from .environment import environment, frameworks, torch_done
from .harness import Call, Case, Row, measure
from .monitored import ALL_NETS, NETS, Sizes, jax_net, torch_net
from .options import Base, Batch, Cache, Framework, Only, Rounds, answering
from .table import tables

OPTIMIZERS = ("sgd", "adam", "adamw")
_NEVER = 1 << 30


def run(
    *,
    framework: Framework = None,
    net: Annotated[
        list[str] | None,
        typer.Option(
            help="tinynet, wide (many parameters), deep (many tensors): these by default; gpt2 (for an accelerator)."
        ),
    ] = None,
    optimizer: Annotated[str, typer.Option(help="sgd, adam or adamw.")] = "sgd",
    base: Base = Sizes.base,
    batch: Batch = Sizes.batch,
    width: Annotated[int, typer.Option(help="Units of the wide net.")] = Sizes.width,
    depth: Annotated[int, typer.Option("--layers", help="Layers of the deep net.")] = Sizes.depth,
    steps: int = 1,
    rounds: Rounds = 7,
    only: Only = None,
    compilation_cache: Cache = None,
    on_call: Callable[[str], Any] = lambda name: None,
    **sizes: Any,
) -> list[Row]:
    """One training step on a batch that is already on the device. Every monitored case holds gradient, parameter and
    applied-update norm of every tensor, brought to the host; what the peers hold stands in their names.

    Args:
        steps: steps between two waits for the device. With more than one the host may run ahead of an accelerator, as
            it does in a training loop.
        sizes: those of `Sizes` that are no options.

    Raises:
        GradlabError: an unknown net or optimizer, a size out of range, or a framework that is missing.
    """
    nets = net or NETS
    odd = [n for n in nets if n not in ALL_NETS] + [o for o in [optimizer] if o not in OPTIMIZERS]
    if odd:
        known = f"nets {', '.join(ALL_NETS)} and optimizer {' or '.join(OPTIMIZERS)}"
        raise GradlabError(f"{', '.join(odd)}: expected {known}")
    if steps < 1:
        raise GradlabError(f"steps is {steps}; expected a whole number of at least 1")
    made = Sizes(base=base, batch=batch, width=width, depth=depth, **sizes)
    names = frameworks(framework)
    described = environment(names, compilation_cache)
    rows = []
    for one in nets:
        cases = [case for name in names for case in CASES[name](made, one, optimizer, steps)]
        setting = f"{made.setting(one)}, {optimizer}"
        rows += measure("monitor", setting, cases, rounds=rounds, environment=described, only=only, on_call=on_call)
    return rows


def _torch_cases(sizes: Sizes, net: str, rule: str, steps: int) -> list[Case]:
    import torch

    import gradlab_torch

    done = torch_done()
    watched = _Watched()
    rules: dict[str, Callable[..., Any]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": functools.partial(torch.optim.AdamW, fused=torch.cuda.is_available()),
    }

    def step(watch: Callable[[Any, Any], Callable[[Any], Any] | None]) -> Call:
        model, loss = torch_net(sizes, net)
        optimizer = rules[rule](model.parameters(), lr=1e-4)
        after = watch(model, optimizer) or (lambda value: None)

        def call() -> Any:
            for _ in range(steps):
                optimizer.zero_grad()
                value = loss()
                value.backward()
                after(value)
                optimizer.step()
            return done(value)

        return call

    def monitored(model: Any, optimizer: Any, every: int = 1, look_every: int | None = None) -> Callable[[Any], Any]:
        return gradlab_torch.Monitor(model, optimizer, every=every, look_every=look_every).observe

    def item_loop(model: Any, optimizer: Any) -> Callable[[Any], Any]:
        return lambda value: [(p.grad.norm().item(), p.norm().item()) for p in model.parameters()]

    def lightning(model: Any, optimizer: Any) -> Callable[[Any], Any]:
        from pytorch_lightning.utilities import grad_norm

        return lambda value: grad_norm(model, norm_type=2)

    ways: dict[str, Callable[[Any, Any], Callable[[Any], Any] | None]] = {
        "torch, bare": lambda model, optimizer: None,
        "gradlab_torch.Monitor": monitored,
        "gradlab_torch.Monitor, a step it looks at": functools.partial(monitored, look_every=1),
        "gradlab_torch.Monitor, a step it skips": lambda model, optimizer: monitored(model, optimizer, _NEVER),
        "torch, .item() loop: gradients, parameters": item_loop,
        "Lightning grad_norm: gradients": lightning,
        "wandb.watch: gradient histograms": lambda model, optimizer: watched.watch(model),
    }
    return [
        Case(name=name, framework="torch", prepare=functools.partial(step, way), baseline="torch, bare", steps=steps)
        for name, way in ways.items()
    ]


class _Watched:
    """Weights & Biases without a network; the run goes into a folder that is gone afterwards."""

    def watch(self, model: Any) -> Callable[[Any], Any]:
        import wandb

        self.folder = tempfile.TemporaryDirectory()
        run = wandb.init(mode="offline", dir=self.folder.name, settings=wandb.Settings(console="off", silent=True))
        run.watch(model, log="gradients", log_freq=1)
        return lambda value: run.log({"loss": value.item()})


class _OneLater:
    """Looks at each record at the step after it, as `gradlab_torch.Monitor` hands it on; on the CPU it is all one."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read, self.record = read, None

    def __call__(self, state: Any, **look: Any) -> None:
        before, self.record = self.record, self.read(state, **look)
        if before is not None:
            before.grad_norm  # noqa: B018 (to look is what waits)


def _jax_cases(sizes: Sizes, net: str, rule: str, steps: int) -> list[Case]:
    import jax
    import jax.numpy as jnp
    import optax

    import gradlab_jax

    inner = {"sgd": optax.sgd, "adam": optax.adam, "adamw": optax.adamw}[rule](1e-4)

    def step(
        tx: Any, *, read: Callable[..., Any] | None = None, rewind: bool = False, looks: bool = False, **options: Any
    ) -> Call:
        start, bare_loss = jax_net(sizes, net)
        tx = optax.with_extra_args_support(tx)
        watched = gradlab_jax.observed(bare_loss, every=1)
        loss = watched if looks else lambda params, step: (bare_loss(params), None)

        def train_step(params: Any, state: Any) -> tuple[Any, Any, jax.Array, Any]:
            now = state.seen if looks else 0
            (value, look), grads = jax.value_and_grad(loss, has_aux=True)(params, step=now)
            updates, state = tx.update(grads, state, params, value=value, **options)
            return optax.apply_updates(params, updates), state, value, look

        jitted = jax.jit(train_step, donate_argnums=(0, 1))
        params = jax.tree.map(jnp.copy, start)
        held = [params, tx.init(params)]

        def call() -> Any:
            for _ in range(steps):
                if rewind:
                    held[1] = held[1]._replace(seen=jnp.zeros_like(held[1].seen))
                held[0], held[1], value, look = jitted(*held)
                if read is not None:
                    read(held[1], look=look)
            return jax.block_until_ready((held[0], value))

        return call

    def naive(params: Any, grads: Any, updates: Any) -> Any:
        """Plain norms, as one would write them."""
        new = optax.apply_updates(params, updates)
        trees = params, grads, jax.tree.map(jnp.subtract, new, params)
        return [[jnp.sqrt(jnp.sum(x * x)) for x in jax.tree.leaves(tree)] for tree in trees]

    def by_hand() -> Any:
        """The plain norms carried in the state of a transformation."""

        def update(grads: Any, state: Any, params: Any = None) -> Any:
            updates, inner_state = inner.update(grads, state[0], params)
            return updates, (inner_state, naive(params, grads, updates))

        def init(params: Any) -> Any:
            return inner.init(params), jax.tree.map(jnp.zeros_like, naive(params, params, params))

        return optax.GradientTransformation(init, update)

    per_tensor = {"norms": lambda updates: [jnp.linalg.norm(x) for x in jax.tree.leaves(updates)]}
    ways: dict[str, Callable[[], Call]] = {
        "jax, bare": lambda: step(inner),
        "gradlab_jax.monitor": lambda: step(gradlab_jax.monitor(inner), read=_OneLater(gradlab_jax.read_record)),
        "gradlab_jax.monitor and observed, a step they look at": lambda: step(
            gradlab_jax.monitor(inner), read=_OneLater(gradlab_jax.read_record), looks=True
        ),
        "gradlab_jax.monitor, without read": lambda: step(gradlab_jax.monitor(inner)),
        "gradlab_jax.monitor, record=False": lambda: step(gradlab_jax.monitor(inner), record=False),
        "gradlab_jax.monitor(every=N), a step it records": lambda: step(
            gradlab_jax.monitor(inner, every=_NEVER), rewind=True
        ),
        "gradlab_jax.monitor(every=N), a step it skips": lambda: step(gradlab_jax.monitor(inner, every=_NEVER)),
        "jax, plain norms by hand": lambda: step(by_hand()),
        "optax.monitor: gradients": lambda: step(optax.chain(optax.monitor(per_tensor), inner)),
    }
    return [
        Case(name=name, framework="jax", prepare=way, baseline="jax, bare", compiles=True, steps=steps)
        for name, way in ways.items()
    ]


CASES = {"torch": _torch_cases, "jax": _jax_cases}

command = answering(run, "benchmark", tables)

if __name__ == "__main__":
    from .script import main

    main("monitor")
