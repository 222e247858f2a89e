"""The functions of the compiled library as a table: their sizes and tensors, from which the structs of C and of ctypes are made.

Sizes: legend in `rhn.kernels`. B rows of a batch are filled up to a multiple of 32 (`rows`), and are in B / 32 `blocks`. A tensor has
the axis of the models before its shape. It may be NULL where C asks for that.

    G = 2: c = 1 - t; G = 3: c has a gate of its own        J: masks of the state, 0, 1 or G
    relu: whether f is relu, else tanh                      shortcuts: how many of the last layers have one
    groups: rows of the softmax that share a mask           tiles: of 32 words
"""

import ctypes
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rhn.kernels.validation import shape_of

LANES = 32


class Function(NamedTuple):
    """The sizes of a function, and the shapes of the tensors that it reads and writes."""

    sizes: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


_INPUT = {"x": "T B m", "s0": "n rows"}
_HIGHWAY = _INPUT | {"W": "G*n m", "R": "L G*n n", "state_mask": "J*n rows", "candidate_mask": "n rows"}
_HIGHWAY_STATES = {"y": "T n rows", "gates": "blocks T L G*n 32"}
_TRANSITION = _INPUT | {"W": "n m", "R": "L n n", "S": "shortcuts n n", "state_mask": "n rows"}
_TRANSITION_STATES = {"y": "T n rows", "outputs": "blocks T L n 32"}
_INPUT_GRADIENTS = {"dx": "T m rows", "ds0": "n rows"}
_SOFTMAX_KEPT = {"targets": "groups B", "mask": "groups n", "scale": "groups tiles rows", "e": "groups tiles B 32"}

FUNCTIONS = {
    "rhn_highway_forward": Function("T B m n L G J", _HIGHWAY | {"b": "L G*n"}, _HIGHWAY_STATES),
    "rhn_highway_backward": Function(
        "T B m n L G J",
        _HIGHWAY | _HIGHWAY_STATES | {"dy": "T n rows"},
        _INPUT_GRADIENTS | {"dW": "G*n m", "dR": "L G*n n", "db": "L G*n"},
    ),
    "rhn_transition_forward": Function("T B m n L relu shortcuts", _TRANSITION | {"b": "L n"}, _TRANSITION_STATES),
    "rhn_transition_backward": Function(
        "T B m n L relu shortcuts",
        _TRANSITION | _TRANSITION_STATES | {"dy": "T n rows"},
        _INPUT_GRADIENTS | {"dW": "n m", "dR": "L n n", "db": "L n", "dS": "shortcuts n n"},
    ),
    "rhn_bernoulli": Function(
        "T B n keys",
        {"y": "T n rows", "W": "keys n", "b": "keys", "frames": "T keys rows", "mask": "T rows"},
        {"dy": "T n rows", "dW": "keys n", "db": "keys", "totals": ""},
    ),
    "rhn_softmax_forward": Function(
        "groups B n V tiles",
        {"y": "groups B n", "U": "V n", "b": "V", "targets": "groups B", "mask": "groups n"},
        {"nll": "groups rows", "scale": "groups tiles rows", "e": "groups tiles B 32"},
    ),
    "rhn_softmax_states": Function(
        "groups B n V tiles", _SOFTMAX_KEPT | {"U": "V n", "grad": "groups B"}, {"dy": "groups B n"}
    ),
    "rhn_softmax_weights": Function(
        "groups B n V tiles", _SOFTMAX_KEPT | {"y": "groups B n", "grad": "groups B"}, {"dU": "V n", "db": "V"}
    ),
}


class _Tensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("stride", ctypes.c_long))


def _struct(name: str) -> type[ctypes.Structure]:
    function = FUNCTIONS[name]
    sizes, tensors = function.sizes.split(), (*function.inputs, *function.outputs)
    fields = [*((size, ctypes.c_long) for size in sizes), *((tensor, _Tensor) for tensor in tensors)]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


STRUCTS = {name: _struct(name) for name in FUNCTIONS}


def declarations() -> str:
    """The same structs in C. The stride leads from one model to the next; it is 0 if the models share the tensor."""
    lines = ["typedef struct { float *data; long stride; } Tensor;"]
    for name, (sizes, inputs, outputs) in FUNCTIONS.items():
        tensors = ", ".join((*inputs, *outputs))
        lines.append(f"struct {name} {{ long {', '.join(sizes.split())}; Tensor {tensors}; }};")
    return "\n".join(lines) + "\n"


def pack(name: str, K: int, sizes: Mapping[str, int], tensors: Mapping[str, Tensor | None]) -> ctypes.Structure:
    """The struct of a call for K models. Raises ValueError for a tensor that C would read or write as what it is not."""
    blocks = -(-sizes["B"] // LANES)
    known, function = {**sizes, "blocks": blocks, "rows": blocks * LANES}, FUNCTIONS[name]
    packed = {}
    for tensor, shape in (function.inputs | function.outputs).items():
        t, wanted = tensors[tensor], shape_of(shape, known)
        shared = t is not None and t.shape[0] == 1 and tensor in function.inputs
        dtype = torch.float64 if tensor == "totals" else torch.float32
        if t is not None and not (
            t.dtype is dtype and t.is_cpu and t.is_contiguous() and [*t.shape] == [1 if shared else K, *wanted]
        ):
            raise ValueError(
                f"{tensor} of {name} is {t.dtype} on {t.device} of shape {tuple(t.shape)}: "
                f"expected contiguous {dtype} on the CPU of shape {(K, *wanted)}"
            )
        packed[tensor] = _Tensor() if t is None else _Tensor(t.data_ptr(), 0 if shared else math.prod(wanted))
    return STRUCTS[name](**sizes, **packed)
