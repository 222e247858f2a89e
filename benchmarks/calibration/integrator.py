"""Compare the simulated way off the plateau (`gersgorin.plateau(...).escape`) with forecasts from trials, for SGD.

    python -m benchmarks.calibration.integrator RECORDINGS OUT.csv --networks 24

Both are asked about the same recorded trainings with SGD or momentum, of the tasks with a target at every frame: the simulation has no
loss at the last frame. It follows the mean gradient of 64 sequences. Times are of the processor.
"""

import argparse
import csv
import random
import time
from pathlib import Path

import torch

import gersgorin
from benchmarks.calibration.replay import SGD, Recording, forecast_recorded
from benchmarks.calibration.trainings import OPTIMIZERS, TASKS, Network
from rhn.errors import RhnError

LOSSES = {"mse": "squared", "cross-entropy": "categorical", "bernoulli": "bernoulli"}
STEPS, SEQUENCES = 1000, 64
COLUMNS = ("name", "rate", "left", "diverged", "forecast", "trial_seconds", "simulated", "ended", "seconds")


def rows_of(recording: Recording):
    """Rows of one network at its learning rates from the third on."""
    task = next(t for t in TASKS if t.__name__ == recording.task)
    seed = int(recording.name.split("-")[-1])
    x, y, loss, last = task(torch.Generator().manual_seed(seed))
    outputs = int(y.max()) + 1 if loss == "cross-entropy" else y.shape[-1]
    start = recording.start.replace("gaussian", "gaussian:")
    network = Network(recording.cell, start, x.shape[-1], outputs, last, seed)
    momentum = OPTIMIZERS[recording.optimizer][1].get("momentum", 0.0)
    scale = {"mse": 2.0, "cross-entropy": 1.0, "bernoulli": 1 / outputs}[loss]  # mean over outputs / cost of a frame
    began = time.process_time()
    found = gersgorin.plateau(network.model, (x[:, :SEQUENCES], y[:, :SEQUENCES]), LOSSES[loss])
    measured = time.process_time() - began
    for rate in range(2, 8):
        began = time.process_time()
        way = found.escape(float(recording.rates[rate]) * scale, momentum, until=STEPS)
        took = measured + time.process_time() - began
        said, used = forecast_recorded(recording, rate, STEPS)
        outcome = recording.outcomes[rate]
        yield {
            "name": recording.name,
            "rate": f"{recording.rates[rate]:.3g}",
            "left": outcome.left,
            "diverged": outcome.diverged,
            "forecast": f"{said.escape_steps:.4g}",
            "trial_seconds": f"{used * recording.step_seconds:.3g}",
            "simulated": f"{way.leaves_after:.4g}",
            "ended": way.ended,
            "seconds": f"{took:.3g}",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", type=int, default=24)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    paths = [p for p in sorted(asked.recordings.glob("*.npz")) if p.stem.split("-")[-2] in SGD]
    paths = [p for p in paths if p.stem.split("-")[0] in ("sines", "characters", "chorales")]
    random.Random(0).shuffle(paths)
    with asked.out.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for path in paths[: asked.networks]:
            try:
                for row in rows_of(Recording(path)):
                    table.writerow(row)
            except RhnError as error:
                print(path.stem, error, flush=True)
            file.flush()


if __name__ == "__main__":
    main()
