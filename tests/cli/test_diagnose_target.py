"""`gradlab diagnose` of a user's own model, of either framework."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.cli.target import framework_of
from gradlab_core.judge.examination import Examination, RangeTest
from gradlab_core.records import Finding, codec
from tests.cli.conftest import Run, words
from tests.cli.test_cli import refused
from tests.recorded import healthy

TORCH = """
    import torch
    print("this is no JSON")

    class Cut(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc1, self.fc2 = torch.nn.Linear(8, 16), torch.nn.Linear(16, 3)

        def forward(self, x):
            hidden = self.fc1(x).relu().detach()
            return self.fc2(hidden)

    def batch():
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
        return x, x[:, :3].argmax(1)

    def build():
        return Cut(), *batch()

    def mapping():
        x, y = batch()
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        return {"model": net, "x": x, "y": y, "optimizer": "adam", "learning_rate": 0.01,
                "loss": lambda out, y: torch.nn.functional.cross_entropy(out, y)}

    def wrong_batch():
        return Cut(), torch.randn(64, 9), batch()[1]

    def wrong_rate():
        return {**mapping(), "learning_rate": -1.0}

    def raises():
        sizes = {}
        return sizes["hidden"]

    def leaves():
        raise SystemExit(3)

    def needs(width): ...
    def nothing(): ...
    def two(): return Cut(), batch()
    def half(): return {"model": Cut(), "batch": 3}
    def other(): return 3, "x", None
    number = 5
"""
JAX = """
    import jax
    from flax import nnx

    def build():
        rngs = nnx.Rngs(0)
        net = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 2, rngs=rngs))
        x = jax.random.normal(jax.random.key(1), (16, 4))
        return net, x, (x[:, 0] > 0).astype(int)
"""


def module(name: str, text: str) -> str:
    """A module in the present folder, under a name that no other test has imported."""
    path = Path(f"{name}_{abs(hash(str(Path.cwd())))}.py")
    path.write_text(textwrap.dedent(text))
    return path.stem


def test_a_torch_model_before_its_training(diagnose: Run) -> None:
    name = module("mine", TORCH)
    done = diagnose(f"{name}:build", "--out", "page.html")
    assert done.returncode == 1, done.stderr
    assert "Range test, rates from 1e-06 to" in done.stdout
    assert "disconnected-parameter where fc1." in words(done)
    assert "Range test of the learning rate" in Path("page.html").read_text()
    done = diagnose(f"{name}:build", "--json")
    found = codec.parse(done.stdout, "finding", Finding)
    assert ("disconnected-parameter", {"fc1.weight", "fc1.bias"}) in [(f.code, set(f.paths)) for f in found]


def test_a_mapping_hands_on_loss_optimizer_and_rate(diagnose: Run) -> None:
    done = diagnose(f"{module('mapped', TORCH)}:mapping")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "steps were recorded at 0.01" in words(done)


def test_a_jax_model_goes_to_the_jax_twin(diagnose: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradlab_jax

    asked: list[Any] = []
    test = RangeTest(rates=(0.1, 1.0), losses=(1.0, 0.5), suggested=None, diverges_at=1.0)

    def examine(model: Any, x: Any, y: Any) -> Examination:
        asked.append((type(model).__name__, x.shape, y.shape))
        return Examination(records=tuple(healthy()), findings=(), range_test=test, learning_rate=0.1)

    monkeypatch.setattr(gradlab_jax, "examine", examine)
    done = diagnose(f"{module('flaxen', JAX)}:build", "--out", "page.html")
    assert (done.returncode, asked) == (0, [("Sequential", (16, 4), (16,))])
    assert "the loss never fell, so no learning rate is suggested; the loss blew up at 1." in words(done)


BAD_TARGETS = {
    "no_such_module:build": ["there is no module no_such_module", "as mypackage.train:build"],
    "MODULE.deeper:build": ["there is no module MODULE.deeper"],
    "MODULE:buidl": ["MODULE has no buidl", "its functions are batch, build, mapping"],
    "MODULE:number": ["MODULE:number is int", "expected a function"],
    "MODULE:needs": ["cannot be called without arguments", "'width'", "expected def needs()"],
    "MODULE:raises": ["MODULE:raises failed: KeyError: 'hidden'", "MODULE.py, line 36", 'return sizes["hidden"]'],
    "MODULE:leaves": ["failed: SystemExit: 3", "MODULE.py, line 39"],
    "MODULE:nothing": ["returned None; expected a tuple (model, x, y), or a mapping"],
    "MODULE:two": ["returned a tuple of 2"],
    "MODULE:half": ["it has no 'x'; it has no 'y'; it has batch, which is unknown"],
    "MODULE:other": ["3 problems", "its model is int; expected a torch.nn.Module or", "its x is str", "its y is None"],
    "MODULE:wrong_batch": ["its model failed on its batch: RuntimeError", "64x9", "MODULE.py, line 12"],
    "MODULE:wrong_rate": ["learning_rate is -1.0"],
    "MODULE:": ["names no function"],
    ":build": ["names no function"],
    "mod ule:build": ["names no function"],
}


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_a_target_that_cannot_be_used(diagnose: Run, target: str) -> None:
    name = module("bad", TORCH)
    done = diagnose(target.replace("MODULE", name))
    refused(done, *(part.replace("MODULE", name) for part in BAD_TARGETS[target]))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "import no_such_library",
            ["importing MODULE failed: ModuleNotFoundError", "no_such_library", "MODULE.py, line 1"],
        ),
        ("def build(:", ["importing MODULE failed: SyntaxError", "MODULE.py, line 1"]),
        ("\n1 / 0", ["importing MODULE failed: ZeroDivisionError", "MODULE.py, line 2: 1 / 0"]),
    ],
)
def test_a_module_that_cannot_be_imported(diagnose: Run, text: str, parts: list[str]) -> None:
    name = module("broken", text)
    refused(diagnose(f"{name}:build"), *(part.replace("MODULE", name) for part in parts))


def test_an_error_of_our_own_keeps_its_traceback(diagnose: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradlab_torch
    from gradlab_core.definitions import reference

    monkeypatch.setattr(gradlab_torch, "examine", lambda model, x, y: reference.norm(object()))
    with pytest.raises(TypeError):
        diagnose(f"{module('ours', TORCH)}:build")


def test_frameworks_are_told_by_their_classes() -> None:
    import flax.linen as nn
    import torch
    from flax import nnx

    class Mine(torch.nn.Sequential): ...

    class Theirs(nnx.Module): ...

    class Linen(nn.Module): ...

    models: list[Any] = [Mine(), Theirs(), Linen(), torch.zeros(1), 3, torch.nn.Linear]
    assert [framework_of(model) for model in models] == ["torch", "jax", None, None, None, None]
