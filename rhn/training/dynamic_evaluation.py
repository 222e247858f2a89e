"""Dynamic evaluation: a model learns from the text it is evaluated on, each segment after it was scored (Krause et al. 2018).

    after each segment, for every parameter p, which was p_0 at first:
        p <- p + decay d (p_0 - p) - learning_rate g / (r + epsilon)          decay d at most 1

    g   gradient of the segment's nll, in nats a token
    r   root mean square of such gradients on the training text, each of 100 rows side by side
    d   r over its mean, which is that over parameter tensors of the mean in each (the authors' code)

The text is read as one row, its state carried over from segment to segment.
"""

import copy
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rhn.data.text import Tokens
from rhn.errors import InvalidInputError
from rhn.training.batches import training_rows
from rhn.training.evaluation import Score, read_window, text_windows
from rhn.utils.progress import Advance
from rhn.utils.validation import positive

EPSILON = 2e-5
ROWS = 100  # of the training text; fewer where it is short
SEGMENTS = 2000  # of each of these rows at most: all of Penn Treebank in segments of 5


@torch.inference_mode(False)
@torch.enable_grad()  # whatever the caller, an evaluation, has turned off
def dynamic_score(
    model: nn.Module,
    tokens: Tokens,
    train_tokens: Tokens,
    *,
    segment: int = 5,
    learning_rate: float = 5e-5,
    decay: float = 2e-3,
    device: torch.device | str = "cpu",
    progress: Advance = lambda done, total: None,
) -> Score:
    """The score on a text (N,) of a model that learns while it reads. The model given is not changed.

    Args:
        train_tokens: the text that the model was trained on.
        segment: steps scored before the model learns from them.
        learning_rate, decay: the defaults are the authors' for Penn Treebank; both grow with the length of a segment.
        progress: called with (tokens done, tokens in all).

    Raises:
        DataError: the text is shorter than two tokens, or the training text than a segment.
        InvalidInputError: an argument is out of range.
    """
    segment = positive("segment", segment)
    if not 0 <= learning_rate < math.inf:
        raise InvalidInputError(f"the learning rate is {learning_rate}, expected 0 or more")
    if not 0 <= decay <= 1:
        raise InvalidInputError(f"the decay is {decay}, expected 0 to 1: the share of a change that is taken back")
    text, model = tokens.rows(1), copy.deepcopy(model).to(device).eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    train = training_rows(train_tokens, max(1, min(ROWS, len(train_tokens) // (segment + 1))), segment)
    rates = _rates(model, parameters, train, segment, learning_rate, decay)
    trained = [p.detach().clone() for p in parameters]
    total, done, steps = torch.zeros((), dtype=torch.float64, device=device), 0, text.shape[1] - 1
    for nll, gradients in _segments(model, parameters, text, segment):
        total += nll.sum(dtype=torch.float64)
        with torch.no_grad():
            for p, p_0, g, (share, rate) in zip(parameters, trained, gradients, rates, strict=True):
                p.lerp_(p_0, share).addcmul_(g, rate, value=-1)
        done += len(nll)
        progress(done, steps)
    return Score(total.item() / steps, steps)


def _segments(
    model: nn.Module, parameters: list[Tensor], rows: Tokens, segment: int
) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """nll (T, B) of each segment of rows (B, N), and the gradients of its mean; both at the parameters as they are then."""
    states = None
    for tokens in text_windows(rows, segment, parameters[0].device):
        nll, states = read_window(model, states, tokens)
        states = tuple(s.detach() for s in states)
        yield nll.detach(), torch.autograd.grad(nll.mean(), parameters, materialize_grads=True)


def _rates(
    model: nn.Module, parameters: list[Tensor], rows: Tokens, segment: int, learning_rate: float, decay: float
) -> list[tuple[Tensor, Tensor]]:
    """(decay d, learning_rate / (r + epsilon)) of every parameter, r over these rows of the training text."""
    sums, count = [torch.zeros_like(p) for p in parameters], 0
    for _, gradients in itertools.islice(_segments(model, parameters, rows, segment), SEGMENTS):
        for total, g in zip(sums, gradients, strict=True):
            total.addcmul_(g, g)
        count += 1
    scales = [(total / count).sqrt_() for total in sums]
    mean = torch.stack([r.mean() for r in scales]).mean()
    mean = mean.clamp(min=torch.finfo(mean.dtype).tiny)  # a text of a single symbol has no gradient
    return [((decay * r / mean).clamp(max=1), learning_rate / (r + EPSILON)) for r in scales]
