"""Train language models: windows of a text (T time steps, B rows), masks, and the loss of the
official code:

    loss = sum over steps and rows of -log P(token) / B
           [+ activation terms (Merity et al. 2017), in nats per token times T]
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

import numpy as np
import torch
from torch import Tensor

from rhn.data.text import TextCorpus, in_rows
from rhn.errors import InvalidInputError
from rhn.models.dropout import Masks, draw_masks, require_masks
from rhn.models.language import LanguageModel, States
from rhn.training.build import build_model
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import Ensemble
from rhn.training.evaluation import ensemble_nll, measure_name, window_of
from rhn.training.task import Task
from rhn.utils.seeds import seeded
from rhn.utils.torch_private import tree_map
from rhn.utils.validation import kind_of

MASKS = crc32(b"masks")
SHORTEST = 5  # steps of a window of random length
HALF = 0.05  # share of windows of half the length, if lengths vary (Merity et al. 2017)
BEYOND = 700.0  # nats per token: the perplexity of more overflows


class LanguageTask(Task):
    """Predict the next token of a text. The training loss of a curve is the mean over the epoch,
    with dropout and with the weights at each window; the gradient norm is the mean before gradients
    are scaled down. The validation loss is that of the weights (or their average) after the epoch,
    without dropout, in as many rows as in training. Losses are in nats per token.
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
        shortest = max(config.window, SHORTEST) if config.vary_window else config.window
        self.rows = in_rows(corpus.train, config.batch_size)
        self._valid = in_rows(corpus.valid, config.batch_size)
        if shortest > (steps := self.rows.shape[1] - 1):
            raise InvalidInputError(f"window is {shortest}: expected at most {steps}")

    def model(self, seed: int) -> LanguageModel:
        model = build_model(self.config, self._vocabulary, seed=seed)
        require_masks(model, self.config.dropout)
        return model

    def batches(self, epoch: int) -> list["TextWindow"]:
        columns, how = self.rows.shape[1], self.config
        cuts = epoch_windows(columns, how.window, vary=how.vary_window, epoch=epoch)
        return [TextWindow(self, epoch, step, *cut) for step, cut in enumerate(cuts)]

    def loss(
        self, model, own: tuple[States | None, tuple[Masks, Tensor | None]], tokens: Tensor
    ) -> tuple[Tensor, tuple[Tensor, States]]:
        config, (states, (masks, keep)) = self.config, own
        if states is not None and keep is not None:
            states = tuple(s * keep for s in states)
        reading = model(tokens[:-1], states, masks, tokens[1:])
        _check_states(reading.states, config.cell)
        loss, y = reading.nll.sum() / tokens.shape[1], reading.outputs
        if config.activation_regularization:
            kept = y if masks.output is None else y * masks.output
            loss = loss + config.activation_regularization * kept.square().mean() * len(y)
        if config.temporal_activation_regularization and len(y) > 1:
            change = y.diff(dim=0).square().mean()
            loss = loss + config.temporal_activation_regularization * change * len(y)
        return loss, (reading.nll, reading.states)

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
        """Return the tokens (T + 1, B), and for these seeds the dropout masks and which rows keep
        their state, (K, B, 1).
        """
        task, config, drawn = self.task, self.task.config, []
        tokens = window_of(task.rows, self.start, self.length, task.device)
        for seed in numbers:
            generator = seeded(seed, self.epoch, self.step, MASKS, device=task.device)
            masks, keep = draw_masks(model, tokens[:-1], config.dropout, generator), None
            if config.reset_probability:
                rows = config.batch_size
                draw = torch.rand(rows, 1, generator=generator, device=task.device)
                keep = (draw >= config.reset_probability).to(model.embedding.dtype)
            drawn.append((masks, keep))
        return (tokens,), tree_map(lambda *ts: None if ts[0] is None else torch.stack(ts), *drawn)


def _check_states(states: Sequence, cell: str) -> None:
    """Refuse a cell whose state is not one tensor: only this can be stored and masked."""
    for state in states:
        if not isinstance(state, Tensor):
            kind = cell.rpartition(":")[2]
            raise InvalidInputError(
                f"state of {kind} is {kind_of(state)}: expected one tensor (B, state_size)"
            )


def epoch_windows(
    columns: int, window: int, *, vary: bool = False, epoch: int = 1
) -> list[tuple[int, int]]:
    """Return (first time step, number of time steps) for each window of an epoch over rows of
    `columns` tokens: as many whole windows as fit. With `vary`, lengths are drawn from a normal
    distribution with mean `window` (for one window in 20 half of that) and standard deviation 5.

    >>> epoch_windows(11, 5)
    [(0, 5), (5, 5)]
    """
    steps = columns - 1
    if not vary:
        return [(start, window) for start in range(0, steps - window + 1, window)]
    rng = np.random.default_rng([epoch, crc32(b"windows")])
    windows, start = [], 0
    while steps - start >= SHORTEST:
        centre = window / 2 if rng.random() < HALF else window
        length = int(np.clip(rng.normal(centre, 5), SHORTEST, 2 * window))
        windows.append((start, min(length, steps - start)))
        start += length
    return windows
