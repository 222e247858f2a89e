"""The first state of a module that is called without one: the declared one, or the zeros that it
starts from.

Legend: B rows, m inputs, n units.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gersgorin import checks
from gersgorin.double_precision import in_double, module_runs
from gersgorin.kinds import takes
from rhn.utils.torch_private import tree_leaves, tree_map


@torch.no_grad()
def starting_state(module: nn.Module, name: str, x: Tensor) -> Any:
    """The first state of one row: the declared one, or zeros if module(x) starts from them."""
    declared = declared_state(module, x)
    if declared is not None:
        return tree_map(lambda t: t.reshape(1, -1), declared)
    with checks.users_code(f"s0 is None and {name} fails without a state"), module_runs():
        _, after = module(x)
        zeros = tree_map(torch.zeros_like, after)
        same = tree_map(torch.allclose, module(x, zeros)[1], after)
    state_known(name, all(tree_leaves(same)))
    return zeros


def state_known(name: str, known: bool) -> None:
    """Refuse a network without a first state."""
    checks.require(known, "s0", "None", f"the first state of {name}, or its state_size")


def declared_state(module: Any, x: Tensor) -> Any:
    """The result of `initial_state()`, or zeros of the attribute `state_size`; else None."""
    own = getattr(module, "initial_state", None)
    if callable(own) and takes(own):
        return in_double(tree_map(torch.detach, own()), x.device)
    return zeros_of_size(module, getattr(module, "state_size", None))


def zeros_of_size(module: Any, size: Any) -> Any:
    """The first state of a size; None for the size None. It is complex if a weight is complex."""
    if size is None:
        return None
    weights = [*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else []
    like = next(
        (t for t in weights if t.is_complex()), [*weights, torch.zeros((), device="cpu")][0]
    )
    zeros = in_double(checks.first_state(None, size), like.device)
    return tree_map(lambda t: t.to(like.dtype), zeros) if like.is_complex() else zeros
