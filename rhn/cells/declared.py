"""The base class of cells that declare their options and weights."""

import inspect
import math
from typing import Any, ClassVar

import torch
from torch import nn

from rhn.cells.base import Cell
from rhn.cells.init import OWN
from rhn.cells.layers import GateBlocks, Layer, Part
from rhn.cells.registry import CellOption
from rhn.errors import InvalidInputError
from rhn.utils.old import Range, expected, fits, kinds_of, plain, require
from rhn.utils.validation import LARGEST_FLOAT, check_room, in_short

Shapes = dict[str, tuple[int, ...]]
FLOATS = Range(least=-LARGEST_FLOAT, most=LARGEST_FLOAT)


class DeclaredCell(Cell):
    """A cell whose options are annotated attributes, such as `coupled: bool = True`, and whose
    weights have the names and shapes that `shapes` returns.

    Each option is a keyword of the constructor, which converts it to its type. The defaults of this
    class are for a cell of one layer.
    """

    deep = False
    declared: ClassVar[dict[str, CellOption]] = {}  # the options by name
    default_init = OWN  # the scheme that draws the weights if none is given
    gate: GateBlocks | None = None  # of its layer
    # the option with the first bias of a gate, or None, and the gate's block
    gate_bias: tuple[str, int] | None = None

    def __init_subclass__(cls, **keywords) -> None:
        super().__init_subclass__(**keywords)
        annotated = inspect.get_annotations(cls, eval_str=True).items()
        kinds = {name: option.kind for name, option in cls.declared.items()}
        kinds |= {name: kind for name, kind in annotated if not hasattr(DeclaredCell, name)}
        cls.declared = {
            name: CellOption(name, kind, getattr(cls, name, None)) for name, kind in kinds.items()
        }
        cls.options = tuple(dict.fromkeys((*cls.options, *cls.declared)))

    def __init__(
        self,
        input_size,
        hidden_size,
        depth=1,
        *,
        init=None,
        generator=None,
        device=None,
        dtype=None,
        **keywords,
    ):
        for name, kind, default in self.declared.values():
            self._set_option(name, kind, keywords.pop(name, default))
        super().__init__(
            input_size,
            hidden_size,
            depth,
            init=self.default_init if init is None else init,
            **keywords,
        )
        self._check_room(device, dtype)
        for name, shape in self.shapes().items():
            self.register_parameter(
                name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            )
        self.reset_parameters(generator)

    def _check_room(self, device: Any, dtype: torch.dtype | None) -> None:
        """Raise InvalidInputError if the weights cannot have this type, or do not fit into the
        memory.
        """
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise InvalidInputError(
                f"dtype is {in_short(dtype)}: expected a floating-point type, such as torch.float32"
            )
        device = torch.device(torch.get_default_device() if device is None else device)
        if device.type in ("cpu", "cuda"):
            need = dtype.itemsize * sum(map(math.prod, self.shapes().values()))
            what = f"the cell {type(self).__name__}"
            check_room(need, what, "use a smaller input or fewer units", str(device))

    def _set_option(self, name: str, kind, value) -> None:
        value, is_number = plain(value), kinds_of(kind)[0] is float
        is_one = is_number and fits(value, float)
        setattr(self, name, float(value) if is_one else value)
        in_range = not fits(value, float) or value in FLOATS
        allowed = str(FLOATS) if is_number else expected(kind)
        require(self, name, fits(value, kind) and in_range, allowed)

    def shapes(self) -> Shapes:
        """Return the shapes of the weights by name, in the order in which the weights are drawn."""
        rows = self.blocks * self.hidden_size
        return {
            "weight_ih": (rows, self.input_size),
            "weight_hh": (rows, self.hidden_size),
            "bias": (rows,),
        }

    def _start(self, generator: torch.Generator | None) -> None:
        option, block = self.gate_bias or (None, 0)
        if option is not None and getattr(self, option) is not None:
            self.bias.chunk(self.blocks)[block].fill_(getattr(self, option))

    def layers(self) -> tuple[Layer, ...]:
        W, R, b = map(Part, ("weight_ih", "weight_hh", "bias"))
        return (Layer(input=W, recurrent=R, bias=b, gate=self.gate),)
