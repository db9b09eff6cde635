"""The protocol of a sink: it is called once a step and closed once."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Self

from gradlab_core.records import StepRecord


class Sink(abc.ABC):
    """Takes the records of a run, one call a step; `close` it, or use it in a `with` statement."""

    @abc.abstractmethod
    def __call__(self, record: StepRecord) -> None:
        """Write one record."""

    @abc.abstractmethod
    def close(self) -> None:
        """Write what is still pending and release files and connections. Closing twice does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
