"""All sinks alike: how they are opened, shared, and asked for where a library is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_core.sinks import JsonlSink, load_records, open_sink, open_sinks
from tests.recorded import alike, step


def test_all_problems_of_several_sinks_at_once(tmp_path: Path) -> None:
    with pytest.raises(GradlabError, match=r"2 problems[\s\S]*'josnl:x'[\s\S]*'jsonl:'"):
        open_sinks(["josnl:x", "jsonl:", f"jsonl:{tmp_path}/good.jsonl"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(GradlabError, match=r"2 problems[\s\S]*no1[\s\S]*no2"):
        open_sinks([f"jsonl:{tmp_path}/good.jsonl", "jsonl:no1/x", "jsonl:no2/x"])
    JsonlSink(tmp_path / "good.jsonl").close()  # the good one was not left open


def test_several_sinks_get_every_record(tmp_path: Path) -> None:
    with open_sinks([f"jsonl:{tmp_path}/a:b.jsonl", f"jsonl:{tmp_path}/c.jsonl"]) as sink:
        sink(step(0))
    for name in ("a:b.jsonl", "c.jsonl"):
        assert alike(load_records(tmp_path / name), [step(0)])


@pytest.mark.parametrize("library", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_says_how_to_install_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)

    class Gone:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name.split(".")[0] == library:
                raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr(sys, "meta_path", [Gone(), *sys.meta_path])
    with pytest.raises(MissingDependency, match=rf"pip install 'gradlab-parity\[{library}\]'"):
        open_sink(f"{library}:x")


def test_importing_the_sinks_loads_nothing_heavy() -> None:
    heavy = ("tensorboard", "wandb", "mlflow", "pyarrow", "pandas", "numpy", "torch", "jax")
    code = f"import sys, gradlab_core.sinks; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
