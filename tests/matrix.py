"""`make matrix`: the telling part of the tests in environments with other versions, and one table of what passed.

For each interpreter (`PYTHONS="python3.11 python3.13"`, by default those of 3.11 to 3.14 that are found) an environment
with the oldest supported JAX, Flax and optax, and one with the newest that pip finds for it. By name, since they are
gigabytes of CUDA: one without JAX for each PyTorch (`TORCHES="2.6.* 2.14.*"`), and one with JAX's plugin for GPUs
(`GPU=cuda13`), in which programs are compiled for a card that need not be there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".matrix"
NAMES = ("torch", "jax", "jaxlib", "flax", "optax", "numpy")
TESTS = {
    "jax": ["tests/jax/test_jax_alone.py"],
    "torch": ["tests/torch/test_torch_alone.py", "tests/torch/test_kernels.py"],
    "cuda": ["tests/jax/test_gpu_programs.py"],
}


def oldest() -> list[str]:
    """The lower bounds that the package's metadata states."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    bounds = [re.fullmatch(r"(\w+)>=([\d.]+)", need) for need in extras["jax"]]
    return [f"{bound[1]}=={bound[2]}.*" for bound in bounds if bound]


def environment(python: str, which: str) -> Path:
    """An environment of its own, made anew; the project itself is used from the checkout."""
    name = re.sub(r"[^\w.=]", "x", which)
    folder = ENVIRONMENTS / f"{Path(python).name}-{name}"
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    wanted = {"oldest": oldest(), "newest": ["jax", "flax", "optax"]}.get(which, [which])
    wanted += ["flax", "optax"] if "cuda" in which else []
    core = ["numpy", "rich", "scikit-learn", "scipy", "typer", "pytest"]
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *wanted, *core], check=True)
    return folder / "bin" / "python"


def row(python: str, which: str) -> dict[str, str]:
    """Versions and the last line of pytest; a problem of installation is a result too."""
    try:
        inside = environment(python, which)
    except subprocess.CalledProcessError as error:
        return {"environment": f"{python} {which}", "result": f"cannot be installed: {error}"}
    ask = (
        "import importlib.metadata as m, json, platform; "
        f"have = {{d.name.lower(): d.version for d in m.distributions()}}; "
        f"print(json.dumps([platform.python_version(), *(have.get(name, '') for name in {NAMES})]))"
    )
    versions = json.loads(subprocess.run([inside, "-c", ask], capture_output=True, text=True, check=True).stdout)
    kind = next((kind for kind in ("torch", "cuda") if kind in which), "jax")
    command = [inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS[kind]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:], file=sys.stderr)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
    return {"environment": which, **dict(zip(("python", *NAMES), versions, strict=True)), "result": last}


def main() -> int:
    named = os.environ.get("PYTHONS", "").split()
    pythons = named or [p for minor in range(11, 15) if (p := shutil.which(f"python3.{minor}"))]
    which = ["oldest", "newest", *(f"torch=={version}" for version in os.environ.get("TORCHES", "").split())]
    which += [f"jax[{plugin}]" for plugin in os.environ.get("GPU", "").split()]
    rows = [row(python, one) for python in pythons or [sys.executable] for one in which]
    columns = ("environment", "python", *NAMES, "result")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for line in rows:
        print("| " + " | ".join(line.get(column, "") for column in columns) + " |")
    return int(any("passed" not in line["result"] or "failed" in line["result"] for line in rows))


if __name__ == "__main__":
    sys.exit(main())
