"""Give back everything that a training run changes, bit for bit and in place.

    with restored(model, loss_fn, optimizer, scheduler) as saved:
        ...                             # train, replace weights, switch dropout off
        saved.restore()                 # as often as needed, and at the end

Saved are tensors with their gradients, the attributes of modules, optimisers, schedulers and the
user's own objects and classes, containers in them, variables of closures, generators, and the
random states of torch, NumPy and Python. Of functions in the user's own files (not in a library),
and of the functions that they call, the global variables are saved, too.
"""

import argparse
import array
import contextlib
import functools
import inspect
import os
import random
import sys
import sysconfig
import types
from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterator
from pathlib import Path
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
    types.SimpleNamespace,
    argparse.Namespace,
    UserDict,
    UserList,
)
"""Objects of libraries whose attributes are saved; others of torch have states of their own."""
FOREIGN = {*sys.stdlib_module_names, "torch", "numpy"} - {"__main__"}
CONTAINERS = (dict, list, set, deque, tuple)
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
ATOMS = (type(None), bool, int, float, complex, str, bytes)
IN_GLOBALS = (
    *(Tensor, np.ndarray, bytearray, array.array),
    *(*CONTAINERS, *GENERATORS, *OPENED),
    *(types.MethodType, functools.partial),
)
"""Kinds of objects that are saved if a global variable of the user's names one."""
OWN = Path(__file__).parents[1]  # the folder of this package and of others of the toolkit
LIBRARIES = (
    *(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib")),
    *(f"{OWN / name}{os.sep}" for name in ("rhn", "gersgorin", "trainability")),
    "<frozen ",
)
INSTALLED = {"site-packages", "dist-packages"}
ABSENT = object()


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
            if type(one) not in ATOMS and id(one) not in self._seen:
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
            if one.flags.writeable:
                self._undo.append(functools.partial(np.copyto, one, one.copy()))
            return []
        if isinstance(one, bytearray | array.array):
            self._undo.append(functools.partial(one.__setitem__, slice(None), one[:]))
            return []
        if isinstance(one, torch.Generator):
            self._undo.append(functools.partial(one.set_state, one.get_state()))
            return []
        if isinstance(one, np.random.Generator | np.random.RandomState | random.Random):
            self._undo.append(_undo_of_generator(one))
            return []
        if isinstance(one, type):
            return self._saved_class(one)
        if isinstance(one, CONTAINERS):
            return [*self._saved_container(one), *self._saved_attributes(one)]
        return [*self._saved_code(one), *self._saved_attributes(one)]

    def _saved_tensor(self, t: Tensor) -> list[Any]:
        grad, values = (t.grad if t.is_leaf else None), t.data
        strides = t.stride() if t.layout is torch.strided else ()
        overlaps = any(s == 0 and n > 1 for s, n in zip(strides, t.shape, strict=False))
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
        if _is_users_code(one):
            yield vars(one)
            yield from self._saved_globals(one)

    def _saved_globals(self, function: types.FunctionType) -> Iterator[Any]:
        """The global variables that a function names, also those of the user's modules."""
        names = names_in(function.__code__)
        for space in spaces_of(function, names):
            known = {name: space.get(name, ABSENT) for name in names}
            self._undo.append(functools.partial(_rebind, space, known))
            for value in known.values():
                if isinstance(value, IN_GLOBALS) or _is_users(value):
                    yield value
                elif isinstance(value, types.FunctionType):
                    yield inspect.unwrap(value)  # a user's one in a wrapper of a library

    def _saved_class(self, one: type) -> list[Any]:
        """The attributes of a class of the user's, and what its methods hold."""
        if not _is_users(one):
            return []
        kept = dict(vars(one))
        self._undo.append(functools.partial(_reset_class, one, kept))
        held = list[Any](one.__bases__)
        for value in kept.values():
            if isinstance(value, property):
                held += [value.fget, value.fset]
            elif isinstance(value, staticmethod | classmethod):
                held.append(value.__func__)
            else:
                held.append(value)
        return held

    def _saved_attributes(self, one: Any) -> list[Any]:
        """The attributes of a module, an optimiser, or an object of a class of the user's."""
        home = type(one).__module__.partition(".")[0]
        opened = isinstance(one, OPENED) or home not in FOREIGN
        if isinstance(one, types.ModuleType | Dataset) or not opened:
            return []
        held: list[Any] = [type(one), *self._saved_slots(one)]
        if isinstance(getattr(one, "__dict__", None), dict):
            held.append(vars(one))
        if isinstance(one, nn.Module):
            held += [*one.parameters(), *one.buffers()]
        return held

    def _saved_slots(self, one: Any) -> Iterator[Any]:
        """The attributes that `__slots__` of a class of Python names."""
        for kind in type(one).__mro__:
            slots = vars(kind) if "__slots__" in vars(kind) else {}
            for slot in slots.values():
                if isinstance(slot, types.MemberDescriptorType):
                    value = _slot_value(slot, one)
                    self._undo.append(functools.partial(_set_slot, slot, one, value))
                    yield value


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


def names_in(code: types.CodeType) -> set[str]:
    """Return the names in some code and in the functions inside it: those of global variables, and
    those of attributes.
    """
    inner = [names_in(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return {*code.co_names}.union(*inner)


def spaces_of(function: types.FunctionType, names: set[str]) -> list[dict[str, Any]]:
    """Return the variables of a function's module, and of the user's modules that it names."""
    spaces = [function.__globals__]
    for space in spaces:
        named = [space[name] for name in names & space.keys()]
        for module in named:
            if not isinstance(module, types.ModuleType) or not is_users_file(_file_of(module)):
                continue
            if all(vars(module) is not known for known in spaces):
                spaces.append(vars(module))
    return spaces


def is_users_file(file: str) -> bool:
    """True for a file, a cell or a text of the user's, False for one of a library."""
    return not file.startswith(LIBRARIES) and not INSTALLED & {*Path(file).parts}


def _is_users_code(function: types.FunctionType) -> bool:
    return is_users_file(function.__code__.co_filename)


def _file_of(module: types.ModuleType) -> str:
    """Return the file or the folder of a module; one of Python for a module without both."""
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return next((place for place in places if place), LIBRARIES[0])


def _is_users(one: Any) -> bool:
    """True for a function or a class in a file of the user's, and for an object of such a class."""
    if isinstance(one, types.FunctionType):
        return _is_users_code(one)
    home = (one if isinstance(one, type) else type(one)).__module__
    if home.partition(".")[0] in FOREIGN:
        return False
    module = sys.modules.get(home)
    if module is None or home == "__main__":
        return True  # a file that `runpy` has run
    return is_users_file(_file_of(module))


def _rebind(space: dict[str, Any], known: dict[str, Any]) -> None:
    """Set variables of a module; those that were absent are removed."""
    for name, value in known.items():
        if value is ABSENT:
            space.pop(name, None)
        else:
            space[name] = value


def _reset_class(one: type, kept: dict[str, Any]) -> None:
    """Set the attributes of a class; new ones are removed, but those of Python's own."""
    for name in vars(one).keys() - kept.keys():
        if not name.startswith("__"):
            type.__delattr__(one, name)
    for name, value in kept.items():
        if vars(one).get(name, ABSENT) is not value:
            type.__setattr__(one, name, value)


def _slot_value(slot: types.MemberDescriptorType, one: Any) -> Any:
    """Return the value of a slot; ABSENT if it has none."""
    try:
        return slot.__get__(one)
    except AttributeError:
        return ABSENT


def _set_slot(slot: types.MemberDescriptorType, one: Any, value: Any) -> None:
    """Set a slot, or empty it if its value is ABSENT."""
    if value is not ABSENT:
        slot.__set__(one, value)
    elif _slot_value(slot, one) is not ABSENT:
        slot.__delete__(one)


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
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # the function for all devices stores the stack of calls for each kind of them
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # what user code may read
    random.seed(seed)
