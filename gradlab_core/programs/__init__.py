"""Programs that both twins build and run: specs, data, tasks, the training loop, scenarios with a known fault.

No framework is imported here, and nothing looks at what a program did.
Imports definitions and records.
"""

from gradlab_core._moved import also_from

__getattr__ = also_from("gradlab_core.programs.program", __name__)
