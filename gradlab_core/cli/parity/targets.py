"""`mypackage.port:subject` on the command line: a user's own subjects and batch of the parity judgement."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from gradlab_core.cli.target import called, find, framework_of, kind_of
from gradlab_core.errors import GradlabError

if TYPE_CHECKING:
    from gradlab_core.parity import Subject
    from gradlab_core.parity.judge import Batch

_TWINS = {"torch": "gradlab_torch", "jax": "gradlab_jax"}


@dataclasses.dataclass(frozen=True)
class Target:
    """What a name stands for: a subject, the batch that came with it, and the file of the user's function."""

    subject: Subject
    batch: Batch | None
    file: str | None


def subject(text: str) -> Target:
    """A Subject by that name, or what the function by that name returns: a Subject, or `(subject, batch)`.

    Raises:
        GradlabError: there is none, the function failed, or it is something else.
    """
    value, file = _value(text)
    batch: Batch | None = None
    if isinstance(value, tuple) and len(value) == 2:
        value, batch = value[0], _checked_batch(text, value[1])
    if not _is_subject(value):
        twin = _TWINS.get(framework_of(value) or "")
        wrap = f": return {twin}.Subject(model, …)" if twin else ""
        raise GradlabError(
            f"{text} is {kind_of(value)}; expected a Subject of gradlab_torch or gradlab_jax, or a function that "
            f"returns one or (subject, batch){wrap}"
        )
    return Target(value, batch, file)


def batch(text: str) -> Batch:
    """`(x, y)` by that name, or what the function by that name returns."""
    return _checked_batch(text, _value(text)[0])


def chosen_batch(named: str | None, target: Target, text: str) -> Batch:
    """The batch that `--batch` names, or the one that came with the target."""
    if named is not None:
        return batch(named)
    if target.batch is None:
        raise GradlabError(
            f"there is no batch: name one with --batch MODULE:NAME, or let {text} return (subject, batch)"
        )
    return target.batch


def _value(text: str) -> tuple[Any, str | None]:
    value = find(text)
    is_function = (
        callable(value) and not _is_subject(value) and framework_of(value) is None
    )  # a model can be called too
    return called(text, value) if is_function else (value, None)


def _is_subject(value: Any) -> bool:
    from gradlab_core.parity import Subject

    return isinstance(value, Subject) and not isinstance(value, type)


def _checked_batch(text: str, value: Any) -> Batch:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        many = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
        raise GradlabError(f"the batch of {text} is {kind_of(value)}{many}; expected (x, y)")
    return value[0], value[1]
