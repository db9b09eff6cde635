"""Names of before still work for one version, and say what to write instead."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from gradlab_core._moved import MOVED, RENAMED

IN_JAX = {"read": "read_record", "recorded": "device_record"}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_is_the_new_one(old, monkeypatch):
    package, _, last = old.rpartition(".")
    for name in [name for name in sys.modules if name == old or name.startswith(f"{old}.")]:
        monkeypatch.delitem(sys.modules, name)
    # What stood under that name in the package, a function perhaps, stands there again afterwards.
    monkeypatch.setitem(vars(importlib.import_module(package)), last, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]};"):
        found = importlib.import_module(old)
    new = importlib.import_module(MOVED[old])
    public = [name for name in vars(new) if not name.startswith("_")]
    assert public
    assert all(getattr(found, name) is getattr(new, name) for name in public)
    assert new.__name__ == new.__spec__.name == MOVED[old]


def run(code):
    return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)


def test_the_function_stays_where_its_package_was():
    done = run(
        "import gradlab_core\nfrom gradlab_core.diagnose import CODES\nfrom gradlab_core.data.batches import Batches\n"
        "from gradlab_core.programs import ProgramSpec\n"
        "assert CODES and Batches and ProgramSpec\nprint(callable(gradlab_core.diagnose))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
    assert "<string>:2: DeprecationWarning: gradlab_core.diagnose is now gradlab_core.judge.diagnosis" in done.stderr
    assert "gradlab_core.programs.ProgramSpec is now gradlab_core.programs.program.ProgramSpec" in done.stderr


def test_a_module_that_was_an_attribute_still_is():
    done = run("import gradlab_core\nprint(gradlab_core.reference.norm([3.0, 4.0]))\ngradlab_core.nothing_like_it")
    assert done.stdout.strip() == "5.0"
    assert "gradlab_core.reference is now gradlab_core.definitions.reference" in done.stderr
    assert "AttributeError: module 'gradlab_core' has no attribute 'nothing_like_it'" in done.stderr


@pytest.mark.parametrize("twin", ["gradlab_torch", "gradlab_jax"])
@pytest.mark.parametrize(("old", "new"), [*RENAMED.items(), *IN_JAX.items()])
def test_an_old_name_is_the_new_one(twin, old, new):
    package = importlib.import_module(twin)
    if twin == "gradlab_torch" and old in IN_JAX:
        assert not hasattr(package, old)
        return
    with pytest.warns(DeprecationWarning, match=f"{twin}.{old} is now {twin}.{new};"):
        assert getattr(package, old) is getattr(package, new)
    assert old not in package.__all__


def test_what_never_was_is_still_missed():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gradlab_core.referenc")
    with pytest.raises(ImportError):
        from gradlab_core.programs import nothing_like_it  # noqa: F401
