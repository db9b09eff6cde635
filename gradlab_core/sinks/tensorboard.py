"""Records for TensorBoard, written with the `tensorboard` package alone: no TensorFlow, no PyTorch."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from gradlab_core.errors import GradlabError, require
from gradlab_core.files import cannot_write
from gradlab_core.records import StepRecord
from gradlab_core.sinks.base import Sink
from gradlab_core.sinks.flat import scalars

LARGEST, SMALLEST = 3.4028234663852886e38, 1.401298464324817e-45
"""The limits of float32, the type of TensorBoard's scalars."""


class TensorBoardSink(Sink):
    """Writes one event a step, with all scalars of the record, to a new event file in `folder`.

    The scalars are `simple_value`s in float32, as TensorBoard's own writers make them, because its fast loader reads no
    others. A finite number beyond the range of float32 is written as the largest or smallest float32, so that it does
    not turn into Inf or zero. NaN and Inf are kept.

    Raises:
        GradlabError: the folder cannot be written.
        MissingDependency: tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        files = require("tensorboard.summary.writer.event_file_writer", extra="tensorboard")
        self._event = require("tensorboard.compat.proto.event_pb2", extra="tensorboard").Event
        self._folder = os.fspath(folder)
        try:
            self._writer: Any = files.EventFileWriter(self._folder)
        except OSError as error:
            raise cannot_write(self._folder, error) from error

    def __call__(self, record: StepRecord) -> None:
        if self._writer is None:
            raise GradlabError(f"{self._folder} is closed; open it again to write more")
        event = self._event(step=record.step, wall_time=time.time())
        for tag, number in scalars(record).items():
            event.summary.value.add(tag=tag, simple_value=single(number))
        self._writer.add_event(event)
        self._writer.flush()  # otherwise a killed run loses up to two minutes

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def single(number: float) -> float:
    """The nearest float32 that is zero, NaN or Inf only if the number itself is.

    >>> single(1e300), single(-1e-300), single(0.0), single(math.inf), single(math.nan)
    (3.4028234663852886e+38, -1.401298464324817e-45, 0.0, inf, nan)
    """
    if number == 0 or not math.isfinite(number):
        return number
    return math.copysign(min(max(abs(number), SMALLEST), LARGEST), number)
