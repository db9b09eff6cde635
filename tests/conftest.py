"""The command line without a new process for every call."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gradlab_core.cli import main


@pytest.fixture
def console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The console script in this process, in an empty folder: no second import of the frameworks for every case."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["gradlab", *arguments])
        with pytest.raises(SystemExit) as stop:
            main.run()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(str(stop.value.code)), said.out, said.err)

    return call
