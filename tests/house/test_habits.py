"""The habits that are written down twice say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_commit_is_checked_as_make_lint_checks() -> None:
    hooks = re.findall(r"entry: \.venv/bin/(.+)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    recipe = re.search(r"^lint: .*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert recipe is not None
    assert hooks == re.findall(r"\$\(BIN\)/(.+)", recipe[1])


def test_what_is_changed_by_mutation_and_what_must_notice_are_there() -> None:
    mutmut = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    assert all(list(ROOT.glob(pattern)) for pattern in mutmut["only_mutate"])
    assert all((ROOT / path).is_file() for path in mutmut["pytest_add_cli_args_test_selection"])
