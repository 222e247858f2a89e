"""Work that another process interrupts; the other end is test_interrupts.py.

    python interrupted.py KIND

Each line of stdin is a round, and each round runs one piece of work of a kind. It prints "begin"
and the usual number of seconds, works until the end or KeyboardInterrupt, waits for the next line,
which comes after the last signal, and prints "ended" or "raised". Then it checks that the work has
the results of the start, and that nothing else has changed.
"""

import signal
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from cases import FAMILIES
from torch import nn
from torch.func import grad_and_value, vmap

import gersgorin
from rhn.kernels import OUTPUT, SOFTMAX
from rhn.models import PolyphonicModel
from rhn.training.ensemble import Ensemble
from trainability import check

THREADS = 2
Work = Callable[[], object]


def tensors_in(found: object) -> list[torch.Tensor]:
    """All numbers of a result."""
    if isinstance(found, torch.Tensor):
        return [found.detach().clone()]
    if isinstance(found, np.ndarray):
        return [torch.from_numpy(found.copy())] if found.dtype.kind in "biufc" else []
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        return [t for one in found for t in tensors_in(one)]
    if isinstance(found, bool | int | float):
        return [torch.tensor(found, dtype=torch.float64)]
    return []


def output_arguments() -> dict:
    return {
        "y": torch.randn(4, 400, 32, 24),
        "W": torch.randn(4, 88, 24),
        "b": torch.randn(4, 88),
        "frames": (torch.rand(4, 400, 32, 88) < 0.05).float(),
        "mask": torch.ones(4, 400, 32),
    }


def softmax_arguments() -> dict:
    return {
        "y": torch.randn(1, 40, 32, 32),
        "U": torch.randn(1, 4096, 32) / 6,
        "b": torch.randn(1, 4096),
        "targets": torch.randint(4096, (1, 40, 32)),
        "mask": (torch.rand(1, 32, 32) < 0.5).float() * 2,
    }


def kernels() -> list[tuple[Callable, dict]]:
    """Each kind of kernel, as a function of the tensors of one model, with those of K models."""
    found: list[tuple[Callable, dict]] = [
        (OUTPUT, output_arguments()),
        (SOFTMAX, softmax_arguments()),
    ]
    for case in FAMILIES:
        size = (300, 32, 16, 32, 2) if case.deep else (60, 32, 16, 32, 1)
        arguments = case.arguments(*size, stack=4, dtype=torch.float32)
        found.append((lambda *a, case=case: case.manual(*a, **case.options), arguments))
    return found


def forward() -> list[Work]:
    def work(kernel, arguments):
        with torch.no_grad():
            return vmap(kernel)(*arguments.values())

    return [lambda k=k, a=a: work(k, a) for k, a in kernels()]


def backward() -> list[Work]:
    def work(kernel, arguments):
        kept = [n for n, name in enumerate(arguments) if name not in ("targets", "mask", "frames")]

        def loss(*tensors):
            return kernel(*tensors).double().square().mean()

        return vmap(grad_and_value(loss, argnums=tuple(kept)))(*arguments.values())

    return [lambda k=k, a=a: work(k, a) for k, a in kernels()]


def ensembles() -> list[Work]:
    models = [PolyphonicModel("rhn", hidden_size=24, depth=3) for _ in range(6)]
    ensemble, frames = Ensemble.of(models), (torch.rand(150, 20, 88) < 0.05).float()

    def loss(model, x):
        return model(x).square().mean()

    return [
        lambda: ensemble.gradients(loss, frames),
        lambda: ensemble.map(loss, frames),
    ]


class Own(nn.Module):
    """A user's module, which creates tensors."""

    def __init__(self):
        super().__init__()
        self.cell, self.more = nn.GRUCell(3, 12), nn.Dropout(0.5)

    def forward(self, x, h):
        h = self.more(self.cell(x, h)) + torch.tensor(0.1) * torch.ones(12)
        return h, h


OWN = Own()
LSTM = nn.LSTM(3, 24)


def analyses() -> list[Work]:
    x, h = torch.randn(150, 3), torch.zeros(1, 12)
    return [
        lambda: vars(gersgorin.spectra(OWN, x, h)),
        lambda: vars(gersgorin.lyapunov(OWN, x, h)),
        lambda: vars(gersgorin.spectra(LSTM, x)),
        lambda: vars(gersgorin.influence(LSTM, x[:40, None], batch_first=False)),
    ]


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, 4, batch_first=True), nn.Linear(4, 1)
        self.more = nn.Dropout(0.1)

    def forward(self, x):
        return self.out(self.more(self.rnn(x)[0][:, -1]))


MODEL = Last()
OPTIMIZER = torch.optim.Adam(MODEL.parameters(), 1e-2)
X = torch.randn(40, 3, 2)


def checks() -> list[Work]:
    y = X[:, :2, 0].sum(1, keepdim=True)

    def work():
        found = check(MODEL, X, y, nn.MSELoss(), OPTIMIZER, steps=2)
        return [[fact.numbers for fact in found.facts], str(found.starred)]

    return [work]


KINDS = {
    "forward": forward,
    "backward": backward,
    "ensemble": ensembles,
    "analysis": analyses,
    "check": checks,
}


def state() -> list:
    """What no work changes: settings, random states, and the user's objects."""
    settings = [
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.backends.cudnn.enabled,
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        (torch.tensor([1e-40]) * 1).item() > 0,
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    ]
    modules = [part for model in (OWN, LSTM, MODEL) for part in model.modules()]
    kept = [
        (part.training, len(part._forward_hooks), len(part._forward_pre_hooks)) for part in modules
    ]
    numbers = [p.detach().clone() for model in (OWN, LSTM, MODEL) for p in model.parameters()]
    grads = [p.grad is None and p.requires_grad for p in MODEL.parameters()]
    moments = [len(OPTIMIZER.state), OPTIMIZER.param_groups[0]["lr"]]
    return [settings, kept, [t.tolist() for t in numbers], grads, moments]


def interruptible(work: Work) -> object:
    return work()


def handle(_, frame) -> None:
    """Raise KeyboardInterrupt in the work, as Python does, but not in this file around it."""
    while frame is not None:
        if frame.f_code is interruptible.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back


def main(kind: str) -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    works = KINDS[kind]()
    signal.signal(signal.SIGINT, handle)
    wanted, seconds = [], []
    for work in works:
        work()
        begun = time.perf_counter()
        wanted.append(tensors_in(work()))
        seconds.append(time.perf_counter() - begun)
    before = state()
    for count, _ in enumerate(sys.stdin):
        k = count % len(works)
        print("begin", seconds[k], flush=True)
        how, found = "raised", None
        try:
            found = interruptible(works[k])
            how = "ended"
        except KeyboardInterrupt:
            pass
        sys.stdin.readline()
        print(how, flush=True)
        assert state() == before, f"{kind} {k} has changed something"
        results = [found] if how == "ended" else []
        for one in (*results, works[k]()):
            pairs = zip(tensors_in(one), wanted[k], strict=True)
            assert all(equal(*pair) for pair in pairs), f"{kind} {k} has other results"


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num())


if __name__ == "__main__":
    main(sys.argv[1])
