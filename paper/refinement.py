"""Section 6: layer 1 makes a rough estimate of the new memory, and the following layers refine it.

    python -m paper.refinement

The losses, in nats per frame, if the readout is applied after each layer, and the distance to the
last layer relative to s_0. The network of full size has stored weights; five small ones, of depth 5
with 32 units, are trained here for 40 epochs (15 seconds).
"""

import tempfile
from pathlib import Path

import numpy as np

from analysis import Refinement, refinement
from paper.values import Value, print_rows
from rhn import load, train
from rhn.data import chorales

WEIGHTS = Path(__file__).resolve().parents[1] / "docs/results/weights/full-size-depth6.safetensors"
SMALL: dict = {"hidden_size": 32, "learning_rate": 0.2, "epochs": 40}
SPLITS = ("train", "test")
SEEDS = range(5)


def full_size(split: str) -> dict[str, Value]:
    """Return loss, change and distance of each layer, with their intervals over chorales. Layer 0
    is s_0.
    """
    found = refinement(WEIGHTS, split=split)
    table, rows = found.table(), dict[str, Value]()
    columns = {
        "loss": ("loss", "loss from", "loss to"),
        "change": ("change by layer", "change from", "change to"),
        "distance": ("distance to last", "distance from", "distance to"),
    }
    for kind, names in columns.items():
        for layer in found.depth.tolist():
            value, low, high = (float(table[name][layer]) for name in names)
            rows[f"refine_{split}_{kind}_{layer}"] = value, low, high
    return {name: value for name, value in rows.items() if not np.isnan(value).all()}


def small_networks() -> dict[str, list[Refinement]]:
    """Train the small networks, and measure each on both splits."""
    with tempfile.TemporaryDirectory() as folder:
        train("jsb-depth-5", out=folder, seeds=SEEDS, progress=False, **SMALL)
        models = [load(Path(folder) / f"seed-{seed}") for seed in SEEDS]
    return {
        split: [refinement(model, getattr(chorales(), split), split=split) for model in models]
        for split in SPLITS
    }


def small() -> dict[str, Value]:
    """Return the loss of each layer, the mean, smallest and largest of the seeds; and the number of
    seeds in which every layer after the first lowers the loss, and in which layer 1 lowers it most.
    """
    rows = dict[str, Value]()
    for split, found in small_networks().items():
        losses = np.stack([one.loss for one in found])
        for layer, own in enumerate(losses.T):
            rows[f"refine_small_{split}_{layer}"] = own.mean(), own.min(), own.max()
        changes = np.diff(losses, axis=1)
        later_layers_lower = (changes[:, 1:] < 0).all(1)
        first_lowers_most = changes.argmin(1) == 0
        rows[f"refine_small_{split}_later_layers_lower"] = float(later_layers_lower.sum())
        rows[f"refine_small_{split}_first_lowers_most"] = float(first_lowers_most.sum())
    return rows


def rows() -> dict[str, Value]:
    """Return the numbers of the network of full size and of the small ones."""
    of_full_size = {name: value for split in SPLITS for name, value in full_size(split).items()}
    return {**of_full_size, **small()}


def main() -> None:
    """Print the rows."""
    print_rows(rows())


if __name__ == "__main__":
    main()
