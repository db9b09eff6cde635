"""What the tests of `gradlab diagnose` share."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def diagnose(console: Run) -> Run:
    return functools.partial(console, "diagnose")


def words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())
