"""Do two models train the same? The judgement, without a framework.

Nothing is run here: a twin's `Subject` runs a model and gives a trace.
Imports definitions and records.
"""

from gradlab_core.parity.arithmetic import PRECISIONS, Arithmetic
from gradlab_core.parity.causes import Cause, Explanation, Fault
from gradlab_core.parity.compared import compare_traces
from gradlab_core.parity.correspondence import Correspondence, Link, Turn, check_transfer, correspond, transfer
from gradlab_core.parity.hiding import moved, refuse_hiding_places
from gradlab_core.parity.judge import assert_parity, compare
from gradlab_core.parity.report import ParityReport, ParityRow
from gradlab_core.parity.trace import Key, Subject, Trace
from gradlab_core.parity.traces import record

__all__ = [
    "PRECISIONS",
    "Arithmetic",
    "Cause",
    "Correspondence",
    "Explanation",
    "Fault",
    "Key",
    "Link",
    "ParityReport",
    "ParityRow",
    "Subject",
    "Trace",
    "Turn",
    "assert_parity",
    "check_transfer",
    "compare",
    "compare_traces",
    "correspond",
    "moved",
    "record",
    "refuse_hiding_places",
    "transfer",
]
