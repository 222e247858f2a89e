"""The table of kernels, where they run on this machine, and which code computed a recurrence.

Shapes are those of one model, in the legend of `rhn.kernels`; S of the deep transition are the shortcuts of the last layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels import bernoulli, gated, highway, loop, onednn, softmax, transition
from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.compiled import recurrence
from rhn.kernels.compiled.build import missing
from rhn.kernels.compiled.call import LARGE, SMALL
from rhn.kernels.dispatch import FUSED, LOOPED, C, Choice, Kernel
from rhn.kernels.validation import Sizes, validate_choice

_INPUT = {"x": "T B m", "s0": "B n"}
_MASKS = {"state_mask?": "1 B n", "candidate_mask?": "B n"}


def _gates_of_highway(*tensors, coupled: bool, activation: str) -> Sizes:
    validate_choice("activation", activation, ACTIVATIONS)
    return {"G": 2 if coupled else 3}


def _shortcuts(x, s0, W, R, b, S, state_mask, *, nonlinearity: str) -> Sizes:
    validate_choice("nonlinearity", nonlinearity, transition.NONLINEARITIES)
    if isinstance(S, Tensor) and isinstance(R, Tensor) and len(S) >= len(R):
        raise InvalidInputError(f"S has {len(S)} layers: expected at most {len(R) - 1}, all layers but the first")
    return {}


HIGHWAY = Kernel(
    name="highway",
    arguments=_INPUT | {"W": "G*n m", "R": "L G*n n", "b": "L G*n"} | _MASKS | {"state_mask?": "1|G B n"},
    options={"coupled": True, "activation": "tanh"},
    sizes=_gates_of_highway,
    reference=highway.highway_reference,
    forward=highway.highway_forward,
    backward=highway.highway_backward,
    compiled=(recurrence.highway_forward, recurrence.highway_backward),
    limit=recurrence.limit_of_highway,
)
DEEP_TRANSITION = Kernel(
    name="deep transition",
    arguments=_INPUT | {"W": "n m", "R": "L n n", "b": "L n", "S?": "shortcuts n n", "state_mask?": "1 B n"},
    options={"nonlinearity": "tanh"},
    sizes=_shortcuts,
    reference=transition.deep_transition_reference,
    forward=transition.deep_transition_forward,
    backward=transition.deep_transition_backward,
    compiled=(recurrence.transition_forward, recurrence.transition_backward),
    limit=recurrence.limit_of_transition,
)
LSTM = Kernel(
    name="LSTM",
    arguments={"x": "T B m", "s0": "B 2*n", "W": "4*n m", "R": "4*n n", "b": "4*n"} | _MASKS,
    reference=gated.lstm_reference,
    forward=gated.lstm_forward,
    backward=gated.lstm_backward,
)
GRU = Kernel(
    name="GRU",
    arguments=_INPUT | {"W": "3*n m", "R": "3*n n", "b": "3*n", "q": "n"} | _MASKS,
    reference=gated.gru_reference,
    forward=gated.gru_forward,
    backward=gated.gru_backward,
)
LOOP = Kernel(
    name="loop",
    arguments={"x": "T B m", "s0": "B k", "W": "g m", "b": "g", "*": "...", "state_mask?": "1 B j"},
    reference=loop.loop_reference,
    forward=loop.loop_forward,
    backward=loop.loop_backward,
    way=LOOPED,
)
SOFTMAX = Kernel(
    name="softmax",
    arguments={"y": "T B n", "U": "V n", "b": "V", "targets": "T B", "mask?": "B n"},
    reference=softmax.softmax_nll_reference,
    compiled=(softmax.forward_in_c, softmax.backward_in_c),
    limit=softmax.limit,
)
OUTPUT = Kernel(
    name="output and loss",
    arguments={"y": "T B n", "W": "keys n", "b": "keys", "frames": "T B keys", "mask": "T B"},
    reference=bernoulli.output_nll_reference,
    compiled=(bernoulli.forward_in_c, bernoulli.backward_in_c),
    limit=bernoulli.limit,
)
RECURRENCES = (HIGHWAY, DEEP_TRANSITION, LSTM, GRU, LOOP)
KERNELS = (*RECURRENCES, SOFTMAX, OUTPUT)


@dataclass(frozen=True)
class KernelState:
    """What an implementation computes on a device. `reason`: why it is not used there, None if it is."""

    name: str
    device: str
    purpose: str
    reason: str | None

    @property
    def used(self) -> bool:
        return self.reason is None


def kernel_states() -> list[KernelState]:
    """All implementations on every device."""
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    compiled, fused = (
        ", ".join(kernel.name for kernel in KERNELS if has(kernel))
        for has in (lambda kernel: kernel.compiled, lambda kernel: kernel.forward and kernel.way == FUSED)
    )
    limit = f"; float32, recurrences of up to {SMALL} units, {LARGE} in full batches of 32 rows"
    return [
        KernelState(C, "cpu", compiled + limit, missing()),
        *(KernelState(FUSED, device, fused, None) for device in devices),
        *(KernelState(LOOPED, device, "the step functions of all other cells", None) for device in devices),
        KernelState("oneDNN", "cpu", "products of 128 x 128 and more in float32", onednn.missing()),
    ]


def recurrence_words(choices: Sequence[Choice]) -> str:
    """Name the implementation that computed a recurrence, with the reason against C; other kernels do not count.

    >>> recurrence_words([Choice("highway", "C", None)])
    'in C'
    >>> recurrence_words([Choice("highway", "C", "it has no activation relu"), Choice("highway", "fused", None)])
    'fused, not in C: it has no activation relu'
    >>> recurrence_words([Choice("loop", "loop", None)])
    'the step function in a loop, all models at once'
    >>> recurrence_words([Choice("softmax", "C", None)])
    'step by step, without a kernel'
    """
    names = [kernel.name for kernel in RECURRENCES]
    choices = [choice for choice in choices if choice.kernel in names]
    chosen = next((choice for choice in choices if choice.reason is None), None)
    if chosen is None:
        return "step by step, without a kernel"
    if chosen.implementation == LOOPED:
        return "the step function in a loop, all models at once"
    if chosen.implementation == C:
        return "in C"
    against = (c for c in choices if (c.kernel, c.implementation) == (chosen.kernel, C) and c.reason)
    return chosen.implementation + next((f", not in C: {c.reason}" for c in against), "")
