"""Private functions of torch, all that the packages use: a new version of torch may change any of
them. tests/rhn/test_torch_private.py tries each with the installed torch.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors as flattened
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.dropout import _DropoutNd as Dropout
from torch.nn.modules.module import _global_forward_pre_hooks as HOOKS_BEFORE_CALLS
from torch.optim.optimizer import _global_optimizer_post_hooks as HOOKS_AFTER_STEPS
from torch.optim.optimizer import _global_optimizer_pre_hooks as HOOKS_BEFORE_STEPS
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten
from torch.utils.data.dataloader import _BaseDataLoaderIter as LoaderIterator
from torch.utils.hooks import RemovableHandle

__all__ = [
    "HOOKS_AFTER_STEPS",
    "HOOKS_BEFORE_CALLS",
    "HOOKS_BEFORE_STEPS",
    "BatchNorm",
    "Dropout",
    "LoaderIterator",
    "StorageWeakRef",
    "TreeSpec",
    "flattened",
    "tree_flatten",
    "tree_leaves",
    "tree_map",
    "tree_unflatten",
]


def is_transformed(t: Tensor) -> bool:
    """Return True for a tensor inside a transformation of `torch.func`."""
    return torch._C._functorch.is_functorch_wrapped_tensor(t)


def is_recorded() -> bool:
    """Return True if operations are only recorded or simulated now, by a mode below autograd
    (`make_fx`, `FakeTensorMode`) or `torch.jit.trace`.
    """
    has_mode = torch._C._len_torch_dispatch_stack() > 0
    return has_mode or torch._C._get_tracing_state() is not None


def is_traced_by_fx() -> bool:
    """Return True inside `make_fx`."""
    proxy = torch._C._TorchDispatchModeKey.PROXY
    return torch._C._get_dispatch_mode(proxy) is not None


def has_no_memory(t: Tensor) -> bool:
    """Return True for a gradient of zeros for which torch has taken no memory."""
    return t._is_zerotensor()


def replace_tensors(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Replace every parameter and buffer t of a module by change(t); tied ones stay tied."""
    module._apply(change)


def with_tensors(module: Any, new: Mapping[Tensor, Tensor]) -> Any:
    """Return a copy of a module with new tensors in place of old ones; tied ones stay tied."""
    memo: dict[int, Any] = {}
    for old, t in new.items():
        is_parameter = isinstance(old, nn.Parameter)
        memo[id(old)] = nn.Parameter(t, old.requires_grad) if is_parameter else t
    return copy.deepcopy(module, memo)


def uncompiled(module: Any) -> Any:
    """Return the module inside one of `torch.compile`; anything else as it is."""
    return getattr(module, "_orig_mod", module)


def version_of(t: Tensor) -> int:
    """Return how often a tensor was changed in place. Changes through `.data` do not count."""
    return t._version


def storage_key(t: Tensor) -> int | None:
    """Return a number that names the memory of a tensor while it is in use; None without memory."""
    try:
        return t.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # sparse tensors, and those in torch.func
        return None


class Hook:
    """A hook of torch that can be removed before it is installed: an interrupt in torch's own
    `register_...` functions would leave one without a handle.
    """

    def __init__(self, hooks: dict[int, Callable], function: Callable, *marks: dict[int, bool]):
        self._hooks, self._function, self._marks = hooks, function, marks
        self._handle = RemovableHandle(hooks, extra_dict=[*marks])

    def install(self) -> None:
        """Install the hook, each time with the same id."""
        self._hooks[self._handle.id] = self._function
        for mark in self._marks:
            mark[self._handle.id] = True

    def remove(self) -> None:
        """Remove the hook, if it is installed."""
        self._handle.remove()


def hook_after_call(module: nn.Module, function: Callable) -> Hook:
    """Return a hook function(module, args, kwargs, output) for the end of each call, also after an
    error.
    """
    marks = module._forward_hooks_with_kwargs, module._forward_hooks_always_called
    return Hook(module._forward_hooks, function, *marks)
