"""How well language models predict a text, of one model or a stack, in nats a token.

The state is carried through the whole text, from zero; its first token, before which there is nothing, is not predicted. Read in
windows or in one piece the result is the same. Cut into B rows, which is faster, each row begins from zero.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rhn.data.text import Tokens
from rhn.engine.graphs import captured
from rhn.engine.stack import Stack
from rhn.errors import InvalidInputError
from rhn.kernels.update import sums
from rhn.language.losses import token_nll
from rhn.language.windows import window_of
from rhn.models.dropout import Masks
from rhn.models.language import States

WINDOW = 64  # steps read at once; no result depends on it


@dataclass(frozen=True)
class Score:
    """A model on a text: mean negative log-likelihood in nats, over so many predicted tokens."""

    nll: float
    tokens: int


def score(
    model: nn.Module,
    tokens: Tokens,
    *,
    batch_size: int = 1,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """The score of one model on a text (N,), read as `batch_size` rows.

    Args:
        temperature: the logits are divided by it.
        progress: called with (tokens done, tokens in all).

    Raises:
        DataError: the text is shorter than two tokens a row.
        InvalidInputError: a temperature that is not positive.
    """
    check_temperature(temperature)
    rows = tokens.rows(batch_size)
    read = functools.partial(read_window, temperature=temperature)
    nll = stack_nll(Stack.measured(model, device), rows, read, progress=progress)
    return Score(nll.item(), batch_size * (rows.shape[1] - 1))


def read_window(
    model: Callable, states: States | None, tokens: Tensor, masks: Masks | None = None, temperature: float = 1.0
) -> tuple[Tensor, States]:
    """-log P (T, B) of the last T tokens of a window (T + 1, B) in nats, and the states after it."""
    if temperature == 1:
        reading = model(tokens[:-1], states, masks, tokens[1:])
        return reading.nll, reading.states
    reading = model(tokens[:-1], states, masks)
    return token_nll(reading.logits / temperature, tokens[1:]), reading.states


def stack_nll(
    stack: Stack,
    rows: Tokens,
    read: Callable = read_window,
    *,
    window: int = WINDOW,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Nats a predicted token of each model on rows (B, N // B), (K,) in float64; (K, ...) where `read` gives nll (..., T, B)."""
    B, steps = rows.shape[0], rows.shape[1] - 1
    step = captured(lambda tokens, own: stack.map(read, tokens, own=own), stack.device)
    states, total, done = zero_states(stack, B), 0.0, 0
    for tokens in text_windows(rows, window, stack.device):
        nll, states = step(tokens, states)  # on a GPU the next call overwrites both
        total = total + sums(nll.flatten(0, -3)).view(nll.shape[:-2])
        done += len(tokens) - 1
        progress(B * done, B * steps)
    return total / (B * steps)


def text_windows(rows: Tokens, window: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """The tokens (T + 1, B) of each window of rows (B, N // B), to their very end: the last one may be shorter."""
    steps = rows.shape[1] - 1
    for start in range(0, steps, window):
        yield window_of(rows, start, min(window, steps - start), device)


def zero_states(stack: Stack, rows: int) -> States:
    """States before anything was read, (K, B, state_size) for each cell; raises InvalidInputError for one that tells no size."""
    sizes = [getattr(cell, "state_size", None) for cell in stack.skeleton.cells]
    if None in sizes:
        cell = type(stack.skeleton.cells[sizes.index(None)]).__name__
        raise InvalidInputError(f"{cell} does not tell its state_size: give it one, or write it as a rhn.cells.Cell")
    return tuple(torch.zeros(len(stack), rows, n, device=stack.device, dtype=stack.dtype) for n in sizes)


def check_temperature(temperature: float) -> None:
    """Raise InvalidInputError unless it is a number above 0."""
    if isinstance(temperature, str) or not 0 < temperature < math.inf:
        raise InvalidInputError(f"the temperature is {temperature}, expected a number above 0")
