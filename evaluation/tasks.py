"""Data that several trainings share, each of a generator that the caller seeds."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MSE, CE, BITS = nn.MSELoss(), nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()


def mark(x: Tensor, g: torch.Generator) -> Tensor:
    """Mark two frames of each sequence (N, T, m) by 1 in the last number, one in each half; returns
    the frames (2, N).
    """
    N, T, _ = x.shape
    at = torch.stack([torch.randint(low, low + T // 2, (N,), generator=g) for low in (0, T // 2)])
    x[..., -1] = 0
    x[torch.arange(N), at, -1] = 1
    return at


def adding(g: torch.Generator, *shape: int, axis: int = 1) -> tuple[Tensor, Tensor]:
    """Numbers and marks of this shape, and the sum of the two marked numbers (N, 1); axis: of the
    frames, 0 or 1.
    """
    x = torch.rand(*shape, 2, generator=g)
    mark(x.transpose(1, axis), g)
    return x, x.prod(-1).sum(axis)[:, None]


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits (1797, 8, 8) in a random order, and their classes."""
    from sklearn.datasets import load_digits

    images, classes = map(torch.tensor, load_digits(return_X_y=True))
    order = torch.randperm(len(images))
    return (images[order] / 16).float().unflatten(1, (8, 8)), classes[order]


def of_last_frames(output: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the last frames, as many as y (N, frames) has."""
    return F.cross_entropy(output[:, -y.shape[1] :].flatten(0, 1), y.flatten())


def ctc(output: Tensor, y: Tensor, blank: int = 0) -> Tensor:
    """The CTC loss of logits (N, T, K) of labels without positions (N, L)."""
    frames, labels = (torch.full((len(y),), size) for size in (output.shape[1], y.shape[1]))
    return F.ctc_loss(output.log_softmax(2).transpose(0, 1), y, frames, labels, blank)


def transcribe(output: Tensor, blank: int = 0) -> list[list[int]]:
    """The best labels (N lists) of frames (N, T, K), without repetitions and blanks."""
    rows = map(torch.unique_consecutive, output.argmax(2))
    return [[k for k in row.tolist() if k != blank] for row in rows]


def misread(model: nn.Module, x: Tensor, y: Tensor, blank: int = 0) -> float:
    """The share of sequences whose labels are not all right."""
    read = transcribe(model(x), blank)
    return sum(a != b for a, b in zip(read, y.tolist(), strict=True)) / len(y)
