"""Monte Carlo dropout: average the probability of each token over networks with random dropout
masks (Gal and Ghahramani 2016).

    P(w[t]) = 1/S sum over samples i of softmax(z_i[t])[w[t]]

Legend: z_i are the logits with the masks of sample i; S samples, N tokens, T time steps of a
window, B samples side by side.

Each sample reads the whole text from the zero state. New masks are drawn in every window, as in
training. Masks are a function of (seed, sample, window), on every device.
"""

import copy
import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rhn.data.text import in_rows
from rhn.models import LanguageModel
from rhn.models.dropout import Dropout, Masks, draw_masks
from rhn.training.ensemble import seeded
from rhn.training.evaluation import MeanLoss, read_window, text_windows
from rhn.training.graphs import captured
from rhn.utils.progress import Advance
from rhn.utils.validation import check_device, check_seed, whole_number

HELD = 2**26  # probabilities held at once: half a gigabyte


@torch.no_grad()
def monte_carlo_score(
    model: LanguageModel,
    tokens: np.ndarray,
    dropout: Dropout,
    *,
    samples: int = 1000,
    window: int = 35,
    rows: int = 100,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> MeanLoss:
    """Compute the loss on a text (N,) of the mean prediction of `samples` networks with random
    dropout masks. `progress` is called with (tokens done, all tokens) of all samples.

    dropout: the rates, commonly those of the training run.
    window: number of time steps that share one set of masks.
    rows: most samples side by side; the result depends on this number by rounding only.
    """
    seed, text = check_seed(seed), in_rows(tokens, 1)
    samples, rows = whole_number("samples", samples), whole_number("rows", rows)
    window, steps = whole_number("window", window), text.shape[1] - 1
    model = copy.deepcopy(model).to(check_device(device)).eval()
    place = model.embedding.device
    rows = min(rows, max(1, HELD // steps))
    read = captured(functools.partial(read_window, model), place)
    total = torch.full((steps,), -math.inf, dtype=torch.float64, device=place)
    for first in range(0, samples, rows):
        numbers = range(first, min(first + rows, samples))
        log_p, done = total.new_empty(steps, len(numbers)), 0
        states: Any = (None,) * model.layers
        for k, part in enumerate(text_windows(text, window, place)):
            masks = _draw(model, dropout, seed, numbers, k, part[:-1])
            nll, states = read(states, part.expand(-1, len(numbers)), masks)
            log_p[done : done + len(nll)] = -nll
            done += len(nll)
            progress(first * steps + len(numbers) * done, samples * steps)
        torch.logaddexp(total, log_p.logsumexp(1), out=total)
    return MeanLoss((math.log(samples) - total.mean()).item(), steps)


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
