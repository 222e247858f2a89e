"""Draw credit over time at three moments of a training: `python -m examples.paper.credit
docs/figures/credit.png`.

A small RHN with small initial weights learns the chorales, about two minutes. In the first moment
its training loss is nearest to that of the best constant, in the second a nat a frame below. Credit
is measured on the first frames of training chorales.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from gersgorin.analyses.credit import Credit, credit, draw_credit
from gersgorin.loading.sources import chorales_origin
from rhn.data import chorales
from rhn.training.chorales import ChoraleTask
from rhn.training.config import ChoraleConfig
from rhn.training.ensemble import build_model
from rhn.training.trainer import Trainer
from rhn.utils.figures import save_figure

MOMENTS = {11: "on the plateau", 20: "leaving it", 100: "after training"}  # epochs
FRAMES, PIECES = 65, 24  # of the chorales for credit
LAGS = (0, 1, 5, 10, 20, 35)
NETWORK = {
    "cell": "rhn",
    "depth": 4,
    "hidden_size": 32,
    "init_std": 1e-3,
    "transform_bias": -2.0,
    "seed": 0,
}
ABOUT = "rhn, depth 4, 32 units, gaussian:0.001, transform bias -2, seed 0, learning rate 0.3"


def measure(corpus, moments: dict[int, str]) -> dict[str, Credit]:
    """Credit after some epochs of a training, by a title with the epoch."""
    last = max(moments)
    config = ChoraleConfig(
        **NETWORK, learning_rate=0.3, epochs=last, patience=last, objective="train"
    )
    long = [np.asarray(piece)[:FRAMES] for piece in corpus.train if len(piece) >= FRAMES][:PIECES]
    frames = torch.as_tensor(np.stack(long, 1)).double()
    trainer, found = Trainer(ChoraleTask(config, corpus), {0: build_model(config)}), {}
    for epoch in range(1, last + 1):
        trainer.run_epoch()
        if epoch in moments:
            model = trainer.best_model(0)
            found[f"{moments[epoch]}, epoch {epoch}"] = credit(
                model, frames[:-1], frames[1:], unit="quarter notes"
            )
    return found


if __name__ == "__main__":
    records = measure(chorales(), MOMENTS)
    about = f"{ABOUT}; {PIECES} training pieces of {chorales_origin()}"
    save_figure(Path(sys.argv[1]), lambda: draw_credit(records, about=about))
    print(
        f"{'lost where errors go back at most':34}"
        + "".join(f"{lag:>9}" for lag in LAGS)
        + "   steps"
    )
    for title, record in records.items():
        print(f"{title:34}" + "".join(f"{record.lost_beyond(lag):9.2g}" for lag in LAGS))
