"""The base class of all cells: run one step s' = f(x, s) over time, and check its inputs.

Legend: T time steps, B batch rows, m = input_size, n = hidden_size, L = depth. A state is always
one tensor (..., state_size), and the output is its first n entries. A new cell must define its
parameters and `step`; docs/guides/own-cell.md lists what else it may define.
"""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rhn.cells.gates import CellMasks, Gates
from rhn.cells.init import BY_FAN_IN, OWN, Initialization, draw
from rhn.cells.layers import Layer, recurrent_parts
from rhn.cells.memory_init import remember
from rhn.errors import InvalidInputError
from rhn.kernels.kernel import check_tensor
from rhn.utils.old_names import moved
from rhn.utils.resources import check_room
from rhn.utils.validation import LARGEST_FLOAT, number, plain, unexpected, whole_number

Shapes = dict[str, tuple[int, ...]]
ClosedForm = Callable[..., Tensor] | None
MAX_SIZE = 10**7  # with more inputs or units, the number of weights overflows
MAX_DEPTH = 10_000  # each layer costs time before its sizes can be compared with the memory


class Cell(nn.Module):
    """A recurrent cell as a module that runs over time.

    A subclass that redefines the `step` of a complete cell inherits neither its closed forms nor
    its kernel. Closed forms, for x (..., m) and s (..., N) with N = state_size; None if a cell has
    none:

        jacobian(x, s)           A = ds'/ds (..., N, N)
        input_jacobian(x, s)     ds'/dx (..., N, m)
        layer_jacobians(x, s)    the L layers' Jacobians; their product, last layer first, is A
        norm_bound(beta=1.0)     a bound on ||A||_2 over all inputs and all states with entries
                                 within beta

    Args:
        depth: L, the number of nonlinear layers within a time step; cells without recurrence depth
            accept only 1.
        init: initialisation scheme, see `rhn.cells.init`. None: `default_init` of the class.
        batch_first: whether x and outputs are (B, T, .) instead of (T, B, .).
        kernel: "manual" (hand-derived, fast), or "reference" (the equation as a loop; has second
            derivatives and forward mode).

    Raises InvalidInputError for a value out of range.

    >>> from rhn.cells import RHN
    >>> outputs, state = RHN(3, 4, depth=2)(torch.rand(5, 1, 3))  # x (T, B, m)
    >>> outputs.shape, state.shape
    (torch.Size([5, 1, 4]), torch.Size([1, 4]))
    """

    deep = True
    options: tuple[str, ...] = ()  # constructor keywords beyond the common ones
    stacked = 1  # cells in a stack
    parts = 1  # vectors of n numbers in a state
    of_torch = False  # True if the user gave a module of torch.nn, or named one
    blocks = 1  # G, gate blocks stacked in the weights
    candidate: int | None = None  # the block of weight_hh that may start near the identity
    starts_at_identity = False  # True if it does so under any scheme of small noise
    gate_name = "transform gate"  # the term in its literature for the t of its `gates`
    carry_name = ""  # the term for the c of its `gates` if that is not 1 - t
    masks: tuple[str, ...] = ()  # the fields of CellMasks that `states` takes, without "input"
    separate_masks = False  # True if each gate block may have separate input and state masks
    default_init = OWN  # the scheme that draws the weights if none is given
    jacobian: ClosedForm = None
    input_jacobian: ClosedForm = None
    layer_jacobians: Callable[..., list[Tensor]] | None = None
    norm_bound: ClosedForm = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor:
            """Return a weight by its name."""

    def __init_subclass__(cls, **keywords) -> None:
        super().__init_subclass__(**keywords)
        if "step" in vars(cls):
            for name in DERIVED - vars(cls).keys():
                setattr(cls, name, getattr(Cell, name, None))

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        depth: int = 1,
        *,
        init: str | Initialization | None = None,
        batch_first: bool = False,
        kernel: str = "manual",
    ):
        super().__init__()
        self.input_size = whole_number("input_size", input_size, 1, MAX_SIZE)
        self.hidden_size = whole_number("hidden_size", hidden_size, 1, MAX_SIZE)
        self.depth = whole_number("depth", depth, 1, MAX_DEPTH if self.deep else 1)
        self.init = Initialization.parse(self.default_init if init is None else init)
        self.batch_first = bool(batch_first)
        self.kernel = choice("kernel", kernel, "manual", "reference")

    @property
    def state_size(self) -> int:
        """Number of entries of a state."""
        return self.parts * self.hidden_size

    def outputs_of(self, s: Tensor) -> Tensor:
        """Return the outputs (..., n), the first n entries of states (..., state_size)."""
        return s[..., : self.hidden_size]

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        """Compute the next state (..., state_size) from x (..., m) and s (..., state_size)."""
        raise NotImplementedError(f"{type(self).__name__} needs its equation, step(x, s)")

    def states(self, x: Tensor, s0: Tensor) -> Tensor:
        """Compute all states (T, B, state_size) after s0 (B, state_size), for x (T, B, m). A
        subclass with `masks` takes as a third argument those that `forward` has not applied.
        """
        states = itertools.accumulate(x, lambda s, x_t: self.step(x_t, s), initial=s0)
        return torch.stack([*states][1:])

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        """Return the gates and intermediate states of one time step; empty without gates."""
        return Gates()

    def layers(self) -> tuple[Layer, ...]:
        """Describe the weights and gates of each of the L layers."""
        return (Layer(),) * self.depth

    def run_layer(self, layer: int, x: Tensor, s: Tensor, y: Tensor) -> Tensor:
        """Compute the output of one layer from its input state s. y: state before the time step."""
        if self.depth > 1:
            raise NotImplementedError(f"{type(self).__name__} needs run_layer")
        return self.step(x, s)

    @property
    def runs_layers(self) -> bool:
        """True if the cell can run its layers one by one with `run_layer`."""
        return self.depth == 1 or type(self).run_layer is not Cell.run_layer

    def forward(
        self, x: Tensor, s0: Tensor | None = None, dropout: CellMasks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the cell over time. Returns the outputs (T, B, n) and the last state (B, state_size),
        in the layout of x. Raises InvalidInputError if a shape, a type or a mask does not fit.

        x: input (T, B, m), (B, T, m) with `batch_first`, or unbatched (T, m).
        s0: initial state (B, state_size), or unbatched (state_size,); None: zero.
        """
        self._check_given(x, s0, dropout)
        unbatched = x.dim() == 2
        if unbatched:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        if s0 is None:
            s0 = x.new_zeros(x.shape[1], self.state_size)
        elif unbatched:
            s0 = s0.unsqueeze(0)
        others: list[CellMasks] = []
        if dropout is not None:
            x, *others = self._mask_input(x, dropout)
        outputs, last = self._run(x, s0, *others)
        if unbatched:
            return outputs.squeeze(1), last.squeeze(0)
        return (outputs.transpose(0, 1) if self.batch_first else outputs), last

    def _check_given(self, x: Any, s0: Any, dropout: Any) -> None:
        """Refuse another shape of x, and other kinds of s0 and dropout."""
        if not isinstance(x, Tensor) or x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            rows = "B, T" if self.batch_first else "T, B"
            m = self.input_size
            raise unexpected("x", x, f"({rows}, {m}) or (T, {m})")
        if s0 is not None and not isinstance(s0, Tensor):
            raise unexpected("s0", s0, f"one tensor (B, {self.state_size})")
        if dropout is not None and not isinstance(dropout, CellMasks):
            raise unexpected("dropout", dropout, "CellMasks")

    def _run(self, x: Tensor, s0: Tensor, *dropout: CellMasks) -> tuple[Tensor, Tensor]:
        """Compute the outputs (T, B, n) and the last state (B, state_size)."""
        states = self.states(x, s0, *dropout)
        return self.outputs_of(states), states[-1]

    def _mask_input(self, x: Tensor, masks: CellMasks) -> tuple:
        """Apply an input mask that all blocks share. Returns x, and the other masks if any."""
        shapes = {"input": "J B m", "state": "J B n", "candidate": "B n"}
        given = {name: mask for name, mask in masks._asdict().items() if mask is not None}
        for name, mask in given.items():
            choice("dropout mask", name, "input", *self.masks)
            J = self.blocks if self.separate_masks and len(mask) > 1 else 1
            sizes = {"B": x.shape[1], "J": J, "m": self.input_size, "n": self.hidden_size}
            check_tensor(f"the {name} mask", mask, shapes[name], sizes, x)
        if len(given.get("input", ())) == 1:
            x = x * given.pop("input")[0]
        return (x, CellMasks(**given)) if given else (x,)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights in place by the scheme `init`, in the order of `named_parameters`."""
        scheme = self.init.scheme
        parts = recurrent_parts(self) if scheme == "orthogonal" else ()
        draw(self, self.init, generator, recurrent=parts)
        with torch.no_grad():
            near = scheme == "identity" or (self.starts_at_identity and scheme not in BY_FAN_IN)
            if near and self.candidate is not None:
                R = self.weight_hh.unflatten(-2, (-1, self.hidden_size))[..., self.candidate, :, :]
                R.diagonal(dim1=-2, dim2=-1).add_(1)
            if scheme == "memory" and not remember(self, self.layers(), self.init.scale, generator):
                kind = type(self).__name__
                raise InvalidInputError(f"init is memory: expected another scheme for {kind}")
            self._start(generator)

    def _start(self, generator: torch.Generator | None) -> None:
        """Overwrite weights that no scheme draws, such as gate biases, after all draws."""

    def config(self) -> dict:
        """Return the constructor's arguments that rebuild this cell, except device and dtype."""
        names = ("input_size", "hidden_size", "depth", "init", "batch_first", "kernel")
        values = {name: getattr(self, name) for name in (*names, *self.options)}
        return values | {"init": str(self.init)}

    def extra_repr(self) -> str:
        config = self.config()
        sizes = [str(config.pop(name)) for name in ("input_size", "hidden_size")]
        usual = {"batch_first": False, "kernel": "manual"}
        told = [f"{k}={v!r}" for k, v in config.items() if k not in usual or v != usual[k]]
        return ", ".join(sizes + told)


class DeclaredCell(Cell):
    """A cell whose weights have the names and shapes that `shapes` returns.

    generator: CPU generator that draws the weights. None: torch's default generator.

    >>> class Sum(DeclaredCell):
    ...     def shapes(self):
    ...         return {"weight": (self.hidden_size, self.input_size)}
    ...
    ...     def step(self, x, s):
    ...         return s + x @ self.weight.T
    >>> Sum(3, 4, init="gaussian:0.1").weight.shape
    torch.Size([4, 3])
    """

    def __init__(self, *sizes: int, generator=None, device=None, dtype=None, **others):
        super().__init__(*sizes, **others)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise unexpected("dtype", dtype, "a floating-point type")
        try:
            place = torch.device(torch.get_default_device() if device is None else device)
        except (TypeError, RuntimeError) as error:
            raise unexpected("device", device, "a device of torch, such as 'cpu'") from error
        if place.type in ("cpu", "cuda"):
            need = dtype.itemsize * sum(map(math.prod, self.shapes().values()))
            what = f"the cell {type(self).__name__}"
            check_room(need, what, "use a smaller input or fewer units", str(place))
        for name, shape in self.shapes().items():
            weight = nn.Parameter(torch.empty(shape, device=place, dtype=dtype))
            self.register_parameter(name, weight)
        if place.type != "meta":
            self.reset_parameters(generator)

    def shapes(self) -> Shapes:
        """Return the shapes of the weights by name, in the order in which the weights are drawn."""
        raise NotImplementedError


DERIVED = {"jacobian", "input_jacobian", "layer_jacobians", "norm_bound", "states"}
DERIVED |= {"scaled_jacobian", "scaled_input_jacobian", "scaled_norm_bound"}
"""Names of the closed forms and of the kernel, which belong to the equation of a step."""


def choice(name: str, value: Any, *choices: Any) -> Any:
    """Return a value that is one of these choices. Raises InvalidInputError.

    >>> choice("kernel", "manual", "manual", "reference")
    'manual'
    """
    found = plain(value)
    takes_bool = any(isinstance(each, bool) for each in choices)
    is_of_the_type = isinstance(found, bool) == takes_bool  # 1 == True
    if found not in choices or not is_of_the_type:
        raise unexpected(name, value, " or ".join(map(repr, choices)))
    return found


def optional(name: str, value: Any) -> float | None:
    """Return None, or a number in the range of float32, as a float. Raises InvalidInputError.

    >>> optional("forget_bias", None), optional("forget_bias", 1)
    (None, 1.0)
    """
    limits = {"least": -LARGEST_FLOAT, "most": LARGEST_FLOAT}
    return None if value is None else float(number(name, value, **limits))


if not TYPE_CHECKING:
    __getattr__ = moved(__name__)
