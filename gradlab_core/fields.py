"""Checks of the fields of a spec: each adds to a list of problems, so that one error names them all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def whole_number(problems: list[str], name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        problems.append(f"{name} is {value!r}; expected a whole number of at least {least}")


def whole_numbers(problems: list[str], name: str, part: str, values: Any) -> None:
    if isinstance(values, tuple):
        for index, value in enumerate(values, 1):
            whole_number(problems, f"{name} ({part} {index})", value, 1)
    else:
        problems.append(f"{name} is {values!r}; expected a tuple with one whole number for each {part}")


def real(problems: list[str], name: str, value: Any, least: float, below: float = math.inf) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value < below:
        limit = f"at least {least:g}" + (f" and below {below:g}" if below < math.inf else "")
        problems.append(f"{name} is {value!r}; expected a finite number of {limit}")


def one_of(problems: list[str], name: str, value: Any, known: Iterable[str]) -> None:
    if value not in known:
        problems.append(f"{name} is {value!r}; expected one of {', '.join(known)}")
