"""Judging a run while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.judging import judge
from gradlab_core.records import Finding, StepRecord


class LiveDiagnosis:
    """Takes the records of a run one by one, as a sink does, and reports each new finding once.

    Args:
        on_finding: called with each new `Finding`; a code with paths at which it was not reported before is new.
        every: number of records between two judgements; a NaN or an Inf is reported at once.

    Its memory does not grow with the length of the run.

    >>> from gradlab_core.records import StepRecord
    >>> told = []
    >>> watch = LiveDiagnosis(told.append)
    >>> watch(StepRecord(step=0, loss=float("nan"), learning_rate=0.1, grad_norm=1.0, param_norm=1.0, update_norm=0.1,
    ...     update_ratio=0.1, tensors={}, states={}))
    >>> [finding.code for finding in told]
    ['nonfinite-loss']
    """

    def __init__(self, on_finding: Callable[[Finding], Any], *, every: int = 25) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise GradlabError(f"every is {every!r}; expected a whole number of at least 1")
        self.on_finding, self.every = on_finding, every
        self.history = History()
        self._reported: set[tuple[str, tuple[str, ...]]] = set()

    def __call__(self, record: StepRecord) -> None:
        """Take one record in."""
        broke = self.history.first_nonfinite is None
        self.history.add(record)
        broke = broke and self.history.first_nonfinite is not None
        if broke or self.history.count % self.every == 0:
            self.close()

    def close(self) -> None:
        """Judge the records that were not judged yet and report what is new; for the end of a run."""
        for finding in self.findings():
            key = finding.code, finding.paths[:1]
            if key not in self._reported:
                self._reported.add(key)
                self.on_finding(finding)

    def findings(self) -> list[Finding]:
        """All findings of the run so far."""
        return judge(self.history)
