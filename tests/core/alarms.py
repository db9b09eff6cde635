"""What the diagnosis says of a made-up run, and the sizes that its thresholds are compared with."""

from __future__ import annotations

import math

from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.records import Severity
from tests.runs import CLASSES, run

LN = math.log(CLASSES)


def alarms(records):
    """Codes of the findings that count."""
    return [f.code for f in diagnose(records) if f.severity is not Severity.NOTE]


def only(records):
    """The one finding of a run."""
    (found,) = diagnose(records)
    return found


def falling_at(step):
    return run(step + 1)[step].loss
