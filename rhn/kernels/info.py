"""The table of implementations on this machine, and which of them computed a recurrence."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rhn.kernels import onednn
from rhn.kernels.bernoulli import OUTPUT
from rhn.kernels.compiled.call import LARGE, SMALL
from rhn.kernels.dispatch import LOOP, C, Choice
from rhn.kernels.gated import GRU, LSTM
from rhn.kernels.highway import HIGHWAY
from rhn.kernels.loop import LOOP as LOOP_OPERATION
from rhn.kernels.softmax import SOFTMAX
from rhn.kernels.transition import DEEP_TRANSITION

RECURRENCES = (
    HIGHWAY,
    DEEP_TRANSITION,
    LSTM,
    GRU,
    LOOP_OPERATION,
)
OPERATIONS = (*RECURRENCES, SOFTMAX, OUTPUT)
LIMITS = {
    C: f"; float32, recurrences of up to {SMALL} units, {LARGE} in full batches of 32 rows",
    LOOP: " of a cell's step function; all other cells",
}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class KernelState:
    """The operations that an implementation computes on a device. `reason`: why it is not used there, None if it is."""

    name: str
    device: str
    purpose: str
    reason: str | None

    @property
    def used(self) -> bool:
        return self.reason is None


def kernel_states() -> list[KernelState]:
    """All implementations on every device."""
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    operations: dict[tuple[str, torch.device, str | None], list[str]] = {}
    for operation in OPERATIONS:
        for implementation in operation.implementations:
            devices = [d for d in (CPU, *gpus) if implementation.device_type in (None, d.type)]
            for device in devices:
                key = implementation.name, device, implementation.available()
                operations.setdefault(key, []).append(operation.name)
    states = [
        KernelState(name, str(device), ", ".join(names) + LIMITS.get(name, ""), reason)
        for (name, device, reason), names in operations.items()
    ]
    return [*states, KernelState("oneDNN", "cpu", "products of 128 x 128 and more in float32", onednn.missing())]


def recurrence_words(choices: Sequence[Choice]) -> str:
    """Name the implementation that computed a recurrence, with the reason against C; other operations do not count.

    >>> recurrence_words([Choice("highway", "C", None)])
    'in C'
    >>> recurrence_words([Choice("highway", "C", "it has no activation relu"), Choice("highway", "fused", None)])
    'fused, not in C: it has no activation relu'
    >>> recurrence_words([Choice("loop", "loop", None)])
    'the step function in a loop, all models at once'
    >>> recurrence_words([Choice("softmax", "C", None)])
    'step by step, without a kernel'
    """
    names = [operation.name for operation in RECURRENCES]
    choices = [choice for choice in choices if choice.operation in names]
    chosen = next((choice for choice in choices if choice.reason is None), None)
    if chosen is None:
        return "step by step, without a kernel"
    if chosen.implementation == LOOP:
        return "the step function in a loop, all models at once"
    if chosen.implementation == C:
        return "in C"
    of_same = (c for c in choices if (c.operation, c.implementation) == (chosen.operation, C) and c.reason)
    return chosen.implementation + next((f", not in C: {c.reason}" for c in of_same), "")
