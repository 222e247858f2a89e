"""oneDNN's linear with a prepacked weight: on many CPUs (measured: AMD Zen 5) twice as fast as torch's own float32 product.

The operators are torch's private ones, those that Inductor calls: they are used only where they exist and only inside the
fused recurrences, because `torch.func.grad` through them is silently zero. Where they are missing `pays` is always False.
"""

import torch
from torch import Tensor

SMALLEST_WEIGHT = 128 * 128  # below, the call costs more than it saves (measured; see benchmarks)


def _find_operators():
    try:
        ops = torch.ops.mkldnn
        return ops._reorder_linear_weight, ops._linear_pointwise, ops._linear_pointwise.binary
    except AttributeError:
        return None


_OPERATORS = _find_operators() if torch.backends.mkldnn.is_available() else None


def missing() -> str | None:
    """Why packed weights are not used on this machine's CPU, in words; None where they are."""
    if not torch.backends.mkldnn.is_available():
        return "this torch was built without oneDNN"
    return None if _OPERATORS is not None else "this torch has no such operators"


def pays(like: Tensor, *, rows: int, inner: int, outer: int) -> bool:
    """Decide if a product of (rows, inner) by (inner, outer), with type and device of `like`, should use a packed weight."""
    usable = _OPERATORS is not None and like.dtype == torch.float32 and like.device.type == "cpu"
    return usable and rows > 1 and inner * outer >= SMALLEST_WEIGHT and torch.backends.mkldnn.enabled


def pack(weight: Tensor, rows: int) -> Tensor:
    """A weight (outer, inner) in oneDNN's own layout, for products with about `rows` rows."""
    return _OPERATORS[0](weight.contiguous(), rows)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x weight' for a packed weight."""
    return _OPERATORS[1](x, weight, None, "none", [], "")


def linear_add(x: Tensor, addend: Tensor, weight: Tensor) -> Tensor:
    """x weight' + addend for a packed weight and an addend of the product's shape, or of one row (a bias)."""
    if addend.shape[0] == 1:
        return _OPERATORS[1](x, weight, addend[0], "none", [], "")
    return _OPERATORS[2](x, addend, weight, None, "add")
