"""Monte Carlo dropout: average the probability of each token over networks with random dropout
masks (Gal and Ghahramani 2016).

    P(w[t]) = 1/S sum over samples i of softmax(z_i[t])[w[t]]

where z_i are the logits with the masks of sample i. Each sample reads the whole text from the zero
state. New masks are drawn in every window, as a function of (seed, sample, window).
"""

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rhn.data.text import in_rows
from rhn.models import LanguageModel
from rhn.models.dropout import Dropout, Masks, draw_masks
from rhn.training.evaluation import MeanLoss, read_window, window_of
from rhn.training.graphs import captured
from rhn.utils.progress import Progress, reported
from rhn.utils.resources import check_device
from rhn.utils.seeds import seeded
from rhn.utils.torch_private import tree_map
from rhn.utils.validation import whole_number

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
    progress: Progress = None,
) -> MeanLoss:
    """Compute the loss on a text (N,) of the mean prediction of `samples` networks with dropout
    masks, which `window` time steps share. At most `rows` samples are read side by side, which
    changes the result by rounding only. progress: as for `rhn.train`, of tokens of all samples.
    """
    seed, window = whole_number("seed", seed, 0), whole_number("window", window)
    text = in_rows(tokens, 1)
    steps, samples = text.shape[1] - 1, whole_number("samples", samples)
    model = copy.deepcopy(model).to(check_device(device)).eval()
    place = model.embedding.device
    rows = min(whole_number("rows", rows), max(1, HELD // steps))
    read = captured(partial(read_window, model), place)
    total = torch.full((steps,), -math.inf, dtype=torch.float64, device=place)
    with reported(progress, "evaluate") as advance:
        for first in range(0, samples, rows):
            numbers = range(first, min(first + rows, samples))
            log_p = total.new_empty(steps, len(numbers))
            states: Any = (None,) * model.layers
            for start in range(0, steps, window):
                part = window_of(text, start, window, place)
                generators = [seeded(seed, sample, start // window) for sample in numbers]
                drawn = [draw_masks(model, part[:-1].cpu(), dropout, g) for g in generators]
                masks = _side_by_side(drawn, place)
                nll, states = read(states, part.expand(-1, len(numbers)), masks)
                log_p[start : start + len(nll)] = -nll
                advance(first * steps + len(numbers) * (start + len(nll)), samples * steps)
            torch.logaddexp(total, log_p.logsumexp(1), out=total)
    return MeanLoss((math.log(samples) - total.mean()).item(), steps)


def _side_by_side(drawn: list[Masks], device: torch.device) -> Masks:
    def beside(axis: int, *masks) -> Tensor | None:
        return None if masks[0] is None else torch.cat(masks, axis).to(device)

    words, *others = zip(*drawn, strict=True)
    rest = (tree_map(partial(beside, -2), *masks) for masks in others)
    return Masks(beside(-1, *words), *rest)
