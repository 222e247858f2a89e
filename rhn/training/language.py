"""Train language models: the task that gives windows of a text, masks, the step of the official code, and its measurements.

Legend: T steps of a window, B rows, K models; everything of a model has a leading axis K.

    loss   = sum over steps and rows of -log P(token) / B  [+ activation terms (Merity et al. 2017), in nats a token times T]
             [+ weight_decay sum(p^2) / 2  with weight_decay_form="loss"]
    g      = d loss / d p, scaled down to norm `gradient_norm` over all parameters of a model if it is larger
    p     <- p - lr g, or a step of another optimizer       [p <- (1 - weight_decay) p  with weight_decay_form="shrink"]

The nll is summed over steps, so a learning rate of 0.2 is one of 0.2 T for a loss in nats a token.

NT-ASGD (Merity et al. 2017): once validation stops improving, the weights that count are the mean of all later ones. It begins with the
first epoch whose loss is above the best of those more than n epochs before it, for each model on its own.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rhn.data.text import TextCorpus
from rhn.errors import DataError, InvalidInputError
from rhn.models.dropout import Masks, draw_masks, require_masks
from rhn.models.language import States
from rhn.training.batches import SHORTEST, epoch_windows, training_rows, window_count, window_of
from rhn.training.build import build_models
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import Ensemble, Weights
from rhn.training.evaluation import ensemble_nll, zero_states
from rhn.training.losses import measure, measure_name, sums, window_loss
from rhn.training.optimizers import Optimizer, gradient_norm
from rhn.training.seeds import seeded
from rhn.training.trainer import Task, Trials

MASKS = crc32(b"masks")
BEYOND = 700.0  # nats a token: exp of more overflows


class LanguageTask(Task):
    """Predict the next token of a text.

    Losses of a curve are in nats a token. The training loss is the mean over the epoch, with dropout and with the weights of each
    window. The validation loss is that of the weights after the epoch, or of their average, without dropout, in rows as in training.
    The gradient norm is the mean over the epoch, before gradients are scaled down.

    Raises:
        DataError: the text is shorter than one window, or the validation text than two tokens a row.
    """

    unit, first_epoch = "step", 1
    columns, logged = ("train_nll", "valid_nll", "learning_rate", "gradient_norm"), ("nll", "norm")
    rate_unit = "windows"

    def __init__(self, config: LanguageConfig, corpus: TextCorpus):
        self.config, self.corpus = config, corpus
        shortest = max(config.window, SHORTEST) if config.vary_window else config.window
        self._rows = training_rows(corpus.train, config.batch_size, shortest)
        try:
            self._valid = corpus.valid.rows(config.batch_size)
        except DataError as error:
            raise DataError(f"the validation text: {error}") from None
        self._measure = measure_name(corpus.vocabulary)
        self.measure_name = self._measure.replace("_per_", "/")

    # ---- the training --------------------------------------------------------------------------------

    def models(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> dict[int, nn.Module]:
        """The first models of these seeds.

        Raises InvalidInputError if they cannot be built or are beyond the free memory, or if a seed occurs twice.
        """
        if not seeds:
            raise InvalidInputError("there are no seeds to train, expected at least one")
        models = build_models(self.config, len(self.corpus.vocabulary), seeds, device)
        require_masks(models[seeds[0]], self.config.dropout)
        return models

    def start(self, model: nn.Module, device: torch.device) -> None:
        self._device, self._model = device, model

    def extra(self, ensemble: Ensemble) -> dict[str, Tensor]:
        extra = {f"states.{k}": s for k, s in enumerate(zero_states(ensemble, self.config.batch_size))}
        return extra | (start_average(ensemble) if self.config.averaging else {})

    def use(self, parts: Sequence[Trials]) -> None:
        (self._trials,) = parts

    def batch_count(self, epoch: int) -> int:
        return window_count(self._rows.shape[1], self.config.window, self.config.vary_window, epoch)

    def batches(self, epoch: int) -> list[tuple[int, int]]:
        return epoch_windows(self._rows.shape[1], self.config.window, vary=self.config.vary_window, epoch=epoch)

    def decay(self, epoch: int) -> float:
        return self.config.decay(epoch)

    def begin_epoch(self, trials: Trials) -> None:
        for s in _states(trials):
            s.zero_()

    def inputs(self, trials: Trials, batch: tuple[int, int], epoch: int, step: int) -> tuple:
        """The tokens (T + 1, B), each trial's masks stacked, and (K, B, 1) the rows that keep their state."""
        tokens = window_of(self._rows, *batch, self._device)
        drawn, keeps = [], []
        for seed in trials.numbers:
            generator = seeded(seed, epoch, step, MASKS, device=self._device)
            drawn.append(draw_masks(self._model, tokens[:-1], self.config.dropout, generator))
            if self.config.reset_probability:
                draw = torch.rand(tokens.shape[1], 1, generator=generator, device=self._device)
                keeps.append((draw >= self.config.reset_probability).to(trials.ensemble.dtype))
        masks = tree_map(lambda *ts: None if ts[0] is None else torch.stack(ts), *drawn)
        return tokens, masks, torch.stack(keeps) if keeps else None

    def step(self, trials: Trials, optimizer: Optimizer, tokens: Tensor, masks: Masks, keep: Tensor | None) -> Tensor:
        states = _states(trials)
        before = states if keep is None else tuple(s * keep for s in states)
        taken = training_step(trials, optimizer, tokens, before, masks, self.config)
        for s, after in zip(states, taken.states, strict=True):
            s.copy_(after)
        if self.config.averaging:
            update_average(trials.extra, trials.ensemble)
        return torch.stack([taken.nll, taken.norm], 1)

    def measure(self, log: Tensor, epoch: int) -> list[list[float]]:
        valid = ensemble_nll(self._measured(self._trials), self._valid).tolist()
        steps = sum(length for _, length in self.batches(epoch))
        nll, norm = log.permute(2, 1, 0).tolist()
        train = [math.fsum(losses) / steps for losses in nll]  # exact sums: no trial's depends on the others
        rates = self._trials.rate.tolist()
        return [list(row) for row in zip(train, valid, rates, map(_finite_mean, norm), strict=True)]

    def refusal(self, row: Sequence[float], epoch: int) -> str | None:
        if row[1] < BEYOND:
            return None
        return f"the validation loss after epoch {epoch} is {row[1]:.3g} nats a token"

    def end_epoch(self, trials: Trials, curves: Mapping[int, np.ndarray], improved: Sequence[int]) -> None:
        if self.config.averaging:
            for place, number in enumerate(trials.numbers):
                if has_stalled(curves[number][:, 1].tolist(), self.config.averaging):
                    trials.extra["average_active"][place] = 1

    def weights(self, trials: Trials) -> Weights:
        return self._measured(trials).weights

    def size(self, batch: tuple[int, int]) -> int:
        return batch[1] * self.config.batch_size

    def _measured(self, trials: Trials) -> Ensemble:
        ensemble = trials.ensemble
        if not self.config.averaging:
            return ensemble
        average = {name: trials.extra[f"average.{name}"] for name in ensemble.weights}
        return Ensemble(ensemble.skeleton, average, ensemble.constants)

    # ---- what a run folder needs ---------------------------------------------------------------------

    def about(self, seed: int) -> dict:
        corpus = self.corpus
        data = {"name": corpus.name, "source": corpus.source, "checksum": corpus.checksum}
        return {"data": data, "vocabulary": corpus.vocabulary.to_json()}

    def fixed(self, seeds: Sequence[int]) -> dict:
        return {"seeds": list(seeds), "text": self.corpus.checksum}

    def line(self, epoch: int, row: Sequence[float]) -> dict:
        name = self._measure
        losses = {f"train_{name}": measure(row[0], name), f"valid_{name}": measure(row[1], name)}
        return {"epoch": epoch, **losses, "learning_rate": row[2], "gradient_norm": row[3]}


class Taken(NamedTuple):
    """The numbers of a step before the weights changed, (K,) float64, and the states that the next window starts from."""

    nll: Tensor
    """Nats, summed over steps and averaged over rows."""
    norm: Tensor
    """Of the gradient, before it was scaled down."""
    states: States


def training_step(
    trials: Trials, optimizer: Optimizer, tokens: Tensor, states: States, masks: Masks, config: LanguageConfig
) -> Taken:
    """Change the weights of all trials in place.

    Args:
        tokens: (T + 1, B) int64, shared by all models; the last T are predicted.
        states: one (K, B, state_size) for each cell.
        masks: those of K models stacked, or none.
    """
    ensemble = trials.ensemble
    gradients, (nll, states) = ensemble.gradients(window_loss, tokens, config, own=(states, masks), has_aux=True)
    coupled = 0.0 if optimizer.decoupled else optimizer.weight_decay
    norm = gradient_norm(ensemble.weights, gradients, coupled)
    scale = (config.gradient_norm / norm.clamp(min=config.gradient_norm)).to(ensemble.dtype)
    scale = torch.where(norm.isfinite(), scale, torch.nan)  # an overflow must not become a step of length 0
    optimizer.step(ensemble.weights, gradients, trials.state, trials.rate, scale)
    return Taken(sums(nll) / tokens.shape[1], norm, states)


def start_average(ensemble: Ensemble) -> dict[str, Tensor]:
    """Averaged weights by name, the number of weights in each mean, and whether a model's averaging has begun, (K, ...)."""
    ones = torch.ones(len(ensemble), device=ensemble.device, dtype=ensemble.dtype)
    average = {f"average.{name}": t.clone() for name, t in ensemble.weights.items()}
    return average | {"average_count": ones, "average_active": torch.zeros_like(ones)}


def update_average(average: Mapping[str, Tensor], ensemble: Ensemble) -> None:
    """Take the weights after a step into the means; before averaging begins the mean is the weights themselves."""
    average["average_count"].add_(average["average_active"])
    share = 1 / average["average_count"]
    for name, w in ensemble.weights.items():
        average[f"average.{name}"].lerp_(w, share.view(-1, *[1] * (w.dim() - 1)))


def has_stalled(losses: Sequence[float], patience: int) -> bool:
    """Whether the last loss is above the least of those more than `patience` epochs before it.

    >>> has_stalled([5.0, 4.0, 4.1, 4.2, 4.3], patience=2), has_stalled([5.0, 4.0, 4.1, 4.2], patience=2)
    (True, False)
    """
    earlier = losses[: -patience - 1]
    return len(earlier) > 0 and losses[-1] > min(earlier)


def _states(trials: Trials) -> States:
    """The states that the next window starts from, one (K, B, state_size) for each cell."""
    return tuple(trials.extra[f"states.{k}"] for k in range(len(trials.ensemble.skeleton.cells)))


def _finite_mean(numbers: Sequence[float]) -> float:
    """The mean of the finite numbers; NaN if there are none."""
    finite = [x for x in numbers if math.isfinite(x)]
    return math.fsum(finite) / len(finite) if finite else math.nan
