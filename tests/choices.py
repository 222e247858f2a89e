"""Record which code computes the calls of kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from rhn.kernels.table import Kernel


@contextmanager
def recorded_choices() -> Iterator[list[str]]:
    """The code of each call within the context: "C", "Triton", "fused", or "reference"."""
    choices, choose = [], Kernel._choose

    def chosen(kernel, **call):
        code = choose(kernel, **call)
        names = {special.passes: special.name for special in kernel.special}
        choices.append("reference" if code is None else names.get(code, "fused"))
        return code

    with patch.object(Kernel, "_choose", chosen):
        yield choices
