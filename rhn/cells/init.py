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
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rhn.errors import InvalidInputError
from rhn.utils.validation import LARGEST_INIT, is_number, unexpected

DEFAULT_SCALE = {
    "uniform": 0.04,
    "gaussian": 0.01,
    "identity": 1e-3,
    "scaled": 1.0,
    "orthogonal": 1.0,
    "memory": 100.0,
}
EXPECTED = (
    "uniform[:A], gaussian[:STD], identity[:STD], scaled[:G], orthogonal[:G], memory[:T], each "
    f"from 0 to {LARGEST_INIT:g} (T: a whole number above 0), and ,bias:B for constant biases"
)
OWN = "uniform:0.04"  # the default of our cells
BY_FAN_IN = ("scaled", "orthogonal", "memory")


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
            value = float(scale or DEFAULT_SCALE[scheme])
            return cls(scheme, value, float(bias) if bias else None)
        except (KeyError, ValueError):
            raise InvalidInputError(f"init is {str(text)[:60]!r}: expected {EXPECTED}") from None

    def __post_init__(self):
        scale, biases = self.scale, [] if self.constant is None else [self.constant]
        is_memory = self.scheme == "memory"
        least = 1 if is_memory else 0
        is_known = self.scheme in DEFAULT_SCALE and all(map(is_number, [scale, *biases]))
        are_small = is_known and all(abs(number) <= LARGEST_INIT for number in [scale, *biases])
        fits = are_small and least <= scale
        is_no_count = fits and is_memory and scale % 1 != 0
        if not fits or is_no_count:
            text = f"{self.scheme}:{scale}"
            raise InvalidInputError(f"init is {text[:60]!r}: expected {EXPECTED}")

    def __str__(self) -> str:
        bias = "" if self.constant is None else f",bias:{_shortest(self.constant)}"
        return f"{self.scheme}:{_shortest(self.scale)}{bias}"


def _shortest(number: float) -> str:
    """Return a number in the fewest digits that are exact."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def draw(
    module: nn.Module,
    init: Initialization,
    generator: torch.Generator | None,
    *,
    recurse: bool = True,
    recurrent: Sequence[tuple] = (),
) -> None:
    """Draw every parameter of a module in place, on the CPU, in the order of `named_parameters`:
    those with "bias" in their own name, after the last dot, as biases, all others as weights.
    recurrent: the name and index of each matrix that becomes orthogonal.

    >>> draw(layer := nn.Linear(2, 2), Initialization("identity", 0), None)
    >>> layer.weight.any().item(), layer.bias.any().item()
    (False, False)
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise unexpected("generator", generator, "a torch.Generator")
    with torch.no_grad():
        for name, p in module.named_parameters(recurse=recurse):
            if p.is_meta:
                continue
            is_bias = "bias" in name.rpartition(".")[2]
            if is_bias and (init.constant is not None or init.scheme != "uniform"):
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


def haar(normal: Tensor) -> Tensor:
    """Return orthogonal matrices (..., n, n), Haar-distributed if the entries of `normal` are
    independent and normal.

    >>> haar(torch.tensor([[0.0, 2.0], [3.0, 0.0]])).abs()
    tensor([[0., 1.],
            [1., 0.]])
    >>> haar(torch.zeros(2, 2)).diagonal()
    tensor([1., 1.])
    """
    Q, R = torch.linalg.qr(normal)
    return torch.where(R.diagonal(dim1=-2, dim2=-1).unsqueeze(-2) < 0, -Q, Q)
