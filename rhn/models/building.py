"""The base class of models: a stack of recurrent cells, ours or the user's, with weights drawn in a fixed order."""

import contextlib
import inspect
from collections.abc import Callable, Iterator

import torch
from torch import nn

from rhn.cells import CELLS, Cell, Initialization, from_torch, is_known, resolve_cell
from rhn.cells.init import OWN, draw
from rhn.cells.layers import recurrent_parts
from rhn.cells.registry import OURS, accepts, is_ours
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError
from rhn.utils.validation import positive
from rhn.utils.wording import first_line

MAX_LAYERS = 64  # the limit for files: each layer costs time to build before sizes can be compared


class RecurrentModel(nn.Module):
    """A stack of `cells`, each on the outputs of the one below, with the configuration that rebuilds it.

    sizes: the names of the constructor's arguments beside cell, init and options.
    where: device and dtype.

    A cell that takes `init` and `generator` draws its own weights; those of other cells are drawn here. With init None every cell keeps
    its own initialisation, and the other weights start likewise (`own_init`). Raises InvalidInputError for an unknown cell, a cell that
    is batch_first, or a size or option that the cell lacks.
    """

    sizes: tuple[str, ...]

    def __init__(
        self, cell, input_size: int, hidden_size: int, depth: int, layers: int, init, generator, options, where
    ):
        super().__init__()
        if positive("layers", layers) > MAX_LAYERS:
            raise InvalidInputError(f"layers must be at most {MAX_LAYERS}, got {layers}")
        factory = resolve_cell(cell) if isinstance(cell, str) else cell
        if not isinstance(cell, str):
            ours = (name for name, known in CELLS.items() if known is cell)
            named = cell if hasattr(cell, "__qualname__") else type(cell)  # a functools.partial has no __qualname__
            cell = next(ours, None) or f"{named.__module__}:{named.__qualname__}"
        self.cell = cell
        self.hidden_size, self.depth, self.layers = hidden_size, depth, layers
        own = init is None
        self.init = Initialization.parse(own_init(factory, hidden_size) if own else init)
        self.options, self._own_start = options, own and not _draws(factory)
        self.cells = nn.ModuleList(
            _build(self.cell, factory, m, hidden_size, depth, self.init, generator, options | where, own=own)
            for m in [input_size] + [hidden_size] * (layers - 1)
        )

    def config(self) -> dict:
        """Constructor arguments that rebuild this model, JSON-ready (device and dtype apart).

        Defaults of the cell's options are included, so that a file keeps its meaning when a default changes.
        """
        cell = self.cells[0]
        options = (*getattr(cell, "options", ()), *self.options)
        return {
            "cell": self.cell,
            **{name: getattr(self, name) for name in self.sizes},
            "init": None if self._own_start else str(self.init),
            **{name: getattr(cell, name, self.options.get(name)) for name in options},
        }

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())


def own_init(factory: Callable, hidden_size: int) -> str:
    """The default scheme of a cell; for a user's cell without one, that of our cells.

    >>> own_init(CELLS["rhn"], 64), own_init(resolve_cell("torch.nn:LSTM"), 4)
    ('uniform:0.04', 'uniform:0.5')
    """
    if hasattr(factory, "own_init"):
        return factory.own_init(hidden_size)
    told = inspect.signature(factory).parameters.get("init")
    return told.default if told and isinstance(told.default, str | Initialization) else OWN


def bias_option(cell: str, transform_bias: float | None) -> dict[str, float | None]:
    """The keyword of a cell for its transform bias; none for a cell without transform gates if the bias is None.

    >>> bias_option("rhn", None), bias_option("lstm", None)
    ({'transform_bias': None}, {})
    """
    told = transform_bias is not None or accepts(resolve_cell(cell), "transform_bias")
    return {"transform_bias": transform_bias} if told else {}


def from_file(model: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A factory for models of our cells, as checkpoints describe them: a file must not decide which code is imported.

    It raises InvalidInputError for a user's cell; `with_cell` loads those.
    """

    def build(*, cell: str, **config) -> nn.Module:
        if not is_known(cell):
            raise InvalidInputError(
                f"its cell {cell!r} is none of ours, and a file does not decide which code runs: name it with --cell, "
                "or in Python load_checkpoint(path, factory=rhn.models.with_cell(...))"
            )
        return model(cell, **config)

    return build


def _build(name, factory, input_size, hidden_size, depth, init, generator, keywords, *, own: bool) -> nn.Module:
    draws = _draws(factory)
    keywords = keywords | ({"init": init, "generator": generator} if draws else {})
    try:
        with _seeded(generator if own and not draws else None):
            cell = factory(input_size, hidden_size, depth, **keywords)
    except USERS_FAULT as error:
        if isinstance(error, RhnError) or (is_ours(factory) and not isinstance(error, TypeError)):
            raise
        kind = InvalidInputError if isinstance(error, TypeError) else UsersCodeError
        raise kind(f"the cell {name!r} cannot be built: {type(error).__name__}: {first_line(error)}") from error
    if isinstance(cell, nn.RNNBase | nn.RNNCellBase):
        cell = from_torch(cell)
    if getattr(cell, "batch_first", False):
        raise InvalidInputError(f"the cell {name!r} is batch_first, and a network reads (T, B, m): leave that out")
    if not draws and not own:
        told = init.scheme == "orthogonal" and isinstance(cell, Cell)
        draw(cell, init, generator, recurrent=recurrent_parts(cell) if told else ())
    if not is_ours(factory):
        _try(name, cell, input_size, hidden_size)
    return cell


def _draws(factory: Callable) -> bool:
    """Return True if a cell draws its weights itself, by the given scheme and generator."""
    ours = isinstance(factory, type) and issubclass(factory, tuple(map(CELLS.get, OURS)))
    return ours or (accepts(factory, "init") and accepts(factory, "generator"))


@contextlib.contextmanager
def _seeded(generator: torch.Generator | None) -> Iterator[None]:
    """Context in which torch's own random numbers follow from the generator; None changes nothing."""
    with torch.random.fork_rng(devices=[], enabled=generator is not None):
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device="cpu")))
        yield


def _try(name: str, cell: nn.Module, input_size: int, hidden_size: int) -> None:
    """Raise InvalidInputError unless a user's cell runs over time."""
    expected = f"(outputs (T, B, {hidden_size}), state) for x (T, B, {input_size})"
    if not isinstance(cell, nn.Module):
        raise InvalidInputError(
            f"{name!r} builds a {type(cell).__name__}: expected a torch module that returns {expected}"
        )
    like = next(cell.parameters(), torch.empty(0))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs, _ = cell(like.new_zeros(2, 1, input_size))
            shape = tuple(outputs.shape)
    except USERS_FAULT as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsersCodeError(f"the cell {name!r} does not run, expected {expected}: {reason}") from error
    if shape != (2, 1, hidden_size):
        raise InvalidInputError(f"the cell {name!r} gives outputs {shape} for T = 2, B = 1: expected {expected}")
