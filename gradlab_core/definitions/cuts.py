"""Where a model is cut into steps: what goes into each call of each layer, and what comes out of it."""

from __future__ import annotations

import dataclasses
from typing import Literal

End = Literal["input", "output"]
Sort = Literal["layer", "activation", "function", "module"]


@dataclasses.dataclass(frozen=True)
class Cut:
    """One tensor at one end of one call.

    Attributes:
        path: of the module that is called; of an activation or a function with a derivative of its own, of the module
            whose forward calls it.
        kind: `linear`, `relu`; of any other module its class, of a function with a derivative of its own its name.
        call: counts the calls of the same path and kind from 0.
        end: whether the tensor goes in or comes out.
        place: which of several tensors at that end.
        caller: path of the module that makes the call.
        sort: `layer` or `activation`, of a kind that gradlab knows; `function`, with a derivative of its own; any
            other `module`.
    """

    path: str
    kind: str
    call: int = 0
    end: End = "output"
    place: int = 0
    caller: str = ""
    sort: Sort = "module"

    @property
    def layer(self) -> str:
        """The call in words.

        >>> Cut("block.fc1", "linear", sort="layer").layer, Cut("block", "relu", 1, sort="activation").layer
        ('block.fc1', 'relu of block (call 2)')
        """
        own = self.sort in ("activation", "function")
        name = (f"{self.kind} of {self.path}" if self.path else self.kind) if own else self.path or "the model"
        return name + (f" (call {self.call + 1})" if self.call else "")

    @property
    def label(self) -> str:
        """The tensor in words.

        >>> Cut("fc1", "linear", end="input", sort="layer").label
        'input of fc1'
        """
        return f"{self.end}{f' {self.place + 1}' if self.place else ''} of {self.layer}"


LOGITS = Cut("", "logits")
"""What the model gives to the loss."""
LOSS = Cut("", "loss", sort="function")
