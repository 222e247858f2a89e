"""The polyphonic model: frames in, a recurrence, and for every key the log-odds that it sounds in the next frame.

Legend: T frames (quarter notes), B sequences, 88 keys, n hidden units, L recurrence depth within a cell.

    logits[t] = W_o y[t] + b_o,   y = recurrence(frames),   P(key k sounds in frame t + 1) = sigmoid(logits[t, k])

So frame t is predicted from the frames before it, and the first frame, before which there is nothing, is not predicted: a sequence of T
frames gives T - 1 predictions. Every "nats a frame" of this toolkit is a mean over predicted frames.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rhn.cells import Initialization
from rhn.kernels import OUTPUT
from rhn.kernels.losses import frame_nll
from rhn.models.building import RecurrentModel, draw
from rhn.utils.validation import positive


class _Drawn(nn.Linear):
    """A linear layer without initial weights; torch's `skip_init` would import its compiler, which takes half a second."""

    def reset_parameters(self) -> None:
        pass


class PolyphonicModel(RecurrentModel):
    """A stack of recurrent cells with a linear output.

    Args:
        cell: a name in `rhn.cells.CELLS`, a user's `package.module:factory`, or the factory itself.
        hidden_size: n, at least 1.
        depth: L, the recurrence depth of each cell.
        input_size, output_size: keys of a frame.
        layers: how many cells are stacked, each on the outputs of the one below.
        init: how the weights start, the output layer's too; see `rhn.cells.init`. None: as the cell starts by itself.
        generator: CPU generator that they are drawn from (None: torch's default generator).
        options: the cell's own, for example transform_bias=-2.0.

    A cell of your own is built as factory(input_size, hidden_size, depth, device=, dtype=, **options) and returns
    (outputs (T, B, n), state) for x (T, B, input_size). It gets `init` and `generator` if it takes them; otherwise its
    parameters are drawn here: those with "bias" in their name as biases, the others as weights.

    Raises:
        InvalidInputError: an unknown cell, or a size or option that it does not have.
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
        where = {"device": device or torch.get_default_device(), "dtype": dtype}
        input_size, output_size = positive("input_size", input_size), positive("output_size", output_size)
        super().__init__(cell, input_size, hidden_size, depth, layers, init, generator, options, where)
        self.input_size, self.output_size = input_size, output_size
        self.output = _Drawn(hidden_size, self.output_size, **where)
        draw(self.output, self.init, generator)

    def forward(self, frames: Tensor, targets: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Logits (T, B, output_size) for frames (T, B, input_size): entry t is the prediction of frame t + 1.

        With targets (T, B, output_size) and a mask (T, B) of 1 for real frames: the sum of all losses instead, in nats, float64.
        Raises InvalidInputError if a shape does not fit.
        """
        x = frames
        for cell in self.cells:
            x, _ = cell(x)
        if targets is None:
            return self.output(x)
        mask = x.new_ones(x.shape[:-1]) if mask is None else mask.to(x.dtype)
        return OUTPUT(x, self.output.weight, self.output.bias, targets.to(x.dtype), mask)

    def nll(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Negative log-likelihoods (T - 1, B) in nats of frames 1..T-1 of (T, B, keys), T >= 2; 0 at frames with mask (T, B) False."""
        return frame_nll(self(frames[:-1]), frames[1:], None if mask is None else mask[1:])


def with_cell(
    factory: str | Callable[..., nn.Module], model: Callable[..., nn.Module] = PolyphonicModel
) -> Callable[..., nn.Module]:
    """For `load_checkpoint(path, factory=with_cell(MyCell))`: builds a model of this cell under any name in the file."""
    return lambda cell, **config: model(factory, **config)
