"""Forecasts without weights: the last value of the inputs, as a row of a race.

    row = last_value(race, axis)         # None where targets are no such numbers

Legend: B examples, T frames, m numbers of a frame, K targets.
"""

from torch import Tensor

from trainability.inputs import Inputs, sequence_of
from trainability.race import Race, Row


def last_value(race: Race, axis: int) -> Row | None:
    """The row of the numbers of the last frame that lie closest to the targets."""
    score, rows = race.scores["error"], list[Row]()
    numbers = sequence_of(race.pairs[0][0]).shape[-1] if score.kind == "numbers" else 0
    for number in range(numbers):
        outputs = [repeated(x, y, axis, number) for x, y in race.pairs]
        if any(output is None for output in outputs):
            return None
        row = Row("data", "the last value repeated", None)
        race.add(row, [output for output in outputs if output is not None])
        rows.append(row)
    best = min(rows, key=lambda row: row.error, default=None)
    # targets that are a frame of the inputs are no forecast
    return best if best is not None and best.error > 0 else None


def repeated(x: Inputs, y: Tensor, axis: int, number: int) -> Tensor | None:
    """Outputs (the shape of y) that repeat the last frame, or one of its numbers; None: no such.

    For targets of each frame the last frame is that of the target's own place.
    """
    first = sequence_of(x)
    if not first.is_floating_point() or first.dim() != 3:
        return None
    each = y.shape[:2] == first.shape[:2]
    frames = first if each else first.select(1 - axis, -1)
    if frames.numel() != y.numel():
        frames = frames[..., number : number + 1]
    return frames.reshape(y.shape) if frames.numel() == y.numel() else None
