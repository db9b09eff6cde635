"""Do two models train the same? The judgement, without a framework."""

from gradlab_core.parity.judge import ParityReport, ParityRow, assert_parity, compare, moved, refuse_hiding_places
from gradlab_core.parity.trace import Key, Subject, Trace

__all__ = [
    "Key",
    "ParityReport",
    "ParityRow",
    "Subject",
    "Trace",
    "assert_parity",
    "compare",
    "moved",
    "refuse_hiding_places",
]
