"""The `gradlab` command and its verbs. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import io
import sys

import typer
from rich.console import Console

from gradlab_core.cli import bench, compare, data, diagnose, lab, parity, report, threads, train
from gradlab_core.errors import GradlabError

app = typer.Typer(
    name="gradlab",
    help="Training health, measured alike in PyTorch and JAX. Exit codes: 0 fine, 1 found something, 2 bad input.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(compare.compare)
app.command()(train.train)
app.command()(diagnose.diagnose)
app.add_typer(parity.app, name="parity")
app.command()(report.report)
app.add_typer(lab.app, name="lab")
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")

BAD_INPUT, INTERRUPTED = 2, 130


def run() -> None:
    """Run the console script. Bad input becomes a message and exit code 2, and Ctrl-C exit code 130."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show θ or → shows a question mark instead of stopping the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    threads.wait_passively()
    try:
        # Typer's own handling is switched off, because it turns an interrupt into exit code 1.
        code = app(standalone_mode=False)
    except GradlabError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, emoji=False).print(f"gradlab: {error}", markup=False)
        code = BAD_INPUT
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("gradlab: interrupted")
        code = INTERRUPTED
    except Exception as error:
        # Usage errors show themselves; any other error is a bug and keeps its traceback.
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)
