"""The scale of tolerances is itself tested: what rounding explains is allowed, and nothing else."""

import pytest
import torch
from hosts import FILES, TESTS
from rounding import assert_as_exact


def test_errors_are_allowed_where_digits_cancel_and_only_there():
    x = torch.linspace(1, 2, 50, dtype=torch.float64)
    single = {"x": (x.float() + 1e4) - 1e4}
    assert_as_exact(single, lambda: {"x": (x + 1e4) - 1e4})
    with pytest.raises(AssertionError, match="x: error"):
        assert_as_exact(single, lambda: {"x": x + 0})


def test_the_files_that_run_as_on_other_machines_are_there():
    assert not [name for name in FILES if not (TESTS.parent / name).exists()]
