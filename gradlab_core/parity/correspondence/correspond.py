"""The correspondence of two subjects: proposed by names and shapes, decided by running them where that is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.correspondence.finding import Rules, find
from gradlab_core.parity.correspondence.links import Correspondence, Shape
from gradlab_core.parity.correspondence.running import decide
from gradlab_core.parity.trace import Subject


def correspond(
    reference: Subject, candidate: Subject, batch: tuple[Inputs, Any] | None = None, *, rules: Rules | None = None
) -> Correspondence:
    """Which of the candidate's weights is which of the reference's.

    Args:
        reference, candidate: a `Subject` of either twin; neither is changed.
        batch: canonical `(x, y)`. With it, both programs are run where names and shapes leave a question open.
        rules: `{candidate's name: reference's name or a Link}`, where you know better.

    Raises:
        GradlabError: a rule that names what is not there.
    """
    canonical = bool(getattr(candidate, "canonical", True))
    ours, theirs = _shapes(reference), _shapes(candidate)
    proposed = find(ours, theirs, rules=rules, canonical=canonical)
    if batch is None or proposed.is_identity or proposed.left_reference or proposed.left_candidate:
        return proposed
    return decide(reference, candidate, batch, proposed, canonical=canonical)


def _shapes(subject: Subject) -> dict[str, Shape]:
    return {name: np.shape(array) for name, array in subject.state().items()}
