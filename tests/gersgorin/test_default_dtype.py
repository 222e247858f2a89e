"""What a user's module creates is float64 in an analysis, and nothing changes in other threads. The
oracle is `torch.set_default_dtype`, which holds for the whole process.
"""

import math
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import jacfwd, jacrev, vmap

import gersgorin
from gersgorin.double_precision import DoubleByDefault

LONG = 60  # seconds that no test waits
IDS = torch.arange(5)
MASK = IDS > 2
SINGLE = np.float32([0.1])
CALLS = {
    "zeros": lambda: torch.zeros(2),
    "empty": lambda: torch.empty(2).fill_(0.1),
    "full": lambda: torch.full((2,), 0.1),
    "full of whole numbers": lambda: torch.full((2,), 1),
    "eye": lambda: torch.eye(2),
    "arange": lambda: torch.arange(0.0, 1.0, 0.1),
    "arange of whole numbers": lambda: torch.arange(3),
    "linspace": lambda: torch.linspace(0, 1, 7),
    "hann_window": lambda: torch.hann_window(5),
    "fftfreq": lambda: torch.fft.fftfreq(5),
    "tensor": lambda: torch.tensor(0.1),
    "nested list": lambda: torch.tensor(((0.1, 1), (2, 3.0))),
    "complex": lambda: torch.tensor(0.1j),
    "as_tensor": lambda: torch.as_tensor([0.1]),
    "float32 of NumPy": lambda: torch.as_tensor(SINGLE),
    "float32 of the user": lambda: torch.zeros(2, dtype=torch.float32),
    "complex64 of the user": lambda: torch.zeros(2, dtype=torch.complex64) * 2,
    "rand": lambda: torch.rand(3),
    "rand in float32": lambda: torch.rand(3, dtype=torch.float32),
    "randn": lambda: torch.randn(3, generator=torch.Generator().manual_seed(1)),
    "normal": lambda: torch.normal(0.0, 1.0, (3,)),
    "module": lambda: nn.Linear(2, 2).weight,
    "quotient": lambda: IDS / 3,
    "inverse": lambda: 1 / (1 + IDS),
    "quotient by a number of NumPy": lambda: IDS / np.int64(3),
    "product": lambda: IDS * 0.1,
    "product in float32": lambda: torch.ones(2, dtype=torch.float32) * 0.1,
    "product by a number of NumPy": lambda: IDS * np.float64(0.1),
    "product of a mask": lambda: MASK * 0.1,
    "mean of a mask": lambda: MASK.sum() / 7,
    "positions": lambda: torch.exp(IDS * (-math.log(1e4) / 5)),
    "power": lambda: 0.3**IDS,
    "where": lambda: torch.where(MASK, 0.1, 0.9),
    "where of whole numbers": lambda: torch.where(MASK, IDS, 0.3),
    "clamp": lambda: torch.clamp(IDS, 0.1),
    "distribution": lambda: torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(0.1)),
    "float()": lambda: F.one_hot(IDS).float(),
    "to()": lambda: IDS.to(torch.float32),
    "in place": lambda: torch.zeros(3).add_(0.1),
}


@pytest.mark.parametrize("call", list(CALLS))
def test_results_are_those_of_the_default_type_to_the_bit(call):
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        wanted = CALLS[call]()
    finally:
        torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    with DoubleByDefault():
        found = CALLS[call]()
    assert found.dtype == wanted.dtype and torch.equal(found, wanted)


def f(x):
    return x * torch.tensor(0.1) + IDS[:3] / 3 + torch.where(x > 0, 0.1, 0.2) + torch.eye(3) @ x


def in_double(x):
    with DoubleByDefault():
        return f(x)


TRANSFORMS = {
    "vmap": vmap,
    "jacrev": lambda f: vmap(jacrev(f)),
    "jacfwd": lambda f: vmap(jacfwd(f)),
}


@pytest.mark.parametrize("transform", list(TRANSFORMS))
def test_results_inside_transformations_are_the_same(transform):
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        wanted = TRANSFORMS[transform](f)(x)
    finally:
        torch.set_default_dtype(torch.float32)
    found = TRANSFORMS[transform](in_double)(x)
    assert found.dtype == torch.float64 and torch.equal(found, wanted)


class Creates(nn.Module):
    """A module that creates tensors, and meanwhile calls a function."""

    def __init__(self, meanwhile=lambda: None):
        super().__init__()
        self.cell, self.meanwhile = nn.GRUCell(2, 3), meanwhile

    def __deepcopy__(self, memo):
        new = Creates(self.meanwhile)
        new.load_state_dict(self.state_dict())
        return new

    def forward(self, x, h):
        self.meanwhile()
        h = self.cell(x, h) * torch.tensor(0.1) + torch.arange(3) / 7
        return h, h


class Other:
    """Another thread, which creates tensors when it is asked to."""

    def __init__(self):
        self.asked, self.answered, self.found = threading.Semaphore(0), threading.Semaphore(0), []
        threading.Thread(target=self._create, daemon=True).start()

    def _create(self):
        while self.asked.acquire(timeout=LONG):
            made = torch.zeros(1), torch.tensor(0.1), torch.arange(3) / 7, torch.Tensor([1.0])
            self.found += [t.dtype for t in made]
            self.answered.release()

    def ask(self):
        self.asked.release()
        assert self.answered.acquire(timeout=LONG)


def test_new_tensors_of_another_thread_are_float32_during_an_analysis():
    other = Other()
    gersgorin.gains(Creates(other.ask), torch.randn(4, 2), torch.zeros(1, 3))
    assert len(other.found) >= 16 and set(other.found) == {torch.float32}


@pytest.mark.parametrize("name", ["spectra", "lyapunov", "products", "gains"])
def test_analyses_in_two_threads_have_the_bits_of_one_alone(name):
    """Each thread waits for the other at every step of its network."""
    x, h = torch.randn(2, 12, 2), torch.zeros(1, 3)
    networks = [Creates(), Creates()]
    analysis, before = getattr(gersgorin, name), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = [analysis(n, each, h) for n, each in zip(networks, x, strict=True)]
        together, both = [None, None], threading.Barrier(2)

        def analyse(k):
            with_other = Creates(lambda: both.wait(LONG))
            with_other.load_state_dict(networks[k].state_dict())
            together[k] = analysis(with_other, x[k], h)

        threads = [threading.Thread(target=analyse, args=(k,)) for k in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for one, other in zip(alone, together, strict=True):
        for field, value in vars(one).items():
            np.testing.assert_array_equal(value, vars(other)[field], err_msg=field)
    assert torch.get_default_dtype() == torch.float32 and torch.backends.cudnn.enabled
