"""Give back everything that a training run changes, bit for bit and in place.

    with restored(model, loss_fn, optimizer, scheduler) as saved:
        ...                             # train, replace weights, switch dropout off
        saved.restore()                 # as often as needed, and at the end

Saved are tensors with their gradients, the attributes of modules, optimisers, schedulers and the
user's own objects, lists and dictionaries in them, variables of closures, generators, and the
random states of torch, NumPy and Python.
"""

import contextlib
import functools
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from rhn.utils.threads import until_done

OPENED = (
    nn.Module,
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
    torch.distributions.Distribution,
    DataLoader,
    Sampler,
)
"""Objects of torch whose attributes are saved; others of torch have states of their own."""
FOREIGN = {*sys.stdlib_module_names, "torch", "numpy"} - {"__main__"}
IN_GLOBALS = (Tensor, nn.Module, torch.Generator, np.random.Generator)


class Snapshot:
    """The state of some objects, and of all that they hold."""

    def __init__(self, *roots: Any):
        self.tensors = list[Tensor]()
        """The tensors that were found."""
        self._seen = dict[int, Any]()
        self._undo = list[Callable[[], Any]]()
        todo = [*roots]
        while todo:
            one = todo.pop()
            if id(one) not in self._seen:
                self._seen[id(one)] = one  # keeps it alive, so that its identity stays its own
                todo += self._saved(one)
        self._random = _random_states()

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for undo in self._undo:
                undo()
        for put, state in self._random:
            put(state)

    def _saved(self, one: Any) -> list[Any]:
        """Save one object; return those that it holds."""
        if isinstance(one, Tensor):
            self.tensors.append(one)
            return self._saved_tensor(one)
        if isinstance(one, np.ndarray):
            self._undo.append(functools.partial(np.copyto, one, one.copy()))
            return []
        if isinstance(one, torch.Generator):
            self._undo.append(functools.partial(one.set_state, one.get_state()))
            return []
        if isinstance(one, np.random.Generator | np.random.RandomState | random.Random):
            self._undo.append(_undo_of_generator(one))
            return []
        if isinstance(one, dict | list | set | deque | tuple):
            return self._saved_container(one)
        return [*self._saved_code(one), *self._saved_attributes(one)]

    def _saved_tensor(self, t: Tensor) -> list[Any]:
        grad, values = (t.grad if t.is_leaf else None), t.data
        overlaps = any(s == 0 and n > 1 for s, n in zip(t.stride(), t.shape, strict=True))
        kept, needs = None if overlaps else values.clone(), t.requires_grad

        def undo() -> None:
            t.data = values
            if kept is not None:
                values.copy_(kept)
            if t.is_leaf:
                t.grad = grad
                t.requires_grad_(needs)

        self._undo.append(undo)
        return [] if grad is None else [grad]

    def _saved_container(self, one: Any) -> list[Any]:
        held = [*one.values()] if isinstance(one, dict) else [*one]
        if isinstance(one, tuple):
            return held
        kept = one.copy()
        put = one.update if isinstance(one, dict | set) else one.extend

        def undo() -> None:
            one.clear()
            put(kept)

        self._undo.append(undo)
        return held + ([*one] if isinstance(one, dict) else [])

    def _saved_code(self, one: Any) -> Iterator[Any]:
        """What a function, a method or a partial function holds."""
        if isinstance(one, functools.partial):
            yield from (one.func, one.args, one.keywords)
        if isinstance(one, types.MethodType):
            yield from (one.__self__, one.__func__)
        if not isinstance(one, types.FunctionType):
            return
        yield from (one.__defaults__, one.__kwdefaults__)
        for cell in one.__closure__ or ():
            with contextlib.suppress(ValueError):  # of a variable without a value yet
                kept = cell.cell_contents
                self._undo.append(functools.partial(setattr, cell, "cell_contents", kept))
                yield kept
        named = (one.__globals__.get(name) for name in one.__code__.co_names)
        yield from (value for value in named if isinstance(value, IN_GLOBALS))

    def _saved_attributes(self, one: Any) -> list[Any]:
        """The attributes of a module, an optimiser, or an object of a class of the user's."""
        home = type(one).__module__.partition(".")[0]
        opened = isinstance(one, OPENED) or home not in FOREIGN
        closed = isinstance(one, type | types.ModuleType | Dataset)
        if closed or not opened or not isinstance(getattr(one, "__dict__", None), dict):
            return []
        hidden = [*one.parameters(), *one.buffers()] if isinstance(one, nn.Module) else []
        return [vars(one), *hidden]


@contextlib.contextmanager
def restored(*roots: Any) -> Iterator[Snapshot]:
    """Context manager: yield a snapshot of some objects, and restore them at the end, also after an
    error or Ctrl-C.
    """
    saved = Snapshot(*roots)
    try:
        with torch.enable_grad():
            yield saved
    finally:
        until_done(saved.restore)


def _undo_of_generator(one: Any) -> Callable[[], Any]:
    """Return the function that sets a generator of NumPy or Python back."""
    if isinstance(one, random.Random):
        return functools.partial(one.setstate, one.getstate())
    if isinstance(one, np.random.RandomState):
        return functools.partial(one.set_state, one.get_state())
    return functools.partial(setattr, one.bit_generator, "state", one.bit_generator.state)


def _random_states() -> list[tuple[Callable[[Any], Any], Any]]:
    """The global random states, each with the function that sets it."""
    found: list[tuple[Callable[[Any], Any], Any]] = [
        (torch.set_rng_state, torch.get_rng_state()),
        (np.random.set_state, np.random.get_state()),  # noqa: NPY002  # what user code may read
        (random.setstate, random.getstate()),
    ]
    if torch.cuda.is_initialized():
        found.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    return found


def seed_all(seed: int) -> None:
    """Set the global random states of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # what user code may read
    random.seed(seed)
