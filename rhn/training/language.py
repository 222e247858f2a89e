"""The training loop of language models: K seeds on the same windows of a text as one program, a single training being K = 1.

Everything random is a function of (seed, epoch, window), and all that changes from window to window is in `arrays`, so that a training
stopped anywhere goes on to the same numbers. A seed whose loss is no longer finite leaves the stack; the others do not notice.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rhn.data.text import TextCorpus
from rhn.errors import DataError, DivergedError, InvalidInputError
from rhn.models.dropout import Masks, draw_masks, require_masks
from rhn.training.averaging import Average
from rhn.training.batches import SHORTEST, epoch_windows, training_rows, window_count, window_of
from rhn.training.build import build_models
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import Ensemble
from rhn.training.evaluation import ensemble_nll, zero_states
from rhn.training.graphs import captured
from rhn.training.language_step import training_step
from rhn.training.losses import window_loss
from rhn.training.profile import Profile, measure_profile
from rhn.training.seeds import seeded

MASKS = crc32(b"masks")
BEYOND = 700.0  # nats a token: exp of it is no number any more
CHECK_EVERY = 100  # windows after which losses are looked at: on a GPU each look waits for all work before it


class Epoch(NamedTuple):
    """What an epoch came to, for one seed; losses in nats a token."""

    train_nll: float
    """Mean over the epoch, with dropout and with the weights as they were at each window."""
    valid_nll: float
    """With the weights after the epoch (their average, where they are averaged), without dropout, in rows as in training."""
    learning_rate: float
    gradient_norm: float
    """Mean over the epoch, before gradients were scaled down."""


class Training:
    """K seeds, all at the same window of the same epoch.

    Args:
        config: what is trained.
        corpus: its training and validation texts.
        seeds: one model each.
        device: where it happens.

    Raises:
        DataError: the text is shorter than one window, or that for validation than two tokens a row.
        InvalidInputError: the models cannot be built or are beyond the free memory, or a seed is given twice.
    """

    def __init__(
        self,
        config: LanguageConfig,
        corpus: TextCorpus,
        *,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ):
        self.config, self.device = config, torch.device(device)
        if not seeds:
            raise InvalidInputError("there are no seeds to train, expected at least one")
        shortest = max(config.window, SHORTEST) if config.vary_window else config.window
        self._rows = training_rows(corpus.train, config.batch_size, shortest)
        try:
            self._valid = corpus.valid.rows(config.batch_size)
        except DataError as error:
            raise DataError(f"the validation text: {error}") from None
        self._models = build_models(config, len(corpus.vocabulary), seeds, self.device)
        require_masks(self._models[seeds[0]], config.dropout)
        self._curves: dict[int, list[Epoch]] = {seed: [] for seed in seeds}
        self.live = tuple(seeds)
        self.diverged: dict[int, str] = {}
        self.tokens_read = 0  # by each seed, since this object was made
        self._use(Ensemble.of(list(self._models.values()), self.device))
        self._begin_epoch(1)

    @property
    def position(self) -> tuple[int, int, int]:
        """(epoch, from 1; windows of it done; windows in it)."""
        return self._epoch, self._done, len(self._windows)

    @property
    def steps(self) -> int:
        """Windows done since the training began."""
        columns, config = self._rows.shape[1], self.config
        epochs = range(1, self._epoch)
        return self._done + sum(window_count(columns, config.window, config.vary_window, epoch) for epoch in epochs)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self._epoch > self.config.epochs

    def curve(self, seed: int) -> list[Epoch]:
        """The epochs done."""
        return self._curves[seed]

    def model(self, seed: int) -> nn.Module:
        """The model of a live seed as it is measured: with its averaged weights where they are averaged; on the CPU."""
        place = self.live.index(seed)
        weights = self._measured().weights
        self._models[seed].load_state_dict({name: t[place].cpu() for name, t in weights.items()}, strict=False)
        return self._models[seed]

    def running(self) -> tuple[float, float]:
        """(nats a token, gradient norm) of the last windows of this epoch, means over the live seeds."""
        recent = slice(max(0, self._done - CHECK_EVERY), self._done)
        steps = sum(length for _, length in self._windows[recent])
        return (self._nll[recent].sum(0).mean() / max(1, steps)).item(), self._norm[recent].mean().item()

    def profile(self) -> Profile:
        """What a step costs, measured on the next window; nothing changes."""
        stack, tokens = self._stack, window_of(self._rows, *self._windows[self._done], self.device)
        own = self._states, self._draw(tokens[:-1])[0]
        x = torch.full((len(stack), *tokens[1:].shape, stack.skeleton.embedding_size), 0.5, dtype=stack.dtype)

        def gradients():
            return stack.gradients(window_loss, tokens, self.config, own=own, has_aux=True)

        return measure_profile(stack, gradients, x.to(self.device), own=True, masks=own[1].cells)

    def run_window(self) -> bool:
        """Train on the next window; whether that ended an epoch, which is then measured.

        Raises DivergedError where no seed is finite any more; the message names the step.
        """
        start, steps = self._windows[self._done]
        tokens = window_of(self._rows, start, steps, self.device)
        masks, keep = self._draw(tokens[:-1])
        nll, norm = self._step(tokens, masks, keep)
        self._nll[self._done], self._norm[self._done] = nll, norm
        self._done += 1
        self.tokens_read += tokens[1:].numel()
        ended = self._done == len(self._windows)
        if ended or self._done % CHECK_EVERY == 0:
            self.check()
        if ended:
            self._measure()
            self._begin_epoch(self._epoch + 1)
        return ended

    def check(self) -> None:
        """Let seeds whose loss, gradient or weights are not finite leave; raises DivergedError where none is left.

        Where steps with such a gradient are skipped (mixed precision), a seed leaves that has taken none for CHECK_EVERY steps, or
        for an epoch that has fewer.
        """
        bad = ~self._norm[: self._done].isfinite()
        if self.config.skips_overflow:
            long = self._done >= min(CHECK_EVERY, len(self._windows))
            bad = bad & long & bad[-CHECK_EVERY:].all(0)
        bad |= ~self._nll[: self._done].isfinite()
        lost = {}
        for place in (bad.any(0) | ~self._stack.finite()).nonzero().flatten().tolist():
            step = min([*bad[:, place].tolist(), True].index(True) + 1, self._done)  # the last where no loss shows it
            where = f"step {step} of {len(self._windows)} of epoch {self._epoch}"
            lost[place] = f"the loss or its gradient is not finite at {where}"
        self._leave(lost)

    def arrays(self) -> dict[str, Tensor]:
        """All that a resume needs, by name, on the CPU; seeds that are not finite leave before, see `check`."""
        self.check()
        found = {name: t.cpu().contiguous() for name, t in self._changing().items()}
        for seed, curve in self._curves.items():
            found[f"curve.{seed}"] = torch.tensor(curve, dtype=torch.float64).reshape(-1, 4)
        found["position"] = torch.tensor([self._epoch, self._done])
        found["live"] = torch.tensor(self.live)
        return found

    def resume(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from what `arrays` gave; raises KeyError, TypeError or ValueError where that is of another training."""
        live, (epoch, done) = saved["live"].tolist(), saved["position"].tolist()
        if not live or not set(live) <= set(self.live):
            raise ValueError(f"it is of the seeds {live}")
        for seed in self._curves:
            self._curves[seed] = [Epoch(*row) for row in saved[f"curve.{seed}"].tolist()]
        self.diverged = {
            seed: "its loss was no longer finite before the last save" for seed in self.live if seed not in live
        }
        self._keep([self.live.index(seed) for seed in live])
        if epoch < 1:
            raise ValueError(f"it is of epoch {epoch}")
        self._begin_epoch(epoch)
        if not 0 <= done < len(self._windows):
            raise ValueError(f"it is of step {done} of {len(self._windows)}")
        self._done = done
        for name, place in self._changing().items():
            if (saved[name].shape, saved[name].dtype) != (place.shape, place.dtype):
                raise ValueError(f"{name} is {saved[name].dtype} of shape {tuple(saved[name].shape)}")
            place.copy_(saved[name])

    def _changing(self) -> dict[str, Tensor]:
        """What changes from window to window, by name, where it is."""
        found = {f"weights.{name}": t for name, t in self._stack.weights.items()}
        found |= {f"states.{k}": s for k, s in enumerate(self._states)}
        found |= {"nll": self._nll, "norm": self._norm}
        return found | (self._average.arrays() if self._average else {})

    def _leave(self, lost: Mapping[int, str]) -> None:
        """Go on without these places of the stack; why, by place. Raises DivergedError where none is left."""
        rate = self.config.rate(self._epoch)
        self.diverged |= {self.live[place]: f"{why}, at a learning rate of {rate:g}" for place, why in lost.items()}
        if len(lost) == len(self.live):
            raise DivergedError(self.diverged[self.live[0]])
        self._keep([place for place in range(len(self.live)) if place not in lost])

    def _use(self, stack: Ensemble, average: Average | None = None) -> None:
        """Train this stack from now on, from the zero state."""
        config = self.config
        states = zero_states(stack, config.batch_size)
        average = (average or Average.of(stack)) if config.averaging else None
        rate = torch.empty(len(stack), device=self.device, dtype=stack.dtype)

        def take(tokens: Tensor, masks: Masks, keep: Tensor | None) -> tuple[Tensor, Tensor]:
            """One step of every model, in place: (nll (K,), norm (K,)); nothing here refers to the training, see `captured`."""
            before = states if keep is None else tuple(s * keep for s in states)
            taken = training_step(stack, tokens, before, masks, rate, config)
            for s, after in zip(states, taken.states, strict=True):
                s.copy_(after)
            if average:
                average.update(stack)
            return taken.nll, taken.norm

        changes = [*stack.weights.values(), *states, *(average.arrays().values() if average else ())]
        self._step = captured(take, self.device, changes)
        self._stack, self._states, self._average, self._rate = stack, states, average, rate

    def _keep(self, places: list[int]) -> None:
        """Go on with these places of the stack."""
        if len(places) == len(self.live):
            return
        states, nll, norm = self._states, self._nll, self._norm
        self.live = tuple(self.live[k] for k in places)
        self._use(self._stack[places], self._average and self._average[places])
        for s, old in zip(self._states, states, strict=True):
            s.copy_(old[places])
        self._nll, self._norm = nll[:, places], norm[:, places]
        self._rate.fill_(self.config.rate(self._epoch))

    def _begin_epoch(self, epoch: int) -> None:
        config = self.config
        self._epoch, self._done = epoch, 0
        self._windows = epoch_windows(self._rows.shape[1], config.window, vary=config.vary_window, epoch=epoch)
        self._nll = torch.zeros(len(self._windows), len(self._stack), device=self.device, dtype=torch.float64)
        self._norm = torch.zeros_like(self._nll)
        self._rate.fill_(config.rate(epoch))
        for s in self._states:
            s.zero_()

    def _draw(self, tokens: Tensor) -> tuple[Masks, Tensor | None]:
        """Each live seed's masks for a window, stacked, and (K, B, 1) the rows that keep their state."""
        drawn, keeps = [], []
        for seed in self.live:
            generator = seeded(seed, self._epoch, self._done, MASKS, device=self.device)
            drawn.append(draw_masks(self._models[seed], tokens, self.config.dropout, generator))
            if self.config.reset_probability:
                draw = torch.rand(tokens.shape[1], 1, generator=generator, device=self.device)
                keeps.append((draw >= self.config.reset_probability).to(self._stack.dtype))
        masks = tree_map(lambda *ts: None if ts[0] is None else torch.stack(ts), *drawn)
        return masks, torch.stack(keeps) if keeps else None

    def _measured(self) -> Ensemble:
        return self._average.stack(self._stack) if self._average else self._stack

    def _measure(self) -> None:
        """Add this epoch to the curves; where averaging waits for it, see whether it begins."""
        valid = ensemble_nll(self._measured(), self._valid).tolist()
        why = f"the validation loss after epoch {self._epoch} is {{:.3g}} nats a token"
        self._leave({place: why.format(nll) for place, nll in enumerate(valid) if not nll < BEYOND})
        valid = [nll for nll in valid if nll < BEYOND]
        steps = sum(length for _, length in self._windows)
        train = [
            math.fsum(losses) / steps for losses in self._nll.T.tolist()
        ]  # exact sums: no seed's depends on the others
        norm = [_finite_mean(norms) for norms in self._norm.T.tolist()]
        for place, seed in enumerate(self.live):
            epoch = Epoch(train[place], valid[place], self.config.rate(self._epoch), norm[place])
            self._curves[seed].append(epoch)
            if self._average:
                self._average.consider(place, [e.valid_nll for e in self._curves[seed]], self.config.averaging)


def _finite_mean(numbers: Sequence[float]) -> float:
    """The mean of those that are finite; NaN where none is."""
    finite = [x for x in numbers if math.isfinite(x)]
    return math.fsum(finite) / len(finite) if finite else math.nan
