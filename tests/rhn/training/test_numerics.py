"""Settings of torch that make results the same, and that are put back."""

import os

import pytest
import torch

from rhn.errors import InvalidInputError
from rhn.training.ensemble import deterministic


@pytest.mark.parametrize("threads", [0, (os.cpu_count() or 1) + 1, 100_000])
def test_threads_that_the_machine_has_not_are_refused(threads):
    """torch ends the process with a segmentation fault for thousands of them."""
    with (
        pytest.raises(
            InvalidInputError, match=f"threads is {threads}: expected a whole number from"
        ),
        deterministic(threads),
    ):
        pass


def test_threads_and_denormal_numbers_are_as_before_afterwards():
    torch.set_num_threads(2)
    try:
        with deterministic():
            assert torch.get_num_threads() == 1
            assert torch.tensor([1e-40]).mul(1).item() == 0
        assert torch.get_num_threads() == 2
        assert torch.tensor([1e-40]).mul(1).item() > 0
    finally:
        torch.set_num_threads(1)
