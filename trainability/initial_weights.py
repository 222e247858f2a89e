"""Initial weights of any network, drawn in place.

    reset_(model)                  # as torch's layers draw them
    orthogonal_(model)             # recurrent matrices are orthogonal
    chrono_(model, steps=60)       # biases of gates for memories of up to 60 steps
    remembering_(model, steps=60)  # a recurrence of tanh or ReLU that keeps its inputs

Which parameters are those of a recurrence is said by `rhn.cells.layers.layers_in`.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from rhn.cells import Cell, Initialization
from rhn.cells.init import haar
from rhn.cells.layers import GateBlocks, Layer, Part
from rhn.cells.memory_init import remember
from rhn.cells.module_layers import layers_in


@torch.no_grad()
def reset_(model: nn.Module) -> None:
    """Draw new weights as torch's layers do; matrices of the user's own modules are uniform."""
    drawn = set[int]()
    for module in model.modules():
        if isinstance(module, Cell):
            module.init = Initialization.parse("scaled")
        draw = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        with contextlib.suppress(TypeError):  # one that needs arguments
            if draw is not None:
                draw()
                drawn |= {id(p) for p in module.parameters(recurse=False)}
    for p in model.parameters():
        if id(p) not in drawn and p.dim() > 1:
            bound = p.shape[-1] ** -0.5
            p.uniform_(-bound, bound)


@torch.no_grad()
def orthogonal_(model: nn.Module, generator: torch.Generator | None = None) -> int:
    """Draw new weights in place: recurrent matrices (n, n) are random orthogonal, other matrices
    normal with standard deviation 1/sqrt(fan_in), biases are 0, but 1 for forget and update gates
    and -1 for transform gates. Return the number of recurrent matrices.

    Linear layers (n, n) and square matrices of your own modules count as recurrent. Embeddings,
    normalisations and parameters without a gradient stay unchanged.

    >>> model = nn.RNN(3, 5)
    >>> orthogonal_(model), bool((model.weight_hh_l0.det().abs() - 1).abs() < 1e-6)
    (1, True)
    """
    return _redraw(model, haar, generator)


@torch.no_grad()
def chrono_(model: nn.Module, steps: int, generator: torch.Generator | None = None) -> int:
    """Draw the biases of gates in place, for memories of up to T steps: +-log u, with u uniform in
    [1, T - 1] (Tallec and Ollivier 2018). All other weights stay unchanged. Return the number of
    gates.

    >>> model = nn.LSTM(3, 5)
    >>> chrono_(model, 60), bool((model.bias_ih_l0[5:10] >= 0).all())
    (1, True)
    """
    count = 0
    for module, layer in layers_in(*model.modules()):
        blocks = _bias_blocks(module, layer)
        for k, block in enumerate(blocks):
            if sign := _memory(layer.gate, k):
                u = torch.empty(block.shape, dtype=torch.double)
                u.uniform_(1.0, max(2.0, steps - 1.0), generator=generator)
                block.copy_(sign * u.log())
                if layer.gate and layer.gate.carry is not None:
                    blocks[layer.gate.transform].copy_(-block)
                count += 1
    return count


@torch.no_grad()
def remembering_(model: nn.Module, steps: int, generator: torch.Generator | None = None) -> int:
    """Draw new weights in place as `remember` does, for each recurrence of tanh or ReLU; all other
    matrices are normal with standard deviation 1/sqrt(fan_in). Return the number of recurrences.

    >>> remembering_(nn.RNN(3, 8, num_layers=2), 100), remembering_(nn.LSTM(3, 8), 100)
    (2, 0)
    """
    _redraw(model, lambda drawn: drawn / math.sqrt(drawn.shape[-1]), generator)
    count = 0
    for module in model.modules():
        layers = tuple(layer for _, layer in layers_in(module))
        alone = [(replace(s, input=s.input or s.skip, skip=None),) for s in layers]
        for group in alone if isinstance(module, nn.RNNBase) else [layers]:
            count += remember(module, group, steps, generator)
    return count


def _redraw(model: nn.Module, recurrent: Callable, generator: torch.Generator | None) -> int:
    """Draw all layers, recurrent matrices as `recurrent` of a normal one; return their number."""
    count = 0
    for module, layer in layers_in(*model.modules()):
        for part in filter(None, (layer.input, layer.skip)):
            q = _values(module, part)
            drawn = torch.randn(q.shape, generator=generator, dtype=torch.double)
            q.copy_(drawn / math.sqrt(max(1, q.shape[-1])))
        for block in _square_blocks(_values(module, layer.recurrent)):
            drawn = torch.randn(block.shape, generator=generator, dtype=torch.double)
            block.copy_(recurrent(drawn))
            count += 1
        for k, block in enumerate(_bias_blocks(module, layer)):
            block.fill_(_memory(layer.gate, k))
        for name, p in module.named_parameters(recurse=False):
            if name.startswith("bias_h") and p.requires_grad:
                p.zero_()
    return count


def _memory(gate: GateBlocks | None, block: int) -> int:
    """Return 1 if a larger bias of a block makes memories last longer, -1 if shorter, else 0."""
    if gate and gate.carry is not None:
        return int(block == gate.carry)
    return (-1 if gate.opens else 1) if gate and block == gate.transform else 0


def _values(module: nn.Module, part: Part | None) -> Tensor:
    """Return the weights of a part; empty if there is none, or none with a gradient."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if part is None or part.parameter not in trained:
        return torch.empty(0)
    return trained[part.parameter].detach()[part.index]


def _square_blocks(R: Tensor) -> tuple[Tensor, ...]:
    return R.split(R.shape[1]) if R.dim() == 2 and len(R) % R.shape[1] == 0 else ()


def _bias_blocks(module: nn.Module, layer: Layer) -> tuple[Tensor, ...]:
    """Return the bias of a layer, n numbers for each block."""
    bias = _values(module, layer.bias)
    return bias.split(getattr(module, "hidden_size", len(bias))) if len(bias) else ()
