"""The table of kernels: a row holds the tensors of a recurrence or loss, its equation, and its code for K stacked models.

    TRANSITION(x, s0, W, R, b)                   in C if its limit allows, else fused; backward uses the same code
    TRANSITION(x, s0, W, R, b, reference=True)   the equation itself

A call is checked once, where it enters, and decided by shapes, types, devices and what the machine has, never by values: a call under
`vmap` (where a tensor has the shape of one model's) or in a CUDA graph is treated like any other.

Shapes are those of one model, as in `rhn.kernels.check`. A tensor with "?" may be None.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rhn.kernels import compiled, gated, loop, losses, transition
from rhn.kernels.check import check_tensor
from rhn.kernels.function import Code, batched_function, is_traced

C, FUSED, REFERENCE = "C", "fused", "reference"


@dataclass(frozen=True, eq=False, kw_only=True)
class Kernel:
    """One recurrence or loss.

    name: also for messages
    arguments: the shape of each tensor by its name; more tensors, of any shape, are weights of the loop
    options: the default of every option
    reference: (**tensors, **options) -> the result of one model, in plain differentiable operations
    fused: forward and backward for K stacked models, see `rhn.kernels.function`; without them the reference takes their place
    compiled: the same two in C
    limit: (**tensors, **options) -> why C does not compute a call, or None
    """

    name: str
    arguments: Mapping[str, str]
    options: Mapping = field(default_factory=dict)
    reference: Callable[..., Tensor]
    fused: tuple[Callable, Callable] | None = None
    compiled: tuple[Callable, Callable] | None = None
    limit: Callable[..., str | None] | None = None

    def __call__(self, *tensors: Tensor | None, reference: bool = False, **options) -> Tensor:
        """Compute the result of one model; under `vmap` of all models at once.

        Tensors may be given by name. Raises InvalidInputError if one does not fit.
        """
        tensors, options = self.check(*tensors, **options)
        code = None if reference or is_traced(*tensors.values()) else self._choose(**tensors, **options)
        if code is None:
            return self.reference(**tensors, **options)
        return batched_function(Code(self.name, *code), tensors, keep=torch.is_grad_enabled(), **options)

    def check(self, *tensors: Tensor | None, **options) -> tuple[dict[str, Tensor | None], dict]:
        """All tensors by name and all options of a call, one initial state s0 repeated for all rows.

        Raises InvalidInputError, which names a tensor, what it is, and what was expected.
        """
        more = {f"weight {k}": "..." for k in range(len(tensors) - len(self.arguments))}
        arguments = {**self.arguments, **more}
        tensors += tuple(options.pop(name.removesuffix("?"), None) for name in [*arguments][len(tensors) :])
        first, checked, sizes = tensors[0], {}, {}
        for (argument, shape), t in zip(arguments.items(), tensors, strict=True):
            name = argument.removesuffix("?")
            if name == "s0" and getattr(t, "shape", (0, 0))[:-1] in ((), (1,)):
                t = t.expand(first.shape[1], -1)
            if t is not None or name == argument:
                dtype = torch.int64 if name == "targets" else None
                check_tensor(f"{name} of the {self.name} kernel", t, shape, sizes, first, dtype)
            checked[name] = t
        return checked, {**self.options, **options}

    def _choose(self, **call) -> tuple[Callable, Callable] | None:
        """The code for a call; None if only the reference computes it."""
        against_c = None if self.compiled is None else self.limit(**call)
        in_c = self.compiled is not None and against_c is None
        way = C if in_c else REFERENCE if self.fused is None else FUSED
        if (choices := _CHOICES.get()) is not None:
            choices.append(Choice(self.name, way, against_c))
        return self.compiled if in_c else self.fused


# ---- the rows ----


_INPUT = {"x": "T B m", "s0": "B n"}
_MASKS = {"state_mask?": "1 B n", "candidate_mask?": "B n"}
TRANSITION = Kernel(
    name="deep transition",
    arguments=_INPUT
    | {"W": "G*n m", "R": "L G*n n", "b": "L G*n", "S?": "shortcuts n n"}
    | {"state_mask?": "J B n", "candidate_mask?": "B n"},
    options={"activation": "tanh"},
    reference=transition.reference,
    fused=(transition.forward, transition.backward),
    compiled=(compiled.forward, compiled.backward),
    limit=transition.limit,
)
LSTM = Kernel(
    name="LSTM",
    arguments={"x": "T B m", "s0": "B 2*n", "W": "4*n m", "R": "4*n n", "b": "4*n"} | _MASKS,
    reference=gated.lstm_reference,
    fused=(gated.lstm_forward, gated.lstm_backward),
)
GRU = Kernel(
    name="GRU",
    arguments=_INPUT | {"W": "3*n m", "R": "3*n n", "b": "3*n", "q": "n"} | _MASKS,
    reference=gated.gru_reference,
    fused=(gated.gru_forward, gated.gru_backward),
)
LOOP = Kernel(
    name="loop",
    arguments={"x": "T B m", "s0": "B k", "W": "g m", "b": "g", "state_mask?": "1 B j"},
    reference=loop.reference,
    fused=(loop.forward, loop.backward),
)
SOFTMAX = Kernel(
    name="softmax",
    arguments={"y": "T B n", "U": "V n", "b": "V", "targets": "T B", "mask?": "B n"},
    reference=losses.softmax_reference,
    compiled=(losses.softmax_forward_in_c, losses.softmax_backward_in_c),
    limit=losses.softmax_limit,
)
OUTPUT = Kernel(
    name="output and loss",
    arguments={"y": "T B n", "W": "keys n", "b": "keys", "frames": "T B keys", "mask": "T B"},
    reference=losses.output_reference,
    compiled=(losses.output_forward_in_c, losses.output_backward_in_c),
    limit=losses.output_limit,
)
KERNELS = (TRANSITION, LSTM, GRU, LOOP, SOFTMAX, OUTPUT)


# ---- which code computes, and why ----


@dataclass(frozen=True)
class Choice:
    """The implementation that computed a call. `reason`: why C did not, None if it did or the kernel has no code in C."""

    kernel: str
    implementation: str
    reason: str | None


_CHOICES: ContextVar[list[Choice] | None] = ContextVar("choices", default=None)


@contextmanager
def recorded_choices() -> Iterator[list[Choice]]:
    """The choices made within the context, in order; an inner context has its own."""
    choices: list[Choice] = []
    token = _CHOICES.set(choices)
    try:
        yield choices
    finally:
        _CHOICES.reset(token)


def kernel_states() -> list[dict]:
    """All implementations on every device: name, device, purpose, used, and the reason if it is not used."""
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    in_c = ", ".join(kernel.name for kernel in KERNELS if kernel.compiled)
    fused = ", ".join(kernel.name for kernel in KERNELS if kernel.fused)
    limit = f"; float32, recurrences of up to {compiled.SMALL} units, {compiled.LARGE} in full batches of 32 rows"
    reason = compiled.missing()
    row = {"name": C, "device": "cpu", "purpose": in_c + limit, "used": reason is None, "reason": reason}
    others = {"name": FUSED, "purpose": fused, "used": True, "reason": None}
    return [row, *(others | {"device": device} for device in devices)]
