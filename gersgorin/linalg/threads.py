"""Batches of matrices, each chunk of which is one single-threaded LAPACK call in its own thread.

Two LAPACK threads on one small matrix gain at most a tenth on an idle machine, and lose a factor of
ten to three hundred on a busy one (measured at n = 64 to 830). A batch is therefore cut into
chunks, each of which is one call in its own thread; torch releases Python's lock during the call.

    with one_thread(): ...          no second thread of LAPACK in this block; also a decorator
    by_chunks(solve, A)             the results of solve(matrices) for all matrices of A
    pieces(A)                       parts of A that keep all threads busy; progress between them
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rhn.utils.threads import in_threads, torch_threads
from rhn.utils.validation import whole_number

# a chunk delayed by a neighbour then costs a quarter of a core's share, not all of it
CHUNKS_PER_WORKER = 4
THREAD = 2**21  # multiplications, sum of n^3, that take about as long as the start of a thread
PIECE = 2**27  # multiplications of a piece: a part of a second


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block, or the decorated function, with one intra-op thread of torch; other threads
    keep their number.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    with torch_threads(1):
        yield


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pieces(A: Tensor) -> tuple[Tensor, ...]:
    """Split matrices (batch, n, n) into pieces with chunks for every core.

    >>> len(pieces(torch.zeros(2 * CHUNKS_PER_WORKER * cores(), 600, 600)))
    2
    """
    *_, n = A.shape
    return A.split(max(CHUNKS_PER_WORKER * cores(), PIECE // n**3))


def by_chunks(
    solve: Callable[[Tensor], Tensor | tuple[Tensor, ...]], A: Tensor, workers: int | None = None
) -> list[Tensor]:
    """Apply `solve`, a function of matrices (batch, n, n), to all finite matrices of A on the CPU,
    in chunks. Returns its results (batch, ...) as (..., ...), with the leading dimensions of A.
    """
    if workers is not None:
        workers = whole_number("workers", workers, 1)
    *batch, n, _ = A.shape
    stack = A.detach().cpu().reshape(math.prod(batch), n, n)
    enough = 1 + stack.numel() * n // THREAD
    n_workers = min(workers or cores(), len(stack), enough)
    n_chunks = min(CHUNKS_PER_WORKER * n_workers, len(stack)) if n_workers > 1 else 1
    with one_thread():
        parts = in_threads(solve, stack.tensor_split(n_chunks), n_workers)
    rows = zip(*(part if isinstance(part, tuple) else (part,) for part in parts), strict=True)
    return [each.reshape(*batch, *each.shape[1:]) for each in map(torch.cat, rows)]
