"""What goes into a subject and what comes out of it: one array or several, images in the layout a model takes them in,
and of what a model returns the part that is compared and goes to the loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError, refuse

Inputs = np.ndarray | Mapping[str, "np.ndarray | None"] | Sequence["np.ndarray | None"]
"""`model(x)`; of a mapping `model(**x)`; of a tuple or a list `model(*x)`. What is None stays None."""
LAYOUTS = ("NCHW", "NHWC", "NCL", "NLC", "none")
"""How a model takes what a canonical batch holds as (N, C, …): a layout moves arrays of its own number of axes only."""
Layout = str | Mapping[str, str]


def check_layout(layout: Any) -> None:
    """Refuse a layout that nobody knows.

    >>> check_layout({"x": "HWC"})
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: layout: of 'x' it is 'HWC'; expected one of NCHW, NHWC, NCL, NLC, none
    """
    given = layout if isinstance(layout, Mapping) else {"every input": layout}
    wrong = {name: one for name, one in given.items() if one not in LAYOUTS}
    refuse(
        "layout", [f"of {name!r} it is {one!r}; expected one of {', '.join(LAYOUTS)}" for name, one in wrong.items()]
    )


def mapped(x: Any, f: Callable[[str, Any], Any]) -> Any:
    """`f(name, array)` of every input that is there; a single one has no name, those of a tuple are called 0, 1, ….

    >>> mapped((np.ones(2), None), lambda name, array: (name, len(array)))
    (('0', 2), None)
    """
    if isinstance(x, Mapping):
        return {name: None if value is None else f(str(name), value) for name, value in x.items()}
    if isinstance(x, (tuple, list)):
        return tuple(None if value is None else f(str(i), value) for i, value in enumerate(x))
    return f("", x)


def each(x: Any) -> dict[str, np.ndarray]:
    """The inputs that are there, by name.

    >>> list(each({"tokens": [1, 2], "mask": None}))
    ['tokens']
    """
    arrays: dict[str, np.ndarray] = {}
    mapped(x, lambda name, array: arrays.__setitem__(name, np.asarray(array)))
    return arrays


def arranged(x: Any, layout: Layout, usual: str) -> Any:
    """A canonical batch as a model takes it; inputs that a mapping of layouts does not name are in the `usual` one.

    >>> batch = {"image": np.ones((2, 3, 8, 9)), "mask": np.ones((2, 1, 4, 4))}
    >>> [array.shape for array in arranged(batch, {"mask": "none"}, "NHWC").values()]
    [(2, 8, 9, 3), (2, 1, 4, 4)]
    """

    def moved(name: str, array: Any) -> np.ndarray:
        array = np.asarray(array)
        own = layout.get(name, usual) if isinstance(layout, Mapping) else layout
        last = own.endswith("C") and array.ndim == len(own)
        return np.ascontiguousarray(np.moveaxis(array, 1, -1) if last else array)

    return mapped(x, moved)


@dataclasses.dataclass(frozen=True)
class Pick:
    """The part of a model's output that is compared and goes to the loss: by its place, key or attribute.

    >>> Pick("logits")({"logits": 3.0, "loss": 1.0}), Pick(1)((1.0, 2.0)), Pick(None)(4.0)
    (3.0, 2.0, 4.0)
    """

    what: str | int | None

    def __call__(self, out: Any) -> Any:
        if self.what is None:
            return out
        try:
            if isinstance(self.what, str) and not isinstance(out, Mapping):
                return getattr(out, self.what)
            return out[self.what]
        except (KeyError, IndexError, TypeError, AttributeError):
            keys = f" of {', '.join(map(str, out))}" if isinstance(out, Mapping) else ""
            raise GradlabError(
                f"pick is {self.what!r}, and the model returned a {type(out).__name__}{keys}; expected a place, key or "
                "attribute of it, or a function that picks"
            ) from None


def as_pick(pick: Any) -> Callable[[Any], Any]:
    """A function that picks, from what a user names.

    >>> as_pick(3.5)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: pick is 3.5; expected a place, a key, an attribute's name or a function
    """
    if callable(pick):
        return pick
    if pick is not None and (isinstance(pick, bool) or not isinstance(pick, (str, int))):
        raise GradlabError(f"pick is {pick!r}; expected a place, a key, an attribute's name or a function")
    return Pick(pick)
