"""Records for Weights & Biases, which stays offline unless the user says otherwise."""

from __future__ import annotations

import os
from typing import Any

from gradlab_core.errors import GradlabError, require
from gradlab_core.records import StepRecord
from gradlab_core.sinks.base import Sink
from gradlab_core.sinks.flat import PREFIX, scalars

STEP = PREFIX + "step"


class WandbSink(Sink):
    """Calls `run.log` once a step, on the active run or else on a new run of `project`.

    A new run is offline unless `mode` or the environment variable WANDB_MODE says otherwise, so nothing leaves the
    machine until the user asks for it (`wandb sync`). A run that was active before stays open when the sink is
    closed. The axis of the curves is `gradlab/step`.

    Raises:
        GradlabError: wandb refuses the project or the mode.
        MissingDependency: wandb is not installed.
    """

    def __init__(self, project: str, *, mode: str | None = None) -> None:
        wandb: Any = require("wandb", extra="wandb")
        self._own = wandb.run is None
        if wandb.run is not None:
            self._run: Any = wandb.run
        else:
            chosen = mode or os.environ.get("WANDB_MODE") or "offline"
            try:
                self._run = wandb.init(project=project, mode=chosen)
            except wandb.Error as error:
                raise GradlabError(f"wandb cannot begin a run of the project {project!r}: {error}") from error
        self._run.define_metric(PREFIX + "*", step_metric=STEP)

    def __call__(self, record: StepRecord) -> None:
        if self._run is None:
            raise GradlabError("this wandb sink is closed; open it again to write more")
        self._run.log({STEP: record.step, **scalars(record)})

    def close(self) -> None:
        if self._run is not None and self._own:
            self._run.finish()
        self._run = None
