"""The definition of a scenario."""

from __future__ import annotations

import dataclasses

from gradlab_core.programs.program import ProgramSpec

FAMILIES = (
    *("exploding", "vanishing", "disconnected", "not updating", "wrong way", "units", "nonfinite", "plateau"),
    "healthy",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """A program with a fault that hinders its training and the same program repaired, or a healthy program.

    Attributes:
        name: the name on the command line.
        family: one of `FAMILIES`.
        about: what is wrong with the program, or what is worth knowing about a healthy one.
        codes: the codes of the expected findings, the main one first; none for a healthy program.
        program: the program with the fault.
        fix: the program without the fault; None for a healthy program.
        remedy: what was changed in `fix`.
    """

    name: str
    family: str
    about: str
    codes: tuple[str, ...] = ()
    program: ProgramSpec
    fix: ProgramSpec | None = None
    remedy: str = ""
