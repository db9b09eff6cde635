"""Why two programs differ: hypotheses about one layer, loss or optimizer, each held against the numbers.

A hypothesis here computes what the candidate would have if it were true, from the reference's tensors. One that leaves
only rounding between that and what the candidate has is a cause. Nothing is run and no framework is known.
Imports the parity records, definitions.
"""

from gradlab_core.parity.causes.cause import Cause, Explanation
from gradlab_core.parity.causes.faults import Fault, find_faults, other_points

__all__ = ["Cause", "Explanation", "Fault", "find_faults", "other_points"]
