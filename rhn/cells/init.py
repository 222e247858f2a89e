"""How weights start: the paper's schemes, drawn on the CPU from an explicit generator so that every device and dtype starts alike.

| scheme       | weights                                                | biases                | used by                             |
|--------------|--------------------------------------------------------|-----------------------|-------------------------------------|
| uniform:A    | uniform in [-A, A]                                     | uniform in [-A, A]    | the official code, A = 0.04         |
| gaussian:STD | normal with standard deviation STD                     | zero                  | the optimisation study, section 5.1 |
| identity:STD | recurrent candidate matrices I + normal noise, others normal | zero            | the IRNN (Le et al. 2015), figure 2 |

`uniform:A,bias:B` starts all biases at the constant B (an option of the official Theano code). Gate biases (`transform_bias`,
`forget_bias`, ...) are constants set afterwards by the cell.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rhn.errors import InvalidInputError

LARGEST_SCALE = 1e30  # beyond, sums of squares overflow in float64 long before anything is learnt
DEFAULT_SCALE = {"uniform": 0.04, "gaussian": 0.01, "identity": 1e-3}


@dataclass(frozen=True)
class Initialization:
    """A scheme, its scale (half-width or standard deviation), and the constant that biases start at where the scheme is not to say."""

    scheme: str
    scale: float
    constant: float | None = None

    @classmethod
    def parse(cls, text: "str | Initialization") -> "Initialization":
        """From `SCHEME[:SCALE][,bias:B]`, as on the command line; raises InvalidInputError.

        >>> Initialization.parse("gaussian:1e-3")
        Initialization(scheme='gaussian', scale=0.001, constant=None)
        """
        if isinstance(text, Initialization):
            return text
        weights, comma, biases = str(text).partition(",")
        scheme, _, scale = weights.partition(":")
        try:
            if scheme not in DEFAULT_SCALE:
                raise ValueError
            value = float(scale) if scale else DEFAULT_SCALE[scheme]
            constant = float(biases.removeprefix("bias:")) if comma else None
            if not 0 <= value <= LARGEST_SCALE or not abs(constant or 0) <= LARGEST_SCALE:
                raise ValueError
        except ValueError:
            raise InvalidInputError(
                f"unknown initialisation {text!r}: expected gaussian:STD, uniform:A or identity[:STD], for example gaussian:0.01, "
                "and for constant biases ,bias:B"
            ) from None
        return cls(scheme, value, constant)

    def __str__(self) -> str:
        biases = "" if self.constant is None else f",bias:{_short(self.constant)}"
        return f"{self.scheme}:{_short(self.scale)}{biases}"

    def weight(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """A weight of the shape and dtype of `like`, drawn in double precision on the CPU."""
        draw = torch.empty(like.shape, dtype=torch.float64)
        if self.scheme == "uniform":
            draw.uniform_(-self.scale, self.scale, generator=generator)
        else:
            draw.normal_(0.0, self.scale, generator=generator)
        return draw.to(like.dtype)

    def bias(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """A bias of the shape and dtype of `like`."""
        if self.constant is not None:
            return torch.full(like.shape, self.constant, dtype=like.dtype)
        return self.weight(like, generator) if self.scheme == "uniform" else torch.zeros(like.shape, dtype=like.dtype)


def _short(number: float) -> str:
    """A number in as few digits as tell it exactly."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)
