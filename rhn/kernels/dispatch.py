"""A kernel is a row: the tensors it takes, its equation, and the code that computes it for K stacked models.

    HIGHWAY = Kernel(name="highway", arguments={"x": "T B m", ...}, reference=..., forward=..., backward=..., compiled=..., limit=...)
    HIGHWAY(x, s0, W, R, b, coupled=True)                   in C if its limit allows, else by `forward`; backward uses the same code
    HIGHWAY(x, s0, W, R, b, coupled=True, reference=True)   the equation itself

All rows: `rhn.kernels.table`. A call is decided by shapes, types, devices and what the machine has, never by values, so that a call
under `vmap` or in a CUDA graph is decided like any other.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rhn.kernels.autograd import Code, batched_function
from rhn.kernels.validation import Sizes, is_traced, validate

C, FUSED, LOOPED = "C", "fused", "loop"


def _no_sizes(*tensors, **options) -> Sizes:
    return {}


@dataclass(frozen=True, eq=False, kw_only=True)
class Kernel:
    """One recurrence or loss.

    name: also for messages
    arguments: the shape of each tensor by its name, see `rhn.kernels.validation`; "*" is any number of tensors, without gradient last
    options: the default of every option
    sizes: (*tensors, **options) -> sizes that no shape says; raises InvalidInputError for what the shapes do not refuse
    reference: (*tensors, **options) -> the result of one model, in plain differentiable operations
    forward, backward: for K stacked models, see `rhn.kernels.autograd`; without them the reference takes their place
    way: what these are called
    compiled: the same two in C
    limit: (*tensors, **options) -> why C does not compute a call, or None
    """

    name: str
    arguments: Mapping[str, str]
    options: Mapping = field(default_factory=dict)
    sizes: Callable[..., Sizes] = _no_sizes
    reference: Callable[..., Tensor]
    forward: Callable | None = None
    backward: Callable | None = None
    way: str = FUSED
    compiled: tuple[Callable, Callable] | None = None
    limit: Callable[..., str | None] = _no_sizes

    def __call__(self, *tensors: Tensor | None, reference: bool = False, **options) -> Tensor:
        """Compute the result of one model; under `vmap` of all models at once.

        Tensors may be given by name. Raises InvalidInputError if one does not fit.
        """
        tensors, options = self.check(*tensors, **options)
        code = None if reference or is_traced(*tensors) else self._choose(*tensors, **options)
        if code is None:
            return self.reference(*tensors, **options)
        return batched_function(code, *tensors, keep=torch.is_grad_enabled(), **options)

    def check(self, *tensors: Tensor | None, **options) -> tuple[list[Tensor | None], dict]:
        """All tensors and all options of a call; raises InvalidInputError if one does not fit."""
        arguments = _repeated(self.arguments, len(tensors))
        tensors += tuple(options.pop(name.removesuffix("?"), None) for name in [*arguments][len(tensors) :])
        options = {**self.options, **options}
        return validate(self.name, arguments, tensors, self.sizes(*tensors, **options)), options

    def _choose(self, *tensors: Tensor | None, **options) -> Code | None:
        """The code for a call; None if only the reference computes it."""
        if self.compiled is not None:
            reason = self.limit(*tensors, **options)
            _record(Choice(self.name, C, reason))
            if reason is None:
                return Code(self.name, *self.compiled)
        if self.forward is None:
            return None
        _record(Choice(self.name, self.way, None))
        return Code(self.name, self.forward, self.backward)


def _repeated(arguments: Mapping[str, str], count: int) -> Mapping[str, str]:
    """The arguments of a call with so many tensors, with a name for each of those that "*" stands for."""
    if "*" not in arguments:
        return arguments
    own = {f"weight {k}": arguments["*"] for k in range(count - len(arguments) + 1)}
    rows = (own if name == "*" else {name: shape} for name, shape in arguments.items())
    return {name: shape for row in rows for name, shape in row.items()}


@dataclass(frozen=True)
class Choice:
    """An implementation that was considered for a call; `reason`: why it was not used, None if it was."""

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


def _record(choice: Choice) -> None:
    if (choices := _CHOICES.get()) is not None:
        choices.append(choice)
