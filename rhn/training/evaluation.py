"""Evaluate models in nats per predicted frame or token. The perplexity is exp(nats), and bits are
nats / log 2.

The first frame of a chorale and the first token of a text are not predicted. The state begins at
zero. A text can be cut into B rows, which is faster; then each row begins from the zero state. The
length of the windows in which a text is read does not change the result.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.data import Corpus, TextCorpus, Vocabulary
from rhn.data.corpus import SPLITS
from rhn.data.text import in_rows
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.models.dropout import Masks
from rhn.models.networks import States
from rhn.training.chorales import evaluation_batches, mean_nll
from rhn.training.ensemble import Ensemble, deterministic, sums
from rhn.training.graphs import captured
from rhn.utils.progress import Advance
from rhn.utils.validation import check_device, in_short

WINDOW = 64  # steps read at once; no result depends on it


@dataclass(frozen=True)
class MeanLoss:
    """Mean negative log-likelihood (`nll`) in nats per predicted frame or token, and the number of
    predicted frames or tokens.
    """

    nll: float
    predicted: int


def evaluate(
    model: PolyphonicModel | LanguageModel,
    data: Corpus | TextCorpus,
    split: str = "test",
    *,
    device: str = "cpu",
    **options: Any,
) -> MeanLoss:
    """Compute the mean loss of a model on a split ("train", "valid", "test"). `options`:
    batch_size, for texts. Raises InvalidInputError and DataError.

    >>> ones = [np.ones((4, 88))]
    >>> loss = evaluate(PolyphonicModel("rhn", hidden_size=4), Corpus(ones, ones, ones, "ones"))
    >>> loss.predicted  # frames: all but the first
    3
    """
    text = isinstance(model, LanguageModel)
    check_data(data, TextCorpus if text else Corpus)
    if split not in SPLITS:
        raise InvalidInputError(f"split is {in_short(split)}: expected {', '.join(SPLITS)}")
    measured = score if text else evaluate_chorales
    return measured(model, getattr(data, split), device=device, **options)


def check_data(data: Any, kind: type) -> None:
    """Raise InvalidInputError unless `data` are of this kind, Corpus or TextCorpus."""
    if not isinstance(data, kind):
        raise InvalidInputError(f"data is {in_short(data)}: expected a {kind.__name__}")


def evaluate_chorales(
    model: nn.Module, pieces: Sequence[np.ndarray], *, device: torch.device | str = "cpu"
) -> MeanLoss:
    """Compute the mean loss of one model on pieces (T_i, keys). Raises DataError if none has two
    frames.
    """
    ensemble = Ensemble.of([model], check_device(device))
    batches = evaluation_batches(pieces, device=ensemble.device, dtype=ensemble.dtype)
    with deterministic():
        return MeanLoss(mean_nll(ensemble, batches).item(), sum(batch.size for batch in batches))


def score(
    model: nn.Module,
    tokens: np.ndarray,
    *,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> MeanLoss:
    """Compute the mean loss of one model on a text (N,), read as `batch_size` rows. `progress` is
    called with (tokens done, all tokens). Raises DataError if a row has fewer than two tokens.
    """
    rows = in_rows(tokens, batch_size)
    nll = ensemble_nll(Ensemble.of([model], check_device(device)), rows, progress=progress)
    return MeanLoss(nll.item(), batch_size * (rows.shape[1] - 1))


def ensemble_nll(
    ensemble: Ensemble,
    rows: np.ndarray,
    *,
    window: int = WINDOW,
    progress: Advance = lambda done, total: None,
) -> Tensor:
    """Return the mean loss of each model on rows (B, N // B), in nats per token: (K,) float64."""
    B, steps = rows.shape[0], rows.shape[1] - 1
    step = captured(lambda tokens, own: ensemble.map(read_window, tokens, own=own), ensemble.device)
    states, done = (None,) * len(ensemble.skeleton.cells), 0
    total: Any = 0.0
    for tokens in text_windows(rows, window, ensemble.device):
        nll, states = step(tokens, states)  # on a GPU the next call overwrites both
        total = total + sums(nll)
        done += len(tokens) - 1
        progress(B * done, B * steps)
    return total / (B * steps)


def read_window(
    model: Callable, states: States | None, tokens: Tensor, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """Return -log P (T, B) in nats for the last T tokens of a window (T + 1, B), and the states
    after the window.
    """
    reading = model(tokens[:-1], states, masks, tokens[1:])
    return reading.nll, reading.states


def text_windows(
    rows: np.ndarray, window: int, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Iterate over the windows (T + 1, B) of rows (B, N // B). The last may be shorter."""
    steps = rows.shape[1] - 1
    for start in range(0, steps, window):
        yield window_of(rows, start, min(window, steps - start), device)


def window_of(
    rows: np.ndarray, start: int, steps: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the tokens (T + 1, B) int64 of one window of rows (B, N // B)."""
    tokens = np.ascontiguousarray(rows[:, start : start + steps + 1].T, np.int64)
    return torch.from_numpy(tokens).to(device)


def measure_name(vocabulary: Vocabulary) -> str:
    """Return the usual measure for the tokens of a vocabulary."""
    return "perplexity" if vocabulary.unit == "words" else "bits_per_character"


def measure(nll: float, name: str) -> float:
    """Convert nats to perplexity (infinite if exp overflows) or to bits; "nll" keeps them."""
    if name == "perplexity":
        return math.inf if nll >= 700 else math.exp(nll)
    return nll if name == "nll" else nll / math.log(2)
