"""Report the events of a training loop by hooks of torch, and remove them at the end.

    with hooks_for(listener):
        train()             # listener.call_ends, backward_begins, backward_ends, step_begins, ...

torch has hooks for calls of modules and steps of optimisers. Functions of torch are replaced for
backward passes, steps of a GradScaler, and minibatches.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from rhn.errors import InvalidInputError
from rhn.utils.torch_private import LoaderIterator, is_recorded


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


class Hooks:
    """Functions that torch calls. They pass events of the thread of the loop to a listener.

    Only the outermost call of a module is reported. While it runs, its module has a hook, and other
    modules have none: calls of parts cost nothing, and are compiled without hooks.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.thread = threading.get_ident()
        self.in_backward = False
        self.hook = self.before_call
        self.next_call = register_module_forward_pre_hook(self.hook)
        """The hook for the next call of any module."""
        self.this_call: RemovableHandle | None = None
        """The hook of the module in the call."""

    def wait_for_call(self) -> None:
        """Install the hook for the next call of any module, in place of that of a module. Its id
        stays: compiled functions depend on it.
        """
        self.remove()
        hooks: Any = self.next_call.hooks_dict_ref()
        hooks[self.next_call.id] = self.hook

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
        self.this_call = module.register_forward_hook(
            self.after_call, with_kwargs=True, always_call=True
        )

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


_in_use = threading.Lock()


@contextmanager
def hooks_for(listener: Listener) -> Iterator[None]:
    """Report events to a listener. Raises InvalidInputError inside another `watch`."""
    if not _in_use.acquire(blocking=False):
        raise InvalidInputError("watch is called inside another watch: expected one at a time")
    hooks = Hooks(listener)
    with ExitStack() as stack:
        stack.callback(_in_use.release)
        stack.callback(hooks.remove)
        for handle in (
            register_optimizer_step_pre_hook(hooks.before_step),
            register_optimizer_step_post_hook(hooks.after_step),
        ):
            stack.callback(handle.remove)
        _replace(stack, torch.autograd, "backward", hooks.around_backward)
        _replace(stack, GradScaler, "scale", hooks.around_scale)
        _replace(stack, LoaderIterator, "__next__", hooks.around_minibatch)
        with _without_warning():
            yield


@contextmanager
def _without_warning() -> Iterator[None]:
    """Return a context without the warning of torch that a compiled module has hooks."""
    warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks")
    filters: Any = warnings.filters
    added = filters[0]
    try:
        yield
    finally:
        filters.remove(added)


def _replace(stack: ExitStack, owner: Any, name: str, around: Callable) -> None:
    original = getattr(owner, name)
    setattr(owner, name, around(original))
    stack.callback(setattr, owner, name, original)
