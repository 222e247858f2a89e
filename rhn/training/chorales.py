"""Train on chorales: minibatches, the task, and the losses of a split in nats per predicted frame.

Chorales are sorted by length and cut into batches from the longest down, for little padding. They
are cut once; only the order of the batches changes. Empty rows fill every batch up to a multiple of
32: then no vectorised loop has a remainder that depends on the number of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.data.corpus import Corpus
from rhn.errors import DataError
from rhn.training.ensemble import Ensemble, batch_order, build_model, captured, part_size
from rhn.training.task import Task

CHORALE_ROWS = 32
MOST = 2  # times CHORALE_ROWS in a batch for evaluation, which needs no memory for gradients
# fixed cost of a time step, in units of the cost of a row; losses depend on it in their last bits
STEP_ROWS = {"cpu": 4.0}


@dataclass(frozen=True, eq=False)
class ChoraleBatch:
    """A batch: frames (T, B, keys), and mask (T, B), 1 at real frames, 0 elsewhere. `size` is the
    number of predicted frames.
    """

    frames: Tensor
    mask: Tensor
    size: int

    def inputs(self, model: nn.Module, numbers: Sequence[int]) -> tuple:
        """Return the arguments of a step: this batch, which has its own CUDA graph."""
        return (self,), None


class ChoraleTask(Task):
    """Predict the next frame of chorales. Both losses of a curve are measured over whole splits
    with the weights before training and after each epoch.
    """

    data = Corpus
    columns = ("train_nll", "valid_nll")

    def __init__(
        self, config: Any, corpus: Corpus, device: torch.device | str = "cpu", dtype=torch.float32
    ):
        super().__init__(config, device)
        self.objective, where = config.objective, {"device": self.device, "dtype": dtype}
        self._batches = training_batches(corpus.train, config.batch_size, **where)
        self._splits = [evaluation_batches(s, **where) for s in (corpus.train, corpus.valid)]
        # an ensemble, and its losses as one CUDA graph
        self._evaluate: tuple[Any, Any] = None, None

    def model(self, seed: int) -> nn.Module:
        return build_model(self.config, seed=seed)

    def batches(self, epoch: int) -> list[ChoraleBatch]:
        name = self.config.cell, self.config.depth
        order = batch_order(self.config.seed, *name, epoch, len(self._batches))
        return [self._batches[i] for i in order]

    def loss(self, model, own, batch: ChoraleBatch) -> tuple[Tensor, tuple]:
        total = _total_nll(model, batch)
        return total / batch.size, (total, ())

    def evaluate(self, ensemble: Ensemble) -> Tensor:
        if self._evaluate[0] is not ensemble:
            splits = self._splits

            def losses() -> Tensor:  # without self, see `captured`
                return torch.stack([mean_nll(ensemble, batches) for batches in splits], 1)

            self._evaluate = ensemble, captured(losses, self.device)
        return self._evaluate[1]()

    def part_size(self, model: nn.Module) -> int | None:
        """Return the number of models of this size that share one pass of a step; None: all."""
        return part_size(model, max(batch.mask.numel() for batch in self._batches), self.device)


def training_batches(pieces: Sequence[np.ndarray], batch_size: int, **where) -> list[ChoraleBatch]:
    """Cut pieces into ceil(N / batch_size) batches on a device, longest first. `where`: device and
    dtype. Raises DataError if no piece has two frames.
    """
    usable = _longest_first(pieces)
    cuts = range(0, len(usable), batch_size)
    return [_minibatch(usable[start : start + batch_size], **where) for start in cuts]


def evaluation_batches(pieces: Sequence[np.ndarray], *, device, dtype) -> list[ChoraleBatch]:
    """Cut pieces into batches for evaluation, longest first, in the least time; see `grouped`."""
    usable, found = _longest_first(pieces), []
    longest = [len(piece) for piece in usable[::CHORALE_ROWS]]
    for blocks in grouped(longest, STEP_ROWS.get(torch.device(device).type, 1e6)):
        rows = blocks * CHORALE_ROWS
        found.append(_minibatch(usable[:rows], device=device, dtype=dtype))
        usable = usable[rows:]
    return found


def grouped(longest: Sequence[int], step_rows: float) -> list[int]:
    """Group neighbouring blocks of 32 rows, whose longest pieces have these numbers of frames, into
    batches by dynamic programming, so that the sum over batches of longest x (rows + step_rows) is
    least. Returns the number of blocks in each batch.

    >>> grouped([144, 57, 40], 4.0), grouped([129, 76, 65, 61], 4.0), grouped([144, 57, 40], 1e6)
    ([1, 1, 1], [1, 1, 2], [2, 1])
    """
    best: list[tuple[float, list[int]]] = [(0.0, [])]  # of the last blocks, by their number
    for frames in reversed(longest):
        costs = []
        for n in range(1, min(MOST, len(best)) + 1):
            cost, rest = best[-n]
            costs.append((frames * (n * CHORALE_ROWS + step_rows) + cost, [n, *rest]))
        best.append(min(costs))
    return best[-1][1]


def mean_nll(ensemble: Ensemble, batches: Sequence[ChoraleBatch]) -> Tensor:
    """Return the mean loss of each model in nats per predicted frame, (K,) in float64."""
    total = sum(ensemble.map(_total_nll, batch) for batch in batches)
    return total / sum(batch.size for batch in batches)


def constant_output_nll(corpus: Corpus, pieces: Sequence[np.ndarray] | None = None) -> float:
    """Return the loss on `pieces` (None: the training pieces) of the constant predictor with the
    lowest training loss, in nats per frame: the sum over keys of -q log p - (1 - q) log(1 - p). p
    and q are the shares of predicted frames in which a key sounds, in training and in `pieces`.
    """
    p, q = (
        torch.from_numpy(np.concatenate([np.asarray(piece)[1:] for piece in each]).mean(0))
        for each in (corpus.train, corpus.train if pieces is None else pieces)
    )
    return -float((torch.xlogy(q, p) + torch.special.xlog1py(1 - q, -p)).sum())


def _total_nll(model, batch: ChoraleBatch) -> Tensor:
    return model(batch.frames[:-1], batch.frames[1:], batch.mask[1:])


def _longest_first(pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
    usable = sorted((piece for piece in pieces if len(piece) > 1), key=len, reverse=True)
    if not usable:
        raise DataError("there is nothing to predict: expected pieces of at least 2 frames")
    return usable


def _minibatch(pieces: Sequence[np.ndarray], *, device, dtype) -> ChoraleBatch:
    rows = -(-len(pieces) // CHORALE_ROWS) * CHORALE_ROWS
    frames = np.zeros((max(map(len, pieces)), rows, np.shape(pieces[0])[1]), np.float32)
    mask = np.zeros(frames.shape[:2], bool)
    for row, piece in enumerate(pieces):
        frames[: len(piece), row], mask[: len(piece), row] = piece, True
    size = sum(len(piece) - 1 for piece in pieces)
    x, real = (torch.from_numpy(array).to(device, dtype) for array in (frames, mask))
    return ChoraleBatch(x, real, size)
