"""The experiment of `gradlab compare`: every block in every framework from every seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from types import ModuleType

from gradlab_core import backends
from gradlab_core.compare import published
from gradlab_core.compare.comparison import AS_PUBLISHED, CORRECT, Run
from gradlab_core.definitions.noise import default_noise
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.programs.data import Batches, ImageData, evaluation_batches, probe
from gradlab_core.programs.specs import BLOCKS, ModelSpec, TrainSpec
from gradlab_core.records import ArchitectureRecord, EpochRecord, StepRecord, TrainingRecord

_PROBE_SEED = 0  # all nets are measured on the same batch with the same noise
_PROBE_SIZE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareSpec:
    """What to compare.

    Raises:
        GradlabError: a framework or block is unknown, or a number is out of range; one message lists all problems.

    >>> CompareSpec(seeds=0, blocks=("postakt",))
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: compare: 2 problems
      - block 'postakt' is not known; expected one of plain, plain_unpadded, postact, preact, preact_noskip
      - seeds is 0; expected at least 1
    """

    frameworks: tuple[str, ...] = ("torch", "jax")
    blocks: tuple[str, ...] = ("plain", "postact", "preact")
    base: int = 8
    layers: tuple[int, ...] = (1, 1, 1)
    epochs: int = 1
    seeds: int = 2
    batch_size: int = 32
    learning_rate: float = 0.05
    as_published: bool = False

    def __post_init__(self) -> None:
        unknown = [f for f in self.frameworks if f not in backends.BACKENDS]
        problems = [f"framework {f!r} is not known; expected {' or '.join(backends.BACKENDS)}" for f in unknown]
        problems += [
            f"block {b!r} is not known; expected one of {', '.join(BLOCKS)}" for b in self.blocks if b not in BLOCKS
        ]
        for name, least in (("seeds", 1), ("base", 1), ("batch_size", 2), ("epochs", 0)):
            if getattr(self, name) < least:
                problems.append(f"{name} is {getattr(self, name)}; expected at least {least}")
        refuse("compare", problems)

    def setups(self) -> Iterator[tuple[str, str, TrainSpec, int]]:
        """The tuple `(setup, block, training, number of seeds)` for every net."""
        if self.as_published:
            # Errors 1 to 4 and the single seed are repeated as published.
            once = TrainSpec(epochs=1, learning_rate=published.LEARNING_RATE, milestones=published.milestones(1))
            for block in published.BLOCKS:
                yield AS_PUBLISHED, block, once, 1
        # Milestones at one half and three quarters make sense only in a run that is long enough for them.
        correct = TrainSpec(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            milestones=published.milestones(self.epochs) if self.epochs >= 8 else (),
        )
        for block in self.blocks:
            yield CORRECT, block, correct, self.seeds

    def steps(self, data: ImageData) -> int:
        """The number of training steps of all runs together, for a progress bar."""
        an_epoch = len(data.train_images) // self.batch_size
        return sum(t.epochs * seeds * an_epoch for _, _, t, seeds in self.setups()) * len(self.frameworks)


def run_experiment(
    spec: CompareSpec,
    data: ImageData,
    *,
    on_start: Callable[[str], object] = lambda title: None,
    on_step: Callable[[StepRecord], object] = lambda record: None,
) -> Iterator[Run]:
    """Yield every run as soon as it is complete, so that an interruption does not lose the runs before it.

    Raises:
        GradlabError: a framework is missing, or there are fewer data than the batch size.
    """
    twins = {name: backends.load(name) for name in spec.frameworks}
    if len(data.train_images) < spec.batch_size:
        raise GradlabError(
            f"batch size {spec.batch_size} is larger than the training set of {len(data.train_images)} images; "
            "expected a smaller one"
        )
    for framework, twin in twins.items():
        for setup, block, training, seeds in spec.setups():
            for seed in range(seeds):
                on_start(f"{framework} · {block} · seed {seed}" + (" · as published" if setup == AS_PUBLISHED else ""))
                run, interrupted = _run_one(twin, framework, setup, block, seed, training, spec, data, on_step)
                yield run
                if interrupted:
                    raise KeyboardInterrupt


def _run_one(
    twin: ModuleType,
    framework: str,
    setup: str,
    block: str,
    seed: int,
    training: TrainSpec,
    spec: CompareSpec,
    data: ImageData,
    on_step: Callable[[StepRecord], object],
) -> tuple[Run, bool]:
    """One run, and whether the user interrupted its training; it then holds what was measured until that moment."""
    model_spec = ModelSpec(block=block, base=spec.base, layers=spec.layers, num_classes=len(data.class_names))
    model = twin.build(model_spec, seed=seed)
    x, y = probe(data, min(_PROBE_SIZE, len(data.train_images)), _PROBE_SEED)
    images = twin.to_native(x)
    noise = twin.to_native(default_noise(x.shape, seed=_PROBE_SEED))

    def measure(mode: str) -> ArchitectureRecord:
        record: ArchitectureRecord = twin.analyze(model, images, y, noise, name=block, mode=mode)
        return record

    initial = measure("train")
    untrained = measure("eval") if setup == AS_PUBLISHED else None
    steps: list[StepRecord] = []
    epochs: list[EpochRecord] = []

    def keep(record: StepRecord) -> None:
        steps.append(record)
        on_step(record)

    interrupted = False
    try:
        record = twin.train(
            model,
            Batches(data, batch_size=spec.batch_size, seed=seed, augment=True),
            training,
            on_step=keep,
            on_epoch=epochs.append,
            test=lambda: evaluation_batches(data),
        )
    except KeyboardInterrupt:
        interrupted = True
        record = TrainingRecord(framework=framework, steps=tuple(steps), epochs=tuple(epochs), diverged_at=None)
    finished = training.epochs > 0 and record.diverged_at is None and not interrupted
    run = Run(
        setup=setup,
        block=block,
        framework=framework,
        seed=seed,
        data=data.name,
        base=spec.base,
        depth=spec.layers,
        batch_size=spec.batch_size,
        learning_rates=tuple(training.rate(epoch) for epoch in range(training.epochs)),
        initial=initial,
        untrained_eval=untrained,
        training=record,
        # The published set-up measured in eval mode. Otherwise both moments are measured in the same mode, so that only
        # training makes a difference; after a short run the running statistics lag behind the weights.
        trained=measure("eval" if setup == AS_PUBLISHED else "train") if finished else None,
    )
    return run, interrupted
