"""Monte Carlo dropout: average the probability of each token over networks with random dropout
masks (Gal and Ghahramani 2016).

    P(w[t]) = 1/S sum over samples i of softmax(z_i[t] / temperature)[w[t]]

Legend: z_i are the logits with the masks of sample i; S samples, N tokens, T time steps of a
window, B samples side by side.

Each sample reads the whole text from the zero state. New masks are drawn in every window, as in
training. With window=None one set of masks serves the whole text, as in `evaluate_mc` of the
official code of Zilly et al. (2017). The windows of that function have one time step, and hence all
words share one draw of the embedding mask: a share `dropout.embedding` of the samples sees no word
at all. A sample is therefore drawn again if its own perplexity is 500 or more. (The official code
also counts one token that it never predicts, at a probability of 1e-10; we do not.)

Masks are a function of (seed, number of the sample, number of the window), on every device. A
temperature divides all logits. A temperature that was fitted to the network without dropout does
not suit the mean prediction of the samples, which is softer even at temperature 1.
"""

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rhn.data.text import in_rows
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel
from rhn.models.dropout import Dropout, Masks, draw_masks
from rhn.training.ensemble import seeded
from rhn.training.evaluation import (
    WINDOW,
    MeanLoss,
    perplexity,
    read_window,
    text_windows,
)
from rhn.training.graphs import captured
from rhn.utils.progress import Advance
from rhn.utils.validation import check_device, check_seed, number, whole_number

ACCEPTED = 500.0  # perplexity below which the official code keeps a sample
# samples rejected in a row: a tenth of the usual 1000, and beyond chance for a trained model
REDRAWS = 100
HELD = 2**26  # probabilities held at once: half a gigabyte


@torch.no_grad()
def monte_carlo_score(
    model: LanguageModel,
    tokens: np.ndarray,
    dropout: Dropout,
    *,
    samples: int = 1000,
    window: int | None = 35,
    rows: int = 100,
    seed: int = 0,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> MeanLoss:
    """Compute the loss on a text (N,) of the mean prediction of `samples` networks with random
    dropout masks.

    Args:
        dropout: the dropout rates, commonly those of the training run.
        window: number of time steps that share one set of masks; None: one set for the whole text.
        rows: number of samples that run side by side, limited by the memory of the logits (window,
            rows, V). Fewer run if N times rows is above 2**26. The result depends on this number by
            rounding only.
        progress: called with (tokens done, total number of tokens), both over all samples; the
            total grows with each sample that is drawn again.

    Raises:
        DataError: the text is shorter than two tokens.
        InvalidInputError: an argument is out of range, or 100 samples in a row were rejected (a
            perplexity of 500 or more, with window=None).
    """
    temperature = number("the temperature", temperature, above=0)
    device = check_device(device)
    seed = check_seed(seed)
    samples, text = whole_number("samples", samples), in_rows(tokens, 1)
    length, steps = whole_number("window", window or WINDOW), text.shape[1] - 1
    model = copy.deepcopy(model).to(device).eval()
    rows = min(whole_number("rows", rows), max(1, HELD // steps))
    read = captured(
        functools.partial(read_window, model, temperature=temperature), model.embedding.device
    )
    total = torch.full((steps,), -math.inf, dtype=torch.float64, device=device)
    kept, drawn, in_a_row = 0, 0, 0
    while kept < samples:
        numbers = range(drawn, drawn + min(rows, samples - kept))
        draw = functools.partial(_draw, model, dropout, seed, numbers)
        windows, fixed = text_windows(text, length, device), not window
        log_p, done = total.new_empty(steps, len(numbers)), 0
        for nll in _read_side_by_side(read, windows, draw, model.layers, len(numbers), fixed=fixed):
            log_p[done : done + len(nll)] = -nll
            done += len(nll)
            progress(drawn * steps + len(numbers) * done, (samples + drawn - kept) * steps)
        means = log_p.mean(0).tolist()
        accepted = [not fixed or perplexity(-mean) < ACCEPTED for mean in means]
        in_a_row = 0 if any(accepted) else in_a_row + len(accepted)
        if in_a_row >= REDRAWS:
            raise InvalidInputError(
                f"{in_a_row} samples in a row have a perplexity of {ACCEPTED:g} or more, which "
                "the official code draws again: expected a trained model and the dropout of its "
                "training; or draw new masks in every window"
            )
        chosen = log_p[:, torch.tensor(accepted, device=device)]
        torch.logaddexp(total, chosen.logsumexp(1), out=total)
        kept, drawn = kept + sum(accepted), numbers.stop
    return MeanLoss((math.log(samples) - total.mean()).item(), steps, drawn - kept)


def _read_side_by_side(
    read: Callable,
    windows: Iterable[Tensor],
    draw: Callable[[int, Tensor], Masks],
    layers: int,
    samples: int,
    *,
    fixed: bool,
) -> Iterator[Tensor]:
    """Yield -log P (T, S) of each window of tokens (T + 1, 1), from the zero state on.

    fixed: keep the masks of the first step; otherwise draw new ones in every window.
    """
    states: Any = (None,) * layers
    masks = None
    for k, tokens in enumerate(windows):
        if masks is None or not fixed:
            masks = draw(k, tokens[:1] if fixed else tokens[:-1])
        nll, states = read(states, tokens.expand(-1, samples), masks)
        yield nll


def _draw(
    model: nn.Module, dropout: Dropout, seed: int, samples: range, window: int, tokens: Tensor
) -> Masks:
    """Draw the masks of these samples for a window of tokens (T, 1), side by side."""
    generators = [seeded(seed, sample, window) for sample in samples]
    drawn = [draw_masks(model, tokens.cpu(), dropout, generator) for generator in generators]

    def beside(axis: int, *masks) -> Tensor | None:
        return None if masks[0] is None else torch.cat(masks, axis).to(tokens.device)

    words, *others = zip(*drawn, strict=True)
    rest = (tree_map(functools.partial(beside, -2), *masks) for masks in others)
    return Masks(beside(-1, *words), *rest)
