"""`python -m benchmarks.bench_norms …` is `gradlab bench norms …`: the same options, the same table."""

from __future__ import annotations

import sys


def main(verb: str) -> None:
    """Hand the command line over to `gradlab bench VERB`."""
    from gradlab_core.cli.main import run

    sys.argv = ["gradlab", "bench", verb, *sys.argv[1:]]
    run()
