"""First weights to try for a network: scaled, orthogonal, identity, rotations, gate biases.

    for start in starts(loop):
        changed = start.applied(model)       # a copy with these weights
        start.code                           # the same as lines of Python

A start is a list of lines, each an operation of `OPERATIONS` on a block of weights that the
optimiser trains. The trials run the lines that a user pastes.

| weights                     | in all starts that draw them again                                                  |
|-----------------------------|-------------------------------------------------------------------------------------|
| matrices that read the data | normal; W x has entries of variance 1 on the data, so that the input gain is near 1 |
| embeddings                  | normal with standard deviation 1; padding as it was; as other matrices if shared    |
| recurrent blocks (n, n)     | normal with standard deviation 1/sqrt(n), orthogonal, or the identity               |
| other matrices              | normal with standard deviation 1/sqrt(fan_in)                                       |
| biases                      | 0; forget gates 1, transform gates -1, or chrono (Tallec and Ollivier 2018)         |
| recurrences of tanh or ReLU | also: half of the units sense, half remember T steps (`rhn.cells.init`)             |
| output bias                 | puts the mean output at the best constant one                                       |

Legend: n units, G blocks of n rows in a weight, T frames.
"""

import copy
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin.training.minibatches import sequence_of
from gersgorin.training.training import Training, output_bias_of
from rhn.cells import Cell
from rhn.cells.init import memory_blocks
from rhn.cells.layers import GateBlocks, Layer, Part

# in a function, imports would hide the names that it has used before
NEEDED = "# at the head of your file: import torch; from torch import nn"
HEAD = """\
_p = {{name: q.data for name, q in model.named_parameters()}}
_g = torch.Generator({device!r}).manual_seed(0)
"""
TORCH_GATES = {"LSTM": GateBlocks(0, carry=1), "GRU": GateBlocks(1, opens=False)}
MOST_STD = 3.0  # of a matrix that reads the data
MINIBATCHES = 4  # for gradients, mean outputs and the best constant output
GIVEN, OUTPUT_BIAS, CHRONO = "given weights", "output bias at the best constant", "chrono gates"
MEMORY = "sensing and remembering units"
MEANINGS = {  # of the words of starts, in one line
    OUTPUT_BIAS: "so that the mean output is the best constant output",
    "1/sqrt(n)": "matrices drawn with standard deviation 1/sqrt(n) for n inputs, 1/|x| for "
    "data x, 1 for embeddings",
    "orthogonal matrices": "recurrent matrices are rotations: states neither fade nor grow; "
    "others drawn as 1/sqrt(n)",
    "identity matrices": "recurrent matrices are the identity: states are stored; others drawn "
    "as 1/sqrt(n)",
    MEMORY: "half of the units read only the current input; half, rotations, store it; others "
    "drawn as 1/sqrt(n)",
    CHRONO: "biases of gates drawn for memories of all lengths up to a sequence (Tallec and "
    "Ollivier 2018)",
}


# by name: lines for a block of weights and, in some, a number, numbers or another block
OPERATIONS = {
    "normal": "nn.init.normal_({}, 0.0, {:.4g}, generator=_g)",
    "orthogonal": "nn.init.orthogonal_({}, generator=_g)",
    "eye": "nn.init.eye_({})",
    "rotations": "_a = torch.pi / {1} ** torch.linspace(0, 1, len({0}) // 2, dtype=torch.double)\n"
    "_c, _s = _a.cos().diag(), _a.sin().diag()\n"
    "{0}.copy_(torch.vstack([torch.hstack([_c, -_s]), torch.hstack([_s, _c])]))",
    "zero": "{}.zero_()",
    "fill": "{}.fill_({})",
    "log": "{}.uniform_(1.0, {}, generator=_g).log_()",
    "-log": "{}.uniform_(1.0, {}, generator=_g).log_().neg_()",
    "set": "{}.copy_(torch.tensor({}))",
    "opposite": "{}.copy_(-{})",
}


@dataclass(frozen=True)
class Start:
    """One way to begin; starts with the same words are equal."""

    words: str
    """ "orthogonal matrices, chrono gates"."""
    changes: tuple[str, ...] = field(default=(), compare=False)
    """Lines of Python, each an operation on a block of weights."""
    device: str = field(default="cpu", compare=False)
    """Of the generator."""
    sets_bias: bool = field(default=False, compare=False)
    """True if it puts the output bias at the best constant output."""

    @property
    def code(self) -> str:
        """Lines that change `model` in place; empty for the weights that were given."""
        return "".join(
            [
                HEAD.format(device=self.device) * bool(self.changes),
                *(f"{line}\n" for line in self.changes),
            ]
        )

    def applied(self, model: nn.Module) -> nn.Module:
        """A copy of a model, changed by these lines."""
        changed = copy.deepcopy(model)
        exec(self.code, {"model": changed, "torch": torch, "nn": nn})
        return changed


@dataclass(frozen=True)
class _Block:
    """Weights that are drawn together."""

    name: str
    """Of the parameter."""
    index: tuple[Any, ...]
    """Its indices, applied one after another."""
    kind: str
    """ "recurrent" (a square matrix or a vector of weights of units), "matrix" or "bias"."""
    std: float = 0.0
    """Of a matrix that is drawn from a normal distribution."""
    memory: int = 0
    """Of a gate's bias: 1 if a larger one makes memories last longer, -1 if shorter; else 0."""
    opposite: "_Block | None" = None
    """Of an input gate's bias: the forget gate's."""

    @property
    def code(self) -> str:
        """ "_p['rnn.weight_hh_l0'][0:24]"."""
        return f"_p[{self.name!r}]" + "".join(f"[{_text(k)}]" for k in self.index)

    def changed(self, operation: str, *values: Any) -> str:
        """The line, or lines, of Python that change it by an operation."""
        return OPERATIONS[operation].format(self.code, *values)

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The block in the tensors of all parameters."""
        found = tensors[self.name]
        for k in self.index:
            found = found[k]
        return found


def starts(loop: Training) -> Iterator[Start]:
    """Yield the given start, then all others that the network allows."""
    of = _Starts(loop)
    yield Start(GIVEN)
    if of.output_bias:
        yield of.start(OUTPUT_BIAS, [])
    if not any(b.kind != "bias" for b in of.blocks):
        return
    has_gates = any(b.memory for b in of.blocks)
    if has_gates:
        yield of.start(CHRONO, of.gates("chrono"))
    yield of.start("matrices of 1/sqrt(n)", of.drawn("normal", "constant"))
    if any(
        b.kind == "recurrent" and torch.finfo(b.of(of.trained).dtype).bits >= 32 for b in of.blocks
    ):
        yield of.start("orthogonal matrices", of.drawn("orthogonal", "constant"))
        if has_gates:
            yield of.start(f"orthogonal matrices, {CHRONO}", of.drawn("orthogonal", "chrono"))
        else:
            yield of.start("identity matrices", of.drawn("eye", "constant"))
    if of.frames > 1 and (changes := of.memory()):
        yield of.start(MEMORY, changes)


class _Starts:
    """The blocks of a network, and the changes of starts."""

    def __init__(self, loop: Training):
        self.loop, self.model = loop, loop.model
        # a normalisation counts its calls, a parametrisation keeps what it computed
        called = copy.deepcopy(loop.model)
        self.batches = loop.data.minibatches(MINIBATCHES)
        first = self.batches[0][0]
        self.frames = 1 if loop.frame_axis is None else sequence_of(first).shape[loop.frame_axis]
        groups = [
            g["params"]
            for g, rate in zip(loop.optimizer.param_groups, loop.rates, strict=True)
            if rate
        ]
        trained = {id(q) for group in groups for q in group if q.requires_grad}
        names = {name for name, q in loop.model.named_parameters() if id(q) in trained}
        self.trained = {name: q for name, q in called.named_parameters() if name in names}
        self.device = sequence_of(first).device.type
        self.output_bias = output_bias_of(self.trained, loop.output(called, first))
        if self.output_bias:
            constant = loop.constant_output(loop.goals(self.batches))[0]
            self.constant = constant.reshape(-1, constant.shape[-1]).mean(0)
        blocks = _blocks(called, lambda: loop.output(called, first))
        self.blocks = [b for b in blocks if b.name in self.trained and b.name != self.output_bias]

    def start(self, words: str, changes: list[str]) -> Start:
        """A start by these changes and the output bias."""
        start = Start(words, tuple(changes), self.device)
        bias = self._bias(start.applied(self.model))
        return replace(start, changes=start.changes + bias, sets_bias=bool(bias))

    def drawn(self, recurrent: str, gates: str) -> list[str]:
        """Draw all matrices again; recurrent: "normal", "orthogonal" or "eye"."""
        changes = []
        for b in self.blocks:
            if b.kind == "bias":
                changes += [b.changed("zero")] if b.of(self.trained).any() else []
            elif b.kind == "matrix" or (recurrent == "normal" and b.std):
                changes.append(b.changed("normal", b.std))
            elif not b.std:  # a vector
                changes += [] if recurrent == "normal" else [b.changed("fill", 1.0)]
            else:
                changes.append(b.changed(recurrent))
        return changes + self.gates(gates)

    def gates(self, kind: str) -> list[str]:
        """Set the biases of gates; kind: "constant", or "chrono": +-log u, u uniform in [1, T -
        1].
        """
        gates, most = [b for b in self.blocks if b.memory], max(2.0, self.frames - 1.0)
        if kind == "constant":
            return [b.changed("fill", float(b.memory)) for b in gates]
        inputs = [b.changed("opposite", b.opposite.code) for b in self.blocks if b.opposite]
        return [b.changed("log" if b.memory > 0 else "-log", most) for b in gates] + inputs

    def memory(self) -> list[str]:
        """Half of the units of each recurrence of tanh or ReLU sense, half remember
        (`memory_blocks`); empty without one.
        """
        changes = list[str]()
        for path, module in self.model.named_modules():
            prefix, own = f"{path}." * bool(path), dict(module.named_parameters(recurse=False))
            stack: list[tuple[Layer, ...]] = [layers := _layers(module, own)]  # a deep transition
            if not isinstance(module, Cell):  # layers on each other
                stack = [
                    (replace(layer, input=layer.input or layer.skip, skip=None),)
                    for layer in layers
                ]
            trained = layers and all(prefix + name in self.trained for name in own)
            for part, index, *change in (
                b for s in stack * bool(trained) for b in memory_blocks(module, s, self.frames)
            ):
                block = _Block(
                    prefix + part.parameter,
                    tuple(k for k in (part.index, index) if k is not ...),
                    "",
                )
                changes.append(block.changed(*change))
        return [*self.drawn("normal", "constant"), *changes] if changes else []

    @torch.no_grad()
    def _bias(self, model: nn.Module) -> tuple[str, ...]:
        """The line that sets the output bias of a network; none if it has none."""
        if not self.output_bias:
            return ()
        means = [self.loop.output(model, x).flatten(0, -2).mean(0) for x, _ in self.batches]
        bias = model.get_parameter(self.output_bias) + self.constant - torch.stack(means).mean(0)
        if not torch.isfinite(bias).all():
            return ()
        values = [float(f"{v:.5g}") for v in bias.tolist()]
        return (filled(_Block(self.output_bias, (), "bias").changed("set", values)),)


def _blocks(model: nn.Module, call: Callable[[], Any]) -> Iterator[_Block]:
    """Yield the blocks of cells, linear layers, embeddings and parameters of a user's modules;
    call: calls the model.
    """
    sizes = _data_sizes(model, call)
    uses = Counter(id(q) for _, q in model.named_parameters(remove_duplicate=False))
    for path, module in model.named_modules():
        prefix, own = f"{path}." * bool(path), dict(module.named_parameters(recurse=False))
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            std = 1.0 if uses[id(module.weight)] == 1 else module.embedding_dim**-0.5
            k = module.padding_idx  # whose row is not trained
            rows = (
                [()]
                if k is None
                else [(r,) for r in (slice(k), slice(k + 1, None)) if len(module.weight[r])]
            )
            yield from (_Block(f"{prefix}weight", r, "matrix", std=std) for r in rows)
            continue
        described = set()
        for layer in _layers(module, own):
            for part in (layer.input, layer.recurrent, layer.skip, layer.bias):
                if part is not None and part.parameter in own:
                    described.add(part.parameter)
                    yield from _of_part(
                        prefix, module, own[part.parameter], part, layer, sizes.get(module, 0.0)
                    )
        for name in own if described else ():
            if "bias" in name and name not in described:  # the second of torch's two
                yield _Block(prefix + name, (), "bias")
        n = getattr(module, "hidden_size", 0)
        skew = own.get("weight_hh")
        if isinstance(module, Cell) and skew is not None and skew.shape == (n * (n - 1) // 2,):
            yield _Block(f"{prefix}weight_hh", (), "matrix", std=n**-0.5)


def _of_part(
    prefix: str, module: nn.Module, weight: Tensor, part: Part, layer: Layer, size: float
) -> Iterator[_Block]:
    """Yield the G blocks of a part; size: norm of the module's input if this is data, else 0."""
    whole: tuple = () if part.index is ... else (part.index,)
    values = weight[part.index]
    n = getattr(module, "hidden_size", None) or len(values)
    blocks = 1 if part is layer.input else max(1, len(values) // n)
    for k in range(blocks):
        rows = slice(k * n, (k + 1) * n)
        index = (*whole, rows) if blocks > 1 else whole
        name = prefix + part.parameter
        if part is layer.bias:
            memory, opposite = 0, None
            if (gate := layer.gate) is not None:
                if k == gate.carry:
                    memory = 1
                elif k == gate.transform and gate.carry is not None:
                    forget = slice(gate.carry * n, (gate.carry + 1) * n)
                    opposite = _Block(name, (*whole, forget), "bias")
                elif k == gate.transform:
                    memory = -1 if gate.opens else 1
            yield _Block(name, index, "bias", memory=memory, opposite=opposite)
        elif values.dim() == 1:
            yield _Block(name, index, "recurrent")
        else:
            columns = values.shape[-1]
            square = part is not layer.input and columns == n
            std = min(1 / size, MOST_STD) if part is layer.input and size else columns**-0.5
            yield _Block(name, index, "recurrent" if square else "matrix", std=std)


def _layers(module: nn.Module, own: dict[str, Tensor]) -> tuple[Layer, ...]:
    """The weights of a module, described as those of our cells; none for normalisations, embeddings
    and convolutions.
    """
    if isinstance(module, Cell):
        return module.layers()
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        gate = next(
            (
                blocks
                for name, blocks in TORCH_GATES.items()
                if type(module).__name__.startswith(name)
            ),
            None,
        )
        ends = [name.removeprefix("weight_hh") for name in own if name.startswith("weight_hh")]
        projected = [Layer(input=Part(name)) for name in own if name.startswith("weight_hr")]
        of_layers = [
            Layer(
                input=Part(f"weight_ih{end}") if end in ("", "_l0", "_l0_reverse") else None,
                recurrent=Part(f"weight_hh{end}"),
                skip=None if end in ("", "_l0", "_l0_reverse") else Part(f"weight_ih{end}"),
                bias=Part(f"bias_ih{end}"),
                gate=gate,
            )
            for end in ends
        ]
        return (*of_layers, *projected)
    if isinstance(module, nn.Linear):
        square = module.in_features == module.out_features
        weight, bias = Part("weight"), Part("bias")
        return (Layer(recurrent=weight, bias=bias) if square else Layer(input=weight, bias=bias),)
    if type(module).__module__.startswith("torch."):
        return ()
    return tuple(
        Layer(recurrent=Part(name, index))
        if q.shape[-1] == q.shape[-2]
        else Layer(input=Part(name, index))
        for name, q in own.items()
        if q.dim() in (2, 3)
        for index in (range(len(q)) if q.dim() == 3 else (...,))
    )


@torch.enable_grad()
def _data_sizes(model: nn.Module, call: Callable[[], Any]) -> dict[nn.Module, float]:
    """Root mean square norm of the input of each module that reads data, not the outputs of trained
    parts.
    """
    sizes: dict[nn.Module, float] = {}

    def look(module: nn.Module, given: tuple) -> None:
        value = given[0] if given else None
        value = value.data if isinstance(value, nn.utils.rnn.PackedSequence) else value
        if isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad:
            sizes.setdefault(module, float(value.detach().square().sum(-1).mean().sqrt()))

    with ExitStack() as hooks:
        for module in model.modules():
            hooks.enter_context(module.register_forward_pre_hook(look))
        call()
    return sizes


def filled(line: str) -> str:
    """A statement with many values in brackets, in lines that fit a screen."""
    return textwrap.fill(
        line, 79, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _text(index: Any) -> str:
    """An index as code."""
    if isinstance(index, tuple):
        return ", ".join(map(_text, index))
    if isinstance(index, EllipsisType):
        return "..."
    if isinstance(index, slice):
        ends = ["" if end is None else str(end) for end in (index.start, index.stop)]
        return ":".join(ends + [str(index.step)] * (index.step is not None))
    return str(index)
