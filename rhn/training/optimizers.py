"""Optimizers of K models at once. A step changes every model as the optimizer of this name in
`torch.optim` does.

    sgd       v <- momentum v + g;   w <- w - rate v
    adam      m <- beta1 m + (1 - beta1) g;   s <- beta2 s + (1 - beta2) g^2
              w <- w - rate m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + epsilon)
    adamw     w <- (1 - rate weight_decay) w, then as adam
    rmsprop   s <- alpha s + (1 - alpha) g^2
              v <- momentum v + g / (sqrt(s) + epsilon);   w <- w - rate v

t is the number of steps so far. g is the gradient plus weight_decay w (not for adamw), multiplied
by `scale`, which clips it. With `shrink`, each step ends with w <- (1 - shrink) w.

Weights, gradients and the state are tensors (K, ...) by name; rate and scale are (K,). An optimizer
has no memory of its own: the state is pruned and saved with the models. A stack is updated by
elementary operations: torch's lerp and addcmul round differently at the end of a vectorised loop,
so their bits would depend on the number of models. addcmul is called for one model after another.

NT-ASGD (Merity et al. 2017): once the validation loss stops improving, the model is evaluated with
the mean of all later weights. Averaging begins for each model separately, in the first epoch whose
loss is above the best loss of all epochs more than n epochs earlier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from rhn.training.config import HYPERPARAMETERS, TrainingConfig
from rhn.training.ensemble import Ensemble, Weights


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The base class of optimizers. A subclass names the state tensors of a weight (`kept`) and
    computes the update of a weight (`update`).
    """

    weight_decay: float = 0.0
    shrink: float = 0.0
    decoupled: ClassVar[bool] = False
    """True if `update` applies the weight decay itself."""
    counts: ClassVar[bool] = False
    """True if `update` needs the number of steps."""

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the state tensors of each weight."""
        return ()

    def start(self, weights: Weights) -> dict[str, Tensor]:
        """Return the optimizer's state before the first step."""
        state = {}
        if self.counts:
            first = next(iter(weights.values()))
            state["steps"] = torch.zeros(len(first), dtype=torch.float64, device=first.device)
        for kept in self.kept:
            state |= {f"{kept}.{name}": torch.zeros_like(w) for name, w in weights.items()}
        return state

    def step(
        self,
        weights: Weights,
        gradients: Weights,
        state: dict[str, Tensor],
        rate: Tensor,
        scale: Tensor | None = None,
    ) -> None:
        """Do one step: change weights and state in place."""
        steps = state.get("steps")
        if steps is not None:
            steps.add_(1)
        for name, w in weights.items():
            g = gradients[name]
            if self.weight_decay and not self.decoupled:
                g = g + self.weight_decay * w
            if scale is not None:
                g = g * _each(scale, g)
            kept = [state[f"{kept}.{name}"] for kept in self.kept]
            self.update(w, g, *kept, rate=rate, steps=steps)
            if self.shrink:
                w.mul_(1 - self.shrink)

    def update(self, w: Tensor, g: Tensor, *kept: Any, **step: Any) -> None:
        """Change one weight (K, ...) and its state in place.

        step: the learning rates `rate` (K,), and the numbers of steps `steps` (K,), None if they
        are not counted.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Gradient descent with momentum."""

    momentum: float = 0.0

    @property
    def kept(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def step(self, weights, gradients, state, rate, scale=None) -> None:
        if scale is not None and not self.momentum:
            rate, scale = rate * scale, None  # one product less
        super().step(weights, gradients, state, rate, scale)

    def update(self, w, g, v=None, *, rate, steps) -> None:
        if v is None:
            for w_k, g_k, rate_k in zip(w, g, rate.to(w.dtype), strict=True):
                w_k.addcmul_(g_k, rate_k, value=-1)
        else:
            w.sub_(v.mul_(self.momentum).add_(g) * _each(rate, w))


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015)."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    counts: ClassVar[bool] = True

    @property
    def kept(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def update(self, w, g, mean, square, *, rate, steps) -> None:
        mean.add_((g - mean) * (1 - self.beta1))
        square.mul_(self.beta2).add_((1 - self.beta2) * g * g)
        size, root = rate / (1 - self.beta1**steps), (1 - self.beta2**steps).sqrt()
        w.sub_(_each(size, w) * mean / (square.sqrt() / _each(root, w)).add_(self.epsilon))


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    weight_decay: float = 0.01
    decoupled: ClassVar[bool] = True

    def update(self, w, g, mean, square, *, rate, steps) -> None:
        w.mul_(_each(1 - rate * self.weight_decay, w))
        super().update(w, g, mean, square, rate=rate, steps=steps)


@dataclass(frozen=True, kw_only=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012)."""

    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0

    @property
    def kept(self) -> tuple[str, ...]:
        return ("square_avg", "velocity") if self.momentum else ("square_avg",)

    def update(self, w, g, square, v=None, *, rate, steps) -> None:
        square.mul_(self.alpha).add_((1 - self.alpha) * g * g)
        root = square.sqrt().add_(self.epsilon)
        if v is None:
            w.sub_(_each(rate, w) * g / root)
        else:
            w.sub_(_each(rate, w) * v.mul_(self.momentum).add_(g / root))


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
}


def make_optimizer(config: TrainingConfig) -> Optimizer:
    """Return the optimizer of a configuration."""
    shrinks = getattr(config, "weight_decay_form", "loss") == "shrink"
    # 0.0 also for AdamW, which has another default
    decay = {"weight_decay": 0.0, "shrink" if shrinks else "weight_decay": config.weight_decay}
    others = {name: getattr(config, name) for name in HYPERPARAMETERS[config.optimizer]}
    return OPTIMIZERS[config.optimizer](**decay, **others)


def gradient_norm(weights: Weights, gradients: Weights, decay: float = 0.0) -> Tensor:
    """Return the norm |g + decay w| over all weights of each model, (K,) float64. Models are
    computed one after another, so that no bit of one depends on the others.
    """
    squares: Any = 0
    for name, g in gradients.items():
        g = g + decay * weights[name] if decay else g
        rows = [torch.linalg.vector_norm(g_k, dim=-1) for g_k in g]
        squares = squares + torch.stack([norms.double().square().sum() for norms in rows])
    return squares.sqrt()


def start_average(ensemble: Ensemble) -> dict[str, Tensor]:
    """Return the initial state of NT-ASGD, (K, ...) each: averaged weights by name, the number of
    weights in each mean, and whether the averaging of a model has begun.
    """
    ones = torch.ones(len(ensemble), device=ensemble.device, dtype=ensemble.dtype)
    average = {f"average.{name}": t.clone() for name, t in ensemble.weights.items()}
    return average | {"average_count": ones, "average_active": torch.zeros_like(ones)}


def update_average(average: Mapping[str, Tensor], ensemble: Ensemble) -> None:
    """Add the weights after a step to the means of NT-ASGD. Before a model's averaging begins, the
    mean equals the weights.
    """
    average["average_count"].add_(average["average_active"])
    share = 1 / average["average_count"]
    for name, w in ensemble.weights.items():
        average[f"average.{name}"].lerp_(w, _each(share, w))


def has_stalled(losses: Sequence[float], patience: int) -> bool:
    """Return True if the last loss is above the lowest loss of all epochs more than `patience`
    epochs earlier.

    >>> has_stalled([5.0, 4.0, 4.1, 4.2, 4.3], patience=2)
    True
    >>> has_stalled([5.0, 4.0, 4.1, 4.2], patience=2)
    False
    """
    earlier = losses[: -patience - 1]
    return len(earlier) > 0 and losses[-1] > min(earlier)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Return values (K,) as (K, 1, ...), which can be multiplied with a tensor (K, ...)."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
