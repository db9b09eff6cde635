"""gradlab's language, without a framework. From the ground up, each room knows only those before it:

errors, files, fields, text, backends   what everyone needs
records       what was measured, and its JSON
definitions   what each number is, in float64 NumPy
sinks, parity where records go; do two models train the same?
programs      nets, tasks and loops that both twins build and run
judge         from records to findings, trends and reports in words
show          charts, tables, the page of a run
lab, compare  what is known before a training; architectures side by side
report, cli   every page in one function; the command
pytest_plugin a fixture for a user's tests of a port
"""

from gradlab_core import _moved
from gradlab_core.judge.diagnosis import diagnose

_moved.install()
__getattr__ = _moved.attributes_of(__name__)

__all__ = ["diagnose"]
