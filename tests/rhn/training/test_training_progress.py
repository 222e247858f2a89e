"""The lines and the bar of a training, by a clock of our own."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from rhn.kernels.compiled import library
from rhn.training.config import LanguageConfig
from rhn.training.language import epoch_windows
from rhn.training.progress import Progress
from rhn.utils.progress import lines_of
from tests.rhn.texts import small_corpus, text_trainer

CONFIG = LanguageConfig(
    corpus="text", hidden_size=3, batch_size=4, window=7, vary_window=True, init="uniform:0.2", epochs=2
)
LINE = {"epoch": 1, "train_perplexity": 1234.5678, "valid_perplexity": 2.3e43, "learning_rate": 0.0078125}
LINE["gradient_norm"] = 0.123456


def watched(seeds=(0,), seconds=1.0, bar=None):
    """What is said in a training each step of which takes so many seconds."""
    now, said = [0.0], []
    trainer = text_trainer(CONFIG, small_corpus(), seeds)
    progress = Progress(said.append, bar, clock=lambda: now[0])
    progress.step(trainer)
    while trainer.live():
        ended = trainer.run_step()
        now[0] += seconds
        for seed in seeds if ended else ():
            progress.epoch(seed, LINE | {"epoch": trainer.epoch})
        progress.step(trainer)
    return said


def test_the_kernel_then_the_time_that_is_left_then_lines_within_epochs_and_of_epochs():
    said = watched(seconds=8.0)
    assert said[0].startswith("recurrence: ") and said.count(said[0]) == 1
    (left,) = (line for line in said if line.startswith("2 epochs: "))
    assert re.fullmatch(r"2 epochs: 0\.12 steps/s, about \d+ min left", left)
    epochs = [line for line in said if "valid" in line]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert "train 1235  valid 2.3e+43 perplexity  rate 0.007812  gradient 0.123" in " ".join(epochs[0].split("\n"))
    within = [line for line in said if "  step " in line]
    assert len(within) == len(said) - 4 > 4
    assert all(
        "gradient norm" in " ".join(line.split()) and "learning rate 0.2" in " ".join(line.split()) for line in within
    )
    assert max(len(line) for text in said for line in text.splitlines()) <= 80


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)], ids=["one seed", "three seeds"])
def test_the_speed_is_that_of_the_tokens_of_all_seeds_since_the_previous_update(seeds):
    shown = []
    watched(seeds, bar=shown.append)
    columns = len(small_corpus().train) // CONFIG.batch_size
    steps = [n for _, n in epoch_windows(columns, CONFIG.window, vary=True, epoch=1)]
    assert len(set(steps)) > 1, "windows differ in length"
    found = [int(re.search(r"([\d,]+) tokens/s", text)[1].replace(",", "")) for text in shown if "tokens/s" in text]
    assert found[: len(steps) - 1] == [CONFIG.batch_size * len(seeds) * n for n in steps[:-1]]
    assert sum(text.startswith("seed ") for text in shown) == (6 if len(seeds) > 1 else 0)


class Own(nn.Module):
    """A cell of a user, without a kernel."""

    def __init__(self, input_size, hidden_size, depth, device=None, dtype=None):
        super().__init__()
        self.inner = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, x, s0=None):
        outputs = self.inner(x)
        return outputs, outputs[-1]


@pytest.mark.parametrize(
    ("cell", "options", "words"),
    [
        ("rhn", {}, "in C" if library() else "fused, not in C: "),
        ("rhn", {"cell_options": {"activation": "relu"}}, "fused, not in C: it has no activation relu"),
        ("gru", {"transform_bias": None}, "fused"),
        ("orthogonal", {"transform_bias": None}, "the step function in a loop"),
        (f"{__name__}:Own", {"transform_bias": None}, "step by step, without a kernel"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_after_the_first_step_the_kernel_of_the_recurrence_is_known(cell, options, words):
    trainer = text_trainer(replace(CONFIG, cell=cell, **options), small_corpus())
    assert trainer.kernel == ""
    trainer.run_step()
    assert trainer.kernel.startswith(words)


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_lines_are_no_wider_than_the_terminal(columns, monkeypatch):
    monkeypatch.setattr("os.get_terminal_size", lambda file: os.terminal_size((columns, 24)))
    with Path(os.devnull).open("w") as numbered:
        monkeypatch.setattr("sys.stderr", numbered)
        lines = lines_of("word " * 60).splitlines()
    assert max(map(len, lines)) in range(min(columns, 80) - 5, min(columns, 80) + 1)
