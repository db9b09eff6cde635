"""Programs that both twins build and run: the models of the specs, the training loop, planted faults.

Nothing that a user's own model or loop needs.
Imports start and what lies below it.
"""

from gradlab_core._moved import also_from

__getattr__ = also_from("gradlab_torch.programs.program", __name__)
