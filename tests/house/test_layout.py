"""The house rules: what may import what, twins that mirror each other, files one can read in a sitting."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TWINS = ("gradlab_torch", "gradlab_jax")


def python(code: str, *, block: tuple[str, ...] = ()) -> str:
    """Run code in a fresh interpreter in which the blocked packages do not exist."""
    guard = f"""
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {block!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Gone())
"""
    done = subprocess.run(
        [sys.executable, "-c", (guard if block else "") + code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FRAMEWORKS = ("jax", "flax", "optax", "torch", "tensorflow")
LOADED = f"import sys; print([m for m in {FRAMEWORKS!r} if m in sys.modules])"


def test_the_core_imports_no_framework():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "gradlab_core").rglob("*.py"))
        if path.name != "__init__.py"
    ]
    assert len(modules) > 20
    code = "\n".join(f"import {m}" for m in modules)
    assert python(f"{code}\n{LOADED}") == "[]\n"
    python(code, block=FRAMEWORKS)  # and it works where none is installed


def test_help_imports_nothing_heavy():
    heavy = (*FRAMEWORKS, "sklearn", "plotly", "tensorflow_datasets")
    code = f"""
import sys
from gradlab_core.cli.main import run
sys.argv = ['gradlab', '--help']
try:
    run()
except SystemExit as stop:
    assert stop.code == 0
print('HEAVY', [m for m in {heavy!r} if m in sys.modules])
"""
    assert "HEAVY []" in python(code)


def test_the_jax_twin_never_imports_torch():
    assert "torch" not in python(f"import gradlab_jax\n{LOADED}")
    python("import gradlab_jax", block=("torch", "gradlab_torch"))


def test_the_torch_twin_never_imports_jax():
    assert python(f"import gradlab_torch\n{LOADED}") == "['torch']\n"


@pytest.mark.parametrize(("missing", "extra"), [("jax", "jax"), ("torch", "torch"), ("flax", "jax")])
def test_a_missing_framework_says_how_to_install_it(missing, extra):
    code = f"""
from gradlab_core import backends
try:
    backends.load({extra!r})
except Exception as error:
    print(type(error).__name__, error)
"""
    assert (
        f"MissingDependency {missing} is not installed: install with pip install 'gradlab-parity[{extra}]'"
        in python(code, block=(missing,))
    )


ALONE = {
    *("model/jaxpr.py", "model/marks.py", "model/function.py", "model/function_layers.py"),
    *("model/sharding.py", "trees/kernels.py", "trees/launches.py"),
    *(
        "monitoring/kept.py",
        "monitoring/lost.py",
        "monitoring/module_hooks.py",
        "monitoring/passes.py",
        "monitoring/scalers.py",
        "monitoring/shards.py",
        "monitoring/steps.py",
        "parity/held.py",
    ),
    *(
        "parity/instead.py",
        "parity/objective.py",
        "model/outputs.py",
        "monitoring/arguments.py",
        "monitoring/reading.py",
    ),
}
"""What only one framework has: in JAX programs as data, whose form changes between releases, models of several
libraries and models that are functions, whose layers are found in the program, the loss as a function that is
differentiated, what takes the place of a value in it, where its model ends and what it is called with, and records that
are read from the optimizer's state; in PyTorch shards that pass for whole tensors, kernels of our
own for GPUs, gradients that an optimizer may write into, updates that have to be looked at to know whether rounding
swallowed them, steps whose figures are still under way, shards that have to be added up by hand, and scalers of
gradients."""


def test_the_twins_have_the_same_files():
    files = [
        {str(p.relative_to(ROOT / twin)) for p in (ROOT / twin).rglob("*.py") if "integrations" not in p.parts} - ALONE
        for twin in TWINS
    ]
    assert files[0] == files[1]


def test_the_twins_have_the_same_public_names_and_argument_order():
    torch, jax = (__import__(twin) for twin in TWINS)
    # How a monitor is put into a loop is each framework's own: by the optimizer's hooks, or around the optimizer.
    # In PyTorch no model is a function.
    own = {"Monitor"}, {"Function", "before_clipping", "monitor", "observed", "read_record", "device_record"}
    shared = [n for n in torch.__all__ if n not in own[0]]
    assert shared == [n for n in jax.__all__ if n not in own[1]]
    assert own[0] <= set(torch.__all__)
    assert own[1] <= set(jax.__all__)
    for name in shared:
        a, b = getattr(torch, name), getattr(jax, name)
        if a is b or not callable(a):
            continue
        function = (a.__init__, b.__init__) if inspect.isclass(a) else (a, b)
        shapes = [
            [(p.name, p.kind, p.default is p.empty) for p in inspect.signature(f).parameters.values()] for f in function
        ]
        assert shapes[0] == shapes[1], name
        assert inspect.getdoc(a), f"{name} has no docstring"
        if inspect.isclass(a):
            methods = [sorted(m for m in vars(c) if not m.startswith("_")) for c in (a, b)]
            assert methods[0] == methods[1], name


def test_the_twins_define_the_same_public_functions_in_each_file():
    def public(path: Path) -> list[str]:
        body = ast.parse(path.read_text()).body
        return [n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")]

    # What these hold is each framework's own way to the same end; no other package should use it.
    inner = {
        "activation_patterns.py",
        "applied.py",
        "chains.py",
        "cuts.py",
        "devices.py",
        "extras.py",
        "functions.py",
        "gradients.py",
        "hidden_states.py",
        "inputs.py",
        "jaxpr.py",
        "kernels.py",
        "launches.py",
        "layers.py",
        "leaves.py",
        "lost.py",
        "measurements.py",
        "modules.py",
        "norm_arithmetic.py",
        "precision.py",
        "products.py",
        "recurrent.py",
        "rounding.py",
        "sharding.py",
        "signals.py",
        "steps.py",
        "symmetry.py",
        "taps.py",
        "transfer.py",
    }
    only_jax = {
        "model/checks.py": {"check_nnx", "check_trainable"},
        "programs/training.py": {"sgd", "sgd_step"},
        "model/weights.py": {"canonical", "linen_astype", "native"},
    }
    for path in sorted((ROOT / "gradlab_torch").rglob("*.py")):
        relative = path.relative_to(ROOT / "gradlab_torch")
        own = path.name in inner or str(relative) in ALONE or "integrations" in path.parts
        if own or str(relative) in (
            "programs/models/layers.py",
            "monitoring/monitor.py",
            "monitoring/looking.py",
            "monitoring/seen.py",
        ):
            continue
        mine, theirs = public(path), public(ROOT / "gradlab_jax" / relative)
        assert mine == [n for n in theirs if n not in only_jax.get(str(relative), set())], relative


def test_each_room_opens_with_what_lives_there_what_does_not_and_what_it_imports():
    rooms = [
        p for package in ("gradlab_core", *TWINS) for p in (ROOT / package).iterdir() if (p / "__init__.py").exists()
    ]
    assert len(rooms) == 10 + 2 * 8
    for room in rooms:
        doc = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
        first, _, rest = doc.partition("\n\n")
        assert first, room
        assert re.search(r"\b(No|Nothing|not)\b", rest), room
        assert re.search(r"\bImports ", rest), room


def test_files_can_be_read_in_one_sitting():
    folders = ("gradlab_core", *TWINS, "benchmarks", "tests", "parity_tests", "examples")
    files = [ROOT / "conftest.py", *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert len(lines) > 400  # else files have moved to where nothing looks
    assert not {path: count for path, count in lines.items() if count > 300}


def test_the_top_level_is_the_one_of_the_design():
    folders = {"gradlab_core", *TWINS, "parity_tests", "benchmarks", "tests", "docs", "examples"}
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert all((ROOT / package / "py.typed").exists() for package in ("gradlab_core", *TWINS))


def doctests() -> list[str]:
    return [
        str(path.relative_to(ROOT))
        for package in ("gradlab_core", *TWINS)
        for path in sorted((ROOT / package).rglob("*.py"))
        if ">>>" in path.read_text()
    ]


@pytest.mark.parametrize("path", doctests())
def test_docstring_examples_run(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    ran = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert ran.failed == 0
