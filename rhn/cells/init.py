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

Biases are zero, except with `uniform`.

`orthogonal_`, `chrono_` and `remembering_` draw new weights for any module of torch, in place.

fan_in is the number of columns of a matrix. (So an embedding's rows have a length of about G.)

Recurrent matrices are the n x n blocks that multiply a state, including the blocks of gates and of
shortcuts. `Cell.layers()` describes them; a cell without this description starts as `scaled`. With
`scaled` and `orthogonal` an IRNN starts without its identity.

`uniform:A,bias:B` starts all biases at the constant B (an option of the official Theano code). Gate
biases (`transform_bias`, `forget_bias`, ...) are constants that the cell sets afterwards.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
SCALES = dict(zip(DEFAULT_SCALE, ("A", "STD", "STD", "G", "G", "T"), strict=True))
OWN = "uniform:0.04"  # the default of our cells
BY_FAN_IN = ("scaled", "orthogonal", "memory")
TORCH_GATES = {"LSTM": GateBlocks(0, carry=1), "GRU": GateBlocks(1, opens=False)}
# norm of what T steps write into a remembering unit, about: tanh is nearly linear there
WRITTEN = 0.4


@dataclass(frozen=True)
class Initialization:
    """An initialisation: its scheme, its scale (half-width, standard deviation, gain or number of
    time steps), and the constant of the biases, if there is one. Raises InvalidInputError for an
    unknown scheme, or for numbers out of range.

    >>> str(Initialization("gaussian", 0.01))
    'gaussian:0.01'
    """

    scheme: str
    scale: float
    constant: float | None = None

    @classmethod
    def parse(cls, text: "str | Initialization") -> "Initialization":
        """Read an initialisation from `SCHEME[:SCALE][,bias:B]`, as on the command line. Raises
        InvalidInputError.

        >>> Initialization.parse("gaussian:1e-3")
        Initialization(scheme='gaussian', scale=0.001, constant=None)
        """
        if isinstance(text, Initialization):
            return text
        found = re.fullmatch(r"([a-z]+)(?::([^,]+))?(?:,bias:(.+))?", str(text))
        scheme, scale, bias = found.groups() if found else (str(text), None, None)
        try:
            value = float(scale) if scale else DEFAULT_SCALE.get(scheme, 0.0)
            return cls(scheme, value, float(bias) if bias else None)
        except ValueError:
            raise _refused(text) from None

    def __post_init__(self):
        least, constant = 1 if self.scheme == "memory" else 0, self.constant or 0.0
        known = self.scheme in DEFAULT_SCALE and is_number(self.scale) and is_number(constant)
        if not (
            known
            and least <= self.scale <= LARGEST_INIT
            and abs(constant) <= LARGEST_INIT
            and (self.scheme != "memory" or self.scale % 1 == 0)
        ):
            raise _refused(f"{self.scheme}:{self.scale}")

    def __str__(self) -> str:
        # in the fewest digits that are exact
        scale, constant = (
            f"{value:g}" if float(f"{value:g}") == value else repr(value)
            for value in (self.scale, self.constant or 0.0)
        )
        return f"{self.scheme}:{scale}" + ("" if self.constant is None else f",bias:{constant}")


def _refused(init: object) -> InvalidInputError:
    schemes = ", ".join(f"{scheme}[:{name}]" for scheme, name in SCALES.items())
    return InvalidInputError(
        f"init is {str(init)[:60]!r}: expected {schemes}, each at most {LARGEST_INIT:g} (T: a "
        "whole number), and ,bias:B for constant biases"
    )


def draw(
    module: nn.Module,
    init: Initialization,
    generator: torch.Generator | None,
    *,
    recurse: bool = True,
    recurrent: Sequence[tuple] = (),
) -> None:
    """Draw every parameter of a module in place, on the CPU, in the order of `named_parameters`:
    those with "bias" in their name as biases, all others as weights.

    recurrent: the name and index of each recurrent matrix, for the scheme `orthogonal`.

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
    """Draw random numbers in double precision on the CPU."""
    drawn = torch.empty(shape, dtype=torch.float64, device="cpu")
    if init.scheme == "uniform":
        return drawn.uniform_(-init.scale, init.scale, generator=generator)
    fan_in = max(1, shape[-1]) if shape and init.scheme in BY_FAN_IN else 1
    gain = 1.0 if init.scheme == "memory" else init.scale
    return drawn.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)


def for_steps(init: str | None, steps: int) -> str | None:
    """Return an initialisation in which the scheme `memory` has a number of time steps. All others
    are returned unchanged.

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
    Gradients therefore neither vanish nor grow. With ReLU one unit of each plane remains. Each time
    step multiplies it by the cosine of the plane's angle, which gives memories of all lengths.
    Sources of parts of this scheme: Henaff, Szlam and LeCun 2016 (rotations solve the copy and
    adding tasks); linear memory networks (Bacciu, Carta and Sperduti 2019, 2020); SCRN (Mikolov et
    al. 2014); S4D and LRU (spread angles); IRNN (Le et al. 2015).

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
    R[half:, half:] = rotations(n // 4, steps).to(R)
    for matrix in deeper:
        matrix.copy_(torch.eye(n))
    for layer in layers[1:]:
        if S := layer.skip:
            module.get_parameter(S.parameter)[S.index].zero_()
    return True


def rotations(planes: int, steps: float) -> Tensor:
    """Return a matrix (2 k, 2 k), float64, that rotates k = `planes` planes (i, i + k) by angles
    from pi to pi / steps, evenly spaced in their logarithm.
    """
    a = torch.pi / steps ** torch.linspace(0, 1, planes, dtype=torch.float64)
    c, s = a.cos().diag(), a.sin().diag()
    return torch.vstack([torch.hstack([c, -s]), torch.hstack([s, c])])


def haar(normal: Tensor) -> Tensor:
    """Return orthogonal matrices (..., n, n) from matrices `normal`. The result is
    Haar-distributed (uniform) if the entries of `normal` are i.i.d. zero-mean Gaussian.

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
    >>> orthogonal_(model)
    1
    >>> W = model.weight_hh_l0.detach()
    >>> bool((W @ W.T - torch.eye(5)).abs().max() < 1e-6)
    True
    """
    return _redraw(model, haar, generator)


@torch.no_grad()
def chrono_(model: nn.Module, steps: int, generator: torch.Generator | None = None) -> int:
    """Draw the biases of gates in place, for memories of up to T steps: +-log u, with u uniform in
    [1, T - 1] (Tallec and Ollivier 2018). All other weights stay unchanged. Return the number of
    gates.

    >>> model = nn.LSTM(3, 5)
    >>> chrono_(model, 60)
    1
    >>> forget = model.bias_ih_l0[5:10]
    >>> bool(((0 <= forget) & (forget <= math.log(59))).all())
    True
    """
    count = 0
    for module, layer in _layers(*model.modules()):
        blocks = _bias_blocks(module, layer)
        memory = {k: sign for k in range(len(blocks)) if (sign := _memory(layer.gate, k))}
        for k, sign in memory.items():
            u = torch.empty(blocks[k].shape, dtype=torch.double)
            u.uniform_(1.0, max(2.0, steps - 1.0), generator=generator)
            blocks[k].copy_(sign * u.log())
            if layer.gate and layer.gate.carry is not None:
                blocks[layer.gate.transform].copy_(-blocks[k])
        count += len(memory)
    return count


@torch.no_grad()
def remembering_(model: nn.Module, steps: int, generator: torch.Generator | None = None) -> int:
    """Draw new weights in place: half of the units of each recurrence of tanh or ReLU read the
    present input, and half remember for T steps, see `remember`. All other weights are drawn
    as `orthogonal_` does, but recurrent matrices are normal. Return the number of recurrences.

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
    """Draw all layers; return the number of recurrent matrices. recurrent: makes one of a standard
    normal matrix.
    """
    count = 0
    for module, layer in _layers(*model.modules()):
        for part in filter(None, (layer.input, layer.skip)):
            q = _values(module, part)
            drawn = torch.randn(q.shape, generator=generator, dtype=torch.double)
            q.copy_(drawn / math.sqrt(max(1, q.shape[-1])))
        for block in _recurrent_blocks(module, layer):
            drawn = torch.randn(block.shape, generator=generator, dtype=torch.double)
            block.copy_(recurrent(drawn))
            count += 1
        for k, block in enumerate(_bias_blocks(module, layer)):
            block.fill_(_memory(layer.gate, k))
        for name, p in module.named_parameters(recurse=False):
            if name.startswith("bias_h") and p.requires_grad:
                p.zero_()
    return count


def _recurrent_blocks(module: nn.Module, layer: Layer) -> list[Tensor]:
    """Return the recurrent matrices (n, n) of a layer."""
    q = torch.empty(0) if layer.recurrent is None else _values(module, layer.recurrent)
    return [*q.split(q.shape[1])] if q.dim() == 2 and len(q) % q.shape[1] == 0 else []


def _memory(gate: GateBlocks | None, block: int) -> int:
    """Return 1 if a larger bias of a block makes memories last longer, -1 if shorter, else 0."""
    if gate is None or block not in (gate.carry, gate.transform):
        return 0
    if block == gate.carry:
        return 1
    return 0 if gate.carry is not None else -1 if gate.opens else 1


def _values(module: nn.Module, part: Part) -> Tensor:
    """Return the weights of a part, or an empty tensor for those without a gradient."""
    p = module.get_parameter(part.parameter)
    return p.detach()[part.index] if p.requires_grad else torch.empty(0)


def _bias_blocks(module: nn.Module, layer: Layer) -> tuple[Tensor, ...]:
    """Return the bias of a layer, n numbers for each block."""
    own = dict(module.named_parameters(recurse=False))
    if layer.bias is None or layer.bias.parameter not in own:
        return ()
    bias = _values(module, layer.bias)
    return bias.split(getattr(module, "hidden_size", len(bias) or 1)) if len(bias) else ()


def _layers(*modules: nn.Module) -> Iterator[tuple[nn.Module, Layer]]:
    """Yield the layers of cells of this package, of torch, and of the user's own modules."""
    for module in modules:
        own, described = dict(module.named_parameters(recurse=False)), getattr(module, "layers", 0)
        found: Iterable = ()
        if inspect.ismethod(described):
            found = (layer for layer in described() if isinstance(layer, Layer))
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            found = _layers_of_torch(module, own)
        elif isinstance(module, nn.Linear) or not type(module).__module__.startswith("torch."):
            found = _layers_of_matrices(module, own)
        yield from ((module, layer) for layer in found)


def _layers_of_matrices(module: nn.Module, own: Mapping[str, Tensor]) -> Iterator[Layer]:
    """Yield a layer for each matrix of a linear layer, or of the user's own module."""
    bias = Part("bias") if isinstance(module, nn.Linear) else None
    for name, p in own.items():
        if p.dim() == 2:
            square, part = p.shape[0] == p.shape[1], Part(name)
            yield Layer(recurrent=part, bias=bias) if square else Layer(input=part, bias=bias)


def _layers_of_torch(module: nn.Module, own: Mapping[str, Tensor]) -> Iterator[Layer]:
    """Yield the layers of a recurrent module of torch."""
    kind = type(module).__name__
    gate = next((blocks for name, blocks in TORCH_GATES.items() if kind.startswith(name)), None)
    for name in own:
        if name.startswith("weight_hh"):
            end = name.removeprefix("weight_hh")
            reads = Part(f"weight_ih{end}")
            layer = Layer(recurrent=Part(name), bias=Part(f"bias_ih{end}"), gate=gate)
            first = end in ("", "_l0", "_l0_reverse")
            yield replace(layer, input=reads) if first else replace(layer, skip=reads)
