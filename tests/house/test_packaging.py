"""What is published: the wheel holds what it should, under names that belong to this project, and it runs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "-w", str(folder), str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith("gradlab_parity-")
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"gradlab_core", "gradlab_jax", "gradlab_torch", "gradlab_benchmarks"}
    for package in ("gradlab_core", "gradlab_jax", "gradlab_torch"):
        assert f"{package}/py.typed" in names
    assert any(name.endswith("compare/pages/page.html.j2") for name in names)


def test_it_runs_from_the_wheel_alone(wheel, tmp_path):
    """Installed in a folder of its own, away from the checkout."""
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    assert subprocess.run([*pip, "--target", str(target), str(wheel)], capture_output=True).returncode == 0
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import gradlab_core\n"
        f"assert gradlab_core.__file__.startswith({str(target)!r})\n"
        "from gradlab_core.cli.main import run\n"
        "sys.argv = 'gradlab compare -f torch --base 2 --depth 1,1,1 --seeds 1 --epochs 0 --block plain'.split()\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gradlab-report/report.html").stat().st_size > 1_000_000


def test_extras_and_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "gradlab-parity"
    assert set(project["optional-dependencies"]) == {
        "jax", "torch", "tfds", "report", "parquet", "pandas", "polars", "tensorboard", "wandb", "mlflow", "sinks",
        "lightning", "huggingface", "all",
    }  # fmt: skip
    assert list(project["scripts"]) == ["gradlab"]
    assert project["entry-points"] == {"pytest11": {"gradlab": "gradlab_core.pytest_plugin"}}
    heavy = ("jax", "torch", "flax", "tensorflow", "plotly")
    assert not [d for d in project["dependencies"] if d.startswith(heavy)]


def test_the_development_environment_pins_a_small_torch():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in pins
    assert not [pin for pin in pins if "nvidia" in pin or " @ " in pin or pin.startswith("gradlab")]
