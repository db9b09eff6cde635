"""Small tasks that the programs of the diagnosis learn, as NumPy batches that are the same for every framework."""

from __future__ import annotations

from collections.abc import Callable

from gradlab_core import fields
from gradlab_core.errors import refuse
from gradlab_core.programs.program import TaskSpec
from gradlab_core.programs.tasks import digits, imdb, sequences, vectors
from gradlab_core.programs.tasks.task import Batch, Source, Task

__all__ = ["Batch", "Task", "open_task"]

_SOURCES: dict[str, Callable[[TaskSpec, int], Source]] = {
    "digits": lambda spec, seed: digits.Digits(spec.layout),
    "temporal_order": lambda spec, seed: sequences.TemporalOrder(spec.length),
    "adding": lambda spec, seed: sequences.Adding(spec.length),
    "blobs": lambda spec, seed: vectors.Blobs(spec.features, spec.classes, seed),
    "waves": lambda spec, seed: vectors.Waves(spec.features, seed),
    "imdb": lambda spec, seed: imdb.Imdb(spec.length, spec.features, spec.data_dir),
}


def open_task(spec: TaskSpec, *, seed: int) -> Task:
    """The task of a spec; docs/tasks.md describes every task.

    Args:
        seed: the seed of the batches, and of what a task draws once, such as the centres of the blobs.

    Raises:
        GradlabError: the seed is negative, or there is no readable copy of imdb on this machine.
        MissingDependency: for imdb, the extra `tfds` is not installed.

    >>> task = open_task(TaskSpec(name="adding", length=10), seed=0)
    >>> x, y = task.batch(0, 4)
    >>> x.shape, y.shape, (task.features, task.outputs, task.is_regression)
    ((4, 10, 2), (4, 1), (2, 1, True))
    """
    problems: list[str] = []
    fields.whole_number(problems, "seed", seed, 0)
    refuse("task", problems)
    return Task(spec, _SOURCES[spec.name](spec, seed), seed)
