"""Train language models: windows of a text (T time steps, B rows), masks, and the loss of the
official code:

    loss = sum over steps and rows of -log P(token) / B
           [+ weight_decay sum(p^2) / 2  with weight_decay_form="loss"]
    g    = d loss / d p, over all parameters of a model scaled down to norm `gradient_norm` if it is
           larger
    p   <- p - lr g, or a step of another optimizer
           [p <- (1 - weight_decay) p  with weight_decay_form="shrink"]

The negative log-likelihood is summed over time steps, so a learning rate of 0.2 here equals 0.2 T
for a loss in nats per token. Each window of T + 1 tokens begins with the last token of the previous
one, and from its last state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

from rhn.data.text import TextCorpus, in_rows
from rhn.errors import InvalidInputError
from rhn.models.dropout import Masks, draw_masks, require_masks
from rhn.models.language import LanguageModel, States
from rhn.training.build import build_model
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import Ensemble
from rhn.training.evaluation import BEYOND, ensemble_nll, measure_name, window_of
from rhn.training.task import Task
from rhn.utils.seeds import seeded
from rhn.utils.torch_private import tree_map
from rhn.utils.validation import kind_of

MASKS = crc32(b"masks")


class LanguageTask(Task):
    """Predict the next token of a text. The training loss of a curve is the mean over the epoch,
    with dropout and with the weights at each window; the gradient norm is the mean before gradients
    are scaled down. The validation loss is that of the weights after the epoch, without dropout, in
    as many rows as in training. Losses are in nats per token.
    """

    data = TextCorpus
    first_epoch = 1

    def __init__(
        self, config: LanguageConfig, corpus: TextCorpus, device: torch.device | str = "cpu"
    ):
        super().__init__(config, device)
        self._vocabulary, self.measure = len(corpus.vocabulary), measure_name(corpus.vocabulary)
        losses = f"train_{self.measure}", f"valid_{self.measure}"
        self.columns = (*losses, "learning_rate", "gradient_norm")
        self.rows = in_rows(corpus.train, config.batch_size)
        self._valid = in_rows(corpus.valid, config.batch_size)
        if config.window > (steps := self.rows.shape[1] - 1):
            raise InvalidInputError(f"window is {config.window}: expected at most {steps}")

    def model(self, seed: int) -> LanguageModel:
        model = build_model(self.config, self._vocabulary, seed=seed)
        require_masks(model, self.config.dropout)
        return model

    def batches(self, epoch: int) -> list["TextWindow"]:
        window = self.config.window
        starts = window_starts(self.rows.shape[1], window)
        return [TextWindow(self, epoch, step, start, window) for step, start in enumerate(starts)]

    def loss(
        self, model, own: tuple[States | None, Masks], tokens: Tensor
    ) -> tuple[Tensor, tuple[Tensor, States]]:
        states, masks = own
        reading = model(tokens[:-1], states, masks, tokens[1:])
        _check_states(reading.states, self.config.cell)
        return reading.nll.sum() / tokens.shape[1], (reading.nll, reading.states)

    def evaluate(self, ensemble: Ensemble) -> Tensor:
        nll = ensemble_nll(ensemble, self._valid)
        return nll.where(nll < BEYOND, torch.inf).unsqueeze(1)

    def schedule(self, epoch: int) -> float:
        return self.config.decay(epoch)


@dataclass(frozen=True)
class TextWindow:
    """The time steps [start, start + length) of all rows; `step` is the number of the window."""

    task: LanguageTask
    epoch: int
    step: int
    start: int
    length: int

    def inputs(self, model: LanguageModel, numbers: Sequence[int]) -> tuple:
        """Return the tokens (T + 1, B), and the dropout masks of these seeds (K, ...)."""
        task, drawn = self.task, []
        tokens = window_of(task.rows, self.start, self.length, task.device)
        for seed in numbers:
            generator = seeded(seed, self.epoch, self.step, MASKS, device=task.device)
            drawn.append(draw_masks(model, tokens[:-1], task.config.dropout, generator))
        return (tokens,), tree_map(lambda *ts: None if ts[0] is None else torch.stack(ts), *drawn)


def _check_states(states: Sequence, cell: str) -> None:
    """Refuse a cell whose state is not one tensor: only this can be stored and masked."""
    for state in states:
        if not isinstance(state, Tensor):
            kind = cell.rpartition(":")[2]
            raise InvalidInputError(
                f"state of {kind} is {kind_of(state)}: expected one tensor (B, state_size)"
            )


def window_starts(columns: int, window: int) -> range:
    """Return the first time step of each window of an epoch over rows of `columns` tokens: as many
    whole windows as fit.

    >>> list(window_starts(11, 5))
    [0, 5]
    """
    return range(0, columns - window, window)
