"""Norms of the products of the Jacobians of one run, forward and back.

Spectra of single steps do not compose: a gradient over many steps grows by at most the norm of the
product A[t] ... A[0].

Legend: T time steps; N entries of a state; A[t] = ds[t+1]/ds[t]. Logarithms are natural.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor

from gersgorin.growth import DOUBLING, GROWTH, HALF_LIFE, LOG_NORM, RATE, growth_curve, growth_rows
from gersgorin.linalg.jacobian_products import log_norms, running_products
from gersgorin.linalg.threads import one_thread
from gersgorin.results import DIFFERENCE, PRODUCT, StepResult, values_or_nan
from gersgorin.run import Run, RunOptions, names_options, open_run
from gersgorin.smoothness import difference

BACK, TO_LAST = "log10 ||ds[T]/ds[t]||", "to last state"
LARGEST, SMALLEST = (
    "step t of the largest ||ds[t]/ds[0]||",
    "step t of the smallest ||ds[t]/ds[0]||",
)
ZERO = "steps whose product is 0"

PerStep = Annotated[np.ndarray, "step"]
Block = tuple[slice, Tensor, Tensor]
"""The steps of a block, and M (steps, N, N) and integers e (steps,) for their Jacobians M 2^e."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Products(StepResult):
    """Logarithms of the norms of Jacobian products of one run.

    >>> found = products(lambda x, s: s / 2, torch.zeros(10, 1), torch.zeros(1))
    >>> round(found.table()[HALF_LIFE], 4), round(float(np.exp(found.log_norm_back[-2])), 4)
    (1.0, 0.25)
    """

    page: ClassVar[str] = "docs/guides/spectra.md"
    headline: ClassVar[tuple[str, ...]] = (LOG_NORM, HALF_LIFE)
    label: ClassVar[str] = PRODUCT
    texts: ClassVar[tuple[str, ...]] = (
        *StepResult.run_texts, GROWTH, BACK, LOG_NORM, RATE, HALF_LIFE, DOUBLING, LARGEST,
        SMALLEST, ZERO, TO_LAST, DIFFERENCE,
    )  # fmt: skip

    log_norm: PerStep
    """log ||A[t] ... A[0]||_2 = log ||ds[t+1]/ds[0]||_2, (T,); -inf from a product of 0 on."""
    log_norm_back: PerStep
    """log ||A[T-1] ... A[t]||_2 = log ||ds[T]/ds[t]||_2, (T,)."""
    difference: PerStep | None = None
    """How much the Jacobian differs from differences, (T,), see `gersgorin.smoothness.difference`;
    NaN where the Jacobian over- or underflows. None in a result of 0.7.0.
    """

    @property
    def exponent(self) -> np.ndarray:
        """log_norm[t] / (t + 1), (T,): the mean growth per step of the change that grows most."""
        return self.log_norm / np.arange(1, len(self.log_norm) + 1)

    def table(self) -> Mapping[str, Any]:
        return {
            GROWTH: self.log_norm / math.log(10),
            BACK: self.log_norm_back / math.log(10),
            DIFFERENCE: values_or_nan(self.difference, len(self.log_norm)),
            **growth_rows(self.log_norm),
            LARGEST: int(self.log_norm.argmax()) + 1,
            SMALLEST: int(self.log_norm.argmin()) + 1,
        }

    def curves(self) -> dict[str, np.ndarray]:
        back = np.append(self.log_norm_back, 0) / math.log(10)
        return {**growth_curve(self.log_norm), TO_LAST: back}

    def notes(self) -> Mapping[str, int]:
        return {ZERO: int(np.isneginf(self.log_norm).sum())}


@names_options(RunOptions)
@torch.no_grad()
@one_thread()
def products(network: Any, x: Any = None, s0: Any = None, **how: Unpack[RunOptions]) -> Products:
    """Measure the norms of two products for each step: from the first state, and to the last one.

    network, x, s0, state_size, ..., progress: as for `open_run`, with its errors. Logarithms have
    no unit.

    >>> found = products(lambda x, s: 2 * s + x, torch.zeros(10, 1), torch.zeros(1))
    >>> (found.log_norm / math.log(2)).round(4)[[0, -1]].tolist()  # 2^1, 2^10
    [1.0, 10.0]
    """
    run, gaps = open_run(network, x, s0, **how), list[np.ndarray]()
    run.check_memory()
    with run.reporting("products") as reporting:
        forward_blocks: Iterable[Block] = compared(reporting, gaps)
        back_blocks: Iterable[Block] = reporting.blocks(back=True)
        if len([*run.slices()]) == 1:  # which both directions read
            forward_blocks = back_blocks = [*forward_blocks]
        forward = norms_along(forward_blocks)
        back = norms_along(transposed(back_blocks))[::-1]
    return Products(
        **run.heading, log_norm=forward, log_norm_back=back, difference=np.concatenate(gaps)
    )


def compared(run: Run, gaps: list[np.ndarray]) -> Iterator[Block]:
    """Yield the blocks of a run, and append the differences of their steps to `gaps`."""
    for now, M, e in run.blocks():
        gap = difference(run.step.rows, *run.at(now), partial(torch.einsum, "tij,tj->ti", M))
        gaps.append(np.where(e.cpu().numpy() == 0, gap, np.nan))
        yield now, M, e


def transposed(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks of A[T-1]^T, ..., A[0]^T from the blocks of a run, the last one first."""
    for now, M, e in blocks:
        yield now, M.mT.flip(0), e.flip(0)


def norms_along(blocks: Iterable[Block]) -> np.ndarray:
    """log ||A[t] ... A[0]||_2 for t = 0..T-1, (T,), from the blocks of A[0], ..., A[T-1]."""
    last, logs = None, []
    for _, M, e in blocks:
        P, exponent = running_products(M.cpu().double(), e.cpu(), last)
        last = P[-1], exponent[-1]
        logs.append(log_norms(P, exponent).numpy())
    return np.concatenate(logs)
