"""The input of a search for fixed points: a cell, a constant input and starts, from the user's
arguments.

Legend: B starts; N entries of a state; m inputs.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gersgorin.data.files import is_array
from gersgorin.data.inputs import reads_ids
from gersgorin.network.find import TORCH_CLASSES, as_step, check_state, is_stepwise
from gersgorin.network.open import DataLike, NetworkLike, open_run
from gersgorin.run.cell import Step, StepCell, as_cell, cell_name, own_title
from gersgorin.run.iterated_map import SETTLED
from gersgorin.run.run import Run
from gersgorin.run.state import (
    Sizes,
    State,
    as_taken,
    checked_sizes,
    first_state,
    flat_state,
    real_view,
    state_like,
    zero_state,
)
from gersgorin.validate import (
    check_order,
    check_precision,
    copy_of_module,
    in_precision,
    real_tensor,
    state_tensor,
    uncompiled,
)
from rhn.errors import InvalidInputError
from rhn.utils.validation import check_room, check_seed, number

SEARCHED = 8  # arrays (B, N) that a search holds


@dataclass(frozen=True, eq=False)
class SearchInput:
    """The cell, the constant input and the starts of a search for fixed points."""

    cell: StepCell
    x: Tensor
    """The constant input (m,)."""
    starts: Tensor
    """The starts, (B, N)."""
    fields: dict[str, Any]
    """Names and origin of the network, as fields of the result."""


def search_input(
    network, x, starts: Any, hold: float | None, seed: int, options: dict
) -> SearchInput:
    """The input of the search, from the arguments of `fixed_points`. Raises InvalidInputError if
    the starts or the input do not fit the network.
    """
    if isinstance(starts, Integral):
        starts = int(starts)
    check_order("fixed_points(network, x)", network=network, x=x)
    said, first = options.get("s0", options.get("state_size")), options.get("s0")
    if not isinstance(starts, int):
        parts = _parts_of(starts)
        first = _first_state(network, parts, vectors=not isinstance(starts, tuple), **options)
        starts = _vectors(parts, None if _has_shapes(network) else first)
        said = starts if said is None else said  # starts say that something steps
    without = x is None and not isinstance(network, nn.Module | Run)
    one = without or _is_constant(network, x, said=said is not None)
    _check_hold(hold, one)
    if not isinstance(starts, int) and one and is_stepwise(network, said=True):
        return _of_step(network, x, first, starts)
    sequence = x[None] if one and x is not None else x
    if without:
        sequence = torch.zeros(1, 1).expand(SETTLED, 1)
    if options.get("state_size") is None and not isinstance(network, Run):
        options = options | {"s0": first}
    run = open_run(network, sequence, **options)
    return _along_run(run, starts, hold, seed, with_input=not without)


def _has_shapes(network: NetworkLike) -> bool:
    """True for a network that has the shapes of its state."""
    return isinstance(network, (Run, *TORCH_CLASSES)) or hasattr(network, "step")


def _parts_of(starts: Any) -> list[Tensor]:
    """The tensors (B, ...) of starts."""
    given = starts if isinstance(starts, tuple) else (starts,)
    parts = [state_tensor("starts", part) for part in given]
    if not all(part.dim() > 1 and part.numel() for part in parts):
        raise _starts_error(parts, "a tensor (B, N), or tensors (B, ...), with at least one entry")
    if len({len(part) for part in parts}) > 1:
        raise _starts_error(parts, "tensors (B, ...) of the same number B of states")
    return parts


def _first_state(
    network: NetworkLike,
    parts: list[Tensor],
    s0: State | None = None,
    state_size: Sizes | None = None,
    *,
    vectors: bool,
    **_: Any,
) -> State | None:
    """A state in the shapes that the step takes: those of s0, of state_size, or of one start (for a
    module, as a batch of one). None if the step takes one vector, or if it has the shapes itself.

    vectors: whether the starts are one tensor.
    """
    if s0 is not None:
        return check_state(s0)
    if state_size is not None:
        like = state_like(network) if isinstance(network, nn.Module) else real_view(parts[0])
        return as_taken(network, zero_state(checked_sizes(state_size), like, 1))
    first = tuple(part[:1] for part in parts)
    if not vectors:
        return as_taken(network, first)
    if parts[0].dim() > 2 or parts[0].is_complex():
        return as_taken(network, first[0])
    is_step = isinstance(network, nn.Module) and not _has_shapes(network)
    return first[0] if is_step and first_state(network) is None else None


def _vectors(parts: list[Tensor], first: State | None) -> Tensor:
    """Convert starts to vectors (B, N). first: a state in the shapes that the starts must have;
    None: any shapes.
    """
    flat = flat_state(parts, rows=len(parts[0]))
    if first is not None:
        wanted = [real_view(part).numel() for part in tree_leaves(first)]
        if [real_view(part[0]).numel() for part in parts] not in (wanted, [sum(wanted)]):
            shapes = " and ".join(str(tuple(part.shape)) for part in tree_leaves(first))
            raise _starts_error(parts, f"(B, {sum(wanted)}), or (B, ...) for states {shapes}")
    return flat


def _starts_error(parts: list[Tensor], expected: str) -> InvalidInputError:
    shapes = " and ".join(str(tuple(part.shape)) for part in parts)
    return InvalidInputError(f"starts: expected {expected}, got {shapes}")


def _check_hold(hold: float | None, one: bool) -> None:
    """Raise InvalidInputError if `hold` is not a finite number, or if there is no sequence that it
    could replace.
    """
    if hold is None:
        return
    number("hold", hold)
    if one:
        raise InvalidInputError(
            f"hold is {hold:g} and x is one constant input (m,): leave one out; hold is for a "
            "sequence x (T, m), in place of its mean"
        )


def _of_step(network: nn.Module | Step, x, first: State | None, starts: Tensor) -> SearchInput:
    """The input of the search for a step without a run. first: a state in the shapes of the
    step.
    """
    title = {"title": own_title(network)}
    like = starts[0]
    check_precision(cell_name(network), like)
    if isinstance(network, nn.Module):
        network = copy_of_module(uncompiled(network)).eval()
        network = in_precision(network, like.dtype, like.device)
        x = None if x is None else real_tensor("x", x).to(like)
    cell = as_cell(network if first is None else as_step(network, first))
    if x is None:
        return SearchInput(cell, starts.new_zeros(1), starts, title)
    x = real_tensor("x", x)
    check_precision(cell.name, x)
    return SearchInput(cell, x, starts, title | {"input": x.cpu().numpy()})


def _along_run(
    run: Run, starts: Tensor | int, hold: float | None, seed: int, *, with_input: bool
) -> SearchInput:
    """The input of the search for an open run. with_input: whether the network reads an input."""
    cell, x, label = run.cell, run.inputs.mean(0), run.label
    held_at = "constant input" if len(run) == 1 else f"input held at the mean of {label.along}"
    if hold is not None:
        x, held_at = torch.full_like(x, hold), f"input held at {hold:g}"
    fields: dict[str, Any] = {
        "title": f"{label.title}, {held_at}" if with_input else label.title,
        "about": label.about,
        "trajectory": run.states.cpu().numpy(),
    } | run.itself
    if isinstance(starts, int):
        fields["drawn"] = run.rests_from(0) or bool((run.inputs == run.inputs[0]).all())
        fields["of_run"] = not fields["drawn"]
        starts = _spread(run, starts, seed, drawn=fields["drawn"])
    starts, x = real_tensor("starts", starts).to(run.states), real_tensor("x", x)
    return SearchInput(cell, x, starts, fields | {"input": x.cpu().numpy()})


def _is_constant(network: NetworkLike, x: DataLike, *, said: bool) -> bool:
    """True if x is one constant input (m,), not a sequence. said: see `is_stepwise`."""
    if isinstance(network, Run) or not is_array(x) or np.ndim(x) > 1:
        return False
    if is_stepwise(network, said=said) or not isinstance(network, nn.Module):
        return True
    return not reads_ids(network, real_tensor("x", x))


def _spread(run: Run, count: int, seed: int, *, drawn: bool) -> Tensor:
    """`count` evenly spread states of a run; if the run has fewer, random points between two of its
    states are added. drawn: random states around the first state instead.
    """
    seed = check_seed(seed)
    states, generator = run.states, torch.Generator("cpu").manual_seed(seed)
    if count < 1:
        raise InvalidInputError(f"starts is {count}: expected at least 1")
    what = f"a search from {count:,} starts of {states.shape[-1]} entries"
    check_room(SEARCHED * states[0].nbytes * count, what, "give fewer starts", states.device.type)
    if drawn:
        size = count, run.state_size
        noise = torch.randn(size, generator=generator, dtype=torch.float64, device="cpu").to(states)
        noise[0] = 0
        return states[0] + states[0].abs().max().clamp(min=1) * noise
    whole = min(count, len(states))
    some = states[torch.arange(whole, device=states.device) * len(states) // whole]
    more = count - whole
    pairs = torch.randint(len(states), (2, more), generator=generator, device="cpu")
    first, second = pairs.to(states.device)
    share = torch.rand(more, 1, generator=generator, dtype=torch.float64, device="cpu").to(states)
    return torch.cat((some, share * states[first] + (1 - share) * states[second]))
