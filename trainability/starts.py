"""Initial weights: functions that draw new weights for any network, in place.

    orthogonal_(model)                           # recurrent matrices are rotations
    orthogonal_(model, norms={"rnn": 1.7})       # x has norm 1.7: W x gets variance 1
    chrono_(model, frames=60)                    # biases of gates for memories of up to 60 frames

| weights                     | in all functions except `default_` and `chrono_`                |
|-----------------------------|-----------------------------------------------------------------|
| matrices that read the data | normal with standard deviation 1/norm, if the norm is known     |
| embeddings                  | normal with standard deviation 1; padding stays unchanged       |
| recurrent matrices (n, n)   | normal with deviation 1/sqrt(n), orthogonal, or the identity    |
| other matrices              | normal with standard deviation 1/sqrt(fan_in)                   |
| biases                      | 0; forget gates 1, transform gates -1                           |
| recurrences of tanh or ReLU | `remembering_`: half of the units read inputs, half remember    |

Parameters without a gradient stay unchanged, except in `default_`. Arguments:

- norms: root mean square norm of the data that a module reads, by the module's name; a number
  above 0.
- keep: names of parameters that stay unchanged.
- frames: T, the length of the sequences; a whole number of at least 1.

Each function raises InvalidInputError for an argument that is wrong or names nothing in the model.

Except in `default_`, weights are drawn on the CPU in double precision from seed 0, so they are the
same on all devices.

Legend: n units, T frames, K outputs. Chrono gates: Tallec and Ollivier 2018.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rhn.cells import Cell
from rhn.cells.init import Initialization, haar, memory_blocks, remember
from rhn.cells.layers import GateBlocks, Layer, Part
from rhn.errors import InvalidInputError
from rhn.utils.validation import check_seed, fits, number, whole_number
from rhn.utils.wording import in_short, kind_of, nearest

TORCH_GATES = {"LSTM": GateBlocks(0, carry=1), "GRU": GateBlocks(1, opens=False)}
MOST_STD = 3.0  # of a matrix that reads the data
Norms = Mapping[str, float] | None


def normal_(model: nn.Module, *, norms: Norms = None, keep: Collection[str] = ()) -> None:
    """Draw all matrices from normal distributions with standard deviation 1/sqrt(fan_in).

    >>> model = nn.GRU(3, 400)
    >>> normal_(model)
    >>> round(model.weight_hh_l0.std().item(), 3), model.bias_ih_l0[400].item()
    (0.05, 1.0)
    """
    _draw(model, None, norms, keep)


def orthogonal_(model: nn.Module, *, norms: Norms = None, keep: Collection[str] = ()) -> None:
    """Draw recurrent matrices as rotations, and all other weights as `normal_` does. A rotation
    neither shrinks nor amplifies states.

    >>> model = nn.RNN(3, 5)
    >>> orthogonal_(model)
    >>> W = model.weight_hh_l0.detach()
    >>> bool((W @ W.T - torch.eye(5)).abs().max() < 1e-6)
    True
    """
    _draw(model, haar, norms, keep)


def identity_(model: nn.Module, *, norms: Norms = None, keep: Collection[str] = ()) -> None:
    """Set recurrent matrices to the identity, which stores states, and draw all other weights as
    `normal_` does.
    """
    _draw(model, lambda drawn: torch.eye(len(drawn)), norms, keep)


@torch.no_grad()
def remembering_(
    model: nn.Module, frames: int, *, norms: Norms = None, keep: Collection[str] = ()
) -> None:
    """Split a plain recurrence: half of the units read the present frame, half store it for T
    frames.

    The second half stores by rotations, see `rhn.cells.init.memory_blocks`. Only recurrences of
    tanh or ReLU are split; all others are drawn as `normal_` does.
    """
    frames = whole_number("frames", frames)
    generator = _draw(model, None, norms, keep)
    for module, layers in memories(model, frames, keep):
        remember(module, layers, frames, generator)


@torch.no_grad()
def chrono_(model: nn.Module, frames: int, *, keep: Collection[str] = ()) -> None:
    """Draw the biases of gates for memories of up to T frames: +-log u, with u uniform in [1, T -
    1]. All other weights stay unchanged.

    >>> model = nn.LSTM(3, 5)
    >>> chrono_(model, 60)
    >>> forget = model.bias_ih_l0[5:10]
    >>> bool(((0 <= forget) & (forget <= math.log(59))).all())
    True
    """
    frames = whole_number("frames", frames)
    _check(model, None, keep)
    generator = torch.Generator().manual_seed(0)
    blocks = [*blocks_of(model, keep=keep)]
    for b in blocks:
        if b.memory:
            u = _like(b.values).uniform_(1.0, max(2.0, frames - 1.0), generator=generator)
            b.values.copy_(b.memory * u.log())
    for b in blocks:
        if b.forget is not None:
            b.values.copy_(-b.forget)


@torch.no_grad()
def default_(model: nn.Module, *, seed: int = 5, keep: Collection[str] = ()) -> None:
    """Draw new weights for each layer as torch.nn does, including weights without a gradient.

    Matrices of a user's own modules are uniform between -1/sqrt(fan_in) and 1/sqrt(fan_in).
    Matrices of the cells of `rhn` are normal with standard deviation 1/sqrt(n).
    """
    seed = check_seed(seed)
    _check(model, None, keep)
    resets = [
        (path, module)
        for path, module in model.named_modules()
        if callable(getattr(module, "reset_parameters", None))
    ]
    of_layers = {id(p) for _, module in resets for p in module.parameters(recurse=False)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for path, module in resets:
            if any(name in keep for name, _ in module.named_parameters(path, recurse=False)):
                continue
            if isinstance(module, Cell):
                module.init = Initialization.parse("scaled")
            module.reset_parameters()
        for name, p in model.named_parameters():
            if id(p) not in of_layers and name not in keep and p.dim() >= 2:
                bound = 1 / math.sqrt(p.shape[-1])
                nn.init.uniform_(p, -bound, bound)


@dataclass(frozen=True)
class WeightBlock:
    """Weights that are drawn together."""

    name: str
    """Name of the parameter."""
    values: Tensor
    """The weights, as a view of the parameter."""
    std: float = 0.0
    """Standard deviation of the normal distribution from which a matrix is drawn; 0 for a bias."""
    recurrent: bool = False
    """True for a square matrix, and for a vector of one recurrent weight per unit."""
    memory: int = 0
    """For a gate's bias: 1 if a larger bias makes memories last longer, -1 if shorter;
    otherwise 0.
    """
    forget: Tensor | None = None
    """For an input gate's bias: the bias of the forget gate."""

    @property
    def is_bias(self) -> bool:
        """True for weights that are neither a matrix nor recurrent."""
        return not (self.std or self.recurrent)


@torch.no_grad()
def _draw(
    model: nn.Module,
    recurrent: Callable[[Tensor], Tensor] | None,
    norms: Norms,
    keep: Collection[str],
) -> torch.Generator:
    """Draw all matrices again; return the random generator.

    recurrent: function that makes the recurrent matrix from a standard normal matrix (n, n); None:
    the matrix is normal as all others.
    """
    _check(model, norms, keep)
    generator = torch.Generator().manual_seed(0)
    for b in blocks_of(model, norms, keep):
        drawn = _like(b.values).normal_(generator=generator)
        if b.is_bias:
            b.values.fill_(b.memory)
        elif recurrent is None or not b.recurrent:
            b.values.copy_(b.std * drawn if b.std else b.values)
        else:
            b.values.copy_(recurrent(drawn) if b.std else torch.ones(()))
    return generator


def _check(model: Any, norms: Any, keep: Any) -> None:
    """Raise InvalidInputError unless the model is a module that has these modules and
    parameters.
    """
    if not isinstance(model, nn.Module):
        raise InvalidInputError(f"the model is {kind_of(model)}: expected a module of torch")
    if not fits(keep, Sequence[str]):
        raise InvalidInputError(f"keep is {in_short(keep)}: expected names of parameters")
    if norms is not None and not isinstance(norms, Mapping):
        raise InvalidInputError(f"norms is {in_short(norms)}: expected a norm by a module's name")
    _check_names(model, "parameter", keep, [name for name, _ in model.named_parameters()])
    _check_names(model, "module", norms or (), [name for name, _ in model.named_modules()])
    for name, norm in (norms or {}).items():
        number(f"the norm of {name}", norm, above=0)


def _check_names(model: nn.Module, what: str, names: Collection[str], known: list[str]) -> None:
    """Raise InvalidInputError for the first of the names that is not known. `what` is what the
    names name.
    """
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        near = nearest(str(unknown), known)
        others = ", ".join(filter(None, known[:8]))  # the model itself is the module ""
        hint = f"did you mean {near[0]!r}?" if near else f"it has {others}"
        raise InvalidInputError(f"{type(model).__name__} has no {what} {in_short(unknown)}: {hint}")


def _like(q: Tensor) -> Tensor:
    """Return an empty tensor in the shape of q, in double precision on the CPU."""
    return torch.empty(q.shape, dtype=torch.double, device="cpu")


def memories(
    model: nn.Module, frames: int, keep: Collection[str] = ()
) -> list[tuple[nn.Module, tuple[Layer, ...]]]:
    """Return the recurrences that `remembering_` can split, each with its layers."""
    free, found = free_parameters(model, keep), []
    for path, module in model.named_modules():
        if all(name in free for name, _ in module.named_parameters(path, recurse=False)):
            layers = cell_layers(module)
            groups = [layers] if isinstance(module, Cell) else map(_alone, layers)
            found += [(module, group) for group in groups if memory_blocks(module, group, frames)]
    return found


def _alone(layer: Layer) -> tuple[Layer]:
    """Return one layer of a stack as a layer of its own, with its input."""
    return (replace(layer, input=layer.input or layer.skip, skip=None),)


def free_parameters(model: nn.Module, keep: Collection[str] = ()) -> dict[str, Tensor]:
    """Return the parameters that may change, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad and name not in keep}


def blocks_of(
    model: nn.Module, norms: Norms = None, keep: Collection[str] = ()
) -> Iterator[WeightBlock]:
    """Yield the blocks of weights of cells, linear layers, embeddings and the user's own
    modules.
    """
    free = free_parameters(model, keep)
    uses = Counter(id(q) for _, q in model.named_parameters(remove_duplicate=False))
    for path, module in model.named_modules():
        own = {
            name.rpartition(".")[2]: WeightBlock(name, p.detach())
            for name, p in module.named_parameters(path, recurse=False)
            if name in free
        }
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and own:
            k, table = module.padding_idx, own["weight"]
            std = module.embedding_dim**-0.5 if uses[id(module.weight)] > 1 else 1.0
            parts = [table.values] if k is None else [table.values[:k], table.values[k + 1 :]]
            yield from (replace(table, values=part, std=std) for part in parts if len(part))
        else:
            yield from _of_module(module, own, (norms or {}).get(path, 0.0))


def _of_module(
    module: nn.Module, own: dict[str, WeightBlock], norm: float
) -> Iterator[WeightBlock]:
    """Yield the blocks of a module's own parameters. norm: root mean square norm of its input if
    the module reads data, else 0.
    """
    described = set[str]()
    for layer in cell_layers(module):
        for part in (layer.input, layer.recurrent, layer.skip, layer.bias):
            if part is not None and part.parameter in own:
                described.add(part.parameter)
                whole = own[part.parameter]
                whole = replace(whole, values=whole.values[part.index])
                yield from _of_part(module, whole, part, layer, norm)
    if not described:
        return
    yield from (b for name, b in own.items() if "bias" in name and name not in described)


def _of_part(
    module: nn.Module, whole: WeightBlock, part: Part, layer: Layer, norm: float
) -> Iterator[WeightBlock]:
    """Yield the blocks of a part, n rows each."""
    values, reads = whole.values, part is layer.input
    n = getattr(module, "hidden_size", None) or len(values)
    if part is layer.bias:
        yield from _of_bias(whole, values.split(n), layer.gate)
    elif values.dim() == 1:
        yield replace(whole, recurrent=True)
    elif reads:
        yield replace(whole, std=min(1 / norm, MOST_STD) if norm else values.shape[-1] ** -0.5)
    else:
        columns = values.shape[-1]
        for rows in values.split(n):
            yield replace(whole, values=rows, std=columns**-0.5, recurrent=columns == n)


def _of_bias(
    whole: WeightBlock, blocks: tuple[Tensor, ...], gate: GateBlocks | None
) -> Iterator[WeightBlock]:
    """Yield the blocks of a bias, with their effect on memories."""
    for k, values in enumerate(blocks):
        block = replace(whole, values=values)
        if gate is None or k not in (gate.carry, gate.transform):
            yield block
        elif k == gate.carry:
            yield replace(block, memory=1)
        elif gate.carry is None:
            yield replace(block, memory=-1 if gate.opens else 1)
        else:
            yield replace(block, forget=blocks[gate.carry])


def cell_layers(module: nn.Module) -> tuple[Layer, ...]:
    """Return the module's own weights as layers, in the description that `rhn` uses for its cells.

    Empty for normalisations, embeddings and convolutions.
    """
    own = dict(module.named_parameters(recurse=False))
    if isinstance(module, Cell):
        return module.layers()
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return _layers_of_torch(module, own)
    if isinstance(module, nn.Linear):
        square = module.in_features == module.out_features
        weight, bias = Part("weight"), Part("bias")
        return (Layer(recurrent=weight, bias=bias) if square else Layer(input=weight, bias=bias),)
    if type(module).__module__.startswith("torch."):
        return ()
    matrices = [Part(name) for name, q in own.items() if q.dim() == 2]
    matrices += [Part(name, k) for name, q in own.items() if q.dim() == 3 for k in range(len(q))]
    return tuple(_layer_of(part, own[part.parameter]) for part in matrices)


def _layer_of(matrix: Part, q: Tensor) -> Layer:
    """Return a layer with one matrix, which is recurrent if it is square."""
    square = q.shape[-1] == q.shape[-2]
    return Layer(recurrent=matrix) if square else Layer(input=matrix)


def _layers_of_torch(module: nn.Module, own: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """Return the layers of a recurrent module of torch.nn, and the projections of its states."""
    kind = type(module).__name__
    gate = next((blocks for name, blocks in TORCH_GATES.items() if kind.startswith(name)), None)
    layers = list[Layer]()
    for name in own:
        if not name.startswith("weight_hh"):
            continue
        end = name.removeprefix("weight_hh")
        reads, first = Part(f"weight_ih{end}"), end in ("", "_l0", "_l0_reverse")
        layers.append(
            Layer(
                input=reads if first else None,
                recurrent=Part(name),
                skip=None if first else reads,
                bias=Part(f"bias_ih{end}"),
                gate=gate,
            )
        )
    projected = [Layer(input=Part(name)) for name in own if name.startswith("weight_hr")]
    return (*layers, *projected)
