"""Initial weights to try: scaled, orthogonal, identity, rotations, gate biases, torch's own.

    for start in starts(training):
        changed = start.applied(model)       # a copy with these weights
        start.code                           # the same as lines of Python

A `Start`, initial weights, is a list of lines, each an operation of `OPERATIONS` on a block of
weights that the optimiser trains. A race runs the lines that a user pastes.

| weights                     | in all of them that draw them again                             |
|-----------------------------|-----------------------------------------------------------------|
| matrices that read the data | normal; W x has entries of variance 1 on the data               |
| embeddings                  | normal with standard deviation 1; padding as it was             |
| recurrent blocks (n, n)     | normal with deviation 1/sqrt(n), orthogonal, or the identity    |
| other matrices              | normal with standard deviation 1/sqrt(fan_in)                   |
| biases                      | 0; forget gates 1, transform gates -1, or chrono                |
| recurrences of tanh or ReLU | also: half of the units sense, half remember (`rhn.cells.init`) |
| output bias                 | puts the mean output at the best constant one                   |

Chrono gates: Tallec and Ollivier 2018. Legend: n units, T frames, K outputs.
"""

import copy
import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn

from rhn.cells import Cell
from rhn.cells.init import memory_blocks
from rhn.cells.layers import GateBlocks, Layer, Part
from trainability.data import sequence_of
from trainability.losses import least
from trainability.training import Training, times

IMPORT = "import torch as _torch\n"  # under another name: `torch` may be a name of the function
HEAD = """\
_p = {{name: q.data for name, q in model.named_parameters()}}
_g = _torch.Generator({device!r}).manual_seed(0)
"""
TORCH_GATES = {"LSTM": GateBlocks(0, carry=1), "GRU": GateBlocks(1, opens=False)}
MOST_STD = 3.0  # of a matrix that reads the data
EXAMPLES = 128  # for the mean output and the best constant output
GIVEN, OUTPUT_BIAS, CHRONO = "given weights", "output bias at the best constant", "chrono gates"
DRAWN, ORTHOGONAL, IDENTITY = "matrices of 1/sqrt(n)", "orthogonal matrices", "identity matrices"
MEMORY, DEFAULT = "sensing and remembering units", "torch's initial weights"
MEANINGS = {  # of the words of initial weights, in one line
    GIVEN: "as they were given",
    OUTPUT_BIAS: "so that the mean output is the best constant output",
    DRAWN: "standard deviation 1/sqrt(n) for n inputs, 1/|x| for data x, 1 for embeddings",
    ORTHOGONAL: "recurrent matrices are rotations: states neither fade nor grow",
    IDENTITY: "recurrent matrices are the identity: states are stored",
    MEMORY: "half of the units read only the current input; half, rotations, store it",
    CHRONO: "biases of gates drawn for memories of all lengths up to a sequence",
    DEFAULT: "each layer of torch.nn draws its weights again",
}
OPERATIONS = {  # lines for a block of weights and, in some, a number, numbers or another block
    "normal": "_torch.nn.init.normal_({}, 0.0, {:.4g}, generator=_g)",
    "uniform": "_torch.nn.init.uniform_({}, -{:.4g}, {:.4g}, generator=_g)",
    "orthogonal": "_torch.nn.init.orthogonal_({}, generator=_g)",
    "eye": "_torch.nn.init.eye_({})",
    "rotations": "_a = _torch.linspace(0, 1, len({0}) // 2, dtype=_torch.double)\n"
    "_a = _torch.pi / {1} ** _a\n"
    "_c, _s = _a.cos().diag(), _a.sin().diag()\n"
    "{0}.copy_(_torch.vstack([_torch.hstack([_c, -_s]), _torch.hstack([_s, _c])]))",
    "zero": "{}.zero_()",
    "fill": "{}.fill_({})",
    "log": "{}.uniform_(1.0, {}, generator=_g).log_()",
    "-log": "{}.uniform_(1.0, {}, generator=_g).log_().neg_()",
    "set": "{}.copy_(_torch.tensor({}))",
    "opposite": "{}.copy_(-{})",
}


@dataclass(frozen=True)
class Start:
    """Initial weights in words and code; equal if the words are."""

    words: str
    """ "orthogonal matrices, chrono gates"."""
    changes: tuple[str, ...] = field(default=(), compare=False)
    """Lines of Python, each an operation on a block of weights."""
    device: str = field(default="cpu", compare=False)
    """Of the generator."""

    @property
    def code(self) -> str:
        """Lines that change `model` in place; empty for the weights that were given."""
        if not self.changes:
            return ""
        return IMPORT + HEAD.format(device=self.device) + "\n".join(self.changes) + "\n"

    @property
    def meaning(self) -> str:
        """The words and what they mean."""
        parts = [MEANINGS[word] for word in self.words.split(", ")]
        return f"{self.words}: {'; '.join(parts)}"

    def applied(self, model: nn.Module) -> nn.Module:
        """A copy of a model, changed by these lines."""
        changed = copy.deepcopy(model)
        self.apply(changed)
        return changed

    def apply(self, model: nn.Module) -> None:
        """Change a model in place by these lines."""
        exec(self.code, {"model": model})


@dataclass(frozen=True)
class Block:
    """Weights that are drawn together."""

    name: str
    """Of the parameter."""
    index: tuple[Any, ...] = ()
    """Its indices, applied one after another."""
    kind: str = "bias"
    """ "recurrent" (a square matrix or a vector of weights of units), "matrix" or "bias"."""
    std: float = 0.0
    """Of a matrix that is drawn from a normal distribution."""
    memory: int = 0
    """Of a gate's bias: 1 if a larger one makes memories last longer, -1 if shorter; else 0."""
    opposite: "Block | None" = None
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


def starts(training: Training) -> Iterator[Start]:
    """Yield the given initial weights, then all others that the network allows."""
    of = _Starts(training)
    yield Start(GIVEN)
    if of.output_bias:
        yield of.start(OUTPUT_BIAS, [])
    if all(b.kind == "bias" for b in of.blocks):
        return
    has_gates = any(b.memory for b in of.blocks)
    if changes := of.default():
        yield Start(DEFAULT, tuple(changes), of.device)
    if has_gates:
        yield of.start(CHRONO, of.gates("chrono"))
    yield of.start(DRAWN, of.drawn("normal", "constant"))
    if of.has_square_blocks:
        yield of.start(ORTHOGONAL, of.drawn("orthogonal", "constant"))
        if has_gates:
            yield of.start(f"{ORTHOGONAL}, {CHRONO}", of.drawn("orthogonal", "chrono"))
        else:
            yield of.start(IDENTITY, of.drawn("eye", "constant"))
    if of.frames > 1 and (changes := of.memory()):
        yield of.start(MEMORY, changes)


class _Starts:
    """The blocks of a network, and the changes of its initial weights."""

    def __init__(self, training: Training):
        self.training, self.model = training, training.model
        called = training.copy()  # a normalisation counts its calls, a parametrisation keeps values
        self.x, self.y = training.data.sample(EXAMPLES)
        self.frames = frames_of(sequence_of(self.x), training.axis)
        self.device = sequence_of(self.x).device.type
        self.trained = trained_parameters(called)
        outputs = called.output(self.x)
        self.output_bias = output_bias_of(self.trained, outputs)
        self.constant = self._best_constant(outputs.detach()) if self.output_bias else None
        blocks = _blocks(called.model, _data_sizes(called, self.x))
        self.blocks = [b for b in blocks if b.name in self.trained and b.name != self.output_bias]

    @property
    def has_square_blocks(self) -> bool:
        """True if there are recurrent blocks in a precision in which matrices can be factored."""
        return any(
            b.kind == "recurrent" and torch.finfo(b.of(self.trained).dtype).bits >= 32
            for b in self.blocks
        )

    def start(self, words: str, changes: list[str]) -> Start:
        """Initial weights by these changes and the output bias."""
        start = Start(words, tuple(changes), self.device)
        bias = self._bias(start)
        return replace(start, changes=start.changes + bias)

    def drawn(self, recurrent: str, gates: str) -> list[str]:
        """Draw all matrices again; recurrent: "normal", "orthogonal" or "eye"."""
        changes = [self._drawn(b, recurrent) for b in self.blocks]
        return [line for line in changes if line] + self.gates(gates)

    def _drawn(self, b: Block, recurrent: str) -> str:
        """The line that draws a block again; "" if it stays."""
        if b.kind == "bias":
            return b.changed("zero") if b.of(self.trained).any() else ""
        if b.kind == "matrix" or (recurrent == "normal" and b.std):
            return b.changed("normal", b.std)
        if not b.std:  # a vector
            return "" if recurrent == "normal" else b.changed("fill", 1.0)
        return b.changed(recurrent)

    def gates(self, kind: str) -> list[str]:
        """Set the biases of gates; kind: "constant", or "chrono": +-log u, u in [1, T - 1]."""
        gates, most = [b for b in self.blocks if b.memory], max(2.0, self.frames - 1.0)
        if kind == "constant":
            return [b.changed("fill", float(b.memory)) for b in gates]
        inputs = [b.changed("opposite", b.opposite.code) for b in self.blocks if b.opposite]
        return [b.changed("log" if b.memory > 0 else "-log", most) for b in gates] + inputs

    def default(self) -> list[str]:
        """Let the layers draw their weights as torch.nn does; matrices of own modules likewise."""
        layers, own = list[str](), list[str]()
        for path, module in self.model.named_modules():
            names = _names(path, module)
            if not names or not all(name in self.trained for name in names):
                continue
            if hasattr(module, "reset_parameters") and not isinstance(module, Cell):
                layers.append(path)
                continue
            matrices = [name for name in names if self.trained[name].dim() >= 2]
            bounds = {name: self.trained[name].shape[-1] ** -0.5 for name in matrices}
            own += [Block(name).changed("uniform", b, b) for name, b in bounds.items()]
        if not layers:
            return own
        lines = filled(f"_layers = {layers!r}")
        return [
            lines,
            "with _torch.random.fork_rng():\n"
            "    _torch.manual_seed(5)\n"
            "    for _layer in _layers:\n"
            "        model.get_submodule(_layer).reset_parameters()",
            *own,
        ]

    def memory(self) -> list[str]:
        """Half of the units of each recurrence of tanh or ReLU sense, half remember; or nothing."""
        changes = list[str]()
        for path, module in self.model.named_modules():
            if all(name in self.trained for name in _names(path, module)):
                changes += _memory_of(path, module, self.frames)
        return [*self.drawn("normal", "constant"), *changes] if changes else []

    @torch.no_grad()
    def _bias(self, start: Start) -> tuple[str, ...]:
        """The line that sets the output bias of a network; none if it has none."""
        if not self.output_bias or self.constant is None:
            return ()
        other = self.training.copy()
        start.apply(other.model)
        mean = other.output(self.x).flatten(0, -2).mean(0)
        bias = other.model.get_parameter(self.output_bias) + self.constant - mean
        if not torch.isfinite(bias).all():
            return ()
        values = [float(f"{v:.5g}") for v in bias.tolist()]
        return (filled(Block(self.output_bias).changed("set", values)),)

    @torch.enable_grad()
    def _best_constant(self, outputs: Tensor) -> Tensor | None:
        """The constant output (K,) of the least loss; None if there is no such."""

        def loss(z: Tensor) -> Tensor:
            return self.training.loss(z.expand(outputs.shape).clone(), self.y)

        _, z = least(loss, torch.zeros_like(outputs[(0,) * (outputs.dim() - 1)]))
        return z if torch.isfinite(z).all() else None


def frames_of(x: Tensor, axis: int) -> int:
    """The number of frames of sequences of numbers or ids; 1 of inputs without frames."""
    has_frames = x.dim() >= 2 + x.is_floating_point()
    return x.shape[1 - axis] if has_frames else 1


def trained_parameters(training: Training) -> dict[str, Tensor]:
    """The parameters by name that the optimiser moves."""
    moved = set[int]()
    for group in training.optimizer.param_groups:
        if group.get("initial_lr") or group.get("lr", 1.0):
            moved |= {id(p) for p in group["params"] if p.requires_grad}
    return {name: p for name, p in training.model.named_parameters() if id(p) in moved}


def output_bias_of(parameters: Mapping[str, Tensor], outputs: Tensor) -> str | None:
    """The parameter that is added to every output (..., K); None if there is none.

    Its gradient is the sum of the outputs' own, whatever that is.
    """
    likely = {name: p for name, p in parameters.items() if p.shape == outputs.shape[-1:]}
    if not likely or outputs.dim() < 2 or not outputs.requires_grad:
        return None
    generator = torch.Generator().manual_seed(0)
    slope = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype).to(outputs)
    found = torch.autograd.grad((outputs * slope).sum(), list(likely.values()), allow_unused=True)
    total = slope.flatten(0, -2).sum(0)
    tolerance = (1e-5, 1e-8) if outputs.dtype == torch.float64 else (1e-3, 1e-4)
    for name, gradient in zip(likely, found, strict=True):
        if gradient is not None and torch.allclose(gradient, total, *tolerance):
            return name
    return None


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _names(path: str, module: nn.Module) -> list[str]:
    """Full names of the parameters of a module itself."""
    return [_joined(path, name) for name, _ in module.named_parameters(recurse=False)]


def _memory_of(path: str, module: nn.Module, frames: int) -> Iterator[str]:
    """Yield the lines by which half of the units of a recurrence sense and half remember."""
    layers = _layers(module, dict(module.named_parameters(recurse=False)))
    for group in [layers] if isinstance(module, Cell) else _stacked(layers):
        for part, index, *change in memory_blocks(module, group, frames):
            place = tuple(k for k in (part.index, index) if k is not ...)
            yield Block(_joined(path, part.parameter), place).changed(*change)


def _stacked(layers: tuple[Layer, ...]) -> list[tuple[Layer, ...]]:
    """Layers on each other, each by itself with its input."""
    return [(replace(layer, input=layer.input or layer.skip, skip=None),) for layer in layers]


def _blocks(model: nn.Module, sizes: dict[nn.Module, float]) -> Iterator[Block]:
    """Yield the blocks of cells, linear layers, embeddings and parameters of a user's modules.

    sizes: norms of the data that modules read.
    """
    uses = Counter(id(q) for _, q in model.named_parameters(remove_duplicate=False))
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            shared = uses[id(module.weight)] > 1
            yield from _of_embedding(_joined(path, "weight"), module, shared)
        else:
            yield from _of_module(path, module, sizes.get(module, 0.0))


def _of_module(path: str, module: nn.Module, size: float) -> Iterator[Block]:
    """Yield the blocks of a module's own parameters; size: norm of its input if this is data."""
    own, described = dict(module.named_parameters(recurse=False)), set()
    for layer in _layers(module, own):
        for part in (layer.input, layer.recurrent, layer.skip, layer.bias):
            if part is not None and part.parameter in own:
                described.add(part.parameter)
                yield from _of_part(path, module, own[part.parameter], part, layer, size)
    for name in own if described else ():
        if "bias" in name and name not in described:  # the second of torch's two
            yield Block(_joined(path, name))
    n, skew = getattr(module, "hidden_size", 0), own.get("weight_hh")
    if isinstance(module, Cell) and skew is not None and skew.shape == (n * (n - 1) // 2,):
        yield Block(_joined(path, "weight_hh"), (), "matrix", std=n**-0.5)


def _of_embedding(
    name: str, module: nn.Embedding | nn.EmbeddingBag, shared: bool
) -> Iterator[Block]:
    """Yield the rows of an embedding without its padding; shared: also used as a matrix."""
    std = module.embedding_dim**-0.5 if shared else 1.0
    k = module.padding_idx
    if k is None:
        yield Block(name, (), "matrix", std=std)
        return
    for rows in (slice(k), slice(k + 1, None)):
        if len(module.weight[rows]):
            yield Block(name, (rows,), "matrix", std=std)


def _of_part(
    path: str, module: nn.Module, weight: Tensor, part: Part, layer: Layer, size: float
) -> Iterator[Block]:
    """Yield the blocks of n rows of a part; size: norm of the module's input if this is data."""
    whole: tuple = () if part.index is ... else (part.index,)
    values, name = weight[part.index], _joined(path, part.parameter)
    n = getattr(module, "hidden_size", None) or len(values)
    blocks = 1 if part is layer.input else max(1, len(values) // n)
    for k in range(blocks):
        index = (*whole, slice(k * n, (k + 1) * n)) if blocks > 1 else whole
        if part is layer.bias:
            yield _bias_of_gate(name, index, whole, k, n, layer.gate)
        elif values.dim() == 1:
            yield Block(name, index, "recurrent")
        else:
            columns = values.shape[-1]
            square = part is not layer.input and columns == n
            std = min(1 / size, MOST_STD) if part is layer.input and size else columns**-0.5
            yield Block(name, index, "recurrent" if square else "matrix", std=std)


def _bias_of_gate(
    name: str, index: tuple, whole: tuple, k: int, n: int, gate: GateBlocks | None
) -> Block:
    """Block k of a bias, with its effect on memories."""
    if gate is None or k not in (gate.carry, gate.transform):
        return Block(name, index)
    if k == gate.carry:
        return Block(name, index, memory=1)
    if gate.carry is None:
        return Block(name, index, memory=-1 if gate.opens else 1)
    forget = slice(gate.carry * n, (gate.carry + 1) * n)
    return Block(name, index, opposite=Block(name, (*whole, forget)))


def _layers(module: nn.Module, own: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """The weights of a module, described as those of our cells.

    None for normalisations, embeddings and convolutions.
    """
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
    """A layer of one matrix, recurrent if it is square."""
    square = q.shape[-1] == q.shape[-2]
    return Layer(recurrent=matrix) if square else Layer(input=matrix)


def _layers_of_torch(module: nn.Module, own: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """The layers of a recurrence of torch.nn, and projections of its states."""
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


@torch.enable_grad()
def _data_sizes(training: Training, x: Any) -> dict[nn.Module, float]:
    """Root mean square norm of the input of each module that reads data.

    The outputs of trained parts are no data.
    """
    sizes: dict[nn.Module, float] = {}

    def look(module: nn.Module, given: tuple) -> None:
        value = given[0] if given else None
        value = value.data if isinstance(value, nn.utils.rnn.PackedSequence) else value
        if isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad:
            sizes.setdefault(module, float(value.detach().square().sum(-1).mean().sqrt()))

    with ExitStack() as hooks:
        for module in training.model.modules():
            hooks.enter_context(module.register_forward_pre_hook(look))
        training.output(x)
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
        return ":".join(ends if index.step is None else [*ends, str(index.step)])
    return str(index)


SIMPLICITY = {GIVEN: 0, OUTPUT_BIAS: 1, DEFAULT: 1, CHRONO: 2}  # of initial weights; 3: matrices


@dataclass(frozen=True)
class Change:
    """Initial weights and a learning rate."""

    start: Start
    factor: float = 1.0
    """On the learning rates that were given."""
    adam: float | None = None
    """Learning rate of Adam in place of the given optimiser; None: the given one."""

    def applied(self, training: Training) -> Training:
        """A changed copy of a training."""
        other = training.copy() if self.factor == 1 else training.with_rates(self.factor)
        self.start.apply(other.model)
        if self.adam is not None:
            other.optimizer = torch.optim.Adam(other.model.parameters(), self.adam)
            other.scheduler = None
        return other

    def rate(self, training: Training) -> float:
        """The learning rate; with a scheduler that to which it is relative."""
        return self.adam or times(training.learning_rate, self.factor)

    def words(self, training: Training) -> str:
        """In words: "orthogonal matrices, learning rate 0.01"."""
        parts = [self.start.words] if self.start.code else []
        if self.adam is not None:
            parts.append(f"Adam {self.adam:.3g}")
        elif self.factor != 1:
            parts.append(f"learning rate {self.rate(training):.3g}")
        return ", ".join(parts) or "as given"

    @property
    def size(self) -> tuple[float, ...]:
        """Size of the change, for the choice of the smallest one."""
        return (
            SIMPLICITY.get(self.start.words, 3),
            self.adam is not None,
            abs(math.log(self.factor)),
        )
