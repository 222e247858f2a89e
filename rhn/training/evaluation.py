"""Evaluate models in nats per predicted frame or token. The perplexity is exp(nats), and bits are
nats / log 2.

The first frame of a chorale and the first token of a text are not predicted. The state begins at
zero, in each of the B rows into which a text can be cut, which is faster.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn.data.corpus import SPLITS, Corpus
from rhn.training.batches import evaluation_batches
from rhn.training.chorales import mean_nll
from rhn.training.ensemble import Ensemble, sums
from rhn.training.graphs import captured
from rhn.utils.progress import Advance, Progress, reported
from rhn.utils.resources import check_device
from rhn.utils.threads import deterministic
from rhn.utils.validation import number, unexpected

if TYPE_CHECKING:  # chorales need no code of texts
    from rhn.data import TextCorpus, Vocabulary
    from rhn.models import LanguageModel, PolyphonicModel
    from rhn.models.language import States

BEYOND = 700.0  # nats per token: the perplexity of more overflows
WINDOW = 64  # steps read at once; no result depends on it


@dataclass(frozen=True)
class MeanLoss:
    """Mean negative log-likelihood (`nll`) in nats per predicted frame or token, and the number of
    predicted frames or tokens.
    """

    nll: float
    predicted: int


def evaluate(
    model: "PolyphonicModel | LanguageModel",
    data: "Corpus | TextCorpus",
    split: str = "test",
    *,
    device: str = "cpu",
    **options: Any,
) -> MeanLoss:
    """Compute the mean loss of a model on a split ("train", "valid", "test"). options: for texts
    batch_size and temperature, see `score`. Raises InvalidInputError and DataError.

    >>> from rhn.models import PolyphonicModel
    >>> ones = [np.ones((4, 88))]
    >>> loss = evaluate(PolyphonicModel("rhn", hidden_size=4), Corpus(ones, ones, ones, "ones"))
    >>> loss.predicted  # frames: all but the first
    3
    """
    from rhn.data import TextCorpus
    from rhn.models import LanguageModel, PolyphonicModel

    text = isinstance(model, LanguageModel)
    if not text and not isinstance(model, PolyphonicModel):
        raise unexpected("model", model, "a PolyphonicModel or a LanguageModel")
    check_data(data, TextCorpus if text else Corpus)
    if split not in SPLITS:
        raise unexpected("split", split, ", ".join(SPLITS))
    measured = score if text else evaluate_chorales
    return measured(model, getattr(data, split), device=device, **options)


def check_data(data: Any, kind: type) -> None:
    """Raise InvalidInputError unless `data` are of this kind, Corpus or TextCorpus."""
    if not isinstance(data, kind):
        raise unexpected("data", data, f"a {kind.__name__}")


def evaluate_chorales(
    model: nn.Module,
    pieces: Sequence[np.ndarray],
    *,
    device: torch.device | str = "cpu",
    progress: Progress = None,
) -> MeanLoss:
    """Compute the mean loss of one model on pieces (T_i, keys). progress: as for `rhn.train`, of
    batches. Raises DataError if no piece has two frames.
    """
    ensemble = Ensemble.of([model], place := check_device(device))
    batches = evaluation_batches(pieces, device=place, dtype=ensemble.dtype)
    with deterministic(), reported(progress, "evaluate", total=len(batches)) as advance:
        nll = mean_nll(ensemble, batches, advance).item()
    return MeanLoss(nll, sum(batch.size for batch in batches))


def score(
    model: nn.Module,
    tokens: np.ndarray,
    *,
    batch_size: int = 1,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Progress = None,
) -> MeanLoss:
    """Compute the mean loss of one model on a text (N,), read as `batch_size` rows, with logits
    divided by `temperature`. progress: as for `rhn.train`, of tokens. Raises DataError if a row has
    fewer than two tokens.
    """
    from rhn.data.text import in_rows

    rows, T = in_rows(tokens, batch_size), number("temperature", temperature, above=0)
    with reported(progress, "evaluate") as advance:
        nll = ensemble_nll(Ensemble.of([model], check_device(device)), rows, T, advance)
    return MeanLoss(nll.item(), rows[:, 1:].size)


def ensemble_nll(
    ensemble: Ensemble,
    rows: np.ndarray,
    temperature: float = 1.0,
    progress: Advance = lambda done, total: None,
) -> Tensor:
    """Return the mean loss of each model on rows (B, N // B), in nats per token: (K,) float64."""
    read = partial(read_window, temperature=temperature)
    step = captured(lambda tokens, own: ensemble.map(read, tokens, own=own), ensemble.device)
    states, count = (None,) * len(ensemble.skeleton.cells), rows[:, 1:].size
    total: Any = 0.0
    for start in range(0, rows.shape[1] - 1, WINDOW):
        tokens = window_of(rows, start, WINDOW, ensemble.device)
        nll, states = step(tokens, states)  # on a GPU the next call overwrites both
        total = total + sums(nll)
        progress(len(rows) * (start + len(tokens) - 1), count)
    return total / count


def read_window(
    model: Callable, states: "States", tokens: Tensor, masks: Any = None, temperature: float = 1.0
) -> tuple[Tensor, "States"]:
    """Return -log P (T, B) in nats for the last T tokens of a window (T + 1, B), and the states
    after the window.
    """
    targets = tokens[1:]
    if temperature == 1:  # the loss without logits in memory
        reading = model(tokens[:-1], states, masks, targets)
        return reading.nll, reading.states
    reading = model(tokens[:-1], states, masks)
    logits = (reading.logits / temperature).flatten(0, -2)
    nll = F.cross_entropy(logits, targets.flatten(), reduction="none")
    return nll.view(targets.shape), reading.states


def window_of(
    rows: np.ndarray, start: int, steps: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the tokens (T + 1, B) int64 of one window of rows (B, N // B); fewer at the end."""
    tokens = np.ascontiguousarray(rows[:, start : start + steps + 1].T, np.int64)
    return torch.from_numpy(tokens).to(device)


def measure_name(vocabulary: "Vocabulary") -> str:
    """Return the usual measure for the tokens of a vocabulary."""
    return "perplexity" if vocabulary.unit == "words" else "bits_per_character"


def measure(nll: float, name: str) -> float:
    """Convert nats to perplexity (infinite if exp overflows) or to bits; "nll" keeps them."""
    if name == "perplexity":
        return math.inf if nll >= BEYOND else math.exp(nll)
    return nll if name == "nll" else nll / math.log(2)
