"""How many words a second language models train at on one CPU core, and how long an epoch of Penn Treebank takes.

Random tokens from 10,000 words: no step's work depends on which. Every step is whole: forward, backward, norm, update, dropout.
"""

import argparse
import time
from dataclasses import replace

import torch

from benchmarks.__main__ import environment
from benchmarks.language import text
from rhn.presets import preset
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import tune_malloc
from rhn.training.language import LanguageTask
from rhn.training.trainer import Trainer

WORDS, TEXT = 10_000, 929_589  # of Penn Treebank: different ones, and those to train on
SYSTEMS = {
    "ptb-sota": preset("ptb-sota"),
    "ptb-depth-5": preset("ptb-depth-5"),
    "ptb-depth-5 --hidden-size 200": replace(preset("ptb-depth-5"), hidden_size=200),
}


def measure(config: LanguageConfig, seconds: float) -> tuple[int, float]:
    """(Parameters, words a second) of a training of at least so many seconds, after a first step that is not counted."""
    task = LanguageTask(config, text(config, WORDS))
    trainer = Trainer(task, {0: task.model(0)})
    trainer.run_step()
    began, words = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < seconds:
        trainer.run_step()
        words += config.batch_size * config.window
    return sum(p.numel() for p in trainer.model(0).parameters()), words / taken


def row(name: str, parameters: int, rate: float) -> str:
    """A line of the table."""
    return (
        f"| `{name}` | {parameters / 1e6:.1f} million | {float(f'{rate:.2g}'):,.0f} | {TEXT / rate / 60:.0f} minutes |"
    )


def main() -> None:
    """Measure and print, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each system (default 30)")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    tune_malloc()
    print(f"`python -m benchmarks.words_a_second`: {environment('cpu')}, {seconds:g} seconds each\n")
    print("| | parameters | words a second | one epoch |\n|---|---|---|---|", flush=True)
    for name, config in SYSTEMS.items():
        print(row(name, *measure(config, seconds)), flush=True)


if __name__ == "__main__":
    main()
