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
| memory[:T]     | half the units sense, half remember; others scaled  | `memory_blocks`, T = 100 |

Biases are zero, except with `uniform`.

fan_in is the number of columns of a matrix. (So an embedding's rows have a length of about G.)

Recurrent matrices are the n x n blocks that multiply a state, including the blocks of gates and of
shortcuts. `Cell.layers()` describes them; a cell without this description starts as `scaled`. Q is
uniform (Haar): the orthogonal factor of a normal matrix's QR decomposition, with the signs that
make the diagonal of the other factor positive. `scaled` and `orthogonal` fix the scale of recurrent
matrices, so with them an IRNN starts without its identity.

Some cells initialise some weights in their own way under any scheme (`Cell._start`); see their
docstrings.

`uniform:A,bias:B` starts all biases at the constant B (an option of the official Theano code). Gate
biases (`transform_bias`, `forget_bias`, ...) are constants that the cell sets afterwards.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rhn.cells.layers import Layer, Part
from rhn.errors import InvalidInputError
from rhn.utils.validation import LARGEST_INIT, fits

DEFAULT_SCALE = {
    "uniform": 0.04,
    "gaussian": 0.01,
    "identity": 1e-3,
    "scaled": 1.0,
    "orthogonal": 1.0,
    "memory": 100.0,
}
SCALE = {
    "uniform": "bound",
    "gaussian": "standard deviation",
    "identity": "standard deviation",
    "scaled": "gain",
    "orthogonal": "gain",
    "memory": "number of steps",
}
OWN = "uniform:0.04"  # the default of our cells
BY_FAN_IN = ("scaled", "orthogonal", "memory")
# norm of what T steps write into a remembering unit, about: tanh is nearly linear there
WRITTEN = 0.4


def _unknown(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"unknown initialisation {text!r}: expected gaussian[:STD], uniform[:A], identity[:STD], "
        "scaled[:GAIN], orthogonal[:GAIN] or memory[:STEPS], for example gaussian:0.01, and for "
        "constant biases ,bias:B"
    )


def _check(text: str, scheme: str, scale: float, constant: float | None) -> None:
    """Raise InvalidInputError for an unknown scheme, or for a number out of its range. text: the
    initialisation as the user gave it.
    """
    numbers = (scale, 0.0 if constant is None else constant)
    known = scheme in DEFAULT_SCALE and all(fits(number, float) for number in numbers)
    if not known or any(map(math.isnan, numbers)):
        raise _unknown(text)
    whole = scheme == "memory"
    if scale < whole or (whole and math.isfinite(scale) and scale % 1):
        expected = "a whole number of at least 1" if whole else "a number of at least 0"
        raise InvalidInputError(
            f"the initialisation {text!r:.60} has the {SCALE[scheme]} {scale:g}: expected "
            f"{expected}"
        )
    if max(map(abs, numbers)) > LARGEST_INIT:
        raise InvalidInputError(
            f"the initialisation {text!r:.60} is out of range: expected a scale and a bias of at "
            f"most {LARGEST_INIT:g}"
        )


@dataclass(frozen=True)
class Initialization:
    """An initialisation: its scheme, its scale (half-width, standard deviation, gain or number of
    time steps), and the constant of the biases, if there is one. Raises InvalidInputError for an
    unknown scheme, or for numbers out of range.
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
        try:
            scheme, scale, bias = found.groups() if found else ("", "", "")
            value = float(scale) if scale else DEFAULT_SCALE[scheme]
            constant = float(bias) if bias else None
        except (KeyError, ValueError):
            raise _unknown(str(text)) from None
        _check(str(text), scheme, value, constant)
        return cls(scheme, value, constant)

    def __post_init__(self):
        _check(str(self), self.scheme, self.scale, self.constant)

    def __str__(self) -> str:
        biases = "" if self.constant is None else f",bias:{_short(self.constant)}"
        return f"{self.scheme}:{_short(self.scale)}{biases}"

    def weight(
        self, like: Tensor, generator: torch.Generator | None, recurrent: Iterable = ()
    ) -> Tensor:
        """Draw a weight of the shape and dtype of `like`, in double precision on the CPU.

        recurrent: indices of the parts (G n, n) of the weight that are recurrent matrices, for
        `orthogonal`.
        """
        draw = torch.empty(like.shape, dtype=torch.float64, device="cpu")
        if self.scheme == "uniform":
            draw.uniform_(-self.scale, self.scale, generator=generator)
        else:
            fan_in = max(1, like.shape[-1]) if like.dim() and self.scheme in BY_FAN_IN else 1
            gain = 1.0 if self.scheme == "memory" else self.scale
            draw.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)
        if self.scheme == "orthogonal":
            for index in recurrent:
                part = draw[index]
                blocks = part.unflatten(0, (-1, part.shape[-1]))
                blocks.copy_(self.scale * haar(blocks))
        return draw.to(like.dtype)

    def bias(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw or set a bias of the shape and dtype of `like`."""
        if self.constant is not None:
            return torch.full(like.shape, self.constant, dtype=like.dtype, device="cpu")
        if self.scheme == "uniform":
            return self.weight(like, generator)
        return torch.zeros(like.shape, dtype=like.dtype, device="cpu")


def draw(
    module: nn.Module,
    init: Initialization,
    generator: torch.Generator | None,
    *,
    recurse: bool = True,
    recurrent: Sequence[tuple] = (),
) -> None:
    """Draw every parameter of a module in place, in the order of `named_parameters`: those with
    "bias" in their name as biases, all others as weights.

    recurrent: (name of a parameter, index) of each recurrent matrix, as in
    `rhn.cells.layers.recurrent_parts`.
    """
    with torch.no_grad():
        for name, p in module.named_parameters(recurse=recurse):
            if not p.is_meta:
                own = [index for parameter, index in recurrent if parameter == name]
                p.copy_(
                    init.bias(p, generator) if "bias" in name else init.weight(p, generator, own)
                )


def memory_blocks(
    module: nn.Module, layers: Sequence[Layer], steps: float
) -> list[tuple[Part, Any, str, Any]]:
    """Return the changes of weights by the scheme `memory`, for sequences of `steps` time steps.
    Each change is (part, index, operation, number for this operation). The list is empty unless the
    module is a tanh or ReLU cell without gates.

    Half of the units sense: they compute random features of the present input, without recurrence.
    The other half remember: they read no input, and rotate in planes. The sensing units write so
    little to the remembering units that tanh stays nearly linear; later layers are the identity.
    Gradients therefore neither vanish nor grow. With ReLU one unit of each plane remains. Each time
    step multiplies it by the cosine of the plane's angle, which gives memories of all lengths.
    Sources of parts of this scheme: Henaff, Szlam and LeCun 2016 (rotations solve the copy and
    adding tasks); linear memory networks (Bacciu, Carta and Sperduti 2019, 2020); SCRN (Mikolov et
    al. 2014); S4D and LRU (spread angles); IRNN (Le et al. 2015).
    """
    n, plain = (
        getattr(module, "hidden_size", 0),
        all(s.recurrent and not s.gate for s in layers),
    )
    if (
        not layers
        or not plain
        or n < 4
        or getattr(module, "nonlinearity", "") not in ("tanh", "relu")
    ):
        return []
    half, (first, *deeper), steps = n - n // 4 * 2, layers, max(2.0, steps)
    if module.get_parameter(first.recurrent.parameter)[first.recurrent.index].dim() < 2:  # type: ignore[union-attr]
        return []  # a number for each unit
    sense, keep, std = (
        slice(half),
        slice(half, None),
        float(f"{WRITTEN / math.sqrt(steps * half):.4g}"),
    )
    blocks: list[tuple] = [
        (first.input, keep, "zero", None),
        (first.recurrent, sense, "zero", None),
    ]
    blocks += [
        (first.recurrent, (keep, sense), "normal", std),
        (first.recurrent, (keep, keep), "rotations", steps),
    ]
    for layer in deeper:
        blocks += [(layer.recurrent, ..., "eye", None), (layer.skip, ..., "zero", None)]
    return [block for block in blocks if block[0]]


def for_steps(init: str | None, steps: int) -> str | None:
    """Return an initialisation in which the scheme `memory` has a number of time steps. All others
    are returned unchanged.
    """
    return f"memory:{steps}" if init == "memory" else init


def remember(
    cell: nn.Module, layers: Sequence[Layer], steps: float, generator: torch.Generator | None
) -> None:
    """Change the weights of a cell in place by `memory_blocks`. Raises InvalidInputError for a cell
    that cannot have the scheme `memory`.
    """
    if not (blocks := memory_blocks(cell, layers, steps)):
        raise InvalidInputError(
            f"{type(cell).__name__} cannot have the initialisation memory: expected a tanh or "
            "ReLU cell without gates, such as rnn or dt-rnn"
        )
    for part, index, operation, value in blocks:
        q = cell.get_parameter(part.parameter)[part.index][index].zero_()
        if operation == "normal":
            draw = torch.empty(q.shape, dtype=torch.float64, device="cpu")
            q.copy_(draw.normal_(0.0, value, generator=generator))
        elif operation != "zero":
            q.copy_(torch.eye(len(q)) if operation == "eye" else rotations(len(q) // 2, value))


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

    A zero matrix gives the identity up to signs.
    """
    Q, R = torch.linalg.qr(normal)
    signs = R.diagonal(dim1=-2, dim2=-1).sign()
    return Q * torch.where(signs == 0, 1, signs).unsqueeze(-2)


def _short(number: Any) -> str:
    """Return a number as text, in the fewest digits that are exact; any other value as it is."""
    if not fits(number, float):
        return str(number)
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)
