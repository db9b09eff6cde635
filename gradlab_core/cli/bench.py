"""`gradlab bench`: the benchmarks, as a table or as one JSON document."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console

from gradlab_core.cli import output
from gradlab_core.cli.compare import parse_depth
from gradlab_core.errors import GradlabError
from gradlab_core.records import codec

app = typer.Typer(
    help="Speed and cost: JAX (jit) and PyTorch side by side, against peers and against the published experiment's "
    "plain code. Medians of interleaved runs.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_PACKAGE = "gradlab_benchmarks"

Framework = Annotated[
    str | None, typer.Option("--framework", "-f", help="torch, jax or both. Default: all that are installed.")
]
Rounds = Annotated[int, typer.Option(help="Timed calls of each case.")]
Only = Annotated[list[str] | None, typer.Option(help="Only cases whose name contains this; may be repeated.")]
Out = Annotated[Path | None, typer.Option(help="Write the JSON document to this file too.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of JAX's persistent compilation cache: a second run compiles faster. Off by default."),
]
Base = Annotated[int, typer.Option(help="Channels of TinyNet's first stage.")]
Batch = Annotated[int, typer.Option(help="Images in a batch.")]
Block = Annotated[str, typer.Option("--block", "-b", help="TinyNet's residual block.")]
Depth = Annotated[str, typer.Option(help="Blocks in each stage, as 2,2,2.")]


@app.command()
def norms(
    framework: Framework = None,
    elements: Annotated[int, typer.Option(help="Float32 elements in all.")] = 1 << 26,
    tensors: Annotated[int, typer.Option(help="Length of the list of tensors; divides the elements.")] = 64,
    scale: Annotated[float, typer.Option(help="Elements are scale·N(0,1): 1e25 shows what overflows.")] = 1.0,
    rounds: Rounds = 11,
    only: Only = None,
    compilation_cache: Cache = None,
    out: Out = None,
    json: output.JsonOption = False,
) -> None:
    """Norms against optax, torch and plain code: bandwidth, and error against float64.

    Example: `gradlab bench norms --elements 67108864 --rounds 21`
    """
    sizes = {"elements": elements, "tensors": tensors, "scale": scale}
    _bench("norms", framework, rounds, only, compilation_cache, out, json, sizes)


@app.command()
def step(
    framework: Framework = None,
    base: Base = 32,
    batch: Batch = 128,
    block: Block = "preact",
    depth: Depth = "2,2,2",
    rounds: Rounds = 7,
    only: Only = None,
    compilation_cache: Cache = None,
    out: Out = None,
    json: output.JsonOption = False,
) -> None:
    """One training step with every norm recorded, against bare steps and the published loop.

    Example: `gradlab bench step --base 16 --batch 64 --compilation-cache /tmp/jax-cache`
    """
    sizes = {"base": base, "batch": batch, "block": block, "layers": parse_depth(depth)}
    _bench("step", framework, rounds, only, compilation_cache, out, json, sizes)


@app.command()
def analysis(
    framework: Framework = None,
    base: Base = 32,
    batch: Batch = 128,
    block: Block = "preact",
    depth: Depth = "2,2,2",
    rounds: Rounds = 7,
    only: Only = None,
    compilation_cache: Cache = None,
    out: Out = None,
    json: output.JsonOption = False,
) -> None:
    """The whole analysis of one net, against one hook a layer that copies to the host.

    Example: `gradlab bench analysis --framework torch --json > analysis.json`
    """
    sizes = {"base": base, "batch": batch, "block": block, "layers": parse_depth(depth)}
    _bench("analysis", framework, rounds, only, compilation_cache, out, json, sizes)


@app.command()
def monitor(
    framework: Framework = None,
    net: Annotated[
        list[str] | None,
        typer.Option(
            help="tinynet, wide (many parameters), deep (many tensors): these by default; gpt2 (for an accelerator)."
        ),
    ] = None,
    optimizer: Annotated[str, typer.Option(help="sgd, adam or adamw.")] = "sgd",
    base: Base = 32,
    batch: Batch = 128,
    width: Annotated[int, typer.Option(help="Units of the wide net.")] = 4608,
    layers: Annotated[int, typer.Option(help="Layers of the deep net.")] = 1000,
    rounds: Rounds = 7,
    only: Only = None,
    compilation_cache: Cache = None,
    out: Out = None,
    json: output.JsonOption = False,
) -> None:
    """A training step that is watched, against the bare step and the ways people watch it today.

    Example: `gradlab bench monitor --net wide --optimizer adam --rounds 11`
    """
    sizes = benchmark("monitored").Sizes(base=base, batch=batch, width=width, depth=layers)
    options = {"optimizer": optimizer, "sizes": sizes} | ({"nets": net} if net else {})
    _bench("monitor", framework, rounds, only, compilation_cache, out, json, options)


@app.command()
def diagnosis(
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs: those in it are judged again, missing ones are made and stay."),
    ] = None,
    programs: Annotated[int | None, typer.Option(help="Pairs of a healthy and a faulty run.")] = None,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    framework: Framework = None,
    jobs: Annotated[int, typer.Option(help="Processes that make runs at a time.")] = 2,
    split: Annotated[str, typer.Option(help="tuning, held-out or both.")] = "both",
    misses: Annotated[bool, typer.Option("--misses", help="List the misjudged runs, of the tuning part only.")] = False,
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Measure what judging costs instead: 10,000 steps × 200 layers.")
    ] = False,
    out: Out = None,
    json: output.JsonOption = False,
) -> None:
    """How often the diagnosis is right: recall, precision, false alarms and places, beside the rules of other tools.

    Example: `gradlab bench diagnosis --runs diagnosis-runs --jobs 2`
    """
    bench = benchmark("bench_diagnosis")
    output.output_file(out)
    with contextlib.ExitStack() as stack:
        if overhead:
            judged, rows = [], [benchmark("diagnosis.overhead").overhead()]
        else:
            parts = bench.chosen(split)
            folder = runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            on_run = stack.enter_context(_progress())
            judged, rows = bench.run(
                runs=output.output_folder(folder),
                programs=bench.PROGRAMS if programs is None else programs,
                seed=seed,
                framework=framework or _installed(),
                jobs=jobs,
                on_run=on_run,
            )
            rows = [row for row in rows if row.part in parts]
    shown = itertools.chain(bench.report(rows, judged), bench.misjudged(judged) if misses else [])
    _hand_out("diagnosis-benchmark", rows, shown, out=out, json=json)


@app.command()
def parity(
    pairs: Annotated[int | None, typer.Option(help="Healthy pairs to draw; default: 1000.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    planted: Annotated[bool, typer.Option(help="Plant faults in one pair of five.")] = True,
    out: Out = None,
    json: output.JsonOption = False,
) -> None:
    """How often the parity judge is right: false alarms on healthy pairs, planted faults found.

    Example: `gradlab bench parity --pairs 40`
    """
    if out is not None:
        output.output_folder(out.parent)
    bench = benchmark("bench_parity")
    with _progress() as on_pair:
        rows = bench.run(pairs=bench.PAIRS if pairs is None else pairs, seed=seed, planted=planted, on_pair=on_pair)
    _hand_out("parity-benchmark", rows, bench.report(rows), out=out, json=json)


def _bench(
    verb: str,
    framework: str | None,
    rounds: int,
    only: list[str] | None,
    compilation_cache: Path | None,
    out: Path | None,
    json: bool,
    sizes: dict[str, Any],
) -> None:
    output.output_file(out)  # refused before the minutes of measuring, not after
    if compilation_cache is not None:
        output.output_folder(compilation_cache)
    run: Callable[..., list[Any]] = benchmark(f"bench_{verb}").run
    with _progress() as on_call:
        rows = run(
            framework=framework or _installed(),
            rounds=rounds,
            only=only or (),
            compilation_cache=compilation_cache,
            on_call=on_call,
            **sizes,
        )
    _hand_out("benchmark", rows, benchmark("table").tables(rows), out=out, json=json)


def _hand_out(kind: str, rows: list[Any], shown: Iterable[Any], *, out: Path | None, json: bool) -> None:
    """The document to a file if one is named, and it or the tables to the console."""
    document = codec.document(kind, rows)
    if out is not None:
        codec.write_text(out, document + "\n")
    if json:
        typer.echo(document)
        return
    console = _wide_console()
    for part in shown:
        console.print(part)


def _installed() -> str:
    """The framework that is installed, or `both`."""
    found = output.chosen_frameworks(None)
    return found[0] if len(found) == 1 else "both"


def _wide_console() -> Console:
    console = output.console()
    if not console.is_terminal:
        console.width = 132  # a file or a pipe has no width of its own, and the default cuts the columns
    return console


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows on a terminal which case is running; nothing in a file or a pipe."""
    console = output.messages()
    if not console.is_terminal:
        yield lambda name: None
        return
    with console.status("preparing") as status:
        yield status.update


def benchmark(name: str) -> ModuleType:
    """A module of the benchmarks: in a checkout the folder beside `gradlab_core`, loaded by its place and not by its
    name, since many a project has a package called benchmarks; elsewhere `gradlab_benchmarks`. The folder comes first:
    beside an editable installation stands a copy of the day it was made."""
    init = Path(__file__).resolve().parents[2] / "benchmarks" / "__init__.py"
    if _PACKAGE not in sys.modules and not init.is_file() and importlib.util.find_spec(_PACKAGE) is None:
        raise GradlabError(f"the benchmarks are neither installed nor at {init.parent}; reinstall gradlab-parity")
    if _PACKAGE not in sys.modules and init.is_file():
        spec = importlib.util.spec_from_file_location(_PACKAGE, init, submodule_search_locations=[str(init.parent)])
        assert spec is not None  # a .py file that is there has a loader
        assert spec.loader is not None
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_PACKAGE])
    return importlib.import_module(f"{_PACKAGE}.{name}")
