"""Which kernels there are on this machine, what each is for, and why one is not used; and which one a recurrence took."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rhn.kernels import packed
from rhn.kernels.compiled import build
from rhn.kernels.compiled.call import LARGE, SMALL
from rhn.kernels.persistent import highway, transition
from rhn.kernels.persistent.device import refusal
from rhn.kernels.persistent.operands import DTYPES
from rhn.kernels.told import COMPILED, PERSISTENT, REPEATED, Told
from rhn.kernels.update import one_pass

CPU = torch.device("cpu")


@dataclass(frozen=True)
class KernelState:
    """One way to compute a recurrence, on one device. `reason`: why it is not used there, None where it is."""

    name: str
    device: str
    purpose: str
    reason: str | None

    @property
    def used(self) -> bool:
        return self.reason is None


def kernel_states() -> list[KernelState]:
    """All ways, the devices one after another. On a GPU the persistent kernels are compiled and checked first: minutes."""
    without_compiler = build.missing() if build.library() is None else None
    states = [
        KernelState("hand-derived", "cpu", "every cell", None),
        KernelState(
            "compiled",
            "cpu",
            f"up to {SMALL} units, {LARGE} in full batches of 32 rows; float32, no dropout",
            without_compiler,
        ),
        KernelState("packed products", "cpu", "products of 128 x 128 and more in float32", packed.missing()),
    ]
    devices = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    states += [
        KernelState("hand-derived", str(device), "every cell; one CUDA graph a step", None) for device in devices
    ]
    for device in devices or [CPU]:
        for name, cells, check in (
            ("highway", "rhn", highway.check),
            ("transition", "rnn, dt-rnn, dts-rnn", transition.check),
        ):
            for precision in DTYPES:
                limits = ", weights and states above 2e-5" if precision == "mixed" else ""
                reason = refusal(name, precision, device, check)
                states.append(
                    KernelState(f"persistent {name}", str(device), f"{cells}, precision {precision}{limits}", reason)
                )
    for device in [CPU, *devices]:
        reason = without_compiler if device == CPU else refusal("update", "float32", device, one_pass.check)
        states.append(KernelState("one-pass update", str(device), "clipping and steps of language models", reason))
    return states


def recurrence_words(told: Sequence[Told], device: torch.device, precision: str) -> str:
    """Which kernel computed a recurrence, and why the faster one of its device did not.

    >>> cpu = torch.device("cpu")
    >>> recurrence_words([Told("compiled", None)], cpu, "float32")
    'compiled for this CPU'
    >>> recurrence_words([Told("compiled", "it has no dropout"), Told("hand-derived", None)], cpu, "float32")
    'hand-derived, not compiled: it has no dropout'
    >>> recurrence_words([Told("repeated", None), Told("hand-derived", None)], cpu, "float32")
    'the equation repeated, all models at once'
    """
    kernel = next((name for name, refusal in told if refusal is None), None)
    if kernel is None:
        return "step by step, without a kernel"
    if kernel == REPEATED:
        return "the equation repeated, all models at once"
    if kernel in (COMPILED, PERSISTENT):
        return "compiled for this CPU" if kernel == COMPILED else f"persistent Triton kernel, {precision}"
    faster = COMPILED if device.type == "cpu" else PERSISTENT
    why = next((f", not {faster}: {refusal}" for name, refusal in told if name == faster), "")
    return f"hand-derived{why}"
