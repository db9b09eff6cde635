"""Checks of what a user hands in, before anything is traced or computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.definitions import checks
from gradlab_core.errors import GradlabError


def check_model_inputs(x: Any, *, finite: bool = True) -> None:
    """Refuse an input batch that is not an array, is empty or, unless that is what is looked for, holds NaN or Inf."""
    if not isinstance(x, (jax.Array, np.ndarray)):
        raise GradlabError(
            f"input batch is a {type(x).__name__}; expected a JAX or NumPy array (N, H, W, C): use to_native(x)"
        )
    if not finite:
        checks.check_examples(x.shape)
        return
    # NumPy does not know the small floating types as floating.
    checks.check_inputs(np.asarray(x, np.float32) if x.dtype in (jnp.bfloat16, jnp.float16) else np.asarray(x))


def check_logits(out: Any) -> Any:
    """The one array that a model returns (or its shape and type); anything else is refused."""
    if not hasattr(out, "shape"):
        raise GradlabError(
            f"the model returned a {type(out).__name__}; expected one array of logits: "
            "wrap the model in one that returns it"
        )
    return out


def check_model_labels(y: Any, out: Any) -> None:
    """Refuse labels that do not fit logits (N, classes) under the default loss."""
    logits = check_logits(out)
    if len(logits.shape) != 2:
        raise GradlabError(f"logits have shape {logits.shape}; expected (N, classes), or a loss of your own")
    checks.check_labels(np.asarray(y), batch=logits.shape[0], num_classes=logits.shape[1])


def check_loss(value: Any) -> Any:
    """The one number that a loss returns (or its shape and type); anything else is refused."""
    if not hasattr(value, "shape") or value.size != 1:
        came = f"shape {value.shape}" if hasattr(value, "shape") else type(value).__name__
        raise GradlabError(f"the loss returned a {came}; expected one number: average it over the batch")
    return value


def as_labels(y: Any) -> jax.Array:
    """Labels as an array."""
    return jnp.asarray(y)


def check_nnx(model: Any) -> None:
    """Refuse what is not an NNX module, where only one will do."""
    if not isinstance(model, nnx.Module):
        raise GradlabError(f"model is a {type(model).__name__}; expected an nnx.Module")


def check_trainable(model: Any) -> None:
    """Refuse what has nothing to train."""
    check_nnx(model)
    if not jax.tree.leaves(nnx.state(model, nnx.Param)):
        raise GradlabError("the model has no trainable parameter; expected at least one nnx.Param")
