"""Optimizers of K models at once. A step changes every model as the optimizer of this name in
`torch.optim` does.

    sgd       v <- momentum v + g;   w <- w - rate v
    adam      m <- beta1 m + (1 - beta1) g;   s <- beta2 s + (1 - beta2) g^2
              w <- w - rate m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + epsilon)
    adamw     w <- (1 - rate weight_decay) w, then as adam
    rmsprop   s <- alpha s + (1 - alpha) g^2
              v <- momentum v + g / (sqrt(s) + epsilon);   w <- w - rate v

t is the number of steps so far. g is the gradient plus weight_decay w (not for adamw), scaled down
to the norm `clip` if it is larger. With `shrink`, each step ends with w <- (1 - shrink) w.

Weights, gradients and the state are tensors (K, ...) by name; rates are (K,). A stack is updated by
elementary operations: torch's lerp and addcmul round differently at the end of a vectorised loop,
so their bits would depend on the number of models.

NT-ASGD (Merity et al. 2017): once the validation loss stops improving for `averaging` epochs, the
model is evaluated with the mean of all later weights. Each model begins by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from rhn.training.config import HYPERPARAMETERS, TrainingConfig
from rhn.training.ensemble import Weights


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The base class of optimizers. A subclass computes the update of a weight."""

    weight_decay: float = 0.0
    shrink: float = 0.0
    clip: float | None = None
    averaging: int | None = None
    momentum = 0.0
    decoupled = False  # True if `update` applies the weight decay itself
    moments: ClassVar[tuple[str, ...]] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the state tensors of each weight."""
        return (*self.moments, "velocity") if self.momentum else self.moments

    def start(self, weights: Weights) -> dict[str, Tensor]:
        """Return the state before the first step. Averages: the weights, the number of weights in
        each mean, and whether the averaging of a model has begun.
        """
        names = [(f"{kept}.{name}", w) for kept in self.kept for name, w in weights.items()]
        state = {name: torch.zeros_like(w) for name, w in names}
        if self.averaging:
            first = next(iter(weights.values()))
            state |= {f"average.{name}": w.clone() for name, w in weights.items()}
            state |= {"average_count": first.new_ones(len(first))}
            state |= {"average_active": first.new_zeros(len(first))}
        return state

    def step(
        self, weights: Weights, gradients: Weights, state: Weights, rate: Tensor
    ) -> Tensor | None:
        """Do one step in place. Returns the norms (K,) of the gradients if they are clipped."""
        norm = scale = None
        if self.clip:
            decay = 0.0 if self.decoupled else self.weight_decay
            norm = gradient_norm(weights, gradients, decay)
            scale = (self.clip / norm.clamp(min=self.clip)).to(next(iter(weights.values())).dtype)
            # an overflow must not become a step of length 0
            scale = torch.where(norm.isfinite(), scale, torch.nan)
            if not self.kept:
                rate, scale = rate * scale, None  # one product less
        for name, w in weights.items():
            g = gradients[name]
            if self.weight_decay and not self.decoupled:
                g = g + self.weight_decay * w
            if scale is not None:
                g = g * _each(scale, g)
            kept = [state[f"{kept}.{name}"] for kept in self.kept]
            self.update(w, g, *kept, rate=rate, steps=state.get("steps"))
            if self.shrink:
                w.mul_(1 - self.shrink)
        if self.averaging:
            update_average(state, weights)
        return norm

    def update(self, w: Tensor, g: Tensor, *kept: Any, rate: Tensor, steps: Any) -> None:
        """Change one weight (K, ...) and its state in place."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Gradient descent with momentum."""

    momentum: float = 0.0

    def update(self, w, g, v=None, *, rate, steps) -> None:
        if v is not None:
            w.sub_(v.mul_(self.momentum).add_(g) * _each(rate, w))
            return
        for w_k, g_k, rate_k in zip(w, g, rate.to(w.dtype), strict=True):
            w_k.addcmul_(g_k, rate_k, value=-1)


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015)."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    moments = ("exp_avg", "exp_avg_sq")

    def start(self, weights: Weights) -> dict[str, Tensor]:
        first = next(iter(weights.values()))
        steps = torch.zeros(len(first), dtype=torch.float64, device=first.device)
        return {"steps": steps} | super().start(weights)

    def step(self, weights, gradients, state, rate) -> Tensor | None:
        state["steps"].add_(1)
        return super().step(weights, gradients, state, rate)

    def update(self, w, g, mean, square, *, rate, steps) -> None:
        mean.add_((g - mean) * (1 - self.beta1))
        square.mul_(self.beta2).add_((1 - self.beta2) * g * g)
        size, root = rate / (1 - self.beta1**steps), (1 - self.beta2**steps).sqrt()
        w.sub_(_each(size, w) * mean / (square.sqrt() / _each(root, w)).add_(self.epsilon))


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    weight_decay: float = 0.01
    decoupled = True

    def update(self, w, g, mean, square, *, rate, steps) -> None:
        w.mul_(_each(1 - rate * self.weight_decay, w))
        super().update(w, g, mean, square, rate=rate, steps=steps)


@dataclass(frozen=True, kw_only=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012)."""

    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    moments = ("square_avg",)

    def update(self, w, g, square, v=None, *, rate, steps) -> None:
        square.mul_(self.alpha).add_((1 - self.alpha) * g * g)
        root = square.sqrt().add_(self.epsilon)
        if v is None:
            w.sub_(_each(rate, w) * g / root)
        else:
            w.sub_(_each(rate, w) * v.mul_(self.momentum).add_(g / root))


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}


def make_optimizer(config: TrainingConfig) -> Optimizer:
    """Return the optimizer of a configuration."""
    shrinks = getattr(config, "weight_decay_form", "loss") == "shrink"
    options = {name: getattr(config, name) for name in HYPERPARAMETERS[config.optimizer]}
    # 0.0 also for AdamW, which has another default
    options |= {"weight_decay": 0.0, "shrink" if shrinks else "weight_decay": config.weight_decay}
    options |= {"averaging": getattr(config, "averaging", None)}
    return OPTIMIZERS[config.optimizer](**options, clip=getattr(config, "gradient_norm", None))


def gradient_norm(weights: Weights, gradients: Weights, decay: float = 0.0) -> Tensor:
    """Return |g + decay w| over all weights, (K,) float64, for one model after another."""
    squares: Any = 0
    for name, g in gradients.items():
        g = g + decay * weights[name] if decay else g
        rows = [torch.linalg.vector_norm(g_k, dim=-1) for g_k in g]
        squares = squares + torch.stack([norms.double().square().sum() for norms in rows])
    return squares.sqrt()


def update_average(state: Mapping[str, Tensor], weights: Weights) -> None:
    """Add weights to the means of NT-ASGD, which equal them before a model's averaging begins."""
    state["average_count"].add_(state["average_active"])
    for name, w in weights.items():
        state[f"average.{name}"].lerp_(w, _each(1 / state["average_count"], w))


def has_stalled(losses: Sequence[float], patience: int) -> bool:
    """Return True if the last loss is above the lowest one of all epochs more than `patience` ago.

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
