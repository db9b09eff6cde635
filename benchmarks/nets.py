"""The net and the batch that the step and the analysis benchmarks share."""

from __future__ import annotations

import dataclasses

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec, TrainSpec

TRAINING = TrainSpec(learning_rate=0.01)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """A TinyNet and one batch of made-up images, canonical (N, 3, 32, 32); the same numbers each time."""

    base: int
    batch: int
    block: str
    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.batch < 2:  # batch normalisation needs two values per channel at least
            raise GradlabError(f"batch is {self.batch}; expected a whole number of at least 2")

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(block=self.block, base=self.base, layers=self.layers)

    @property
    def setting(self) -> str:
        depth = "-".join(map(str, self.spec.layers))
        return f"TinyNet {self.block} {depth}, base {self.base}, batch {self.batch}, 32×32×3"

    @property
    def images(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((self.batch, 3, 32, 32), dtype=np.float32)

    @property
    def labels(self) -> np.ndarray:
        return np.random.default_rng(1).integers(0, self.spec.num_classes, self.batch)
