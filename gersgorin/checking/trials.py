"""Train copies of a network for a while: the real optimiser on real minibatches, several learning rates at once.

    trials = run_trials(loop, factors=[1.0, 1.0, 3.0, 10.0], parts=[0, 1, None, None], steps=3000, seconds=20)
    trials.left           (K,) step at which the loss fell below `LEFT` of the best constant output's; inf: not seen
    trials.diverged       (K,) step at which a trial left all bounds; inf: not seen

The copies run as one program by `torch.func.vmap` if the model allows it and it is faster, else one after another.

Legend: K trials, W steps of a window, N units of the data (examples, or batches of a DataLoader), S steps.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from gersgorin.checking.loop import TrainingLoop
from rhn.errors import USERS_FAULT

LEFT = 0.9  # of the loss of the best constant output
DIVERGED = 10.0  # times the larger of the first loss and the constant's
WINDOW = 50  # most steps of a mean
AFTER = 2.0  # a trial that has left goes on for so many times its escape
PROBED = 2  # steps by which the ways to run the copies are timed


@dataclass(frozen=True)
class Trials:
    """What K short trainings did."""

    factors: np.ndarray
    """(K,) learning rates relative to those of the optimiser."""
    losses: np.ndarray
    """(S, K) of the minibatches; NaN after the end of a trial."""
    window: int
    constant: float
    """Loss of the best constant output."""
    left: np.ndarray
    """(K,) last step of the first window whose mean is below `LEFT` times the constant's loss; inf: not seen."""
    diverged: np.ndarray
    """(K,) step at which the loss was not finite or its mean `DIVERGED` times that of the start; inf: not seen."""
    step_seconds: float
    """Of one copy."""
    timed_out: bool
    """True if the time ended trials that had neither left nor diverged nor made all steps."""

    @property
    def steps(self) -> np.ndarray:
        """(K,) steps that each trial took."""
        return (~np.isnan(self.losses)).sum(0)


def run_trials(
    loop: TrainingLoop,
    factors: Sequence[float],
    parts: Sequence[int | None],
    *,
    steps: int,
    seconds: float,
    constant: float | None = None,
    progress: Callable[[int], None] = lambda step: None,
    after: float = AFTER,
    seed: int = 0,
) -> Trials:
    """Train a copy of the loop's model for each factor on the learning rate.

    Args:
        factors: (K,) factors on the learning rates of the optimiser.
        parts: (K,) disjoint parts of the data, by number; None for all of it. Trials of the same part see the same minibatches.
        steps: most steps of a trial.
        seconds: most time of all trials together.
        constant: loss of the best constant output; None: computed.
        progress: called with the step.
        after: how many times its escape a trial that has left goes on for.
        seed: of the order of the minibatches and of random numbers in the model.
    """
    end = time.monotonic() + seconds
    constant = loop.best_constant() if constant is None else constant
    count = len(factors)
    window = min(WINDOW, max(5, -(-loop.data.count // loop.data.per_step)))
    order = _Order(loop, parts, seed)
    schedule = loop.schedule(steps)
    losses = np.full((steps, count), np.nan)
    left, diverged = np.full(count, np.inf), np.full(count, np.inf)
    active = list(range(count))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copies, step_seconds = _fastest(loop, factors, order, end)
        limit = math.nan
        for step in range(steps):
            if not active or time.monotonic() >= end:
                break
            if schedule is not None:
                copies.scale(schedule[step])
            now = copies.step(*order.batches(active))
            losses[step, active] = now
            if step == 0:
                limit = DIVERGED * max(constant, float(np.nanmax(now)))
            means = losses[max(0, step + 1 - window) : step + 1, active].mean(0)
            for k, loss, mean in zip(active, now, means, strict=True):
                if not math.isfinite(loss) or mean > limit:
                    diverged[k] = step + 1
                elif left[k] == math.inf and step + 1 >= window and mean < LEFT * constant:
                    left[k] = step + 1
            keep = [j for j, k in enumerate(active) if diverged[k] == math.inf and step + 1 < after * left[k]]
            if len(keep) < len(active):
                copies.keep(keep)
                active = [active[j] for j in keep]
            progress(step + 1)
    done = int((~np.isnan(losses)).any(1).sum())
    cut = any(left[k] == math.inf for k in active) and done < steps
    return Trials(np.asarray(factors, float), losses[:done], window, constant, left, diverged, step_seconds, cut)


class _Order:
    """Minibatches of every trial: a permutation of its part of the data for each epoch."""

    def __init__(self, loop: TrainingLoop, parts: Sequence[int | None], seed: int):
        self.data, self.parts = loop.data, parts
        whole = torch.randperm(self.data.count, generator=torch.Generator().manual_seed(seed))
        disjoint = max((part + 1 for part in parts if part is not None), default=1)
        pieces = [piece for piece in whole.tensor_split(disjoint) if len(piece)]
        self.units = {part: whole if part is None else pieces[part % len(pieces)] for part in set(parts)}
        self.per_step = min([self.data.per_step, *map(len, self.units.values())])
        self.random = {part: torch.Generator().manual_seed(seed + 1) for part in self.units}
        self.waiting = {part: units[:0] for part, units in self.units.items()}

    def batches(self, active: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and targets of the next step of each active trial."""
        taken = {}
        for part in {self.parts[k] for k in active}:
            if len(self.waiting[part]) < self.per_step:
                units = self.units[part]
                self.waiting[part] = units[torch.randperm(len(units), generator=self.random[part])]
            taken[part] = self.data.take(self.waiting[part][: self.per_step])
            self.waiting[part] = self.waiting[part][self.per_step :]
        return [taken[self.parts[k]][0] for k in active], [taken[self.parts[k]][1] for k in active]


class _Copies:
    """Copies of a model with their optimisers, trained one after another."""

    def __init__(self, loop: TrainingLoop, factors: Sequence[float]):
        self.loop = loop
        self.models = [copy.deepcopy(loop.model) for _ in factors]
        self.parameters = [dict(model.named_parameters()) for model in self.models]
        self._optimizers(factors)

    def _optimizers(self, factors: Sequence[float]) -> None:
        self.optimizers = [
            self.loop.copied(self.loop.model, parameters, factor)
            for parameters, factor in zip(self.parameters, factors, strict=True)
        ]
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def scale(self, relative: Sequence[float]) -> None:
        """Set the learning rates of all groups relative to the first ones."""
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate, factor in zip(optimizer.param_groups, rates, relative, strict=True):
                group["lr"] = rate * factor

    def step(self, xs: list[Tensor], ys: list[Tensor]) -> np.ndarray:
        """One step of every copy; returns the losses before it."""
        losses = []
        for model, parameters, optimizer, x, y in zip(
            self.models, self.parameters, self.optimizers, xs, ys, strict=True
        ):
            optimizer.zero_grad()
            loss = self.loop.loss(model, x, y)
            loss.backward()
            if self.loop.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters.values(), self.loop.clip_norm)
            optimizer.step()
            losses.append(loss.item())
        return np.array(losses)

    def keep(self, few: Sequence[int]) -> None:
        """Go on with some of the copies, by position."""
        for name in ("models", "parameters", "optimizers", "rates"):
            setattr(self, name, [getattr(self, name)[j] for j in few])


class _Fused(_Copies):
    """Copies of a model as one program: parameters (K, ...), of which each optimiser has its slices."""

    def __init__(self, loop: TrainingLoop, factors: Sequence[float]):
        self.loop = loop
        self.model = copy.deepcopy(loop.model)
        loop.loss(self.model, *loop.data.minibatches(1)[0]).backward()
        used = {name for name, p in self.model.named_parameters() if p.grad is not None}
        self.fixed = {name: p.detach() for name, p in self.model.named_parameters() if name not in used}

        def stacked(values) -> dict[str, Tensor]:
            return {name: value.detach().expand(len(factors), *value.shape).clone() for name, value in values}

        self.stacked = stacked((name, p) for name, p in loop.model.named_parameters() if name in used)
        self.buffers = stacked(loop.model.named_buffers())
        self.parameters = [
            {name: values[k].requires_grad_() for name, values in self.stacked.items()} for k in range(len(factors))
        ]
        self.gradients = vmap(grad_and_value(self._loss), randomness="different")
        self._optimizers(factors)

    def _loss(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        def model(x: Tensor):
            return functional_call(self.model, (self.fixed | parameters, buffers), (x,))

        return self.loop.loss(model, x, y).reshape(())

    def step(self, xs: list[Tensor], ys: list[Tensor]) -> np.ndarray:
        gradients, losses = self.gradients(self.stacked, self.buffers, torch.stack(xs), torch.stack(ys))
        if self.loop.clip_norm is not None:
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
            scales = (self.loop.clip_norm / (norms + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_
            gradients = {name: g * scales.view(-1, *[1] * (g.dim() - 1)) for name, g in gradients.items()}
        for k, (parameters, optimizer) in enumerate(zip(self.parameters, self.optimizers, strict=True)):
            for name, parameter in parameters.items():
                parameter.grad = gradients[name][k]
            optimizer.step()
        return losses.double().numpy(force=True)

    def keep(self, few: Sequence[int]) -> None:
        for name in ("parameters", "optimizers", "rates"):
            setattr(self, name, [getattr(self, name)[j] for j in few])
        self.stacked = {name: values[list(few)] for name, values in self.stacked.items()}
        self.buffers = {name: values[list(few)] for name, values in self.buffers.items()}
        for k, parameters in enumerate(self.parameters):
            for name, parameter in parameters.items():
                parameter.data = self.stacked[name][k]


def _fastest(loop: TrainingLoop, factors: Sequence[float], order: _Order, end: float) -> tuple[_Copies, float]:
    """Untrained copies in the faster of the two ways, and the seconds of a step of one copy."""

    def timed(kind: type[_Copies], some: Sequence[float]) -> float:
        copies = kind(loop, some)
        best = math.inf
        for _ in range(PROBED):
            xs, ys = order.batches(range(len(some)))
            start = time.perf_counter()
            copies.step(xs, ys)
            best = min(best, time.perf_counter() - start)
        return best

    alone = timed(_Copies, factors[:1])
    kind = _Copies
    if len(factors) > 1:
        try:
            if timed(_Fused, factors) < alone * len(factors):
                kind = _Fused
        except USERS_FAULT:  # what vmap does not follow: data-dependent branches, in-place operations, .item()
            pass
    return kind(loop, factors), alone
