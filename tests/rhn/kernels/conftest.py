"""Both ways to run a small recurrence, for the tests of kernels alone and in stacks."""

import pytest

from rhn.kernels.compiled import build


@pytest.fixture(params=["compiled", "in Python"])
def code(request, monkeypatch):
    """Both ways to run a small float32 recurrence on a CPU; where nothing can be compiled they are one."""
    if request.param == "in Python":
        monkeypatch.setattr(build, "library", lambda: None)
