"""The gallery: small programs that each have one fault, beside their repaired versions, and healthy programs."""

from __future__ import annotations

from gradlab_core.programs.scenarios.direction import DIRECTION
from gradlab_core.programs.scenarios.disconnected import DISCONNECTED
from gradlab_core.programs.scenarios.exploding import EXPLODING
from gradlab_core.programs.scenarios.healthy import HEALTHY
from gradlab_core.programs.scenarios.nonfinite import NONFINITE
from gradlab_core.programs.scenarios.plateau import PLATEAU
from gradlab_core.programs.scenarios.scenario import FAMILIES, Scenario
from gradlab_core.programs.scenarios.still import STILL
from gradlab_core.programs.scenarios.units import UNITS
from gradlab_core.programs.scenarios.vanishing import VANISHING

__all__ = ["FAMILIES", "SCENARIOS", "Scenario"]

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for family in (EXPLODING, VANISHING, DISCONNECTED, STILL, DIRECTION, UNITS, NONFINITE, PLATEAU, HEALTHY)
    for scenario in family
}
"""All scenarios by name, family by family."""
