"""Open a sink that is given as text on the command line, such as `jsonl:run.jsonl`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

from gradlab_core.errors import GradlabError, refuse
from gradlab_core.records import StepRecord
from gradlab_core.sinks.base import Sink
from gradlab_core.sinks.columns import ColumnSink
from gradlab_core.sinks.jsonl import JsonlSink
from gradlab_core.sinks.mlflow import MlflowSink
from gradlab_core.sinks.tabular import TableSink
from gradlab_core.sinks.tensorboard import TensorBoardSink
from gradlab_core.sinks.wandb import WandbSink

KINDS: dict[str, tuple[str, Callable[[str], Sink]]] = {
    "columns": ("PATH", ColumnSink),
    "jsonl": ("PATH", JsonlSink),
    "tensorboard": ("FOLDER", TensorBoardSink),
    "wandb": ("PROJECT", WandbSink),
    "mlflow": ("EXPERIMENT", MlflowSink),
    "csv": ("PATH", functools.partial(TableSink, kind=".csv")),
    "parquet": ("PATH", functools.partial(TableSink, kind=".parquet")),
}
FORMS = ", ".join(f"{kind}:{target}" for kind, (target, _) in KINDS.items())


def open_sink(words: str) -> Sink:
    """The sink that `words` names, such as `columns:run.gradlab`.

    >>> open_sink("josnl:run.jsonl")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: bad sink: 'josnl:run.jsonl'; expected one of columns:PATH, jsonl:PATH, \
tensorboard:FOLDER, wandb:PROJECT, mlflow:EXPERIMENT, csv:PATH, parquet:PATH
    """
    return open_sinks([words])


def open_sinks(words: Sequence[str]) -> Sink:
    """All sinks as one. If some cannot be opened, the error lists every problem and no sink stays open."""
    refuse("bad sink", [f"{w!r}; expected one of {FORMS}" for w in words if not _well_formed(w)])
    opened: list[Sink] = []
    problems = []
    for word in words:
        kind, _, target = word.partition(":")
        try:
            opened.append(KINDS[kind][1](target))
        except GradlabError as error:
            problems.append(error)
    if problems:
        _Several(opened).close()
        if len(problems) == 1:
            raise problems[0]
    refuse("bad sink", [str(problem) for problem in problems])
    return opened[0] if len(opened) == 1 else _Several(opened)


def _well_formed(word: str) -> bool:
    kind, _, target = word.partition(":")
    return kind in KINDS and target.strip() != ""


class _Several(Sink):
    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def __call__(self, record: StepRecord) -> None:
        for sink in self._sinks:
            sink(record)

    def close(self) -> None:
        with contextlib.ExitStack() as closing:  # all are closed, even if closing one of them fails
            for sink in self._sinks:
                closing.callback(sink.close)
