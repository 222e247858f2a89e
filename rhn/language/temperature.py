"""The temperature of a softmax, and which one fits a text best (Guo et al. 2017).

    P(w) = softmax(z / temperature)[w]            z the logits

The nll of a token, logsumexp(b z) - b z[w], is convex in b = 1 / temperature, and so is that of a text, which is a sum of them. So
where temperatures are tried in order, the best one of all lies between the two neighbours of the best one tried.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rhn.data.text import Tokens
from rhn.engine.stack import Stack
from rhn.errors import InvalidInputError
from rhn.language.evaluation import Score, check_temperature, stack_nll
from rhn.language.losses import token_nll
from rhn.models.language import States

POINTS = 17  # temperatures compared in one pass
WIDTH = 1e-3  # of the interval that is left, relative


def scores_at(
    model: nn.Module,
    tokens: Tokens,
    temperatures: Sequence[float],
    *,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Score]:
    """The score of a model on a text (N,) at each temperature, in one pass; see `rhn.language.evaluation.score`.

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

    nll = stack_nll(Stack.measured(model, device), rows, read, progress=progress)
    return [Score(each, batch_size * (rows.shape[1] - 1)) for each in nll[0].tolist()]


def best_temperature(
    model: nn.Module,
    tokens: Tokens,
    *,
    low: float = 0.8,
    high: float = 1.2,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """The temperature from `low` to `high` with the least nll on a text (N,), commonly the validation text, to 0.1 %.

    `low` or `high` itself where the best one lies outside. The text is read a few times, and `progress` starts anew with each.

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
