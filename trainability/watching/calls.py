"""Facts of the outermost calls of modules: their weights, their mode, and carried states."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rhn.utils.torch_private import BatchNorm, Dropout, StorageWeakRef, storage_key
from trainability.watching.tensors import tensors_in
from trainability.watching.weights import WatchedWeight, WatchedWeights


@dataclass(eq=False)
class CalledModule:
    """A module that was called as the outermost one."""

    module: "weakref.ref[nn.Module]"
    weights: list[WatchedWeight]
    parts: list["weakref.ref[nn.Module]"]
    """Dropout with p > 0, and batch normalisation."""
    is_trained: bool = False
    """Was called outside `no_grad`."""
    in_evaluation: int = 0
    """Calls in evaluation mode that a backward pass reached."""

    def has_part_in_evaluation(self) -> bool:
        """Return True if a part that is active in training is in evaluation mode."""
        parts = (part() for part in self.parts)
        return any(part is not None and not part.training for part in parts)


class Outputs:
    """The memory of outputs of calls. Its numbers are not kept, but its address is used by no other
    tensor while it is known.
    """

    def __init__(self) -> None:
        self.known: dict[int | None, StorageWeakRef] = {}

    def add(self, key: int, output: Tensor) -> None:
        self.known[key] = StorageWeakRef(output.untyped_storage())

    def has(self, key: int | None) -> bool:
        return key in self.known

    def take(self, other: "Outputs") -> None:
        """Take those of another, and forget memory that was freed."""
        every = self.known | other.known
        self.known = {key: each for key, each in every.items() if not each.expired()}
        other.known = {}


class Calls:
    """What is known of the calls of a loop."""

    def __init__(self, weights: WatchedWeights) -> None:
        self.weights = weights
        self.modules: list[CalledModule] = []
        self.with_state = 0
        """Calls that get an output of a call before the last backward pass."""
        self.with_graph = 0
        """Those of them that get it with its graph."""
        self._by_id: dict[int, CalledModule] = {}
        self._recent, self._older = Outputs(), Outputs()

    def add(self, module: nn.Module, given: Any, output: Any) -> None:
        """Note a call of a module. given: its arguments."""
        called = self._called(module)
        if not called.weights or not torch.is_grad_enabled():
            return
        if not called.is_trained:
            called.is_trained = True
            for weight in called.weights:
                weight.in_training = True
        outputs = tensors_in(output)
        self._compare(tensors_in(given), outputs)
        if called.has_part_in_evaluation():
            _count_if_reached(called, outputs)

    def backward_ends(self) -> None:
        """Outputs until now are those of calls before the last backward pass."""
        self._older.take(self._recent)

    def in_evaluation(self) -> int:
        """Return how many calls in evaluation mode a backward pass reached, of modules of which an
        optimiser has weights.
        """
        return sum(
            called.in_evaluation
            for called in self.modules
            if any(weight.in_optimiser for weight in called.weights)
        )

    def _called(self, module: nn.Module) -> CalledModule:
        called = self._by_id.get(id(module))
        if called is None or called.module() is not module:
            weights = [self.weights.of(tensor) for tensor in module.parameters()]
            for weight in weights:
                weight.is_called = True
            parts = [weakref.ref(part) for part in module.modules() if _is_active(part)]
            called = CalledModule(weakref.ref(module), weights, parts)
            self._by_id[id(module)] = called
            self.modules.append(called)
        return called

    def _compare(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Count a call that gets an earlier output, and keep its own outputs in mind."""
        keys = {storage_key(t): t for t in inputs}
        states = [t for key, t in keys.items() if self._older.has(key)]
        if states:
            self.with_state += 1
        if any(t.requires_grad for t in states):
            self.with_graph += 1
        for output in outputs:
            key = storage_key(output)
            if key is not None and key not in keys:  # an output may be an input as it was
                self._recent.add(key, output)


def _is_active(part: nn.Module) -> bool:
    """Return True for a part that computes something else in training than in evaluation."""
    is_dropout = isinstance(part, Dropout) and part.p > 0
    has_dropout = isinstance(part, nn.RNNBase | nn.MultiheadAttention) and part.dropout > 0
    return is_dropout or has_dropout or isinstance(part, BatchNorm)


def _count_if_reached(called: CalledModule, outputs: list[Tensor]) -> None:
    """Count a call when a backward pass first reaches one of its outputs."""
    reached = list[bool]()

    def note(gradients: Any) -> None:
        if not reached:
            reached.append(True)
            called.in_evaluation += 1

    for output in outputs:
        if output.grad_fn is not None:
            output.grad_fn.register_prehook(note)
