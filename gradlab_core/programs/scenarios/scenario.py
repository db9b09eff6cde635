"""What a scenario is."""

from __future__ import annotations

import dataclasses

from gradlab_core.programs.program import ProgramSpec

FAMILIES = ("exploding", "vanishing", "disconnected", "not updating", "units", "nonfinite", "plateau", "healthy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """A program with a fault that truly hinders it, beside the same program repaired; or a healthy one.

    Attributes:
        name: as the command line takes it.
        family: one of `FAMILIES`.
        about: what is wrong with the program, or what is worth knowing of a healthy one.
        codes: of the findings to expect, the chief one first; none for a healthy program.
        program: with the fault.
        fix: the program without it, None for a healthy one.
        remedy: what was changed in `fix`.
    """

    name: str
    family: str
    about: str
    codes: tuple[str, ...] = ()
    program: ProgramSpec
    fix: ProgramSpec | None = None
    remedy: str = ""
