"""A fixture for tests of a port: `parity(reference, candidate, batch)` passes, or says where they first differ.

pytest loads this module wherever gradlab is installed, so it imports nothing else before a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradlab_core.parity import ParityReport


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradlab", "parity of two models")
    group.addoption("--parity-steps", type=int, default=3, help="Training steps that `parity` follows. Default: 3.")
    group.addoption(
        "--parity-precision",
        help="What `parity` has float32 products made in: highest, tf32, bfloat16, float16 or as-is. Default: each "
        "subject's own.",
    )


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Callable[..., ParityReport]:
    """`parity(reference, candidate, batch, *, steps=None, precision=None)`: what is None is that of the options
    `--parity-steps` and `--parity-precision`. Gives the report of two subjects that train the same, and fails with it
    and with what to do where they do not."""

    def judge(
        reference: Any, candidate: Any, batch: Any, *, steps: int | None = None, precision: str | None = None
    ) -> ParityReport:
        __tracebackhide__ = True
        from gradlab_core.errors import GradlabError
        from gradlab_core.parity import compare
        from gradlab_core.parity.advice import next_move

        options = request.config.getoption
        steps = options("--parity-steps") if steps is None else steps
        precision = options("--parity-precision") if precision is None else precision
        try:
            report = compare(reference, candidate, batch, steps=steps, precision=precision)
        except GradlabError as error:
            pytest.fail(f"parity cannot be judged: {error}", pytrace=False)
        if report.first_divergence is not None:
            pytest.fail(f"{report}\n  what to do: {next_move(report)}", pytrace=False)
        return report

    return judge
