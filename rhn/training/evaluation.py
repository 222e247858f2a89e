"""Evaluate language models in nats per predicted token. The perplexity is exp(nats), and bits are
nats / log 2.

The state begins at zero and is carried through the whole text; the first token is not predicted.
The length of the windows does not change the result. A text can be cut into B rows, which is
faster; then each row begins from the zero state.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn.data.text import Vocabulary, in_rows
from rhn.models.dropout import Masks
from rhn.models.networks import States
from rhn.training.ensemble import Ensemble, sums
from rhn.training.graphs import captured
from rhn.utils.progress import Advance
from rhn.utils.validation import check_device, number

WINDOW = 64  # steps read at once; no result depends on it


@dataclass(frozen=True)
class MeanLoss:
    """Mean negative log-likelihood (`nll`) in nats per predicted frame or token, and the number of
    predicted frames or tokens.
    """

    nll: float
    predicted: int
    redrawn: int = 0
    """Number of Monte Carlo samples that were drawn again, see `monte_carlo_score`."""


def score(
    model: nn.Module,
    tokens: np.ndarray,
    *,
    batch_size: int = 1,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> MeanLoss:
    """Compute the mean loss of one model on a text (N,), read as `batch_size` rows.

    Args:
        temperature: divides the logits.
        progress: called with (tokens done, total number of tokens).

    Raises:
        DataError: the text has fewer than two tokens for each row.
        InvalidInputError: a temperature that is not positive.
    """
    temperature = number("the temperature", temperature, above=0)
    device = check_device(device)
    rows = in_rows(tokens, batch_size)
    read = functools.partial(read_window, temperature=temperature)
    nll = ensemble_nll(Ensemble.of([model], device), rows, read, progress=progress)
    return MeanLoss(nll.item(), batch_size * (rows.shape[1] - 1))


def read_window(
    model: Callable,
    states: States | None,
    tokens: Tensor,
    masks: Masks | None = None,
    temperature: float = 1.0,
) -> tuple[Tensor, States]:
    """Return -log P (T, B) in nats for the last T tokens of a window (T + 1, B), and the states
    after the window.
    """
    if temperature == 1:
        reading = model(tokens[:-1], states, masks, tokens[1:])
        return reading.nll, reading.states
    reading, targets = model(tokens[:-1], states, masks), tokens[1:]
    logits = (reading.logits / temperature).flatten(0, -2)
    nll = F.cross_entropy(logits, targets.flatten(), reduction="none")
    return nll.view(targets.shape), reading.states


def ensemble_nll(
    ensemble: Ensemble,
    rows: np.ndarray,
    read: Callable = read_window,
    *,
    window: int = WINDOW,
    progress: Advance = lambda done, total: None,
) -> Tensor:
    """Return the mean loss of each model on rows (B, N // B), in nats per predicted token: (K,) in
    float64.
    """
    B, steps = rows.shape[0], rows.shape[1] - 1
    step = captured(lambda tokens, own: ensemble.map(read, tokens, own=own), ensemble.device)
    states, done = (None,) * len(ensemble.skeleton.cells), 0
    total: Any = 0.0
    for tokens in text_windows(rows, window, ensemble.device):
        nll, states = step(tokens, states)  # on a GPU the next call overwrites both
        total = total + sums(nll)
        done += len(tokens) - 1
        progress(B * done, B * steps)
    return total / (B * steps)


def text_windows(
    rows: np.ndarray, window: int, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Iterate over the windows of rows (B, N // B), each as tokens (T + 1, B). The last may be
    shorter.
    """
    steps = rows.shape[1] - 1
    for start in range(0, steps, window):
        yield window_of(rows, start, min(window, steps - start), device)


def window_of(
    rows: np.ndarray, start: int, steps: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the tokens (T + 1, B) int64 of one window of rows (B, N // B)."""
    tokens = np.ascontiguousarray(rows[:, start : start + steps + 1].T, np.int64)
    return torch.from_numpy(tokens).to(device)


def perplexity(nll: float) -> float:
    """Return the perplexity exp(nll), or infinity if exp overflows."""
    if math.isnan(nll):
        return math.nan
    return math.exp(nll) if nll < 700 else math.inf


def measure_name(vocabulary: Vocabulary) -> str:
    """Return the usual measure for the tokens of a vocabulary: "perplexity" for words,
    "bits_per_character" for characters and bytes.
    """
    return "perplexity" if vocabulary.unit == "words" else "bits_per_character"


def measure(nll: float, name: str) -> float:
    """Convert nats to the measure of this name: perplexity or bits. The measure "nll" stays in
    nats.
    """
    return {"nll": nll, "perplexity": perplexity(nll)}.get(name, nll / math.log(2))
