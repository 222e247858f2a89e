"""The output layer of a language model with its loss: softmax cross-entropy of a linear layer, as one operation."""

from rhn.kernels.softmax.manual import softmax_nll
from rhn.kernels.softmax.reference import softmax_nll_reference

__all__ = ["softmax_nll", "softmax_nll_reference"]
