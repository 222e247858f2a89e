"""Report the events of a training loop by hooks of torch, and remove them at the end.

    with hooks_for(listener):
        train()             # listener.call_ends, backward_begins, backward_ends, step_begins, ...

torch has hooks for calls of modules and steps of optimisers. Functions of torch are replaced for
backward passes, steps of a GradScaler, and minibatches.
"""

import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.optimizer import Optimizer

from rhn.errors import InvalidInputError
from rhn.utils.threads import until_done
from rhn.utils.torch_private import (
    HOOKS_AFTER_STEPS,
    HOOKS_BEFORE_CALLS,
    HOOKS_BEFORE_STEPS,
    Hook,
    LoaderIterator,
    hook_after_call,
    is_recorded,
)

OF_COMPILED = "Using `torch.compile.module.` when there are global hooks"
"""Begin of torch's warning that a compiled module has hooks."""
IGNORED: Any = ("ignore", re.compile(OF_COMPILED, re.IGNORECASE), Warning, None, 0)
"""The filter that `warnings.filterwarnings` adds for it."""


class Listener(Protocol):
    """What happens in a training loop."""

    def call_begins(self) -> None:
        """An outermost call of a module begins."""

    def call_ends(self, module: nn.Module, given: Any, output: Any) -> None:
        """An outermost call of a module ends. given: its arguments."""

    def backward_begins(self, tensors: Any) -> None:
        """A backward pass from these tensors begins."""

    def backward_ends(self) -> None:
        """A backward pass ends."""

    def step_begins(self, optimizer: Optimizer) -> None:
        """A step of an optimiser begins."""

    def step_ends(self, optimizer: Optimizer) -> None:
        """A step of an optimiser ends."""

    def loss_scaled(self, loss: Any, scaled: Any, factor: float) -> None:
        """A GradScaler multiplies a loss by a factor before its backward pass."""

    def minibatch_read(self, iterator: Any, minibatch: Any) -> None:
        """The iterator of a DataLoader gives a minibatch."""

    def minibatches_end(self, iterator: Any) -> None:
        """The iterator of a DataLoader has no further minibatch."""


class Replaced(NamedTuple):
    """A function of torch that was replaced."""

    owner: Any
    name: str
    original: Callable


class Hooks:
    """Functions that torch calls. They pass events of the thread of the loop to a listener.

    Only the outermost call of a module is reported. While it runs, its module has a hook, and other
    modules have none: calls of parts cost nothing, and are compiled without hooks.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.thread = threading.get_ident()
        self.in_backward = False
        self.replaced: list[Replaced] = []
        self.filters: Any = warnings.filters  # the list: `catch_warnings` replaces it for a time
        self.next_call = Hook(HOOKS_BEFORE_CALLS, self.before_call)
        """The hook for the next call of any module."""
        self.this_call: Hook | None = None
        """The hook of the module in the call."""
        self.of_steps = (
            Hook(HOOKS_BEFORE_STEPS, self.before_step),
            Hook(HOOKS_AFTER_STEPS, self.after_step),
        )

    def install(self) -> None:
        """Install all hooks."""
        self.next_call.install()
        for hook in self.of_steps:
            hook.install()
        self.replace(torch.autograd, "backward", self.around_backward)
        self.replace(GradScaler, "scale", self.around_scale)
        self.replace(LoaderIterator, "__next__", self.around_minibatch)
        warnings.filterwarnings("ignore", OF_COMPILED)

    def replace(self, owner: Any, name: str, around: Callable) -> None:
        """Replace a function of torch."""
        original = getattr(owner, name)
        self.replaced.append(Replaced(owner, name, original))
        setattr(owner, name, around(original))

    def restore(self) -> None:
        """Remove all that was installed. After an interrupt the function can be called again."""
        self.remove()
        for hook in self.of_steps:
            hook.remove()
        for each in self.replaced:
            setattr(each.owner, each.name, each.original)
        if IGNORED in self.filters:
            self.filters.remove(IGNORED)

    def wait_for_call(self) -> None:
        """Install the hook for the next call of any module, in place of that of a module. Its id
        stays: compiled functions depend on it.
        """
        self.remove()
        self.next_call.install()

    def remove(self) -> None:
        """Remove the hooks for calls."""
        self.next_call.remove()
        if self.this_call is not None:
            self.this_call.remove()
            self.this_call = None

    def is_elsewhere(self) -> bool:
        """Return True in another thread, and while torch records operations, compiled or traced."""
        is_of_compiler = torch.compiler.is_compiling()  # first: the compiler reads no other line
        return is_of_compiler or threading.get_ident() != self.thread or is_recorded()

    def before_call(self, module: nn.Module, args: Any) -> None:
        if self.is_elsewhere() or self.in_backward:  # which makes calls of checkpoints again
            return
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            return
        self.listener.call_begins()
        self.remove()
        self.this_call = hook_after_call(module, self.after_call)
        self.this_call.install()

    def after_call(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self.wait_for_call()
        self.listener.call_ends(module, (args, kwargs), output)

    def around_backward(self, call: Callable) -> Callable:
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            if self.is_elsewhere() or self.in_backward:
                return call(tensors, *args, **kwargs)
            self.wait_for_call()  # an interrupt has ended a call without its hook
            self.listener.backward_begins(tensors)
            self.in_backward = True
            try:
                call(tensors, *args, **kwargs)
            finally:
                self.in_backward = False
            self.listener.backward_ends()

        return backward

    def before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self.is_elsewhere():
            self.listener.step_begins(optimizer)

    def after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self.is_elsewhere():
            self.listener.step_ends(optimizer)

    def around_scale(self, call: Callable) -> Callable:
        def scale(scaler: GradScaler, outputs: Any) -> Any:
            scaled = call(scaler, outputs)
            if not self.is_elsewhere():
                self.listener.loss_scaled(outputs, scaled, float(scaler.get_scale()))
            return scaled

        return scale

    def around_minibatch(self, call: Callable) -> Callable:
        def __next__(iterator: Any) -> Any:
            if self.is_elsewhere():
                return call(iterator)
            try:
                minibatch = call(iterator)
            except StopIteration:
                self.listener.minibatches_end(iterator)
                raise
            self.listener.minibatch_read(iterator, minibatch)
            return minibatch

        return __next__


_in_use: dict[str, Hooks] = {}
WATCH = "watch"  # its only key


@contextmanager
def hooks_for(listener: Listener) -> Iterator[None]:
    """Report events to a listener. Raises InvalidInputError inside another `watch`."""
    hooks = Hooks(listener)

    def restore() -> None:
        if _in_use.get(WATCH) is hooks:
            hooks.restore()
            del _in_use[WATCH]

    try:
        if _in_use.setdefault(WATCH, hooks) is not hooks:
            raise InvalidInputError("watch is called inside another watch: expected one at a time")
        hooks.install()
        yield
    finally:
        until_done(restore)
