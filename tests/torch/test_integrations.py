"""All integrations alike: a library that is missing, and what is refused at once."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types

import pytest
import pytorch_lightning as lightning

from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_torch.integrations import huggingface as of_huggingface
from gradlab_torch.integrations import lightning as of_lightning


def reimported(monkeypatch, module):
    monkeypatch.delitem(sys.modules, module.__name__)
    return importlib.import_module(module.__name__)


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        (of_lightning, "pytorch_lightning", "lightning"),
        (of_huggingface, "transformers", "huggingface"),
        (of_huggingface, "accelerate", "huggingface"),
    ],
)
def test_a_missing_library_says_how_to_install_it(monkeypatch, module, missing, extra):
    for name in [n for n in sys.modules if n.split(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=rf"{missing} is not installed.*'gradlab-parity\[{extra}\]'"):
        reimported(monkeypatch, module)


def test_either_name_of_lightning_will_do(monkeypatch):
    other = {name: types.ModuleType(name) for name in ("lightning", "lightning.pytorch")}
    other["lightning.pytorch"].Callback = type("Callback", (), {})
    for name, module in other.items():
        module.__spec__, module.__path__ = importlib.machinery.ModuleSpec(name, None), []
        monkeypatch.setitem(sys.modules, name, module)
    made = reimported(monkeypatch, of_lightning).MonitorCallback
    assert issubclass(made, other["lightning.pytorch"].Callback)
    assert issubclass(made, lightning.Callback)


@pytest.mark.parametrize("module", [of_lightning, of_huggingface])
def test_what_cannot_be_asked_for_is_refused_at_once(module):
    with pytest.raises(GradlabError, match="2 problems"):
        module.MonitorCallback(every=0, extras=["cosine"])
