"""Stochastic gradient descent with momentum, as in torch.optim.SGD, for stacked models with a learning rate each.

v <- momentum v + g,      w <- w - lr_k v
"""

from torch import Tensor

from rhn.engine.stack import Weights


def sgd_(weights: Weights, velocity: Weights, gradients: Weights, learning_rate: Tensor, momentum: float) -> None:
    """One step, in place: tensors (K, ...) by name, learning_rate (K,)."""
    for name, w in weights.items():
        rate = learning_rate.view(-1, *[1] * (w.dim() - 1))
        v = velocity[name].mul_(momentum).add_(gradients[name])
        w.sub_(v * rate)
