"""Weights from and to torch.nn's RNN, LSTM and GRU (and their *Cell forms).

torch.nn has two biases where we have one: coming in they are added, going out the second one is zero, except for the GRU's candidate,
whose inner bias is a parameter of ours too (bias_hn).

`as_in_torch` makes a cell of ours from torch.nn's class alone, for `--cell torch.nn:LSTM`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rhn.cells.base import Cell, positive
from rhn.cells.gated import GRU, LSTM
from rhn.cells.transition import RNN
from rhn.errors import InvalidInputError

OURS = {nn.RNN: RNN, nn.RNNCell: RNN, nn.LSTM: LSTM, nn.LSTMCell: LSTM, nn.GRU: GRU, nn.GRUCell: GRU}


def from_torch(module: nn.Module) -> Cell:
    """Our cell with the weights of a torch.nn RNN, LSTM or GRU of one layer and one direction, or of an RNN/LSTM/GRUCell.

    Raises InvalidInputError for other modules, several layers (see `rhn.cells.stack_from_torch`), two directions or projections.
    """
    if getattr(module, "num_layers", 1) != 1 and _ours(module):
        raise InvalidInputError(f"cannot convert {module}: expected one layer, one direction and no projection")
    return layer_from_torch(module, 0)


def layer_from_torch(module: nn.Module, layer: int) -> Cell:
    """As `from_torch`, errors too: one layer, counted from 0, of a module that may have several."""
    ours = _ours(module)
    if ours is None:
        raise InvalidInputError(
            f"cannot convert {type(module).__name__}: expected torch.nn's RNN, LSTM, GRU or one of their cells, with their forward"
        )
    single = isinstance(module, nn.RNNCellBase)
    if not single and (module.bidirectional or module.proj_size):
        raise InvalidInputError(
            f"cannot convert {module}: expected one direction and no projection, so that a step gives the whole next state"
        )
    weights = weights_of_torch(module, layer)
    w_ih = weights["weight_ih"]
    keywords = {"device": w_ih.device, "dtype": w_ih.dtype, "batch_first": getattr(module, "batch_first", False)}
    keywords["generator"] = torch.Generator()  # weights drawn in vain: leave the caller's random numbers alone
    if ours is RNN:
        keywords["nonlinearity"] = module.nonlinearity
    cell = ours(w_ih.shape[1], module.hidden_size, **keywords)
    cell.converted = True  # `init` says nothing of where these weights come from
    with torch.no_grad():
        for name, weight in weights.items():
            cell.get_parameter(name).copy_(weight)
    return cell


def _ours(module: nn.Module) -> type[Cell] | None:
    """Our class for one of torch.nn's, also where a user's class inherits from it and runs as it does."""
    runs = getattr(type(module), "forward", None)
    return next((cell for theirs, cell in OURS.items() if isinstance(module, theirs) and runs is theirs.forward), None)


def weights_of_torch(module: nn.Module, layer: int = 0) -> dict[str, Tensor]:
    """The weights of our cell by name, computed from those of a layer, counted from 0, of torch.nn's: gradients reach its own."""
    suffix = "" if isinstance(module, nn.RNNCellBase) else f"_l{layer}"
    w_ih, w_hh = (getattr(module, name + suffix) for name in ("weight_ih", "weight_hh"))
    zero = w_ih.new_zeros(w_ih.shape[0])
    b_ih, b_hh = (getattr(module, name + suffix) if module.bias else zero for name in ("bias_ih", "bias_hh"))
    if isinstance(module, nn.GRU | nn.GRUCell):
        n = module.hidden_size
        bias = torch.cat((b_ih[: 2 * n] + b_hh[: 2 * n], b_ih[2 * n :]))
        return {"weight_ih": w_ih, "weight_hh": w_hh, "bias": bias, "bias_hn": b_hh[2 * n :]}
    return {"weight_ih": w_ih, "weight_hh": w_hh, "bias": b_ih + b_hh}


def to_torch(cell: Cell) -> nn.Module:
    """The torch.nn module with a cell's weights; raises InvalidInputError for cells that torch.nn does not have."""
    theirs = {RNN: nn.RNN, LSTM: nn.LSTM, GRU: nn.GRU}.get(RNN if isinstance(cell, RNN) else type(cell))
    if theirs is None:
        raise InvalidInputError(f"torch.nn has no {type(cell).__name__}: only RNN, LSTM and GRU can be converted")
    weight = cell.weight_ih
    keywords = {"nonlinearity": cell.nonlinearity} if theirs is nn.RNN else {}
    module = theirs(
        cell.input_size,
        cell.hidden_size,
        batch_first=cell.batch_first,
        device="meta",  # its initial weights are overwritten: no random numbers are drawn for them
        dtype=weight.dtype,
        **keywords,
    ).to_empty(device=weight.device)
    n = cell.hidden_size
    with torch.no_grad():
        module.weight_ih_l0.copy_(weight)
        module.weight_hh_l0.copy_(cell.weight_hh.squeeze(0) if theirs is nn.RNN else cell.weight_hh)
        module.bias_ih_l0.copy_(cell.bias.flatten())
        module.bias_hh_l0.zero_()
        if theirs is nn.GRU:
            module.bias_hh_l0[2 * n :].copy_(cell.bias_hn)
    return module


def as_in_torch(theirs: type[nn.Module]) -> Callable[..., Cell]:
    """Builds our form of torch.nn's RNN, LSTM, GRU or one of their cells; its weights start as torch's, uniform within 1 / sqrt(n).

    One difference is left: torch adds up two biases, where we draw one.
    """
    ours = OURS[theirs]

    def build(input_size, hidden_size, depth=1, *, init=None, generator=None, **keywords) -> Cell:
        init = init or own_init(hidden_size)
        return ours(input_size, hidden_size, depth, init=init, generator=generator, **keywords)

    def own_init(hidden_size: int) -> str:
        return f"uniform:{positive('hidden_size', hidden_size) ** -0.5!r}"

    build.own_init = own_init
    build.__name__, build.options, build.deep = theirs.__name__, ours.options, ours.deep
    return build
