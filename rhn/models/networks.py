"""Whole networks: a stack of recurrent cells, ours or the user's, with the layers before and after
it. logits[t] predict frame t + 1.

The polyphonic model, for frames (quarter notes) of 88 keys:

    logits[t] = W_o y[t] + b_o,   y = cells(frames)
    P(key k sounds in frame t + 1) = sigmoid(logits[t, k])

Every "nats per frame" of this toolkit is a mean over predicted frames, all but the first.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from rhn.cells.base import Cell
from rhn.cells.conversion import from_torch
from rhn.cells.init import OWN, Initialization, draw
from rhn.cells.options import parameters_of
from rhn.cells.registry import CELLS, factory_of
from rhn.errors import InvalidInputError
from rhn.kernels import OUTPUT
from rhn.kernels.losses import frame_nll
from rhn.utils.validation import whole_number

MAX_LAYERS = 64  # each layer costs time to build before sizes can be compared with the memory


class RecurrentModel(nn.Module):
    """The base class of our models: a stack of `cells`, in which each cell reads the outputs of the
    cell below, and the configuration that rebuilds the model.

    A cell that takes `init` and `generator` gets them; another cell keeps its own weights, whose
    random numbers are torch's, seeded from the generator. Raises InvalidInputError.

    >>> PolyphonicModel("gru", hidden_size=4).cells
    ModuleList(
      (0): GRU(88, 4, depth=1, init='gaussian:0.01', update_bias=None)
    )
    """

    sizes: tuple[str, ...]  # the constructor's arguments other than cell, init and options
    takes_ids = False  # True if the input is token ids

    def __init__(self, cell, input_size, hidden_size, depth, *, layers, init, generator, options):
        super().__init__()
        factory = factory_of(cell)
        own = getattr(factory, "__qualname__", type(factory).__qualname__)
        known = cell if isinstance(cell, str) else CELLS.name_of(cell)
        self.cell = known or f"{factory.__module__}:{own}"
        self.hidden_size, self.depth = hidden_size, depth
        self.layers = whole_number("layers", layers, 1, MAX_LAYERS)
        self.options = {k: v for k, v in options.items() if k not in ("device", "dtype")}
        draws = {"init", "generator"} <= parameters_of(factory).keys()
        self._own_start = init is None and not draws
        self.cells = nn.ModuleList()
        for m in [input_size, *[hidden_size] * (layers - 1)]:
            make = partial(factory, m, hidden_size, depth, **options)
            self.cells.append(_build(make, draws, init, generator))
        usual = self.cells[-1].init if isinstance(self.cells[-1], Cell) else OWN
        self.init = Initialization.parse(usual if init is None else init)

    def config(self) -> dict:
        """Return the constructor's arguments that rebuild this model, except device and dtype, with
        all options of the cell.
        """
        cell = self.cells[0]
        if isinstance(cell, Cell):
            names = (*cell.options, *self.options)
            options = {name: getattr(cell, name, self.options.get(name)) for name in names}
        else:
            options = self.options  # as given: attributes of another module may be its parts
        return {
            "cell": self.cell,
            **{name: getattr(self, name) for name in self.sizes},
            "init": None if self._own_start else str(self.init),
            **options,
        }

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())


def _build(make: Callable, draws: bool, init, generator) -> nn.Module:
    """Build a cell with its initial weights."""
    if draws:
        made = make(generator=generator, **({} if init is None else {"init": init}))
    else:
        with torch.random.fork_rng(devices=[], enabled=generator is not None):
            if generator is not None:
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device="cpu")))
            made = make()
    if isinstance(made, nn.RNNBase | nn.RNNCellBase):
        made = from_torch(made)
    if getattr(made, "batch_first", False):
        raise InvalidInputError("batch_first of the cell of a model is True: expected False")
    return made


class PolyphonicModel(RecurrentModel):
    """A model of frames, such as chorales: a stack of recurrent cells with a linear output layer.

    Args:
        cell: a name in `rhn.cells.CELLS`, your own cell as `package.module:factory`, or the factory
            itself, which is called as factory(input_size, hidden_size, depth, device=, dtype=,
            **options). It returns (outputs (T, B, n), state) for x (T, B, input_size).
        input_size, output_size: number of keys of an input frame and of a predicted frame.
        layers: number of stacked cells.
        init: scheme of all initial weights, see `rhn.cells.init`. None: the default of the cell.
        generator: CPU generator that draws the weights. None: torch's default generator.
        options: options of the cell, for example transform_bias=-2.0.

    >>> model = PolyphonicModel("rhn", hidden_size=4, depth=2)
    >>> model(torch.zeros(5, 1, 88)).shape  # frames (T, B, keys) to logits
    torch.Size([5, 1, 88])
    """

    sizes = ("hidden_size", "depth", "input_size", "output_size", "layers")

    def __init__(
        self,
        cell: str | Callable[..., nn.Module] = "rhn",
        *,
        hidden_size: int,
        depth: int = 1,
        input_size: int = 88,
        output_size: int = 88,
        layers: int = 1,
        init: str | Initialization | None = "gaussian:0.01",
        generator: torch.Generator | None = None,
        device=None,
        dtype=None,
        **options,
    ):
        device = device or torch.get_default_device()
        options |= {"device": device, "dtype": dtype}
        start: dict = {"init": init, "generator": generator}
        sizes = input_size, hidden_size, depth
        super().__init__(cell, *sizes, layers=layers, **start, options=options)
        self.input_size = whole_number("input_size", input_size)
        self.output_size = whole_number("output_size", output_size)
        output = nn.Linear(hidden_size, output_size, device="meta", dtype=dtype)
        self.output = output.to_empty(device=device)  # without torch's random numbers
        draw(self.output, self.init, generator)

    def forward(
        self, frames: Tensor, targets: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Compute logits (T, B, output_size) from frames (T, B, input_size): t predicts t + 1.

        With targets (T, B, output_size), return the sum of all losses instead, in nats, float64.
        The mask (T, B) is 1 for real frames, 0 for frames without a loss.
        """
        x = frames
        for cell in self.cells:
            x, _ = cell(x)
        if targets is None:
            return self.output(x)
        mask = x.new_ones(x.shape[:-1]) if mask is None else mask.to(x.dtype)
        return OUTPUT(x, self.output.weight, self.output.bias, targets.to(x.dtype), mask)

    def nll(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the negative log-likelihoods (T - 1, B), in nats, of all frames (T, B, keys)
        except the first; 0 where the mask (T, B) is False.
        """
        return frame_nll(self(frames[:-1]), frames[1:], None if mask is None else mask[1:])
