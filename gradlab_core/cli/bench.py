"""`gradlab bench`: run a benchmark and show a table or one JSON document. The module of the benchmark declares its help
and its options (`benchmarks/options.py` says how); it is imported only when that benchmark is asked for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_origin

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from gradlab_core.cli import output
from gradlab_core.errors import GradlabError
from gradlab_core.records import codec

_PACKAGE = "gradlab_benchmarks"
_OPTION = inspect.Parameter.KEYWORD_ONLY
_OWN = [
    inspect.Parameter("out", _OPTION, default=None, annotation=Annotated[
        Path | None, typer.Option(help="Write the JSON document to this file too.")
    ]),
    inspect.Parameter("json", _OPTION, default=False, annotation=output.JsonOption),
]  # fmt: skip
"""The options of `gradlab bench` itself, which all benchmarks share."""


class _Benchmark(TyperCommand):
    """The command of one benchmark. An option of another benchmark is refused with the name of that benchmark."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            option = getattr(error, "option_name", None)
            group = ctx.parent.command
            others = [name for name in group.list_commands(ctx) if option in _options(group.get_command(ctx, name))]
            if not others or self.name in others:
                raise
            raise GradlabError(f"{option} is for bench {', '.join(others)}; came with bench {self.name}") from error


class _Benchmarks(TyperGroup):
    """All benchmarks by name. Each becomes a command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        modules = [module.name for module in pkgutil.iter_modules(benchmarks().__path__)]
        return [name.removeprefix("bench_") for name in modules if name.startswith("bench_")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            raise GradlabError(f"benchmark is {cmd_name!r}; expected one of {', '.join(self.list_commands(ctx))}")
        alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        module = importlib.import_module(f"{_PACKAGE}.bench_{cmd_name}")
        made = alone.command(cmd_name, cls=_Benchmark, help=module.__doc__, rich_help_panel="Benchmarks")
        made(_command(module.command))
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Benchmarks,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    subcommand_metavar="BENCHMARK [OPTIONS]",
)


@app.callback()
def bench() -> None:
    """Speed and cost: JAX (jit) and PyTorch side by side, against peers and against the published experiment's plain
    code. Medians of interleaved runs.

    Example: `gradlab bench norms --elements 1000000`; `gradlab bench norms --help` has the options and an example.
    """


def _command(declared: Callable[..., Any]) -> Callable[..., None]:
    """A function that runs a benchmark. Its signature tells typer the declared options and those of `gradlab bench`."""

    def command(*, out: Path | None, json: bool, **asked: Any) -> None:
        output.output_file(out)  # refused before minutes of measuring, not after them
        for value in asked.values():
            if isinstance(value, Path):
                output.output_folder(value)
        with _progress() as on_call:
            answer = declared(**asked, on_call=on_call)
        document = codec.document(answer.kind, answer.rows)
        if out is not None:
            codec.write_text(out, document + "\n")
        if json:
            typer.echo(document)
            return
        console = _wide_console()
        for part in answer.shown:
            console.print(part)

    parameters = inspect.signature(declared, eval_str=True).parameters.values()
    options = [p.replace(kind=_OPTION) for p in parameters if get_origin(p.annotation) is Annotated]
    command.__signature__ = inspect.Signature([*options, *_OWN])  # type: ignore[attr-defined]
    return command


def _options(command: Any) -> list[str]:
    return [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]


def _wide_console() -> Console:
    console = output.console()
    if not console.is_terminal:
        console.width = 132  # a file or a pipe has no width, and the default width would cut the columns
    return console


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show on a terminal which case is running, and nothing in a file or a pipe."""
    console = output.messages()
    if not console.is_terminal:
        yield lambda name: None
        return
    with console.status("preparing") as status:
        yield status.update


def benchmarks(module: str = "") -> ModuleType:
    """The package of the benchmarks, or a module of theirs. In a checkout it is the folder beside `gradlab_core`. That
    is loaded by its path because other projects have packages called benchmarks too; elsewhere it is
    `gradlab_benchmarks`. The folder comes first, for an editable installation also has a copy, which may be out of
    date."""
    init = Path(__file__).resolve().parents[2] / "benchmarks" / "__init__.py"
    if _PACKAGE not in sys.modules and not init.is_file() and importlib.util.find_spec(_PACKAGE) is None:
        raise GradlabError(f"the benchmarks are neither installed nor at {init.parent}; reinstall gradlab-parity")
    if _PACKAGE not in sys.modules and init.is_file():
        spec = importlib.util.spec_from_file_location(_PACKAGE, init, submodule_search_locations=[str(init.parent)])
        assert spec is not None  # a .py file that exists always has a loader
        assert spec.loader is not None
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_PACKAGE])
    return importlib.import_module(f"{_PACKAGE}.{module}" if module else _PACKAGE)
