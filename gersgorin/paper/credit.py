"""Draw credit over time at three moments of a training: `python -m gersgorin.paper.credit --out docs/figures`.

A small RHN with small initial weights learns the chorales. It is on the plateau when its training loss is nearest to that of the best
constant, and leaves it when the loss is `LEFT` nats a frame lower. Credit is measured on the first frames of training chorales.
"""

if __name__ == "__main__":  # before the imports, so that Ctrl-C prints one word
    import sys

    from rhn.cli.entry import enter

    sys.exit(enter("gersgorin.paper.credit"))
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gersgorin.analyses.credit import Credit, credit
from gersgorin.data import chorales_origin
from rhn.cli.entry import run_command
from rhn.data import Corpus, chorales
from rhn.errors import InvalidInputError, OutputError
from rhn.training.build import build_model
from rhn.training.chorales import ChoraleTask, constant_output_nll
from rhn.training.config import ChoraleConfig
from rhn.training.progress import training_progress
from rhn.training.trainer import Trainer
from rhn.utils.options import check_least, option, parse

LEFT = 1.0
FRAMES, PIECES = 65, 24  # of the chorales for credit
LAGS = (0, 1, 5, 10, 20, 35)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draw credit over time on the plateau, while leaving it and after training, about two minutes.

    example:
      python -m gersgorin.paper.credit --out docs/figures
    """

    out: Path = option(help="Folder of the picture; it must exist.", metavar="DIR")
    epochs: int = option(100, "Epochs of training.")
    seed: int = option(0, "Seed of the initial weights and of the order of batches.")


def configuration(epochs: int, seed: int) -> ChoraleConfig:
    """The network of the figure: depth 4, 32 units, standard deviation 0.001, transform bias -2, learning rate 0.3."""
    network = {"seed": seed, "cell": "rhn", "depth": 4, "hidden_size": 32, "init_std": 1e-3, "transform_bias": -2.0}
    return ChoraleConfig(**network, learning_rate=0.3, epochs=epochs, patience=epochs, objective="train")


def moments(losses: np.ndarray, constant: float) -> dict[str, int]:
    """Epochs of the three moments, from training losses after epochs 0, 1, ....

    Raises InvalidInputError for a training that has not left the plateau, or only with its last epoch.

    >>> moments(np.array([61, 11.3, 11.2, 11.0, 10.8, 10.1, 9.0]), constant=11.163)
    {'on the plateau': 2, 'leaving it': 5, 'after training': 6}
    """
    left = np.flatnonzero(losses < constant - LEFT)
    if len(left) == 0 or left[0] == len(losses) - 1:
        raise InvalidInputError(
            f"after {len(losses) - 1} epochs the training loss is {losses[-1]:.2f}, the best constant's {constant:.2f} nats a frame: "
            "the network has not left the plateau for long; train it for more epochs"
        )
    nearest = int(np.abs(losses[: left[0]] - constant).argmin())
    return {"on the plateau": nearest, "leaving it": int(left[0]), "after training": len(losses) - 1}


def snapshots(config: ChoraleConfig, corpus: Corpus) -> tuple[list[nn.Module], np.ndarray]:
    """Return (the network with its best weights so far after epochs 0, 1, ..., its training losses)."""
    trainer = Trainer(ChoraleTask(config, corpus), {0: build_model(config)})
    models = [trainer.best_model(0)]
    with training_progress() as progress:
        progress.step(trainer)
        while trainer.live():
            trainer.run_epoch()
            models.append(trainer.best_model(0))
            progress.step(trainer)
    return models, trainer.curve(0)[:, 0]


def measured(corpus: Corpus, config: ChoraleConfig) -> dict[str, Credit]:
    """The results of the three moments, by a title with the epoch."""
    models, losses = snapshots(config, corpus)
    found = moments(losses, constant_output_nll(corpus))
    long = [np.asarray(piece)[:FRAMES] for piece in corpus.train if len(piece) >= FRAMES][:PIECES]
    frames = torch.as_tensor(np.stack(long, 1)).double()
    return {
        f"{title}, epoch {k}": credit(models[k], frames[:-1], frames[1:], unit="quarter notes")
        for title, k in found.items()
    }


def draw(options: Options) -> None:
    """Train, measure, draw credit.png into the folder, and print what truncation loses."""
    from gersgorin.analyses.credit import draw_credit
    from rhn.utils.figures import save_figure

    check_least(options, epochs=1, seed=0)
    if not options.out.is_dir():
        raise OutputError(f"cannot write to {options.out}: it is not a folder; create it first")
    records = measured(chorales(), configuration(options.epochs, options.seed))
    path = options.out / "credit.png"
    save_figure(path, lambda: draw_credit(records, about=_about(options)), dpi=110)
    print(f"{'lost where errors go back at most':34}" + "".join(f"{lag:>9}" for lag in LAGS) + "   steps")
    for title, record in records.items():
        print(f"{title:34}" + "".join(f"{record.lost_beyond(lag):9.2g}" for lag in LAGS))
    print(path)


def _about(options: Options) -> str:
    config = configuration(options.epochs, options.seed)
    network = f"{config.cell}, depth {config.depth}, {config.hidden_size} units, gaussian:{config.init_std:g}"
    return (
        f"{network}, transform bias {config.transform_bias:g}, seed {config.seed}, learning rate {config.learning_rate:g}; "
        f"{PIECES} training pieces of {chorales_origin()}"
    )


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: draw(parse(Options, args, prog="python -m gersgorin.paper.credit")))
