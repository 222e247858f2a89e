"""Evaluate models: nats a predicted frame of chorales, nats a predicted token of a text, and the best softmax temperature.

Chorales: the batches are those of a training's own measurements, so `rhn evaluate` repeats its losses.

Texts: the state is carried through the whole text, from zero; the first token is not predicted. The length of windows does not change
the result. Cut into B rows, which is faster, each row begins from zero.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rhn.data import Corpus
from rhn.data.text import Tokens
from rhn.errors import InvalidInputError
from rhn.models.dropout import Masks
from rhn.models.language import States
from rhn.training.batches import evaluation_batches, predicted_frames, window_of
from rhn.training.ensemble import Ensemble
from rhn.training.graphs import captured
from rhn.training.losses import mean_nll, sums, token_nll
from rhn.training.numerics import deterministic
from rhn.utils.progress import Advance

WINDOW = 64  # steps read at once; no result depends on it
POINTS = 17  # temperatures compared in one pass
WIDTH = 1e-3  # relative width of the final interval of temperatures


@dataclass(frozen=True)
class Score:
    """Mean negative log-likelihood in nats a predicted frame of chorales or token of a text, and the number of these."""

    nll: float
    predicted: int


def evaluate(model: nn.Module, pieces: Sequence[np.ndarray], *, device: torch.device | str = "cpu") -> Score:
    """The loss of one model on pieces (T_i, keys); each frame but the first of a piece is predicted from those before it.

    Raises DataError if no piece has two frames.
    """
    ensemble = Ensemble.in_evaluation(model, device)
    batches = evaluation_batches(pieces, device=device, dtype=ensemble.dtype)
    with deterministic():
        return Score(mean_nll(ensemble, batches).item(), predicted_frames(batches))


def constant_output_nll(corpus: Corpus) -> float:
    """The least training loss of a constant output, in nats a frame.

    A network that ignores its input and its state can reach it with its output biases. It is the sum over keys of the entropy
    -p log p - (1 - p) log(1 - p), p the share of a key in all training frames but the first of each piece.
    """
    frames = np.concatenate([np.asarray(piece)[1:] for piece in corpus.train])
    p = frames.mean(axis=0)
    p = p[(p > 0) & (p < 1)]  # a key that never sounds, or always, costs nothing
    return float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).sum())


def score(
    model: nn.Module,
    tokens: Tokens,
    *,
    batch_size: int = 1,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> Score:
    """The score of one model on a text (N,), read as `batch_size` rows.

    Args:
        temperature: divides the logits.
        progress: called with (tokens done, total number of tokens).

    Raises:
        DataError: the text is shorter than two tokens a row.
        InvalidInputError: a temperature that is not positive.
    """
    check_temperature(temperature)
    rows = tokens.rows(batch_size)
    read = functools.partial(read_window, temperature=temperature)
    nll = ensemble_nll(Ensemble.in_evaluation(model, device), rows, read, progress=progress)
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


def ensemble_nll(
    ensemble: Ensemble,
    rows: Tokens,
    read: Callable = read_window,
    *,
    window: int = WINDOW,
    progress: Advance = lambda done, total: None,
) -> Tensor:
    """Nats a predicted token of each model on rows (B, N // B), (K,) in float64; (K, ...) if `read` returns nll (..., T, B)."""
    B, steps = rows.shape[0], rows.shape[1] - 1
    step = captured(lambda tokens, own: ensemble.map(read, tokens, own=own), ensemble.device)
    states, total, done = zero_states(ensemble, B), 0.0, 0
    for tokens in text_windows(rows, window, ensemble.device):
        nll, states = step(tokens, states)  # on a GPU the next call overwrites both
        total = total + sums(nll.flatten(0, -3)).view(nll.shape[:-2])
        done += len(tokens) - 1
        progress(B * done, B * steps)
    return total / (B * steps)


def text_windows(rows: Tokens, window: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """The tokens (T + 1, B) of each window of rows (B, N // B); the last window may be shorter."""
    steps = rows.shape[1] - 1
    for start in range(0, steps, window):
        yield window_of(rows, start, min(window, steps - start), device)


def zero_states(ensemble: Ensemble, rows: int) -> States:
    """Zero states (K, B, state_size) of each cell; raises InvalidInputError for a cell without a state_size."""
    sizes = [getattr(cell, "state_size", None) for cell in ensemble.skeleton.cells]
    if None in sizes:
        cell = type(ensemble.skeleton.cells[sizes.index(None)]).__name__
        raise InvalidInputError(f"{cell} has no state_size: give it one, or write it as a rhn.cells.Cell")
    return tuple(torch.zeros(len(ensemble), rows, n, device=ensemble.device, dtype=ensemble.dtype) for n in sizes)


def check_temperature(temperature: float) -> None:
    """Raise InvalidInputError unless it is a number above 0."""
    if isinstance(temperature, str) or not 0 < temperature < math.inf:
        raise InvalidInputError(f"the temperature is {temperature}, expected a number above 0")


def scores_at(
    model: nn.Module,
    tokens: Tokens,
    temperatures: Sequence[float],
    *,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> list[Score]:
    """The score of a model on a text (N,) at each temperature, in one pass; see `score`.

    Raises:
        DataError: the text is shorter than two tokens a row.
        InvalidInputError: a temperature that is not positive.
    """
    for temperature in temperatures:
        check_temperature(temperature)
    rows = tokens.rows(batch_size)

    def read(model, states: States, window: Tensor) -> tuple[Tensor, States]:
        reading = model(window[:-1], states)
        return torch.stack([token_nll(reading.logits / t, window[1:]) for t in temperatures]), reading.states

    nll = ensemble_nll(Ensemble.in_evaluation(model, device), rows, read, progress=progress)
    return [Score(each, batch_size * (rows.shape[1] - 1)) for each in nll[0].tolist()]


def best_temperature(
    model: nn.Module,
    tokens: Tokens,
    *,
    low: float = 0.8,
    high: float = 1.2,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> float:
    """The temperature from `low` to `high` with the least nll on a text (N,), commonly the validation text, to 0.1 % (Guo et al. 2017).

    The nll of a token, logsumexp(b z) - b z[w] for logits z, is convex in b = 1 / temperature, and so is its sum over a text. So the
    optimum lies between the two neighbours of the best temperature of any grid. The result is `low` or `high` if the optimum lies
    outside. The text is read a few times, and `progress` starts anew each time.

    Raises:
        DataError: the text is shorter than two tokens a row.
        InvalidInputError: `low` is not positive or not below `high`.
    """
    for temperature in (low, high):
        check_temperature(temperature)
    if not low < high:
        raise InvalidInputError(f"the temperatures go from {low} to {high}, expected the first to be below the second")
    first, last = 1 / high, 1 / low
    while True:
        inverses = torch.linspace(first, last, POINTS, dtype=torch.float64).tolist()
        temperatures = [1 / b for b in inverses]
        scores = scores_at(model, tokens, temperatures, batch_size=batch_size, device=device, progress=progress)
        best = min(range(POINTS), key=lambda k: scores[k].nll)
        first, last = inverses[max(best - 1, 0)], inverses[min(best + 1, POINTS - 1)]
        if last - first <= WIDTH * last:
            return temperatures[best]
