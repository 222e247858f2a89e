"""What `section4.sh` runs: 25 small trainings, their spectra through training, and how far these move along a chorale.

Compared are networks with the same validation loss: each is trained by Adam, gradients clipped at a norm of 1, and stopped at the first
epoch that reaches TARGET. Along a piece the spectral radius and the bulk (trace / n) of every step's temporal Jacobian are taken, in
float64; how far one of them moves is its standard deviation over the steps, and how fast the root mean square of its change from one
step to the next.
"""

import json
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from gersgorin import Recorder, temporal_jacobian, trajectory
from gersgorin.data import chorales_origin
from gersgorin.linalg.products import finite_time_exponent
from gersgorin.linalg.spectrum import spectral_radius
from gersgorin.recording import Recording
from rhn.cells import hidden_size_for_budget
from rhn.cli.common import progress_bars
from rhn.data import Corpus, chorales
from rhn.models import PolyphonicModel
from rhn.plotting.figures import BLUE, GREEN, ORANGE, PURPLE, RED, save_figure, titled
from rhn.training.batches import training_batches
from rhn.training.evaluation import evaluate
from rhn.training.losses import mean_loss
from rhn.training.numerics import tune_malloc
from rhn.training.seeds import weights_generator
from rhn.utils.file_marks import remember_command
from rhn.utils.io import write_csv, write_json

TARGET = 9.5  # nats a frame on the validation pieces; a constant output reaches 11.2
PARAMETERS, SEEDS, BATCH, MOST_EPOCHS, EVERY_EPOCHS = 30_000, 5, 32, 300, 2
PIECES, STEPS = 6, 48  # validation pieces that spectra are taken along, and frames of each at most
NAME = "2026-11-20-section4"


@dataclass(frozen=True)
class Setting:
    """How a cell is trained; found by a few trials, the same for all seeds."""

    init: str
    learning_rate: float
    color: str
    options: dict = field(default_factory=dict)


SETTINGS = {
    "rnn": Setting("gaussian:0.1", 0.002, BLUE),
    "irnn": Setting("gaussian:0.001", 0.002, ORANGE),
    "rhn": Setting("gaussian:0.1", 0.01, RED, {"transform_bias": -1.0}),
    "gru": Setting("gaussian:0.1", 0.01, GREEN),
    "lstm": Setting("gaussian:0.1", 0.01, PURPLE),
}
DASHES = ("-", "--", "-.", ":", (0, (7, 2, 1, 2, 1, 2)))  # a cell each, in that order
MEASURES = {
    "radius_mean": "spectral radius, mean",
    "radius_std": "spectral radius, standard deviation over a piece",
    "radius_change": "spectral radius, change from step to step",
    "bulk_mean": "trace/n, mean",
    "bulk_std": "trace/n, standard deviation over a piece",
    "bulk_change": "trace/n, change from step to step",
    "exponent": "finite-time exponent (1/step)",
}


def main(out: Path, results: Path) -> None:
    """Train what is not yet there, then write table and figure."""
    tune_malloc()
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    corpus, networks = chorales(), [(cell, seed) for seed in range(SEEDS) for cell in SETTINGS]
    with progress_bars() as report:
        show = report("trainings")
        for done, (cell, seed) in enumerate(networks):
            show(done, len(networks))
            if not (out / f"{cell}-{seed}.json").exists():
                rows = train(cell, seed, corpus, out / f"{cell}-{seed}.npz")
                write_json(out / f"{cell}-{seed}.json", rows)
                print(cell, seed, rows[-1], file=sys.stderr, flush=True)
    rows = [row for cell, seed in networks for row in json.loads((out / f"{cell}-{seed}.json").read_text())]
    write_csv(results / f"{NAME}.csv", list(rows[0]), [list(row.values()) for row in rows])
    records = {(cell, seed): Recording.load(out / f"{cell}-{seed}.npz") for cell, seed in networks}
    save_figure(results / f"{NAME}.png", lambda: draw(rows, records))
    print(table(rows))
    print(f"Python {platform.python_version()}, torch {torch.__version__}, chorales {corpus.checksum[:12]}, one thread")


def train(cell: str, seed: int, corpus: Corpus, path: Path) -> list[dict]:
    """Train to TARGET, recorded every few epochs; what was measured before training and there."""
    setting, n = SETTINGS[cell], hidden_size_for_budget(cell, PARAMETERS, 1)
    generator = weights_generator(seed, cell, 1)
    model = PolyphonicModel(cell, hidden_size=n, init=setting.init, generator=generator, **setting.options)
    batches = training_batches(corpus.train, BATCH, device="cpu", dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), setting.learning_rate)
    pieces = [torch.as_tensor(np.asarray(piece)[:STEPS]).float() for piece in corpus.valid[:PIECES]]
    epoch, valid = 0, evaluate(model, corpus.valid).nll
    recorder = Recorder(model, pieces[0], EVERY_EPOCHS, path=path, positions=STEPS, loss=valid)
    rows = [moment(model, pieces) | {"moment": "untrained", "epoch": 0, "valid_nll": valid}]
    while valid > TARGET and epoch < MOST_EPOCHS:
        epoch += 1
        for i in torch.randperm(len(batches), generator=generator).tolist():
            optimizer.zero_grad()
            mean_loss(model, batches[i].frames, batches[i].mask, batches[i].count).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        valid = evaluate(model, corpus.valid).nll
        if epoch % EVERY_EPOCHS == 0 or valid <= TARGET:
            recorder.measure(epoch, valid)
    recorder.close()
    reached = "matched" if valid <= TARGET else "not reached"
    rows.append(moment(model, pieces) | {"moment": reached, "epoch": epoch, "valid_nll": valid})
    return [{"cell": cell, "seed": seed, "hidden_size": n, **row} for row in rows]


def moment(model: nn.Module, pieces: list[Tensor]) -> dict[str, float]:
    """The `MEASURES` of a network as it is, means over the pieces."""
    cell, of_pieces = PolyphonicModel(**model.config()).double().cells[0], []
    cell.load_state_dict(model.cells[0].state_dict())
    with torch.no_grad():
        for piece in pieces:
            x = piece.double()
            A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1])
            radius, bulk = spectral_radius(A).numpy(), A.diagonal(dim1=-2, dim2=-1).mean(-1).numpy()
            found = {}
            for name, values in (("radius", radius), ("bulk", bulk)):
                found |= {f"{name}_mean": values.mean(), f"{name}_std": values.std()}
                found[f"{name}_change"] = np.sqrt(np.mean(np.diff(values) ** 2))
            of_pieces.append(found | {"exponent": finite_time_exponent(A).item()})
    return {name: float(np.mean([found[name] for found in of_pieces])) for name in MEASURES}


def table(rows: list[dict]) -> str:
    """Mean and range over the seeds, a line a cell and moment, as Markdown."""
    lines = ["| cell | moment | epoch | " + " | ".join(MEASURES) + " |", "|---" * (len(MEASURES) + 3) + "|"]
    for cell in SETTINGS:
        for when in ("untrained", "matched", "not reached"):
            found = [row for row in rows if row["cell"] == cell and row["moment"] == when]
            if found:
                epochs = sorted(row["epoch"] for row in found)
                cells = [_spread([row[name] for row in found]) for name in MEASURES]
                lines.append(f"| {cell} | {when}, {len(found)} | {epochs[0]} to {epochs[-1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[dict], records: dict[tuple[str, int], Recording]) -> Figure:
    """Above, what happens on the way down in validation loss; below, untrained and matched networks, a dot a seed."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    upper, lower = figure.subplots(2, 4)
    starts = ", ".join(f"{cell} {setting.init}" for cell, setting in SETTINGS.items())
    how = f"{PARAMETERS:,} parameters, depth 1, seeds 0 to {SEEDS - 1}, Adam to a validation loss of {TARGET} nats a frame"
    about = f"{how}; {starts} (rhn: transform bias -1); {PIECES} validation pieces of {chorales_origin()}"
    titled(figure, "Spectra on the way to equal validation loss: a tanh RNN and gated cells", about)
    ways = {
        "spectral radius, mean": lambda r: r.radius.mean(1),
        "spectral radius, standard deviation": lambda r: r.radius.std(1),
        "trace/n, standard deviation": lambda r: r.bulk.std(1),
        "finite-time exponent (1/step)": lambda r: r.exponent,
    }
    for ax, (title, of) in zip(upper, ways.items(), strict=True):
        for (cell, seed), record in records.items():
            label = cell if seed == 0 else None
            style = {"color": SETTINGS[cell].color, "linestyle": DASHES[list(SETTINGS).index(cell)]}
            ax.plot(record.loss, of(record), **style, linewidth=1, label=label)
        ax.set(xlim=(12, TARGET - 0.1), xlabel="validation loss (nats a frame)", title=title)
    shown = upper[0].get_legend_handles_labels()
    figure.legend(*shown, title="above: a line a seed", loc="outside lower center", ncols=len(SETTINGS), handlelength=3)
    names = ("radius_mean", "radius_std", "bulk_std", "exponent")
    for ax, name in zip(lower, names, strict=True):
        for place, (cell, setting) in enumerate(SETTINGS.items()):
            for shift, when in ((-0.15, "untrained"), (0.15, "matched")):
                found = [row[name] for row in rows if row["cell"] == cell and row["moment"] == when]
                fill = setting.color if when == "matched" else "none"
                ax.scatter([place + shift] * len(found), found, s=18, facecolors=fill, edgecolors=setting.color)
        ax.set_xticks(range(len(SETTINGS)), list(SETTINGS))
        ax.set_title(MEASURES[name])
        if name.endswith("std"):
            ax.set_yscale("log")
    lower[0].set_xlabel("hollow: untrained; filled: at equal validation loss")
    return figure


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    remember_command("python -m benchmarks.section4", sys.argv[1:])
    main(Path(sys.argv[1]), Path(sys.argv[2]))
