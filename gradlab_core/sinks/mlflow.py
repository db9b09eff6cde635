"""Records for MLflow, in the store that the user's tracking URI names."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Mapping
from typing import Any

from gradlab_core.errors import GradlabError, require
from gradlab_core.records import StepRecord
from gradlab_core.sinks.base import Sink
from gradlab_core.sinks.flat import scalars

MOST_METRICS, LONGEST_NAME = 1000, 250
"""MLflow's limits on the metrics in one batch and the characters in a name. Source: mlflow/utils/validation.py."""

NOTE = "gradlab.infinity"


class MlflowSink(Sink):
    """Logs one batch of metrics a step, to the active run or else to a new run of `experiment`.

    A run that was active before stays open when the sink is closed. NaN stays NaN. MLflow's databases hold no Inf and
    store the largest float64, ±1.7976931348623157e308, in its place; the run carries a tag that says so.

    Raises:
        GradlabError: MLflow refuses the experiment or the tracking URI.
        MissingDependency: mlflow is not installed.
    """

    def __init__(self, experiment: str) -> None:
        mlflow: Any = require("mlflow", extra="mlflow")
        self._metric = require("mlflow.entities", extra="mlflow").Metric
        active = mlflow.active_run()
        self._own = active is None
        try:
            self._client: Any = mlflow.MlflowClient()
            self._run: str | None = (active or self._new_run(experiment)).info.run_id
            self._client.set_tag(self._run, NOTE, "±1.7976931348623157e308 stands for ±Inf in MLflow's databases")
        except mlflow.exceptions.MlflowException as error:
            raise GradlabError(
                f"MLflow cannot write the experiment {experiment!r} to {mlflow.get_tracking_uri()}: {error}"
            ) from error

    def __call__(self, record: StepRecord) -> None:
        if self._run is None:
            raise GradlabError("this MLflow sink is closed; open it again to write more")
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, record.step) for name, value in named(scalars(record)).items()]
        for begin in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._run, metrics=metrics[begin : begin + MOST_METRICS])

    def close(self) -> None:
        if self._run is not None and self._own:
            self._client.set_terminated(self._run)
        self._run = None

    def _new_run(self, experiment: str) -> Any:
        known = self._client.get_experiment_by_name(experiment)
        return self._client.create_run(known.experiment_id if known else self._client.create_experiment(experiment))


def named(flat: Mapping[str, float]) -> dict[str, float]:
    """The same values under names that MLflow accepts. A changed name ends with a checksum, so that no two coincide.

    >>> named({"gradlab/tensors/a.weight/grad": 1.0, "gradlab/tensors/a[0]/grad": 2.0})
    {'gradlab/tensors/a.weight/grad': 1.0, 'gradlab/tensors/a_0_/grad-f0229ddd': 2.0}
    """
    return {_name(name): value for name, value in flat.items()}


def _name(name: str) -> str:
    # Dots and slashes at the edges of a part would be read as folders.
    fit = re.sub(r"(?<=/)\.+(?=/)|//+", "_", re.sub(r"[^\w.\-/]", "_", name, flags=re.ASCII))
    if fit == name and len(name) <= LONGEST_NAME:
        return name
    return f"{fit[: LONGEST_NAME - 9]}-{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"
