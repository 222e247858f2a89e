"""Data that several trainings share, each of a generator that the caller seeds."""

import torch
from torch import Tensor
from torch.nn import functional as F


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
    """scikit-learn's handwritten digits, pixel by pixel (1797, 64), and their classes."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    return torch.tensor(images / 16).float(), torch.tensor(classes)


def of_last_frames(output: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the last frames, as many as y (N, frames) has."""
    return F.cross_entropy(output[:, -y.shape[1] :].flatten(0, 1), y.flatten())
