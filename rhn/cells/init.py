"""Initialisation schemes of the paper, and other common schemes.

Weights are drawn on the CPU from an explicit generator, so that all devices and dtypes start with
the same weights.

| scheme         | weights                                             | used by, default scale   |
|----------------|-----------------------------------------------------|--------------------------|
| uniform[:A]    | uniform in [-A, A], including the biases            | official code, A = 0.04  |
| gaussian[:STD] | normal with standard deviation STD                  | study, section 5.1, 0.01 |
| identity[:STD] | candidate matrices I + noise, others normal         | Le et al. 2015, 0.001    |
| scaled[:G]     | normal with standard deviation G / sqrt(fan_in)     | LeCun et al. 1998, G = 1 |
| orthogonal[:G] | recurrent matrices G Q, Q orthogonal; others scaled | Saxe et al. 2014, G = 1  |
| memory[:T]     | half the units sense, half remember; others scaled  | `remember`, T = 100      |

fan_in is the number of columns of a matrix. Recurrent matrices are the n x n blocks of
`Cell.layers()` that multiply a state; a cell without this description starts as `scaled`. With
`scaled` and `orthogonal` an IRNN starts without its identity.

Biases are zero, except with `uniform`. `uniform:A,bias:B` starts all biases at the constant B (an
option of the official Theano code). Gate biases (`transform_bias`, ...) are constants that the cell
sets afterwards.

`orthogonal_`, `chrono_` and `remembering_` draw new weights for any module of torch, in place.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rhn.cells.layers import GateBlocks, Layer, Part
from rhn.errors import InvalidInputError
from rhn.utils.validation import LARGEST_INIT, is_number

DEFAULT_SCALE = {
    "uniform": 0.04,
    "gaussian": 0.01,
    "identity": 1e-3,
    "scaled": 1.0,
    "orthogonal": 1.0,
    "memory": 100.0,
}
EXPECTED = (
    "uniform[:A], gaussian[:STD], identity[:STD], scaled[:G], orthogonal[:G], memory[:T], each at "
    f"most {LARGEST_INIT:g} (T: a whole number), and ,bias:B for constant biases"
)
OWN = "uniform:0.04"  # the default of our cells
BY_FAN_IN = ("scaled", "orthogonal", "memory")
TORCH_GATES = {"LSTM": GateBlocks(0, carry=1), "GRU": GateBlocks(1, opens=False)}
WRITTEN = 0.4  # norm of what T steps write into a remembering unit: tanh is nearly linear there


@dataclass(frozen=True)
class Initialization:
    """An initialisation: its scheme, its scale (half-width, standard deviation, gain or number of
    time steps), and the constant of the biases, if there is one. Raises InvalidInputError.

    >>> str(Initialization("gaussian", 0.01))
    'gaussian:0.01'
    """

    scheme: str
    scale: float
    constant: float | None = None

    @classmethod
    def parse(cls, text: "str | Initialization") -> "Initialization":
        """Read an initialisation from `SCHEME[:SCALE][,bias:B]`. Raises InvalidInputError.

        >>> Initialization.parse("gaussian:1e-3")
        Initialization(scheme='gaussian', scale=0.001, constant=None)
        """
        if isinstance(text, Initialization):
            return text
        found = re.fullmatch(r"([a-z]+)(?::([^,]+))?(?:,bias:(.+))?", str(text))
        scheme, scale, bias = found.groups() if found else (str(text), None, None)
        try:
            value = float(scale or DEFAULT_SCALE.get(scheme, 0))
            return cls(scheme, value, float(bias) if bias else None)
        except ValueError:
            raise InvalidInputError(f"init is {str(text)[:60]!r}: expected {EXPECTED}") from None

    def __post_init__(self):
        scale, constant, steps = self.scale, self.constant or 0.0, self.scheme == "memory"
        known = self.scheme in DEFAULT_SCALE and is_number(scale) and is_number(constant)
        fit = known and steps <= scale <= LARGEST_INIT and abs(constant) <= LARGEST_INIT
        if not fit or (steps and scale % 1):
            text = f"{self.scheme}:{scale}"
            raise InvalidInputError(f"init is {text[:60]!r}: expected {EXPECTED}")

    def __str__(self) -> str:
        # in the fewest digits that are exact
        scale, constant = (
            f"{value:g}" if float(f"{value:g}") == value else repr(value)
            for value in (self.scale, self.constant or 0.0)
        )
        return f"{self.scheme}:{scale}" + ("" if self.constant is None else f",bias:{constant}")


def draw(
    module: nn.Module,
    init: Initialization,
    generator: torch.Generator | None,
    *,
    recurse: bool = True,
    recurrent: Sequence[tuple] = (),
) -> None:
    """Draw every parameter of a module in place, on the CPU, in the order of `named_parameters`:
    those with "bias" in their name as biases, all others as weights. recurrent: the name and index
    of each matrix that becomes orthogonal.

    >>> draw(layer := nn.Linear(2, 2), Initialization("identity", 0), None)
    >>> layer.weight.any().item(), layer.bias.any().item()
    (False, False)
    """
    with torch.no_grad():
        for name, p in module.named_parameters(recurse=recurse):
            if p.is_meta:
                continue
            if "bias" in name and (init.constant is not None or init.scheme != "uniform"):
                p.fill_(init.constant or 0.0)
                continue
            drawn = _drawn(p.shape, init, generator)
            for index in [index for parameter, index in recurrent if parameter == name]:
                blocks = drawn[index].unflatten(0, (-1, drawn[index].shape[-1]))
                blocks.copy_(init.scale * haar(blocks))
            p.copy_(drawn.to(p.dtype))


def _drawn(shape: torch.Size, init: Initialization, generator: torch.Generator | None) -> Tensor:
    drawn = torch.empty(shape, dtype=torch.float64, device="cpu")
    if init.scheme == "uniform":
        return drawn.uniform_(-init.scale, init.scale, generator=generator)
    fan_in = max(1, shape[-1]) if shape and init.scheme in BY_FAN_IN else 1
    gain = 1.0 if init.scheme == "memory" else init.scale
    return drawn.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)


def for_steps(init: str | None, steps: int) -> str | None:
    """Return an initialisation; `memory` without a number of time steps gets this one.

    >>> for_steps("memory", 50), for_steps("gaussian:0.1", 50)
    ('memory:50', 'gaussian:0.1')
    """
    return f"memory:{steps}" if init == "memory" else init


@torch.no_grad()
def remember(
    module: nn.Module, layers: Sequence[Layer], steps: float, generator: torch.Generator | None
) -> bool:
    """Change the weights of a tanh or ReLU cell without gates in place, for sequences of `steps`
    time steps. Return False for any other module, which stays as it is.

    Half of the units sense: they compute random features of the present input, without recurrence.
    The other half remember: they read no input, and rotate in planes. The sensing units write so
    little to the remembering units that tanh stays nearly linear; later layers are the identity.
    With ReLU one unit of each plane remains, which each time step multiplies by the cosine of the
    plane's angle. Sources: Henaff, Szlam and LeCun 2016 (rotations); Bacciu, Carta and Sperduti
    2019 (linear memory); Mikolov et al. 2014 (SCRN); S4D and LRU (spread angles); Le et al. 2015.

    >>> rnn = nn.RNN(3, 8)
    >>> layer = Layer(input=Part("weight_ih_l0"), recurrent=Part("weight_hh_l0"))
    >>> remember(rnn, [layer], 100, None), rnn.weight_ih_l0[4:].any().item()
    (True, False)
    """
    n, plain = getattr(module, "hidden_size", 0), getattr(module, "nonlinearity", "")
    parts = [layer.recurrent for layer in layers if layer.recurrent and not layer.gate]
    if n < 4 or plain not in ("tanh", "relu") or not parts or len(parts) < len(layers):
        return False
    R, *deeper = (module.get_parameter(part.parameter)[part.index] for part in parts)
    if R.dim() < 2:  # a number for each unit
        return False
    half, steps = n - n // 4 * 2, max(2.0, steps)
    std = float(f"{WRITTEN / math.sqrt(steps * half):.4g}")
    if W := layers[0].input:
        module.get_parameter(W.parameter)[W.index][half:] = 0
    R[:half] = 0
    draw = torch.empty(n - half, half, dtype=torch.float64, device="cpu")
    R[half:, :half] = draw.normal_(0.0, std, generator=generator).to(R)
    # rotations by angles from pi to pi / steps, evenly spaced in their logarithm
    angles = torch.pi / steps ** torch.linspace(0, 1, n // 4, dtype=torch.float64)
    c, s = angles.cos().diag(), angles.sin().diag()
    R[half:, half:] = torch.vstack([torch.hstack([c, -s]), torch.hstack([s, c])]).to(R)
    for matrix in deeper:
        matrix.copy_(torch.eye(n))
    for layer in layers[1:]:
        if S := layer.skip:
            module.get_parameter(S.parameter)[S.index].zero_()
    return True


def haar(normal: Tensor) -> Tensor:
    """Return orthogonal matrices (..., n, n), Haar-distributed if the entries of `normal` are
    independent and normal.

    >>> haar(torch.tensor([[0.0, 2.0], [3.0, 0.0]])).abs()
    tensor([[0., 1.],
            [1., 0.]])
    """
    Q, R = torch.linalg.qr(normal)
    signs = R.diagonal(dim1=-2, dim2=-1).sign()
    return Q * torch.where(signs == 0, 1, signs).unsqueeze(-2)


@torch.no_grad()
def orthogonal_(model: nn.Module, generator: torch.Generator | None = None) -> int:
    """Draw new weights in place: recurrent matrices (n, n) are random rotations, other matrices are
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
    for module, layer in _layers(*model.modules()):
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
        layers = tuple(layer for _, layer in _layers(module))
        alone = [(replace(s, input=s.input or s.skip, skip=None),) for s in layers]
        for group in alone if isinstance(module, nn.RNNBase) else [layers]:
            count += remember(module, group, steps, generator)
    return count


def _redraw(model: nn.Module, recurrent: Callable, generator: torch.Generator | None) -> int:
    """Draw all layers, recurrent matrices as `recurrent` of a normal one; return their number."""
    count = 0
    for module, layer in _layers(*model.modules()):
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


def _layers(*modules: nn.Module) -> Iterator[tuple[nn.Module, Layer]]:
    """Yield the layers of cells of this package, of torch, and of the user's own modules."""
    for module in modules:
        described = getattr(module, "layers", None)
        found: Iterable[Layer] = ()
        if inspect.ismethod(described):
            found = (layer for layer in described() if isinstance(layer, Layer))
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            found = _layers_of_torch(module)
        elif isinstance(module, nn.Linear) or not type(module).__module__.startswith("torch."):
            found = _layers_of_matrices(module)
        yield from ((module, layer) for layer in found)


def _layers_of_matrices(module: nn.Module) -> Iterator[Layer]:
    """Yield a layer for each matrix of a linear layer, or of the user's own module."""
    bias = Part("bias") if isinstance(module, nn.Linear) else None
    for name, p in module.named_parameters(recurse=False):
        if p.dim() == 2:
            square, part = p.shape[0] == p.shape[1], Part(name)
            yield Layer(recurrent=part, bias=bias) if square else Layer(input=part, bias=bias)


def _layers_of_torch(module: nn.Module) -> Iterator[Layer]:
    """Yield the layers of a recurrent module of torch."""
    kind = type(module).__name__
    gate = next((blocks for name, blocks in TORCH_GATES.items() if kind.startswith(name)), None)
    for name, _ in module.named_parameters(recurse=False):
        if name.startswith("weight_hh"):
            end = name.removeprefix("weight_hh")
            first, reads = end in ("", "_l0", "_l0_reverse"), Part(f"weight_ih{end}")
            layer = Layer(recurrent=Part(name), bias=Part(f"bias_ih{end}"), gate=gate)
            yield replace(layer, input=reads) if first else replace(layer, skip=reads)
