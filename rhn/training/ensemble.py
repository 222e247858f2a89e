"""Run K models of equal shape as one program. Their weights are stacked, and every operation acts
on all models at once.

    ensemble = Ensemble.of(models)
    ensemble.map(lambda model, x: model(x), x)    (K, ...): each model on the same x
    ensemble.gradients(loss, x)                   gradients of loss(model, x), by name, (K, ...)

Nothing is summed over K.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from rhn.utils.resources import weight_bytes
from rhn.utils.torch_private import tree_map, with_tensors
from rhn.utils.validation import unexpected

Weights = dict[str, Tensor]
COPIES = 5  # of each matrix-vector product; measured on our cells: 2.4 to 5.6
CACHE_BYTES = 8 << 20  # weights of the models in one pass of a step: more would not fit the cache
PART_BYTES = 512 << 20  # memory of a pass: larger parts gain nothing


@dataclass(frozen=True, eq=False)
class Ensemble:
    """K models: a module on the meta device, and the stacked values (K, ...) of each parameter and
    buffer, by name. Those that are not trained are constants.

    >>> models = [nn.Linear(2, 1) for _ in range(3)]
    >>> Ensemble.of(models).weights["weight"].shape  # (K, 1, 2)
    torch.Size([3, 1, 2])
    """

    skeleton: Any
    weights: Weights
    constants: Weights

    @classmethod
    def of(cls, models: Sequence[nn.Module], device: torch.device | str = "cpu") -> "Ensemble":
        """Stack copies of these models, which may differ only in the values of their parameters.
        Raises InvalidInputError for other objects, and without a model.
        """
        models = list(models) if isinstance(models, Iterable) else []
        if not models or not all(isinstance(model, nn.Module) for model in models):
            raise unexpected("models", models, "one module of torch or more")
        values = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
        stacked = {
            name: torch.stack([v[name].detach() for v in values]).to(device) for name in values[0]
        }
        trained = [name for name, p in models[0].named_parameters() if p.requires_grad]
        weights = {name: stacked.pop(name) for name in trained}
        own = (*models[0].parameters(), *models[0].buffers())  # one for all names of a tied weight
        empty = with_tensors(models[0], {t: t.to("meta") for t in own})
        return cls(empty, weights, stacked)

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    @property
    def device(self) -> torch.device:
        return next(iter(self.weights.values())).device

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self.weights.values())).dtype

    def __getitem__(self, which: slice | list[int]) -> "Ensemble":
        """Return some of the models: views of them for a slice, copies for a list of indices."""
        some = tree_map(lambda t: t[which], (self.weights, self.constants))
        return Ensemble(self.skeleton, *some)

    def map(self, function: Callable[..., Any], *shared, own: Any = None) -> Any:
        """Call function(model, *shared) for every model in evaluation mode, and stack the results.
        own: a tree of tensors (K, ...); the call is then function(model, its slice, *shared).
        """
        self.skeleton.eval()
        with torch.no_grad():
            return self._over_models(function, shared, own)

    def gradients(self, loss: Callable, *shared, own: Any = None, has_aux: bool = False) -> Any:
        """Return the gradient of loss(model, *shared) of each model's weights; `own` as for `map`.
        With `has_aux`: (gradients, more), of a loss that returns (number, more).
        """
        self.skeleton.train()
        return self._over_models(loss, shared, own, partial(grad, has_aux=has_aux))

    def _over_models(
        self, function: Callable, shared: tuple, own: Any, transform: Callable = lambda f: f
    ) -> Any:
        """Map a function of a model, transformed as one of its weights, over all models."""

        def of_one(weights, constants, own):
            values, given = (weights, constants), shared if own is None else (own, *shared)
            return function(
                lambda *args, **named: functional_call(self.skeleton, values, args, named), *given
            )

        dims = tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, own)
        return vmap(transform(of_one), in_dims=(0, 0, dims))(self.weights, self.constants, own)


def sums(stacked: Tensor) -> Tensor:
    """Sum the numbers of each model, (K, ...) -> (K,) in float64, one model after another."""
    return torch.stack([t.sum(dtype=torch.float64) for t in stacked])


def step_bytes(model: nn.Module, positions: int) -> int:
    """Estimate the bytes of an optimiser step of one model on `positions` time steps x rows."""
    outputs = sum(p.shape[:-1].numel() for p in model.parameters() if p.dim() > 1)
    return COPIES * 4 * outputs * positions


def part_size(model: nn.Module, positions: int, device: torch.device) -> int | None:
    """Return the number of models that share a pass of a step, to fit into the cache; None: all."""
    fits = CACHE_BYTES // weight_bytes(model), PART_BYTES // step_bytes(model, positions)
    return max(1, min(fits)) if device.type == "cpu" else None
