"""No public name changes unseen."""

from __future__ import annotations

import difflib
from pathlib import Path

from tests.house.public import described, public

FILE = Path(__file__).with_name("public.txt")


def test_public_names_and_signatures_are_those_that_are_written_down():
    written = FILE.read_text(encoding="utf-8").splitlines()
    changed = [line for line in difflib.ndiff(written, public()) if line[0] in "+-"]
    assert not changed, "\n".join(
        ["python -m tests.house.public > tests/house/public.txt, if this is meant:", *changed]
    )


def test_a_changed_default_or_argument_is_a_change():
    def one(a, *, b=1): ...

    def other(a, *, b=2): ...

    assert described("f", one) == "f(a, *, b=1)" != described("f", other)
