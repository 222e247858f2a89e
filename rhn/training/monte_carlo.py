"""Monte-Carlo dropout: the probability of each token is its mean over networks drawn with dropout on (Gal and Ghahramani 2016).

    P(w[t]) = 1/S sum over samples i of softmax(z_i[t] / temperature)[w[t]]         z_i the logits with the masks of sample i

Legend: S samples, N tokens, T steps of a window, B samples side by side.

Each sample reads the whole text from the zero state. `monte_carlo_score` draws its masks anew in every window, as in training.

`official_monte_carlo_score` keeps one set for the whole text, as the official code of Zilly et al. (2017) does in `evaluate_mc`. That
code has windows of one step there, and hence one draw for the embeddings of all words: a share `dropout.embedding` of its samples sees
no word at all, which is why it draws again where a sample's own perplexity is 500 or more. (It also counts one token that it never
predicts, at 1e-10; we do not.) So a sample counts only once it has read the whole text, and its probabilities are held until then.

Both: masks are a function of (seed, number of the sample, number of the window), on every device. A temperature divides all logits; one
that was fitted to the network without dropout (`rhn.training.evaluation`) does not suit the mean, which is softer by itself.
"""

import copy
import functools
import itertools
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rhn.data.text import Tokens
from rhn.errors import InvalidInputError
from rhn.models.dropout import Dropout, Masks, draw_masks
from rhn.models.language import States
from rhn.training.ensemble import captured
from rhn.training.evaluation import WINDOW, Score, check_temperature, read_window, text_windows
from rhn.training.losses import perplexity
from rhn.training.reproducibility import seeded
from rhn.utils.progress import Advance
from rhn.utils.validation import check_seed, positive

ACCEPTED = 500.0  # perplexity below which the official code keeps a sample
REDRAWS = 100  # rejected in a row: a tenth of the usual 1000 samples, and beyond chance for a trained model
HELD = 2**26  # probabilities held on the official way: half a gigabyte


def monte_carlo_score(
    model: nn.Module,
    tokens: Tokens,
    dropout: Dropout,
    *,
    samples: int = 1000,
    window: int = 35,
    rows: int = 100,
    seed: int = 0,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> Score:
    """The score of the mean of `samples` networks on a text (N,), with new masks in every window.

    Args:
        dropout: the rates, commonly those of the training.
        window: steps that share their masks.
        rows: samples run side by side, as many as memory allows: (window, rows, V) logits. The result depends on it by rounding only.
        progress: called with (tokens done, tokens in all), both over all samples.

    Raises:
        DataError: the text is shorter than two tokens.
        InvalidInputError: an argument is out of range.
    """
    window = positive("window", window)
    samples, rows, text, model = _checked(model, tokens, samples, rows, seed, temperature, device)
    steps = text.shape[1] - 1
    total = torch.full((steps,), -math.inf, dtype=torch.float64, device=device)
    for first in range(0, samples, rows):
        numbers = range(first, min(first + rows, samples))
        windows = enumerate(text_windows(text, window, device))
        masks = (_draw(model, dropout, seed, numbers, k, part[:-1]) for k, part in windows)
        for start, log_p in _read(model, text, len(numbers), masks, window, temperature):
            end = start + len(log_p)
            _add(log_p, total[start:end])
            progress(first * steps + len(numbers) * end, samples * steps)
    return Score((math.log(samples) - total.mean()).item(), steps)


def official_monte_carlo_score(
    model: nn.Module,
    tokens: Tokens,
    dropout: Dropout,
    *,
    samples: int = 1000,
    rows: int = 100,
    seed: int = 0,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> Score:
    """As `monte_carlo_score`, the official code's way: one set of masks a sample, and samples drawn again that fail.

    Of the samples side by side there are fewer where N times rows is above 2**26; the total told to `progress` grows with each sample
    drawn again. Raises InvalidInputError also where 100 samples in a row were rejected.
    """
    samples, rows, text, model = _checked(model, tokens, samples, rows, seed, temperature, device)
    steps = text.shape[1] - 1
    rows = min(rows, max(1, HELD // steps))
    total = torch.full((steps,), -math.inf, dtype=torch.float64, device=device)
    kept, drawn, in_a_row = 0, 0, 0
    while kept < samples:
        numbers = range(drawn, drawn + min(rows, samples - kept))
        first = torch.from_numpy(text[:, :1]).to(device)  # the draw of one step serves all steps
        masks = itertools.repeat(_draw(model, dropout, seed, numbers, 0, first))
        held = total.new_empty(steps, len(numbers))
        for start, log_p in _read(model, text, len(numbers), masks, WINDOW, temperature):
            end = start + len(log_p)
            held[start:end] = log_p
            progress(drawn * steps + len(numbers) * end, (samples + drawn - kept) * steps)
        accepted = [perplexity(-mean) < ACCEPTED for mean in held.mean(0).tolist()]
        in_a_row = _rejected_in_a_row(accepted, in_a_row)
        _add(held[:, torch.tensor(accepted, device=device)], total)
        kept, drawn = kept + sum(accepted), numbers.stop
    return Score((math.log(samples) - total.mean()).item(), steps)


def sample_masks(
    model: nn.Module, tokens: Tensor, dropout: Dropout, *, seed: int, sample: int, window: int = 0
) -> Masks:
    """The masks of one sample for a window of tokens (T, 1), on the CPU: a function of the three numbers."""
    return draw_masks(model, tokens, dropout, seeded(seed, sample, window))


def _checked(model, tokens: Tokens, samples: int, rows: int, seed: int, temperature: float, device) -> tuple:
    """(samples, rows, text (1, N), model on the device), or InvalidInputError."""
    check_temperature(temperature)
    check_seed(seed)
    return positive("samples", samples), positive("rows", rows), tokens.rows(1), copy.deepcopy(model).to(device).eval()


@torch.no_grad()
def _read(
    model: nn.Module, text: Tokens, samples: int, masks: Iterable[Masks], window: int, temperature: float
) -> Iterator[tuple[int, Tensor]]:
    """(first step, log P of its tokens (T, B)) of each window of a text (1, N), read with its masks; overwritten by the next."""
    like = model.embedding
    states, start = tuple(like.new_zeros(samples, cell.state_size) for cell in model.cells), 0

    def read(tokens: Tensor, states: States, drawn: Masks) -> tuple[Tensor, States]:
        return read_window(model, states, tokens.expand(-1, samples), drawn, temperature)

    step = captured(read, like.device)
    for tokens, drawn in zip(text_windows(text, window, like.device), masks, strict=False):
        nll, states = step(tokens, states, drawn)
        yield start, -nll
        start += len(nll)


def _add(log_p: Tensor, total: Tensor) -> None:
    """Take the samples' log P (T, B) into the log of the sum of all probabilities so far (T,), in place."""
    torch.logaddexp(total, log_p.double().logsumexp(1), out=total)


def _draw(model: nn.Module, dropout: Dropout, seed: int, samples: range, window: int, tokens: Tensor) -> Masks:
    """The masks of these samples for a window of tokens (T, 1), side by side."""
    drawn = [sample_masks(model, tokens.cpu(), dropout, seed=seed, sample=i, window=window) for i in samples]

    def beside(axis: int, *masks: Tensor | None) -> Tensor | None:
        return None if masks[0] is None else torch.cat(masks, axis).to(tokens.device)

    words, *others = zip(*drawn, strict=True)
    return Masks(beside(-1, *words), *(tree_map(functools.partial(beside, -2), *masks) for masks in others))


def _rejected_in_a_row(accepted: list[bool], before: int) -> int:
    """Number of samples rejected since the last accepted one; raises InvalidInputError if there are too many."""
    for good in accepted:
        before = 0 if good else before + 1
        if before == REDRAWS:
            raise InvalidInputError(
                f"{REDRAWS} samples in a row have a perplexity of {ACCEPTED:g} or more, which the official code draws again: "
                "expected a trained model and the dropout of its training; or draw new masks in every window"
            )
    return before
