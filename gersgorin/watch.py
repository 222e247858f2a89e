"""Which recurrent cell a module has, and what that cell sees when the whole module reads a sequence.

Legend: T steps, B sequences, m inputs of the cell. A module is a cell of ours, one of torch.nn's recurrent modules, a user's cell (with
`step` and `state_size`, see `rhn.cells.Cell`), or anything that has one of them inside.
"""

import copy
import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from rhn.cells import Cell, from_torch
from rhn.errors import InvalidInputError

TORCH_CELLS = (nn.RNNBase, nn.RNNCellBase)


class Watched:
    """A copy of a module in float64 and evaluation mode, of which one recurrent cell is looked at: nothing happens to the original.

    Args:
        module: see above; whatever weights it has when `refresh` is called are looked at.
        layer: which of its recurrent cells, counted from 1, where it has several; each layer of torch.nn's modules counts.

    Raises:
        InvalidInputError: the module is none, has no recurrent cell or not so many, or one that goes both ways or projects.
    """

    def __init__(self, module: nn.Module, layer: int = 1):
        if not isinstance(module, nn.Module):
            raise InvalidInputError(
                f"expected a torch module with a recurrent cell, got {getattr(module, '__name__', type(module).__name__)}: "
                "a bare function tells neither its state's size nor its weights; write it as a rhn.cells.Cell"
            )
        self._original = getattr(module, "_orig_mod", module)  # what torch.compile wraps
        cells = recurrent_cells(self._original)
        if not cells:
            raise InvalidInputError(
                f"{type(module).__name__} has no recurrent cell: expected one of rhn.cells, torch.nn's RNN, LSTM or GRU, "
                "or a module with step(x, s) and state_size"
            )
        places = [(place, k) for place, cell in enumerate(cells) for k in range(_layers(cell))]
        if not isinstance(layer, int) or not 1 <= layer <= len(places):
            raise InvalidInputError(f"layer is {layer}: the module has {len(places)} recurrent cell(s), counted from 1")
        try:
            self.module = copy.deepcopy(self._original).double().eval()
        except Exception as error:  # what torch or a user's module says to being copied
            raise InvalidInputError(f"{type(module).__name__} cannot be copied to be looked at: {error}") from error
        for part in self.module.modules():
            if getattr(part, "precision", "float32") != "float32":
                part.precision = "float32"
        place, self._below = places[layer - 1]
        self._cell = recurrent_cells(self.module)[place]
        _ = self.cell  # refuses what cannot be converted

    @property
    def cell(self) -> nn.Module:
        """The cell with the copy's weights; one of torch.nn's in our form."""
        return _as_ours(self._cell, self._below) if isinstance(self._cell, TORCH_CELLS) else self._cell

    @property
    def title(self) -> str:
        """What a figure calls the cell: "RHN, depth 5, 64 units"."""
        depth, size = getattr(self._cell, "depth", 1), getattr(self._cell, "hidden_size", None)
        several = _layers(self._cell)
        words = [f"layer {self._below + 1} of {several}"] * (several > 1) + [f"depth {depth}"] * (depth > 1)
        return ", ".join([type(self._cell).__name__, *words, *[f"{size} units"] * (size is not None)])

    def refresh(self) -> None:
        """Take the weights and buffers that the original has now."""
        self.module.load_state_dict(self._original.state_dict())

    @torch.no_grad()
    def inputs(self, probe: Tensor | np.ndarray) -> Tensor:
        """What the cell sees, (T, B, m) in float64, when the module reads `probe`, which is laid out as the module takes it.

        A cell itself reads (T, m), (T, B, m), or (B, T, m) where it is `batch_first`. Numbers of int64 are ids of tokens; they may be
        (T,) for a module that takes (T, B). Hidden states that a module hands to its cell are not looked at. Torch's random numbers
        are left as they were.

        Raises InvalidInputError for a probe that is not finite or does not fit.
        """
        probe = self._checked(probe)
        x = self._time_first(probe if self._cell is self.module else self._seen(probe))
        for k in range(self._below):
            below = _as_ours(self._cell, k)
            x = below.states(x, x.new_zeros(x.shape[1], below.state_size))[..., : below.hidden_size]
        return x

    def digest(self, probe: Tensor | np.ndarray) -> str:
        """What tells probes apart: their shape and numbers, in 16 letters. Raises InvalidInputError as `inputs`."""
        values = self._checked(probe).cpu().numpy()
        return hashlib.sha256(f"{values.dtype}{values.shape}".encode() + values.tobytes()).hexdigest()[:16]

    def _seen(self, probe: Tensor) -> Tensor:
        """What the cell is called with when the module reads the probe, laid out as the cell takes it."""
        try:
            with torch.random.fork_rng(devices=[probe.device] if probe.is_cuda else []):
                seen = given_to(self._cell, self.module, probe)
        except Exception as error:  # whatever a user's module raises
            raise InvalidInputError(
                f"{type(self.module).__name__} does not run on the probe {tuple(probe.shape)}: {error}"
            ) from error
        if not seen or not all(isinstance(x, Tensor) for x in seen):
            found = type(seen[0]).__name__ if seen else "no call of it"
            raise InvalidInputError(f"{self.title} was to be called with a tensor while the module ran, found {found}")
        steps = isinstance(self._cell, nn.RNNCellBase)  # called once a step
        return torch.stack(seen) if steps else seen[0]

    def _checked(self, probe: Tensor | np.ndarray) -> Tensor:
        """The probe on the device of the weights, its numbers in float64."""
        if isinstance(probe, np.ndarray) and probe.dtype.kind in "biuf":
            probe = torch.from_numpy(np.array(probe))
        if not isinstance(probe, Tensor) or probe.numel() == 0 or probe.dim() == 0:
            got = f"shape {tuple(probe.shape)}" if isinstance(probe, Tensor) else type(probe).__name__
            raise InvalidInputError(
                f"the probe is to be a tensor or array (T, m), (T, B, m) or ids (T, B) that is not empty, got {got}"
            )
        like = next(self.module.parameters(), probe)
        if probe.dtype == torch.int64 and self._cell is not self.module:
            return (probe.unsqueeze(1) if probe.dim() == 1 else probe).to(like.device)
        if not torch.isfinite(probe).all():
            bad = int((~torch.isfinite(probe)).sum())
            raise InvalidInputError(f"the probe holds {bad} NaN or infinite numbers, expected finite ones")
        return probe.to(like.device, torch.float64)

    def _time_first(self, x: Tensor) -> Tensor:
        m = getattr(self._cell, "input_size", x.shape[-1])
        if x.dim() not in (2, 3) or x.shape[-1] != m:
            raise InvalidInputError(f"{self.title} reads {tuple(x.shape)}: expected (T, {m}) or (T, B, {m})")
        if x.dim() == 2:
            return x.unsqueeze(1)
        return x.transpose(0, 1) if getattr(self._cell, "batch_first", False) else x


def given_to(part: nn.Module, module: nn.Module, x: Tensor) -> list:
    """What a part of a module is called with, the first argument of each call, when the module reads x."""
    seen = []
    hook = part.register_forward_pre_hook(
        lambda part, args, kwargs: seen.append((*args, *kwargs.values())[0]), with_kwargs=True
    )
    try:
        module(x)
    finally:
        hook.remove()
    return seen


def _layers(cell: nn.Module) -> int:
    return cell.num_layers if isinstance(cell, nn.RNNBase) else 1


def _as_ours(theirs: nn.Module, layer: int) -> Cell:
    """A layer, counted from 0, of torch.nn's RNN, LSTM or GRU, or one of their *Cell forms, as our cell."""
    if _layers(theirs) == 1:
        return from_torch(theirs)
    sizes = (theirs.hidden_size if layer else theirs.input_size), theirs.hidden_size
    options = {"bias": theirs.bias, "bidirectional": theirs.bidirectional}
    options |= {"nonlinearity": theirs.nonlinearity} if type(theirs) is nn.RNN else {}
    options |= {"proj_size": theirs.proj_size} if theirs.proj_size else {}
    weight = next(theirs.parameters())
    one = type(theirs)(*sizes, **options, device="meta", dtype=weight.dtype).to_empty(device=weight.device)
    suffix = f"_l{layer}"
    for name, p in theirs.named_parameters():
        if name.endswith(suffix):
            one.get_parameter(f"{name.removesuffix(suffix)}_l0").data.copy_(p)
    return from_torch(one)


def recurrent_cells(module: nn.Module) -> list[nn.Module]:
    """The recurrent cells in a module, itself included, in its order; not those that are parts of another."""
    found: list[nn.Module] = []
    for part in module.modules():
        ours = isinstance(part, Cell) or (hasattr(part, "step") and hasattr(part, "state_size"))
        if (ours or isinstance(part, TORCH_CELLS)) and not any(part in other.modules() for other in found):
            found.append(part)
    return found
