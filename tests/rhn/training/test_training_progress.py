"""The lines and the bar of a training, by a clock of our own."""

import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from rhn.kernels.compiled.build import library
from rhn.training.batches import epoch_windows
from rhn.training.config import LanguageConfig
from rhn.training.progress import Progress, training_progress
from rhn.utils.progress import lines_of
from tests.rhn.texts import small_corpus, text_trainer

CONFIG = LanguageConfig(
    corpus="text", hidden_size=3, batch_size=4, window=7, vary_window=True, init="uniform:0.2", epochs=2
)


class Trainer:
    """Stands for one on chorales that has done some epochs."""

    config, numbers, samples_read = SimpleNamespace(epochs=100, patience=50), [0], 0
    task = SimpleNamespace(unit="epoch", rate_unit="epochs", measure_name="nats/frame")
    position, epoch, ended, kernel = (0, 7), 40, False, "in C"

    def live(self):
        return [] if self.ended else [0]


class Screen:
    """Stands for rich's bars: keeps the text of each update."""

    def __init__(self):
        self.said = []

    def add_task(self, description, total):
        return 0

    def update(self, task, *, description, completed, total):
        self.said.append(description)


def line(epoch: int) -> dict:
    return {"epoch": epoch, "train_nll": 7.0, "valid_nll": 8.0}


def test_the_kernel_then_the_time_that_is_left_then_lines_of_epochs():
    now, trainer, said = [0.0], Trainer(), []
    progress = Progress(said.append, clock=lambda: now[0])
    progress.unit(trainer)
    assert said == []
    for _ in range(13):
        now[0] += 7.5 if trainer.epoch > 40 else 1000.0  # the first epoch also loads and compiles
        trainer.epoch += 1
        progress.epoch(0, line(trainer.epoch))
        progress.unit(trainer)
    assert said[0] == "recurrence: in C" and said.count(said[0]) == 1
    assert "100 epochs: 0.13 epochs/s, at most 7 min left" in said
    assert "epoch 46/100  train 7  valid 8 nats/frame  7 min left" in said
    assert sum(text.startswith("epoch") for text in said) == 13
    assert max(map(len, said)) <= 80


class Own(nn.Module):
    """A cell of a user, without a kernel."""

    def __init__(self, input_size, hidden_size, depth, device=None, dtype=None):
        super().__init__()
        self.state_size, self.inner = hidden_size, nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, x, s0=None):
        outputs = self.inner(x)
        return outputs, outputs[-1]


@pytest.mark.parametrize(
    ("cell", "options", "words"),
    [
        ("rhn", {}, "in C" if library() else "fused, not in C: "),
        ("rhn", {"activation": "relu"}, "fused, not in C: it has no activation relu"),
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


def test_a_training_with_nothing_left_to_do_says_nothing():
    trainer, said = Trainer(), []
    trainer.ended = True
    Progress(said.append).unit(trainer)
    assert said == []


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)], ids=["one seed", "three seeds"])
def test_the_speed_is_that_of_the_tokens_of_all_seeds_since_the_previous_update(seeds):
    corpus, clock, screen, said = small_corpus(), [0.0], Screen(), []
    trainer = text_trainer(CONFIG, corpus, seeds)
    bar = Progress(said.append, screen, clock=lambda: clock[0])
    bar.unit(trainer)
    while trainer.live():
        trainer.run_step()
        clock[0] += 1.0
        bar.unit(trainer)
    columns = len(corpus.train) // CONFIG.batch_size
    steps = [n for epoch in (1, 2) for _, n in epoch_windows(columns, CONFIG.window, vary=True, epoch=epoch)]
    assert len(set(steps)) > 1, "windows differ in length"
    found = [int(re.search(r"([\d,]+) tokens/s", text)[1].replace(",", "")) for text in screen.said]
    assert found == [CONFIG.batch_size * len(seeds) * n for n in steps[:-1]]
    recurrence, left = said
    assert recurrence == f"recurrence: {trainer.kernel}"
    assert left.startswith("2 epochs: 1 windows/s, about ")


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_lines_are_no_wider_than_the_terminal(columns, monkeypatch):
    monkeypatch.setattr("os.get_terminal_size", lambda file: os.terminal_size((columns, 24)))
    with Path(os.devnull).open("w") as numbered:
        monkeypatch.setattr("sys.stderr", numbered)
        lines = lines_of("word " * 60).splitlines()
    assert max(map(len, lines)) in range(min(columns, 80) - 5, min(columns, 80) + 1)


@pytest.mark.parametrize("name", ["perplexity", "bits_per_character"])
def test_the_line_of_an_epoch_fits_a_terminal(name, capsys):
    losses = {f"train_{name}": 1234.5678, f"valid_{name}": 2345.6789}
    values = losses | {"epoch": 20, "learning_rate": 0.0078125, "gradient_norm": 0.123456}
    trainer = Trainer()
    trainer.config, trainer.kernel = LanguageConfig(corpus="text", epochs=20), ""
    trainer.task = SimpleNamespace(unit="step", rate_unit="windows", measure_name=name.replace("_per_", "/"))
    for seeds in ([0], list(range(20))):
        trainer.numbers = seeds
        with training_progress() as progress:
            progress.unit(trainer)
            capsys.readouterr()
            progress.epoch(7, values)
        said = capsys.readouterr().err.splitlines()
        assert max(map(len, said)) <= 80
        words = " ".join(" ".join(said).split())
        assert words.startswith("epoch 20/20 train 1235" if len(seeds) == 1 else "seed 7 epoch 20/20 train 1235")
        assert words.endswith("rate 0.007812 gradient 0.123")
