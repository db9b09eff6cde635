"""Which passes of a model can be looked into, and count as the training's."""

from __future__ import annotations

import torch

from gradlab_torch.model.modules import path_of
from gradlab_torch.model.sharding import is_dtensor


def blind_spot(model: torch.nn.Module) -> str | None:
    """Why nobody can look into this model, None if one can."""
    if any(is_dtensor(p) for p in model.parameters()):
        return "of its activations this process may see but a part, since parameters are DTensors"
    for name, module in model.named_modules():
        if type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
            return f"{path_of(name) or 'the model'} is compiled, and a compiled program runs no hooks"
        if isinstance(module, torch.jit.ScriptModule):
            return f"{name or 'the model'} is a ScriptModule, inside of which no hooks run"
    return None


def is_of_the_step() -> bool:
    """Whether a pass that begins now is one of training: not an evaluation, nor part of a backward pass, of a function
    transform, or of a trace."""
    return (
        torch.is_grad_enabled()
        and torch._C._current_graph_task_id() == -1
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._get_tracing_state()
        and not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())
    )


def may_be_fast(module: torch.nn.Module) -> bool:
    """Whether PyTorch may run this module in a faster way, which gives slightly different numbers, and does not while
    there is a function mode."""
    return (
        isinstance(module, (torch.nn.TransformerEncoder, torch.nn.TransformerEncoderLayer, torch.nn.MultiheadAttention))
        and not module.training
        and not any(p.requires_grad for p in module.parameters())
    )
