"""Monte-Carlo dropout: the probability of each token is its mean over networks drawn with dropout on (Gal and Ghahramani 2016).

    P(w[t]) = 1/S sum over samples i of softmax(z_i[t] / temperature)[w[t]]         z_i the logits with the masks of sample i

Legend: S samples, N tokens, T steps of a window, B samples side by side.

Each sample reads the whole text from the zero state. Its masks are drawn anew in every window, as in training.

On the official way it keeps one set for the whole text, as the official code of Zilly et al. (2017) does in `evaluate_mc`. That code
has windows of one step there, and hence one draw for the embeddings of all words: a share `dropout.embedding` of its samples sees no
word at all, which is why it draws again where a sample's own perplexity is 500 or more. (It also counts one token that it never
predicts, at 1e-10; we do not.) So a sample counts only once it has read the whole text, and its probabilities are held until then.

Masks are a function of (seed, number of the sample, number of the window), on every device. A temperature divides all logits; one
that was fitted to the network without dropout (`rhn.language.temperature`) does not suit the mean, which is softer by itself.
"""

import copy
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rhn.cells.base import positive
from rhn.data.text import Tokens
from rhn.engine.seeds import seeded
from rhn.errors import InvalidInputError
from rhn.fields import check_seed
from rhn.language.evaluation import WINDOW, Score, check_temperature, perplexity, read_window, text_windows
from rhn.models.dropout import Dropout, Masks, draw_masks

ACCEPTED = 500.0  # perplexity below which the official code keeps a sample
REDRAWS = 100  # rejected in a row: a tenth of the usual 1000 samples, and beyond chance for a trained model
HELD = 2**26  # probabilities held on the official way: half a gigabyte


@torch.no_grad()
def monte_carlo_score(
    model: nn.Module,
    tokens: Tokens,
    dropout: Dropout,
    *,
    samples: int = 1000,
    window: int | None = 35,
    rows: int = 100,
    seed: int = 0,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """The score of the mean of `samples` networks on a text (N,).

    Args:
        dropout: the rates, commonly those of the training.
        window: steps that share their masks. None: the official way.
        rows: samples run side by side, as many as memory allows: (window, rows, V) logits. The result depends on it by rounding only.
            On the official way there are fewer where N times rows is above 2**26.
        progress: called with (tokens done, tokens in all), both over all samples; on the official way with each one drawn again.

    Raises:
        DataError: the text is shorter than two tokens.
        InvalidInputError: an argument is out of range, or on the official way 100 samples in a row were rejected.
    """
    check_temperature(temperature)
    check_seed(seed)
    samples, rows, official = positive("samples", samples), positive("rows", rows), window is None
    window = WINDOW if official else positive("window", window)
    text, model = tokens.rows(1), copy.deepcopy(model).to(device)
    steps = text.shape[1] - 1
    rows = min(rows, max(1, HELD // steps)) if official else rows
    total = torch.full((steps,), -math.inf, dtype=torch.float64, device=device)
    kept = drawn = in_a_row = 0
    while kept < samples:
        numbers = range(drawn, drawn + min(rows, samples - kept))
        held = total.new_empty(steps, len(numbers)) if official else None
        states, start, masks = None, 0, None
        for k, part in enumerate(text_windows(text, window, device)):
            if not official:
                masks = _draw(model, dropout, seed, numbers, k, part[:-1])
            elif k == 0:
                masks = _draw(model, dropout, seed, numbers, 0, part[:1])  # the draw of one step serves all steps
            nll, states = read_window(model, states, part.expand(-1, len(numbers)), masks, temperature)
            end = start + len(nll)
            if official:
                held[start:end] = -nll
            else:
                _add(-nll, total[start:end])
            start = end
            progress(drawn * steps + len(numbers) * end, (samples + drawn - kept) * steps)
        drawn = numbers.stop
        if official:
            accepted = [perplexity(-mean) < ACCEPTED for mean in held.mean(0).tolist()]
            in_a_row = _rejected_in_a_row(accepted, in_a_row)
            _add(held[:, torch.tensor(accepted, device=device)], total)
            kept += sum(accepted)
        else:
            kept = drawn
    return Score((math.log(samples) - total.mean()).item(), steps)


def sample_masks(
    model: nn.Module, tokens: Tensor, dropout: Dropout, *, seed: int, sample: int, window: int = 0
) -> Masks:
    """The masks of one sample for a window of tokens (T, 1), on the CPU: a function of the three numbers."""
    return draw_masks(model, tokens, dropout, seeded(seed, sample, window))


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
    """How many samples were rejected since the last one accepted; raises InvalidInputError where that is too many."""
    for good in accepted:
        before = 0 if good else before + 1
        if before == REDRAWS:
            raise InvalidInputError(
                f"{REDRAWS} samples in a row have a perplexity of {ACCEPTED:g} or more, which the official code draws again: "
                "expected a trained model and the dropout of its training; or draw new masks in every window"
            )
    return before
