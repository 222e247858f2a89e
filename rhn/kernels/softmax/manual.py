"""Softmax cross-entropy of a linear layer with a hand-derived backward, for K stacked models at once.

Next to a large vocabulary everything else is small: the logits are turned into probabilities where they stand, which is all that the
backward pass needs:  d nll / dz = p - [v = target].
"""

from torch import Tensor

from rhn.kernels import validation
from rhn.kernels.ensemble import Kernel, recurrence, stack_size
from rhn.kernels.products import input_gradient, input_product, weight_gradient
from rhn.kernels.softmax.mixed import SOFTMAX_NLL_MIXED
from rhn.kernels.softmax.reference import softmax_nll_reference


def softmax_nll(y: Tensor, U: Tensor, b: Tensor, targets: Tensor, *, precision: str = "float32") -> Tensor:
    """-log P(target), (T, B); same arguments and values as `softmax_nll_reference`. For "mixed" see `mixed.py` beside this."""
    tensors = validation.SOFTMAX.validate(y, U, b, targets)
    validation.validate_precision(precision, y)
    if validation.is_traced(*tensors):
        return softmax_nll_reference(*tensors)
    return recurrence(SOFTMAX_NLL_MIXED if precision == "mixed" else SOFTMAX_NLL, *tensors)


def softmax_nll_forward(y: Tensor, U: Tensor, b: Tensor, targets: Tensor):
    """(nll (K, T, B), probabilities (K, T, B, V))."""
    K = stack_size(y, U, b, targets)
    z = input_product(y, U, b, K)
    z.sub_(z.amax(-1, keepdim=True))
    picked = z.gather(-1, targets.expand(K, -1, -1).unsqueeze(-1)).squeeze(-1)
    total = z.exp_().sum(-1)
    z.div_(total.unsqueeze(-1))
    return total.log_().sub_(picked), z


def softmax_nll_backward(grad, needs, inputs, residuals):
    """Gradients of (y, U, b), each with a leading axis of K; the targets have none."""
    (y, U, _, targets), (p,) = inputs, residuals
    dz = p * grad.unsqueeze(-1)
    dz.scatter_add_(-1, targets.expand(len(p), -1, -1).unsqueeze(-1), -grad.unsqueeze(-1))
    dz = dz.flatten(1, 2)
    return (
        input_gradient(dz, U, y) if needs[0] else None,
        weight_gradient(dz, y.flatten(1, 2)),
        dz.sum(1),
    )


SOFTMAX_NLL = Kernel("softmax", softmax_nll_forward, softmax_nll_backward)
