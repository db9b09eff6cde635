"""Frozen weights beside trained adapters are meant; one layer frozen in the middle of a net is not."""

from __future__ import annotations

import jax
import optax
import pytest
import torch
from torch import nn

from gradlab_core.records import GradientState, Severity
from parity_tests.loops import CLASSES, FEATURES, alarms, first, in_jax, in_torch, normal, said

NOTED = [("not-updating", Severity.NOTE)]


class Lora(nn.Module):
    """A frozen layer with a trained product of low rank beside it, as `peft` names them."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class Bottleneck(nn.Module):
    """An adapter of Houlsby et al.: down, ReLU, up, and a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, 4), nn.Linear(4, width)

    def forward(self, x):
        return x + self.up(torch.relu(self.down(x)))


class Prefixed(nn.Module):
    """A learned prefix before a frozen net, which sees both."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = nn.Parameter(torch.randn(8))
        self.net = nn.Sequential(nn.Linear(FEATURES + 8, 64), nn.ReLU(), nn.Linear(64, CLASSES)).requires_grad_(False)

    def forward(self, x):
        return self.net(torch.cat([x, self.prefix.expand(len(x), -1)], dim=1))


def widths():
    return nn.Linear(FEATURES, 64), nn.Linear(64, 64), nn.Linear(64, CLASSES)


def lora():
    a, b, c = widths()
    return nn.Sequential(Lora(a), nn.ReLU(), Lora(b), nn.ReLU(), Lora(c))


def adapters():
    a, b, c = (layer.requires_grad_(False) for layer in widths())
    return nn.Sequential(a, nn.ReLU(), Bottleneck(64), b, nn.ReLU(), Bottleneck(64), c)


def biases():
    model = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    for name, p in model.named_parameters():
        p.requires_grad_(name.endswith("bias"))
    return model


@pytest.mark.parametrize("build", [lora, adapters, Prefixed, biases])
@pytest.mark.parametrize("registered", ["all", "trained"])
def test_weights_frozen_beside_adapters_are_noted(build, registered):
    torch.manual_seed(0)
    model = build()
    params = [p for p in model.parameters() if p.requires_grad or registered == "all"]
    records = in_torch(model, torch.optim.Adam(params, lr=1e-2))
    assert said(records) == NOTED
    assert "adapters" in first(records).explanation


def test_the_base_left_out_of_the_optimizer_is_noted():
    torch.manual_seed(0)
    model = lora().requires_grad_(True)
    params = [p for name, p in model.named_parameters() if "lora" in name]
    assert said(in_torch(model, torch.optim.Adam(params, lr=1e-2))) == NOTED


@pytest.mark.parametrize("how", ["frozen", "left out", "a rate of 0"])
def test_one_layer_in_the_middle_of_a_trained_net_is_a_fault(how):
    torch.manual_seed(0)
    model = nn.Sequential(*[part for layer in widths() for part in (layer, nn.ReLU())][:-1])
    model[2].requires_grad_(how != "frozen")
    others = [*model[0].parameters(), *model[4].parameters()]
    groups = [{"params": others}] + ([{"params": model[2].parameters(), "lr": 0.0}] if how == "a rate of 0" else [])
    found = first(in_torch(model, torch.optim.Adam(groups, lr=1e-2)))
    assert (found.code, found.severity, found.paths) == (
        "not-updating", Severity.WARNING, ("2.weight", "2.bias"),
    )  # fmt: skip


PARAMS = {
    f"fc{i}": {"base": {"kernel": normal(a, b, seed=i)}, "lora": {"a": normal(a, 2, seed=i), "b": 0 * normal(2, b)}}
    for i, (a, b) in enumerate([(FEATURES, 64), (64, 64), (64, CLASSES)])
}


def forward(params, x):
    for name, layer in params.items():
        x = x @ layer["base"]["kernel"] + x @ layer["lora"]["a"] @ layer["lora"]["b"]
        x = x if name == "fc2" else jax.nn.relu(x)
    return x


def held(chosen):
    """An optimizer that leaves the parameters as they are for which `chosen(path)` is true."""
    labels = jax.tree_util.tree_map_with_path(lambda path, _: str(chosen(jax.tree_util.keystr(path))), PARAMS)
    return optax.multi_transform({"True": optax.set_to_zero(), "False": optax.adam(1e-2)}, labels)


def test_what_optax_holds_beside_adapters_is_noted():
    assert said(in_jax(forward, PARAMS, held(lambda path: "base" in path))) == NOTED
    mask = jax.tree_util.tree_map_with_path(lambda path, _: "base" in jax.tree_util.keystr(path), PARAMS)
    masked = optax.chain(optax.adam(1e-2), optax.masked(optax.set_to_zero(), mask))
    assert said(in_jax(forward, PARAMS, masked)) == NOTED


def test_one_layer_that_optax_holds_is_a_fault():
    found = first(in_jax(forward, PARAMS, held(lambda path: "fc1" in path)))
    assert (found.code, found.severity) == ("not-updating", Severity.WARNING)
    assert set(found.paths) == {"fc1.base.weight", "fc1.lora.b"}  # lora.a has no gradient, since lora.b stays 0


@pytest.mark.parametrize("state", [GradientState.OK, GradientState.FROZEN])
def test_what_a_filter_leaves_out_beside_adapters_is_noted(state):
    """As `nnx.Optimizer(model, tx, wrt=nnx.LoRAParam)` does: the optimizer gets the adapters alone."""
    base = {name: layer["base"] for name, layer in PARAMS.items()}
    trained = {name: {"lora": layer["lora"]} for name, layer in PARAMS.items()}

    def adapted(params, x):
        return forward({name: {"base": base[name], **layer} for name, layer in params.items()}, x)

    known = {}
    for name in PARAMS:
        known |= {f"{name}.base.weight": state, f"{name}.lora.a": GradientState.OK, f"{name}.lora.b": GradientState.OK}
    records = in_jax(adapted, trained, optax.adam(1e-2), known=known)
    assert alarms(records) == []
    assert said(records) == NOTED
