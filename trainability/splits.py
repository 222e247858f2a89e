"""Split examples into training examples and held-out examples.

    train, held = split(keys, places, frames)        # numbers of rows

Windows cut from one series are split in time, and no window that is trained on overlaps a held-out
one. Rows with equal inputs stay together.

Legend: N rows, T frames.
"""

import torch
from torch import Tensor

TOO_FEW = 20  # held-out examples; fewer tell nothing
LARGE, LEAST, MOST = 400, 100, 512  # examples of a large set; held out of it
PAIRS, MOST_PAIRS = 8, 0.7  # neighbouring rows that are compared; the share that overlap
SHARED = 4  # rows to which a frame belongs on average, at least, if they are windows
UNIQUE = 0.95  # share of frames that are always followed by the same one
FRAMES = 4_000_000  # that are compared, at most


def number_held_out(count: int) -> int:
    """Return how many of `count` examples are held out: a quarter if there are fewer than 400,
    otherwise an eighth, but at least 100 and at most 512. The result is 0 if it would be less than
    20.

    >>> [number_held_out(n) for n in (60, 80, 256, 400, 1600, 100_000)]
    [0, 20, 64, 100, 200, 512]
    """
    number = min(max(count // 8, LEAST), MOST) if count >= LARGE else count // 4
    return number if number >= TOO_FEW else 0


def split(keys: list[bytes], places: Tensor | None, frames: int) -> tuple[Tensor, Tensor]:
    """Return (rows to train on, rows that are held out).

    keys: the result of `keys_of`. places: the result of `positions`. frames: number of frames of a
    window.
    """
    train, held = _of_groups(keys) if places is None else _in_time(places, frames)
    return (train, held) if len(held) >= TOO_FEW else (torch.arange(len(keys)), held[:0])


def _in_time(places: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Hold out the last windows, and train on windows that do not overlap them."""
    rows, known = torch.arange(len(places)), places.unique()
    number = number_held_out(len(known))
    if not number:
        return rows, rows[:0]
    begin = known[-number]
    train, held = rows[places + frames <= begin], rows[places >= begin]
    return (train, held) if 2 * len(train) >= len(rows) else (rows, rows[:0])


def _of_groups(keys: list[bytes]) -> tuple[Tensor, Tensor]:
    """Hold out random groups of rows with equal inputs."""
    group = torch.tensor(numbered(keys))
    count = int(group.max()) + 1
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    number = number_held_out(count)
    out = torch.zeros(count, dtype=torch.bool)
    out[order[:number]] = True
    rows = torch.arange(len(group))
    return rows[~out[group]], rows[out[group]]


def keys_of(leaves: list[Tensor]) -> list[bytes]:
    """Return a key for each row of inputs; equal rows have equal keys."""
    flat = [leaf.detach().cpu().reshape(len(leaf), -1).contiguous() for leaf in leaves]
    whole = torch.cat([part.view(torch.uint8) for part in flat], 1).numpy()
    return [row.tobytes() for row in whole]


def numbered(keys: list[bytes]) -> list[int]:
    """Return the number of each key, in the order of first occurrence.

    >>> numbered([b"x", b"y", b"x"])
    [0, 1, 0]
    """
    numbers: dict[bytes, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def positions(first: Tensor) -> Tensor | None:
    """Return the frame at which each row (T, ...) starts in a series, (N,); None if most rows are
    not overlapping windows.

    The rows may be in any order if all frames differ; otherwise they must be in the order of the
    series.

    >>> windows = torch.arange(60.0).unfold(0, 8, 1).unsqueeze(-1)
    >>> positions(windows)[:3], positions(windows.flip(0))[-3:], positions(torch.rand(30, 8, 1))
    (tensor([0, 1, 2]), tensor([2, 1, 0]), None)
    """
    if first.dim() < 2 or first.shape[1] < 2 or len(first) < 2 * PAIRS:
        return None
    shift = shift_in_order(first)
    if shift:
        return torch.arange(len(first)) * shift
    if not first.is_floating_point() or len(first) * first.shape[1] > FRAMES:
        return None
    return positions_by_frames(first)


def shift_in_order(first: Tensor) -> int:
    """Return by how many frames each row starts later than the row before; 0 if the rows are not
    windows in order.
    """
    at = torch.arange(PAIRS) * (len(first) - 1) // PAIRS
    some, following = first[at], first[at + 1]
    moves = (some != some[:, :1]).flatten(1).any(1)
    for shift in range(1, first.shape[1] // 2 + 1):
        same = (some[:, shift:] == following[:, :-shift]).flatten(1).all(1)
        if (same & moves).float().mean() > MOST_PAIRS:
            return shift
    return 0


def positions_by_frames(first: Tensor) -> Tensor | None:
    """Return the positions of windows in any order, by the frame that follows each frame; None for
    other rows.
    """
    N, T = first.shape[:2]
    group = torch.tensor(numbered(keys_of([first.reshape(N * T, -1)]))).reshape(N, T)
    count, different = int(group.max()) + 1, len(group.unique(dim=0))
    if count * SHARED > different * T:
        return None
    links = torch.stack((group[:, :-1].flatten(), group[:, 1:].flatten()), 1).unique(dim=0)
    if len(links[:, 0].unique()) < UNIQUE * len(links):
        return None
    following = dict(links.tolist())
    return torch.tensor(places_along(following, count, gap=T))[group[:, 0]]


def places_along(following: dict[int, int], count: int, gap: int) -> list[int]:
    """Return the place of each of `count` frames in the series that the frames form one after the
    other.

    >>> places_along({0: 1, 1: 2, 4: 3}, 5, gap=10)
    [0, 1, 2, 14, 13]
    """
    begins = sorted(set(range(count)) - set(following.values()))
    places, at = [-1] * count, 0
    for begin in [*begins, *range(count)]:  # those after the begins belong to circles
        frame: int | None = begin
        if places[begin] >= 0:
            continue
        while frame is not None and places[frame] < 0:
            places[frame] = at
            frame, at = following.get(frame), at + 1
        at += gap
    return places
