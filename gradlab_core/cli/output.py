"""What all verbs share: consoles, progress, options, and folders."""

from __future__ import annotations

import contextlib
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gradlab_core import backends
from gradlab_core.errors import GradlabError
from gradlab_core.files import cannot_write

FOUND_SOMETHING = 1
CUT_OFF = "a record that was being written when the process was killed is left out"

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]
FrameworkOption = Annotated[
    list[str] | None,
    typer.Option("--framework", "-f", help="torch or jax; repeat for both. Default: all that are installed."),
]
OneFrameworkOption = Annotated[
    str | None, typer.Option("--framework", "-f", help="torch or jax. Default: the first installed.")
]
DataOption = Annotated[str, typer.Option("--data", help="digits (embedded) or cifar10.")]
BandsOption = Annotated[
    str | None,
    typer.Option(help="Judge the figures by a band set of another set-up, as tinynet-cifar10; default: by none."),
]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Where the prepared cifar10 is.")]


def console() -> Console:
    """The console for tables, on standard output."""
    return Console(highlight=False, emoji=False)


def messages() -> Console:
    """The console for progress and remarks, on standard error, so that standard output stays clean."""
    return Console(stderr=True, highlight=False, emoji=False)


def chosen_frameworks(names: list[str] | None) -> tuple[str, ...]:
    """The frameworks that were asked for, each once, or else all that are installed."""
    if names:
        return tuple(dict.fromkeys(names))
    installed = backends.available()
    if not installed:
        raise GradlabError(
            "neither PyTorch nor JAX is installed: install with pip install 'gradlab-parity[torch]' or "
            "pip install 'gradlab-parity[jax]'"
        )
    return installed


def chosen_framework(name: str | None) -> str:
    """The framework that was asked for, or else the first that is installed, where the reference comes first."""
    return chosen_frameworks([name] if name else None)[0]


@contextlib.contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """A progress bar on a terminal, and nothing in a file or a pipe."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=messages(),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        yield bar


def output_folder(path: Path) -> Path:
    """Create the folder and check that it is writable, before hours are spent on its contents."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise GradlabError(f"cannot write into {path}: {error.strerror or error}; name another folder") from error
    return path


def output_file(path: Path | None) -> None:
    """Check before anything is measured that a file can be written: its folder is created, the system must accept its
    name, and no folder may have that name."""
    if path is None:
        return
    output_folder(path.parent)
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise GradlabError(f"cannot write {path}: it is a folder; name a file in it")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_write(path, error) from error
