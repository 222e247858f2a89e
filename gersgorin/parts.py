"""Find the parts of a module that carry a state: recurrent cells, scans, layers with a decoding cache."""

import inspect

from torch import nn

from gersgorin.loading.cache import has_cache
from rhn.cells import Cell

TORCH_CELLS = (nn.RNNBase, nn.RNNCellBase)


def recurrent_cells(module: nn.Module) -> list[nn.Module]:
    """The recurrent cells of a module, itself included, in the order of `modules()`; without cells inside other cells."""
    found: list[nn.Module] = []
    for part in module.modules():
        ours = isinstance(part, Cell) or (hasattr(part, "step") and hasattr(part, "state_size"))
        if (ours or isinstance(part, TORCH_CELLS)) and not any(part in other.modules() for other in found):
            found.append(part)
    return found


def is_scan(module: nn.Module) -> bool:
    """True for a module with `scan_elements(x)`, see `gersgorin.loading.scan`."""
    return callable(getattr(module, "scan_elements", None))


def state_layers(module: nn.Module) -> list[nn.Module]:
    """The scans and the layers with a known decoding cache in a module, in the order of `modules()`; the innermost of nested ones."""
    found = [part for part in module.modules() if is_scan(part) or has_cache(part)]
    return [part for part in found if not any(inner in found for inner in part.modules() if inner is not part)]


def run_by_equations(module: nn.Module) -> None:
    """Run our own cells in a module, a copy, by their equations, not by kernels: derivatives can be batched and have derivatives.

    Cells of a subclass with another `forward` stay.
    """
    for part in module.modules():
        if isinstance(part, Cell) and type(part).forward is Cell.forward:
            part.kernel = "reference"


def is_step(network) -> bool:
    """True for a cell or a function, which is called step by step; False for a module that reads whole sequences."""
    if not isinstance(network, nn.Module) or isinstance(network, TORCH_CELLS) or hasattr(network, "step"):
        return callable(network)
    try:
        inspect.signature(network.forward).bind(None, None)
    except (TypeError, ValueError):
        return False
    return not recurrent_cells(network)
