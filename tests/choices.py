"""Record which code computes the calls of kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from rhn.kernels.kernel import Kernel


@contextmanager
def recorded_choices() -> Iterator[list[str]]:
    """The code of each call within the context: "C", "fused", or "reference"."""
    choices, choose = [], Kernel._choose

    def chosen(kernel, **call):
        code = choose(kernel, **call)
        choices.append("reference" if code is None else "C" if code is kernel.compiled else "fused")
        return code

    with patch.object(Kernel, "_choose", chosen):
        yield choices
