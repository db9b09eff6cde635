"""A model that is cut is left as it was, also when it raises, and computes what it computed."""

from __future__ import annotations

import pytest
import torch

import gradlab_torch as gl
from gradlab_core.errors import GradlabError

X, Y = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, slope):
        return slope


class Residual(torch.nn.Module):
    """Computes in place, and uses afterwards what it has overwritten."""

    def __init__(self):
        super().__init__()
        self.norm, self.relu, self.b = torch.nn.BatchNorm1d(3), torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 3)

    def forward(self, x):
        h = self.norm(x)
        self.relu(h)
        return h + self.b(h)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("measure", [gl.check_derivatives, gl.chain_rule])
def test_the_model_stays_as_it_was(measure):
    model = torch.nn.Sequential(Residual(), torch.nn.Dropout(), torch.nn.Linear(3, 2))
    model[2].weight.grad = torch.full((2, 3), 7.0)
    before, apply, drawn = state(model), vars(torch.autograd.Function)["apply"], torch.random.get_rng_state()
    x = X.double()
    measure(model.double(), x, Y)
    assert all(torch.equal(value, before[name].to(value.dtype)) for name, value in model.state_dict().items())
    assert (model[2].weight.grad == 7.0).all()
    assert model[0].b.weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert vars(torch.autograd.Function)["apply"] is apply
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert torch.equal(x, X.double())
    assert not x.requires_grad


@pytest.mark.parametrize("measure", [gl.check_derivatives, gl.chain_rule])
def test_also_when_it_raises(measure):
    class Raises(torch.nn.Module):
        def forward(self, x):
            raise ValueError("mine")

    model, apply = torch.nn.Sequential(torch.nn.Linear(3, 2), Raises()), vars(torch.autograd.Function)["apply"]
    with pytest.raises(ValueError, match="mine"):
        measure(model, X, Y)
    assert vars(torch.autograd.Function)["apply"] is apply
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("measure", [gl.check_derivatives, gl.chain_rule])
def test_bad_input_is_refused(measure):
    model = torch.nn.Linear(3, 2)
    for arguments, words in (
        ((model, X.numpy(), Y), "to_native"),
        ((model, X * float("nan"), Y), "NaN"),
        ((model, X, Y + 5), "label"),
        ((lambda x: x, X, Y), "expected a torch.nn.Module"),
    ):
        with pytest.raises(GradlabError, match=words):
            measure(*arguments)
    with pytest.raises(GradlabError, match="one number"):
        measure(model, X, Y, loss=lambda out, y: out)
    with pytest.raises(GradlabError, match="mode is"):
        measure(model, X, Y, mode="test")


def test_what_is_computed_in_place_is_right_and_its_values_are_the_models_own():
    model = Residual().double()
    check = gl.check_derivatives(model, X.double(), Y)
    assert {row.status for row in check.rows} == {"right"}
    seen = []

    def loss(out, y):
        seen.append(out.detach().clone())
        return out.square().mean()

    gl.chain_rule(model, X.double(), Y, loss=loss)
    assert torch.equal(seen[0], model(X.double()))


def test_a_function_under_another_name_is_found_in_its_module():
    twice = Twice.apply

    class Layer(torch.nn.Linear):
        def forward(self, x):
            return twice(super().forward(x))

    model = torch.nn.Sequential(torch.nn.Linear(3, 3), Layer(3, 3), torch.nn.Linear(3, 2))
    assert gl.check_derivatives(model, X, Y).wrong == ("1",)


def test_several_inputs_checkpointing_and_shared_layers():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)

        def forward(self, x, mask):
            h = torch.utils.checkpoint.checkpoint(lambda x: torch.tanh(self.a(x)), x, use_reentrant=False)
            return self.b(self.a(h) * mask)

    check = gl.check_derivatives(Net(), {"x": X, "mask": torch.ones(4, 1)}, Y)
    assert {row.status for row in check.rows} == {"right"}, str(check)
    assert {row.of for row in check.rows if "input " in row.of} >= {"input x", "input mask"}
    assert "a (call 2)" in {row.layer for row in check.rows}


def test_a_gradient_that_is_forgotten_is_disconnected_and_placed():
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.save_for_backward(x, scale)
            return x * scale

        @staticmethod
        def backward(ctx, slope):
            _, scale = ctx.saved_tensors
            return slope * scale, None  # forgotten

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.full((3,), 2.0))

        def forward(self, x):
            return Scaled.apply(x, self.scale)

    check = gl.check_derivatives(torch.nn.Sequential(Layer(), torch.nn.Linear(3, 2)), X, Y)
    assert check.layers("disconnected") == ("Scaled of 0",)
    assert check.parameters["0.scale"] == "disconnected"
    assert check.ok
