"""The loss that a model's answers went into, from the gradient at the answers:
`gradlab_core.definitions.answers`, on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from gradlab_core.definitions import answers as definition
from gradlab_core.records import Answers, TensorStats
from gradlab_torch.measure.statistics import NO_LAYER, Row, stats
from gradlab_torch.trees.norm_arithmetic import wide
from gradlab_torch.trees.transfer import Parts


@dataclasses.dataclass(frozen=True)
class Figures:
    """What speaks for each loss, on its way to the host."""

    shape: tuple[int, ...]
    half: bool
    parts: Parts
    targets: Mapping[str, Row]

    def recognised(
        self, numbers: Mapping[str, Mapping[str, float]], loss: float | None, *, is_squashed: bool
    ) -> tuple[Answers | None, TensorStats | None]:
        """`gradlab_core.definitions.answers.recognised`, of figures that have arrived."""
        count = torch.Size(self.shape).numel()
        return definition.recognised(
            {name.removeprefix("answers "): numbers[name] for name in self.parts if name.startswith("answers ")},
            loss,
            columns={"softmax": self.shape[-1], "softmax1": self.shape[min(1, len(self.shape) - 1)]},
            count=count,
            batch=self.shape[0],
            half=self.half,
            is_squashed=is_squashed,
            targets={way: row.of_tensor(numbers[f"target {way}"]) for way, row in self.targets.items()},
        )


def figures(z: torch.Tensor, g: torch.Tensor) -> Figures | None:
    """What speaks for each loss; `z` are the answers, (N, …), `g` is ∂L/∂z. None of a single number, which may be the
    loss itself."""
    if z.ndim == 0 or z.numel() < 2 or z.shape != g.shape or z.is_complex():
        return None
    half = torch.finfo(z.dtype).bits < 32 or torch.finfo(g.dtype).bits < 32
    parts: Parts = {}
    for name, axis in (("softmax", -1), ("softmax1", 1)):
        if z.shape[axis if z.ndim > 1 else 0] > 1 and z.ndim > (1 if name == "softmax" else 2):
            parts[f"answers {name}"] = _softmax(*_rows(z, g, axis))
    parts["answers sigmoid"] = _sigmoid(*(t.reshape(-1)[: definition.SAMPLED] for t in (z, g)))
    targets: dict[str, Row] = {}
    if z.numel() <= definition.SAMPLED:  # a squared error needs all of them
        parts["answers squared"] = ["square"], wide(g).square().sum().reshape(1)
        for way, factor in definition.squared_factors(z.numel(), len(z)).items():
            targets[way] = stats(wide(z) - wide(g) * factor, NO_LAYER)
            parts[f"target {way}"] = targets[way].part()
    return Figures(tuple(z.shape), half, parts, targets)


def _rows(z: torch.Tensor, g: torch.Tensor, axis: int) -> list[torch.Tensor]:
    columns = z.shape[axis]
    most = max(1, definition.SAMPLED // columns)
    # Whole examples first, so that no more is brought into order than is looked at.
    examples = max(1, most * columns // max(1, z[0].numel()))
    return [wide(t[:examples]).movedim(axis, -1).reshape(-1, columns)[:most] for t in (z, g)]


def _softmax(z: torch.Tensor, g: torch.Tensor) -> tuple[list[str], torch.Tensor]:
    used = (g != 0).any(dim=1)
    label = g.argmin(dim=1)
    log_p = z.log_softmax(dim=1)
    chosen = torch.arange(z.shape[1], device=z.device) == label[:, None]
    expected = torch.where(used[:, None], log_p.exp() - chosen.to(z.dtype), 0.0)
    rows = used.sum()
    likely = log_p.gather(1, label[:, None])[:, 0]
    return ["unexplained", "loss", "rows", "apart"], torch.stack(
        [
            _unexplained(g, expected),
            -torch.where(used, likely, 0.0).sum() / rows.clamp(min=1),
            rows.to(z.dtype),
            torch.maximum((z.sum(dim=1) - 1.0).abs().amax(), _outside(z)),
        ]
    )


def _sigmoid(z: torch.Tensor, g: torch.Tensor) -> tuple[list[str], torch.Tensor]:
    z, g = wide(z), wide(g)
    used, y = g != 0, (g < 0).to(z.dtype)
    expected = torch.where(used, z.sigmoid() - y, 0.0)
    each = torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="none")
    rows = used.sum()
    return ["unexplained", "loss", "rows", "apart"], torch.stack(
        [
            _unexplained(g, expected),
            torch.where(used, each, 0.0).sum() / rows.clamp(min=1),
            rows.to(z.dtype),
            _outside(z),
        ]
    )


def _outside(z: torch.Tensor) -> torch.Tensor:
    return torch.stack([-z.amin(), z.amax() - 1.0]).amax().clamp(min=0.0)


def _unexplained(g: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    g = g / g.abs().amax()  # its squares may be too small for the type
    scale = (g * expected).sum() / expected.square().sum()
    share = torch.linalg.vector_norm(g - scale * expected) / torch.linalg.vector_norm(g)
    return torch.where(scale > 0, share, 1.0)  # uphill, or nothing to see
