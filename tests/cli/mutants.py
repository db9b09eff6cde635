"""Record files changed at random: what no reader may answer with anything but an error of one line."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

DEEP = "[" * 5000 + "]" * 5000
NUMBERS = (-1, -1.0, -0.0, 0, 0.5, 1.5, -1e-300, 1e308, 5e-324, 10**18, 2**63 - 1, 2**64, 10**400, -(10**400))
WORDS = ("", "NaN", "Infinity", "-Infinity", "nan", "ok", "train", "x" * 3000, "\ud800", "é‖\u2028\0<b>")
VALUES = (*NUMBERS, *WORDS, True, False, None, [], [1, 2], [[[]]], {}, {"a": 1}, [None] * 5)


def mutant(lines: list[str], rng: random.Random) -> bytes:
    """The lines of a record file, one of them changed, or the whole cut short."""
    changed = list(lines)
    place = rng.randrange(len(lines))
    kind = rng.random()
    if kind < 0.08:
        text = "\n".join(lines).encode()
        return text[: rng.randrange(len(text))] + rng.choice([b"", b"\n"])
    if kind < 0.16:
        text = bytearray("\n".join(lines).encode() + b"\n")
        for _ in range(rng.randrange(1, 4)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        return bytes(text)
    if kind < 0.2:
        changed[place] = rng.choice(
            [DEEP, '{"a":' * 5000 + "1" + "}" * 5000, "1" + "0" * 400, "1" + "0" * 5000, "1e999"]
        )
    elif kind < 0.24:
        literal = rng.choice(["NaN", "1e999", "-Infinity", "1" + "0" * 4999, DEEP])
        changed[place] = json.dumps(_changed(json.loads(lines[place]), rng, "@")).replace('"@"', literal)
    elif kind < 0.28:
        changed[place : place + 1] = rng.choice([[], [lines[place]] * 2, [lines[place], lines[0]], [""]])
    else:
        body = json.loads(lines[place])
        for _ in range(rng.choice([1, 1, 1, 3])):
            body = _changed(body, rng, None)
        changed[place] = json.dumps(body)
    return ("\n".join(changed) + "\n").encode()


def _changed(body: Any, rng: random.Random, value: Any) -> Any:
    """One place in a JSON value, at any depth, replaced, taken out, doubled or renamed."""
    body = copy.deepcopy(body)
    holder, key = rng.choice(_places(body, None, None))
    if value is None:  # as often one that may fit as one that does not
        fitting = {float: (*NUMBERS, *WORDS[1:4]), int: NUMBERS, str: WORDS}.get(
            type(None if holder is None else holder[key])
        )
        value = rng.choice(fitting if fitting and rng.random() < 0.6 else VALUES)
    if holder is None:
        return value
    ways: list[Callable[[], Any]] = [lambda: holder.__setitem__(key, value)] * 4 + [lambda: holder.pop(key)]
    if isinstance(holder, dict):
        ways.append(lambda: holder.__setitem__(str(value)[:40], holder.pop(key)))
    else:
        ways.append(lambda: holder.append(holder[key]))
    rng.choice(ways)()
    return body


def _places(body: Any, holder: Any, key: Any) -> list[tuple[Any, Any]]:
    """Of everything in a JSON value, what holds it and under which key."""
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [(holder, key), *(place for k, item in inner for place in _places(item, body, k))]
