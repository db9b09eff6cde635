"""What is wrong with a run, where, since when, why, and what to do."""

from gradlab_core.diagnose.codes import CODES, Code
from gradlab_core.diagnose.judging import diagnose
from gradlab_core.diagnose.live import Live

__all__ = ["CODES", "Code", "Live", "diagnose"]
