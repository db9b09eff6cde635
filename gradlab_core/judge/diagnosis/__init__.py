"""What is wrong with a run, where, since when, why, and what to do."""

from gradlab_core.judge.diagnosis.codes import CODES, Code
from gradlab_core.judge.diagnosis.judging import diagnose
from gradlab_core.judge.diagnosis.live import LiveDiagnosis

__all__ = ["CODES", "Code", "LiveDiagnosis", "diagnose"]
