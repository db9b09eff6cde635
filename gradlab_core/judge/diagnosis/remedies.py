"""Remedies that depend on the kind of the layers, or on the reason why a parameter does not move."""

from __future__ import annotations

from gradlab_core.judge.diagnosis.codes import CODES
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.layers import FORWARD, RECURRENT, TRANSFORMER, is_bounded, kinds_of, kinds_of_net

_DEEP = (
    "add residual connections or normalisation layers",
    "start with a larger gain (Xavier for tanh, Kaiming for ReLU)",
)
_BOUNDED = "use ReLU-like activations in place of sigmoid and tanh, with Kaiming initialisation"
_SCALED = "draw the weights with the gain of the activation: Kaiming for ReLU-like ones, Xavier for tanh"
_GATES = {
    "lstm": "start the bias of the forget gate at 1 (2 and more for a long memory), so that the cell keeps what it has",
    "gru": "start the bias of the update gate so that the old state is kept (at 1 where z weighs the old state, as in "
    "PyTorch and Flax)",
    "rnn": "use an LSTM, with a forget bias of 1, or a GRU: their gates let the gradient pass unchanged",
}
_ANY_CELL = "an LSTM: start the bias of the forget gate at 1; a plain RNN: use an LSTM or GRU in its place"
_THROUGH_TIME = (
    "start recurrent weights orthogonal",
    "shorten the way: shorter sequences, truncated backpropagation, a loss at more steps than the last, or attention "
    "to earlier states",
)
_EXPLODING = {
    RECURRENT: (
        "clip the global gradient norm, at 1 to begin with",
        "start recurrent weights orthogonal, or with a spectral radius of at most 1; use an LSTM or GRU",
        "truncate the backpropagation through time, or shorten the sequences",
        "lower the learning rate",
    ),
    TRANSFORMER: (
        "clip the global gradient norm, at 1 to begin with",
        "warm the learning rate up, over the first few hundred steps at least",
        "put the normalisation in front of attention and feed-forward part (pre-norm)",
        "scale the last weights of every residual branch by 1/√(2·blocks) at the start",
    ),
    FORWARD: (
        "clip the global gradient norm, at 1 to begin with",
        "lower the learning rate",
        "add normalisation layers or residual connections; start with a smaller gain",
    ),
}
_IN_A_BLOCK = (
    "put the normalisation in front of attention and feed-forward part, inside the residual branch (pre-norm)",
    "see that the sum around every attention and feed-forward part is there: the skip is the gradient's way back",
    "warm the learning rate up, and scale the last weights of every residual branch by 1/√(2·blocks) at the start",
)
_LOOK_INSIDE = (
    "see whether the gradient vanishes through time, which norms of parameters cannot show: record probes of a net "
    "with one recurrent layer, or call `hidden_state_norms`"
)

UNREGISTERED, FROZEN, STILL, ROUNDED = range(4)
"""Why parameters do not move: the places of the remedies in the catalogue."""

OUTPUT, ALL_ZERO, CUT, CONSTANT = range(4)
"""Why a gradient is exactly 0: as above."""


def of_vanishing(history: History, paths: list[str]) -> tuple[str, ...]:
    """Remedies for a gradient that vanishes at these paths; for several kinds of layers, those of each kind."""
    remedies: list[str] = []
    for kind in kinds_of(history, paths):
        if kind == RECURRENT:
            remedies += [_GATES.get(_cell(history), _ANY_CELL), *_THROUGH_TIME]
        elif kind == TRANSFORMER:
            remedies += _IN_A_BLOCK
        else:
            remedies += [_SCALED if is_bounded(history) is False else _BOUNDED, *_DEEP]
    return tuple(dict.fromkeys(remedies)) or CODES["vanishing-gradient"].remedies


def of_exploding(history: History, paths: list[str]) -> tuple[str, ...]:
    """Remedies for a gradient that explodes at these paths, or somewhere in the net if there are none."""
    kinds = kinds_of(history, paths) or kinds_of_net(history)
    remedies = [remedy for kind in kinds for remedy in _EXPLODING[kind]]
    return tuple(dict.fromkeys(remedies)) or CODES["exploding-gradient"].remedies


def of_slowness(history: History) -> tuple[str, ...]:
    """Remedies for a learning rate that is too low; without a probe of its states a recurrent net may lack others."""
    known = CODES["learning-rate-too-low"].remedies
    seen = any(probe.hidden is not None for _, probe in history.probes)
    return known if seen or RECURRENT not in kinds_of_net(history) else (*known, _LOOK_INSIDE)


def of_stillness(reason: int) -> tuple[str, ...]:
    """Remedies for parameters that do not move: the one for the reason first; for `ROUNDED` the others are left out."""
    known = CODES["not-updating"].remedies
    if reason == ROUNDED:
        return (
            "if the gradient itself is that small, look for what makes it so: see the other findings, and "
            "`gradient_flow`",
            "keep float32 master weights where the parameters are of half precision, or round at random",
            "raise the learning rate",
        )
    return (known[reason], *(remedy for place, remedy in enumerate(known[:ROUNDED]) if place != reason))


def of_zero(reason: int | None) -> tuple[str, ...]:
    """Remedies for gradients that are exactly 0: the one for the reason first, where the records show one."""
    known = CODES["zero-gradient"].remedies
    return known if reason is None else (known[reason], *(r for place, r in enumerate(known) if place != reason))


def of_spike(led: bool) -> tuple[str, ...]:
    """Remedies for a jump of the loss: where no update had grown before it, the batch is looked at first."""
    known = CODES["loss-spike"].remedies
    return known if led else (*known[-2:], *known[:-2])


def of_unreached(code: str) -> tuple[str, ...]:
    """Remedies for a part of the net that gets nothing while its siblings do, as an expert to which nothing is sent."""
    return (
        "if a router chooses: see that it can choose this part at all, and add a load-balancing loss or noise to it",
        *CODES[code].remedies,
    )


def _cell(history: History) -> str:
    """The cell of the recurrent layer that a probe looked into, without its activation; "" where none did."""
    cells = [probe.hidden.cell for _, probe in history.probes if probe.hidden is not None]
    return cells[-1].partition("_")[0].lower() if cells else ""
