"""Which weights of a port are which of the original, however they are called and laid out.

Names and shapes propose, running both programs decides what they leave open; then weights can be moved across and held
against each other. How equality of programs is judged stands one floor up.
Imports definitions, records and the parity room's traces and weights.
"""

from gradlab_core.parity.correspondence.correspond import correspond
from gradlab_core.parity.correspondence.finding import Rules, find
from gradlab_core.parity.correspondence.links import Correspondence, Link, Turn
from gradlab_core.parity.correspondence.transfer import TransferCheck, TransferRow, check_transfer, transfer
from gradlab_core.parity.correspondence.view import corresponding

__all__ = [
    "Correspondence",
    "Link",
    "Rules",
    "TransferCheck",
    "TransferRow",
    "Turn",
    "check_transfer",
    "correspond",
    "corresponding",
    "find",
    "transfer",
]
