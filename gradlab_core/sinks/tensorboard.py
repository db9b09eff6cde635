"""Records for TensorBoard, written with the `tensorboard` package alone: no TensorFlow, no PyTorch."""

from __future__ import annotations

import os
import time
from typing import Any

from gradlab_core.errors import GradlabError, require
from gradlab_core.files import cannot_write
from gradlab_core.records import StepRecord
from gradlab_core.sinks.base import Sink
from gradlab_core.sinks.flat import scalars


class TensorBoardSink(Sink):
    """One event a step into a new event file in `folder`, with all scalars of the record in it.

    The numbers are float64: TensorBoard's older `simple_value` is a float32, in which a norm of 1e39 would become Inf
    and one of 1e-46 would become 0. Its reader gives them back exactly, its page draws them as float32.

    Raises:
        GradlabError: the folder cannot be written.
        MissingDependency: tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        files = require("tensorboard.summary.writer.event_file_writer", extra="tensorboard")
        protos = "tensorboard.compat.proto."
        self._event = require(protos + "event_pb2", extra="tensorboard").Event
        summary = require(protos + "summary_pb2", extra="tensorboard")
        self._double = require(protos + "types_pb2", extra="tensorboard").DT_DOUBLE
        self._folder = os.fspath(folder)
        try:
            self._writer: Any = files.EventFileWriter(self._folder)
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        self._metadata = summary.SummaryMetadata(
            plugin_data=summary.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=summary.DATA_CLASS_SCALAR
        )
        self._known: set[str] = set()

    def __call__(self, record: StepRecord) -> None:
        if self._writer is None:
            raise GradlabError(f"{self._folder} is closed; open it again to write more")
        event = self._event(step=record.step, wall_time=time.time())
        for tag, number in scalars(record).items():
            value = event.summary.value.add()
            value.tag = tag
            value.tensor.dtype = self._double
            value.tensor.double_val.append(number)
            if tag not in self._known:  # TensorBoard keeps what the first value of a tag says of it
                value.metadata.CopyFrom(self._metadata)
                self._known.add(tag)
        self._writer.add_event(event)
        self._writer.flush()  # else up to two minutes of a killed run are lost

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
