"""Who wants to know when a gradient scaler updates; it has no hooks of its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

_listeners: weakref.WeakKeyDictionary[Any, list[Callable[[], None]]] = weakref.WeakKeyDictionary()


def listen(scaler: Any, on_update: Callable[[], None]) -> None:
    """Call `on_update` before each `scaler.update()`, of this scaler only, until `leave`."""
    if scaler not in _listeners:
        _listeners[scaler] = []
        reference = weakref.ref(scaler)

        def update(*args: Any, **kwargs: Any) -> Any:
            owner: Any = reference()  # it is there: it is being called
            for listener in _listeners.get(owner, []):
                listener()
            return type(owner).update(owner, *args, **kwargs)

        scaler.update = update
    _listeners[scaler].append(on_update)


def leave(scaler: Any, on_update: Callable[[], None]) -> None:
    """Stop listening; after the last listener the scaler is as it was."""
    _listeners[scaler].remove(on_update)
    if not _listeners[scaler]:
        del _listeners[scaler]
        del scaler.update  # the method of its class shows again
