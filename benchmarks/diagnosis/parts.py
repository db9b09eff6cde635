"""What is where in the nets that the twins build: the places at which a fault can be put, and where it then is."""

from __future__ import annotations

from gradlab_core.programs.specs import ModelSpec


def weighted(model: ModelSpec) -> list[str]:
    """Layers with a weight that every example passes, in execution order.

    >>> weighted(ModelSpec(kind="mlp", widths=(8, 8)))
    ['fc1', 'fc2', 'fc3']
    """
    if model.kind == "mlp":
        return [f"fc{k}" for k in range(1, len(model.widths) + 2)]
    if model.kind == "recurrent":
        return ["rnn", "fc"]
    if model.kind == "transformer":
        return [
            "embed",
            *(f"blocks.{k}.{part}" for k in range(model.depth) for part in "q k v out fc1 fc2".split()),
            "fc",
        ]
    convolutions = [
        f"stage{stage}.{block}.conv{k}"
        for stage, count in enumerate(model.layers, 1)
        for block in range(count)
        for k in (1, 2)
    ]
    return ["conv1", *convolutions, "fc"]


def activations(model: ModelSpec) -> dict[str, tuple[str, ...]]:
    """`{activation: the layers it can be told by}`: itself and what feeds it and nothing else.

    >>> activations(ModelSpec(kind="mlp", widths=(8, 8)))
    {'act1': ('act1', 'fc1'), 'act2': ('act2', 'fc2')}
    """
    if model.kind == "mlp":
        return {f"act{k}": (f"act{k}", f"fc{k}") for k in range(1, len(model.widths) + 1)}
    if model.kind == "recurrent":
        return {}
    if model.kind == "transformer":
        return {
            f"blocks.{k}.act1": tuple(f"blocks.{k}.{part}" for part in ("act1", "fc1", "norm2"))
            for k in range(model.depth)
        }
    # Inside a block the skip goes around the cut: only what stands between the last fork and the cut is behind it.
    inner = ("relu2", "bn2", "conv1") if model.block.startswith("preact") else ("relu1", "bn1", "conv1")
    feeding = {"relu1": ("relu1", "bn1", "conv1")}
    for stage, count in enumerate(model.layers, 1):
        for block in range(count):
            names = tuple(f"stage{stage}.{block}.{name}" for name in inner)
            feeding[names[0]] = names
    return feeding
