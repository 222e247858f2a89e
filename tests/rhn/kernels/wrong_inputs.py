"""Wrong and unusual tensors for every kernel, judged by the reference. Run as a program: a crash then ends only this process.

python wrong_inputs.py FIRST        from case FIRST on: "<number> <case>: ok", or what is wrong; the name is printed first
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(
    0, str(Path(__file__).resolve().parents[3])
)  # first: else the folder tests/rhn stands for the package rhn
from cases import KERNELS, dropout_mask

from rhn import kernels
from rhn.cells import CELLS
from rhn.errors import RhnError
from rhn.kernels.bernoulli import output_nll, output_nll_reference

SIZES = {"T": 5, "B": 40, "m": 6, "n": 8, "L": 2}


@dataclass(frozen=True)
class Row:
    """One public kernel with its reference. `arguments()` makes the same tensors at each call, by name."""

    name: str
    kernel: Callable
    reference: Callable
    arguments: Callable[[], dict[str, Tensor]]
    options: dict = field(default_factory=dict)
    free: tuple[str, ...] = ()  # tensors whose shapes are up to a function of the caller's


def _recurrences() -> Iterator[Row]:
    cases = {case.name: case for case in KERNELS}
    make = lambda name: partial(cases[name].arguments, **SIZES, dtype=torch.float32)  # noqa: E731
    T, B, n = SIZES["T"], SIZES["B"], SIZES["n"]
    for name in (
        "highway", "highway-uncoupled", "highway-relu", "deep-transition", "deep-transition-relu",
        "deep-transition-skip-all", "lstm", "gru", "loop",
    ):  # fmt: skip
        free = ("s0", "R", "v") if name == "loop" else ()
        yield Row(name, cases[name].manual, cases[name].reference, make(name), cases[name].options, free)

    def masked(name, J, *, candidate=True):
        def arguments():
            masks = {"state_mask": dropout_mask(J, B, n, dtype=torch.float32)}
            if candidate:
                masks["candidate_mask"] = dropout_mask(B, n, seed=6, dtype=torch.float32)
            return make(name)() | masks

        return arguments

    yield Row("highway masked", kernels.highway, kernels.highway_reference, masked("highway", 2))
    yield Row("deep transition masked", kernels.deep_transition, kernels.deep_transition_reference,
              masked("deep-transition-skip-all", 1, candidate=False))  # fmt: skip
    yield Row("lstm masked", kernels.lstm, kernels.lstm_reference, masked("lstm", 1))
    yield Row("gru masked", kernels.gru, kernels.gru_reference, masked("gru", 1))

    def outputs():
        g = torch.Generator().manual_seed(0)
        shapes = {"y": (T, B, n), "W": (11, n), "b": (11,), "frames": (T, B, 11), "mask": (T, B)}
        return {key: torch.randn(shape, generator=g) for key, shape in shapes.items()}

    def words():
        g = torch.Generator().manual_seed(0)
        own = {key: outputs()[old] for key, old in (("y", "y"), ("U", "W"), ("b", "b"))}
        return own | {"targets": torch.randint(11, (T, B), generator=g)}

    def dropped_words():
        return words() | {"mask": dropout_mask(B, n, dtype=torch.float32)}

    yield Row("output and loss", output_nll, output_nll_reference, outputs)
    yield Row("softmax", kernels.softmax_nll, kernels.softmax_nll_reference, words)
    yield Row("softmax masked", kernels.softmax_nll, kernels.softmax_nll_reference, dropped_words)


VIEWS = {  # the same values in other memory: valid
    "strided": lambda t: torch.stack((t, t + 1), -1)[..., 0],
    "at an offset": lambda t: torch.cat((t.flatten()[:1], t.flatten()))[1:].view(t.shape),
    "expanded": lambda t: t[:1].expand_as(t),
    "negated": lambda t: torch.complex(torch.zeros_like(t), -t).conj().imag,
}
KINDS = {
    "float64": Tensor.double, "float16": Tensor.half, "int64": Tensor.long, "bool": Tensor.bool,
    "complex": lambda t: torch.complex(t, t), "meta": lambda t: t.to("meta"), "sparse": Tensor.to_sparse,
    "a list": Tensor.tolist, "nothing": lambda t: None,
}  # fmt: skip
RANKS = {
    "one dimension more": lambda t: t.unsqueeze(0), "one less": lambda t: t[0], "one row": lambda t: t[:1],
    "flat": Tensor.flatten, "a number": Tensor.sum, "transposed": lambda t: t.mT, "turned": lambda t: t.movedim(0, -1),
}  # fmt: skip


def resized(t: Tensor, dim: int, size: int) -> Tensor:
    """A tensor of another size in one dimension, of numbers like those that are there."""
    return t.index_select(dim, torch.arange(size) % t.shape[dim])


def changes(t: Tensor) -> Iterator[tuple[str, Callable]]:
    """(What is changed, a function that changes it.)"""
    for dim, size in enumerate(t.shape):
        for other in sorted({0, size - 2, size - 1, size + 1, size + 2} - {size, -1}):
            yield f"size {other} in dimension {dim}", partial(resized, dim=dim, size=other)
    ranks = {"flat", "a number", "one dimension more"} if t.dim() < 2 else RANKS
    yield from ((name, RANKS[name]) for name in ranks)
    kinds = {"float64": Tensor.double, "int32": Tensor.int} if not t.is_floating_point() else KINDS
    yield from kinds.items()
    yield from ((name, VIEWS[name]) for name in (VIEWS if t.is_floating_point() else ("strided", "expanded")))


def outcome(function: Callable, arguments: dict, options: dict) -> list[Tensor] | Exception:
    """The value and every gradient, or what was raised."""
    try:
        leaves = [t for name, t in arguments.items() if _has_gradient(name, t)]
        leaves = [t.requires_grad_() for t in leaves]
        value = function(*arguments.values(), **options)
        if not value.requires_grad:
            return [value]
        weight = torch.linspace(-1, 1, value.numel(), dtype=value.dtype, device=value.device).view_as(value) + 0.1
        return [value, *torch.autograd.grad((value * weight).sum(), leaves, allow_unused=True)]
    except Exception as error:
        return error


def _has_gradient(name: str, t) -> bool:
    return isinstance(t, Tensor) and t.is_floating_point() and "mask" not in name and name != "frames"


def verdict(ours: list[Tensor] | Exception, truth: list[Tensor] | Exception) -> str:
    """What is wrong with an outcome; "ok" where nothing is."""
    if isinstance(ours, RhnError):
        return "ok"
    if isinstance(ours, Exception):
        if (type(ours), str(ours)) == (type(truth), str(truth)):
            return "ok"  # torch itself refuses
        return f"raised {type(ours).__name__}: {str(ours).partition(chr(10))[0]}"
    if isinstance(truth, Exception):
        return f"was accepted: the reference raised {type(truth).__name__}"
    for a, b in zip(ours, truth, strict=True):
        if a is None or b is None:
            same = (a is None or not a.any()) and (b is None or not b.any())
        elif a.is_meta or b.is_meta:
            same = a.is_meta == b.is_meta and a.shape == b.shape
        else:
            same = a.shape == b.shape and a.dtype == b.dtype and _close(a.detach(), b.detach())
        if not same:
            return "is not the reference's result"
    return "ok"


def _close(a: Tensor, b: Tensor) -> bool:
    scale = b.abs().nan_to_num().max().item() if b.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, scale), equal_nan=True)


def cases() -> Iterator[tuple[str, Callable[[], str]]]:
    """(Name, a function that runs the case and says what is wrong.)"""
    for row in _recurrences():
        for name, t in row.arguments().items():
            for change, f in changes(t):
                if name in row.free and change not in VIEWS | KINDS:
                    continue
                yield f"{row.name}, {name}: {change}", partial(_wrong_tensor, row, name, f, change in VIEWS)
    for key in CELLS:
        yield from _cells(key)


def _wrong_tensor(row: Row, name: str, change: Callable, valid: bool) -> str:
    results = []
    for function in (row.kernel, row.reference):
        arguments = row.arguments()
        t = change(arguments[name])
        arguments[name] = t.detach() if isinstance(t, Tensor) else t
        results.append(outcome(function, arguments, row.options))
    if valid and isinstance(results[0], Exception) and not isinstance(results[1], Exception):
        return f"is valid and raised {type(results[0]).__name__}"
    return verdict(*results)


def _cells(key: str) -> Iterator[tuple[str, Callable[[], str]]]:
    def build():
        try:
            return CELLS[key](SIZES["m"], SIZES["n"], 3, generator=torch.Generator().manual_seed(0))
        except RhnError:
            return CELLS[key](SIZES["m"], SIZES["n"], 1, generator=torch.Generator().manual_seed(0))

    def run(name, change, states):
        cell = build()
        x, s0 = torch.randn(SIZES["T"], SIZES["B"], SIZES["m"]), torch.zeros(SIZES["B"], cell.state_size)
        weights = dict(cell.named_parameters())
        weights[name] = change(weights[name].detach())
        try:
            if states:
                setattr(cell, name, torch.nn.Parameter(weights[name]))
                cell.states(x, s0)
            else:
                torch.func.functional_call(cell, weights, (x,))
        except RhnError:
            return "ok"
        except Exception as error:
            return f"raised {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return "was accepted"

    for name, p in build().named_parameters():
        for dim, size in enumerate(p.shape):
            for other in sorted({size - 1, size + 2, 3 * size} - {0}):
                for states in (True, False):
                    how = "replaced" if states else "by functional_call"
                    yield (f"{key}, {name}: size {other} in dimension {dim}, {how}",
                           partial(run, name, partial(resized, dim=dim, size=other), states))  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, (name, run) in enumerate(cases()):
        if number >= int(sys.argv[1]):
            print(number, name, end=": ", flush=True)
            print(run().replace("\n", " "), flush=True)
