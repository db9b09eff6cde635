"""The kinds of the layers of a finding, since a remedy for one kind of layer does nothing for another.

A measurement counts first: the recurrent layer whose states a probe holds. Next come the names that the frameworks give
only to the weights of recurrent and attention layers. All other layers count as feed-forward.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gradlab_core.definitions import kinds
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.weights import weight_paths

RECURRENT, TRANSFORMER, FORWARD = "recurrent", "transformer", "feed-forward"

_RECURRENT = re.compile(
    r"(^|\.)((weight|bias)_(hh|ih|hr)(_l\d+(_reverse)?)?"  # torch.nn.RNNBase and RNNCellBase
    r"|(h[fgio]|i[gio]|if_?|h[rzn]|i[rzn])\.(weight|bias)"  # flax LSTMCell, and GRUCell of Linen
    r"|dense_[hi]\.(weight|bias))$"  # flax OptimizedLSTMCell, GRUCell and SimpleCell
)
_ATTENTION = re.compile(
    r"(^|\.)(in_proj_(weight|bias)"  # torch.nn.MultiheadAttention
    r"|(query|key|value|[qkv]_proj)(_proj)?\.(weight|bias)"  # flax MultiHeadAttention, and transformers
    r"|(self_attn|self_attention|c_attn|attn|attention)\.[\w.]*(weight|bias))$"
)


def kinds_of(history: History, paths: Iterable[str]) -> list[str]:
    """The kinds of the layers at these parameters or modules, each once, in the order of `paths`.

    A feed-forward layer of a net that holds attention is one of a transformer block.
    """
    stepped = {probe.hidden.path for _, probe in history.probes if probe.hidden is not None}
    attends = any(_ATTENTION.search(path) for path in history.order)

    def kind(path: str) -> str:
        if path in stepped or path.rpartition(".")[0] in stepped or _RECURRENT.search(path):
            return RECURRENT
        return TRANSFORMER if attends else FORWARD

    return list(dict.fromkeys(map(kind, paths)))


def kinds_of_net(history: History) -> list[str]:
    """The kinds of all weights, for a finding that names no layer."""
    return kinds_of(history, weight_paths(history)) if history.early else []


def is_bounded(history: History) -> bool | None:
    """Whether the net has activations that are bounded on both sides, as sigmoid and tanh; None if no probe saw any."""
    seen = {row.kind for _, probe in history.probes for row in probe.layers} & set(kinds.ACTIVATIONS)
    return bool(seen & (kinds.BOUNDS.keys() - kinds.RELU_LIKE)) if seen else None
