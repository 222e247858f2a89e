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

Weights, gradients and the state are tensors (K, ...) by name; rates are (K,). torch's lerp and
addcmul round differently at the end of a vectorised loop: bits would depend on K.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rhn.training.ensemble import Weights

if TYPE_CHECKING:
    from rhn.training.config import TrainingConfig

ADAM = ("exp_avg", "exp_avg_sq")
MOMENTS = {"sgd": (), "adam": ADAM, "adamw": ADAM, "rmsprop": ("square_avg",)}
"""The state tensors of each weight beside the velocity."""
BETAS, RMSPROP = ("beta1", "beta2", "epsilon"), ("alpha", "epsilon", "momentum")
HYPERPARAMETERS = {"sgd": ("momentum",), "adam": BETAS, "adamw": BETAS, "rmsprop": RMSPROP}
"""The fields that each optimizer reads, in addition to the learning rate and the weight decay."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer by its name, see the module."""

    name: str
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    alpha: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    shrink: float = 0.0
    clip: float | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the state tensors of each weight."""
        moments = MOMENTS[self.name]
        return (*moments, "velocity") if self.momentum else moments

    def start(self, weights: Weights) -> dict[str, Tensor]:
        """Return the state before the first step."""
        first, state = next(iter(weights.values())), {}
        if self.kept == ADAM:
            state["steps"] = first.new_zeros(len(first), dtype=torch.float64)
        for kept in self.kept:
            state |= {f"{kept}.{name}": torch.zeros_like(w) for name, w in weights.items()}
        return state

    def step(
        self, weights: Weights, gradients: Weights, state: Weights, rate: Tensor
    ) -> Tensor | None:
        """Do one step in place. Returns the norms (K,) of the gradients if they are clipped."""
        norm = scale = None
        decay = 0.0 if self.name == "adamw" else self.weight_decay
        if self.clip:
            norm = gradient_norm(weights, gradients, decay)
            scale = (self.clip / norm.clamp(min=self.clip)).to(next(iter(weights.values())).dtype)
            # an overflow must not become a step of length 0
            scale = torch.where(norm.isfinite(), scale, torch.nan)
            if not self.kept:
                rate, scale = rate * scale, None  # one product less
        if "steps" in state:
            state["steps"].add_(1)
        for name, w in weights.items():
            g = gradients[name] + decay * w if decay else gradients[name]
            if scale is not None:
                g = g * _each(scale, g)
            kept = [state[f"{kept}.{name}"] for kept in self.kept]
            UPDATES[self.name](self, w, g, *kept, rate=rate, steps=state.get("steps"))
            if self.shrink:
                w.mul_(1 - self.shrink)
        return norm


def _sgd(own: Optimizer, w, g, v=None, *, rate, steps) -> None:
    if v is not None:
        w.sub_(v.mul_(own.momentum).add_(g) * _each(rate, w))
        return
    for w_k, g_k, rate_k in zip(w, g, rate.to(w.dtype), strict=True):
        w_k.addcmul_(g_k, rate_k, value=-1)


def _adam(own: Optimizer, w, g, mean, square, *, rate, steps) -> None:
    if own.name == "adamw":
        w.mul_(_each(1 - rate * own.weight_decay, w))
    mean.add_((g - mean) * (1 - own.beta1))
    square.mul_(own.beta2).add_((1 - own.beta2) * g * g)
    size, root = rate / (1 - own.beta1**steps), (1 - own.beta2**steps).sqrt()
    w.sub_(_each(size, w) * mean / (square.sqrt() / _each(root, w)).add_(own.epsilon))


def _rmsprop(own: Optimizer, w, g, square, v=None, *, rate, steps) -> None:
    square.mul_(own.alpha).add_((1 - own.alpha) * g * g)
    root = square.sqrt().add_(own.epsilon)
    if v is None:
        w.sub_(_each(rate, w) * g / root)
    else:
        w.sub_(_each(rate, w) * v.mul_(own.momentum).add_(g / root))


UPDATES: dict[str, Any] = {"sgd": _sgd, "adam": _adam, "adamw": _adam, "rmsprop": _rmsprop}
OPTIMIZERS: dict[str, Any] = {name: partial(Optimizer, name=name) for name in MOMENTS}
OPTIMIZERS["adamw"] = partial(Optimizer, name="adamw", weight_decay=0.01)  # as in torch.optim


def make_optimizer(config: "TrainingConfig") -> Optimizer:
    """Return the optimizer of a configuration."""
    shrinks = getattr(config, "weight_decay_form", "loss") == "shrink"
    options = {name: getattr(config, name) for name in HYPERPARAMETERS[config.optimizer]}
    options["shrink" if shrinks else "weight_decay"] = config.weight_decay
    return Optimizer(name=config.optimizer, **options, clip=getattr(config, "gradient_norm", None))


def gradient_norm(weights: Weights, gradients: Weights, decay: float = 0.0) -> Tensor:
    """Return |g + decay w| over all weights, (K,) float64, for one model after another."""
    squares: Any = 0
    for name, g in gradients.items():
        g = g + decay * weights[name] if decay else g
        rows = [torch.linalg.vector_norm(g_k, dim=-1) for g_k in g]
        squares = squares + torch.stack([norms.double().square().sum() for norms in rows])
    return squares.sqrt()


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Return values (K,) as (K, 1, ...), which can be multiplied with a tensor (K, ...)."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
