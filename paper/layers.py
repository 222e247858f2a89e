"""Section 6: gates (figure 5(b)) and lesions (figure 6) of the layers of an RHN of depth 6 at full
size, whose weights are stored.
"""

import numpy as np

from analysis import gate_activity, lesion
from paper.values import RESULTS, Value, seeds, student

WEIGHTS = RESULTS / "weights" / "full-size-depth6.safetensors"


def gates() -> dict[str, Value]:
    """Return the mean transform gate of each layer with Student's interval over test chorales; the
    share of frames in which layer 1 has the largest mean gate; and the standard deviation of the
    mean gate over the frames of a chorale, over its mean, smallest and largest of the layers.
    """
    found = gate_activity(WEIGHTS)
    pieces = [piece.activity for piece in found.sequences]
    means = np.array([piece.mean(1) for piece in pieces])
    moves = np.array([piece.std(1) / piece.mean(1) for piece in pieces]).mean(0)
    named: dict[str, Value] = {
        f"gate_{label}": student(mean) for label, mean in zip(found.labels, means.T, strict=True)
    }
    first_is_largest = found.activity.argmax(0) == 0
    shares: dict[str, Value] = {
        "first_is_largest": 100 * float(first_is_largest.mean()),
        "gates_move": seeds(100 * moves),
        "first_open": 100 * float(found.open[0].mean()),
    }
    return named | shares


def lesions() -> dict[str, Value]:
    """Return the loss of the whole network on the training chorales, and the damage of the lesion
    of each layer, with its interval over chorales.
    """
    found = lesion(WEIGHTS, split="train")
    damages: dict[str, Value] = {
        f"lesion_{label}": (float(damage), float(low), float(high))
        for label, (_, damage, low, high) in found.of_kind("layer").items()
    }
    _, beyond, low, high = found.of_kind("beyond blind")["1"]
    beyond_input = (float(beyond), float(low), float(high))
    return {"no_lesion": found.baseline, **damages, "lesion_1_beyond_input": beyond_input}


def rows() -> dict[str, Value]:
    """Return the numbers of figures 5(b) and 6."""
    return {**gates(), **lesions()}
