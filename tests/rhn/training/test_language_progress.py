"""The line on a terminal says how fast tokens are really read."""

import os
import re
from pathlib import Path

import pytest

from rhn.training import language_progress as progress
from rhn.training.batches import epoch_windows
from rhn.training.config import LanguageConfig
from rhn.training.language import Training
from rhn.training.profile import Profile
from rhn.utils.progress import lines_of
from tests.rhn.texts import small_corpus

CONFIG = LanguageConfig(
    corpus="text", hidden_size=3, batch_size=4, window=7, vary_window=True, init="uniform:0.2", epochs=2
)


class Screen:
    """Stands for rich's bars and its console: keeps what each update says, and the lines."""

    def __init__(self):
        self.said, self.lines, self.console = [], [], self

    def print(self, line, **style):
        self.lines.append(line)

    def add_task(self, description, total):
        return 0

    def update(self, task, *, description, completed):
        self.said.append(description)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)], ids=["one seed", "three seeds"])
def test_the_speed_is_of_the_tokens_that_all_seeds_have_read_since_the_line_before(seeds, monkeypatch):
    corpus, clock, screen = small_corpus(), [0.0], Screen()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    training, bar = Training(CONFIG, corpus, seeds=seeds), progress._Bar(CONFIG, "perplexity", screen)
    while not training.finished:
        training.run_window()
        clock[0] += 1.0
        bar.unit(training)
    columns = len(corpus.train) // CONFIG.batch_size
    first, second = (
        [steps for _, steps in epoch_windows(columns, CONFIG.window, vary=True, epoch=epoch)] for epoch in (1, 2)
    )
    assert len(set(first)) > 1, "windows differ in length"
    both = (first[-1] + second[0]) / 2  # the end of an epoch has no line
    steps = [*first[:-1], both, *second[1:-1]]
    found = [int(re.search(r"([\d,]+) tokens/s", said)[1].replace(",", "")) for said in screen.said]
    assert found == [round(CONFIG.batch_size * len(seeds) * per_second) for per_second in steps]
    recurrence, left = screen.lines
    assert re.match(r"recurrence: \d+ % of a step; ", recurrence)
    assert left.startswith(f"{len(first)} windows an epoch: 1 windows/s, 2 epochs: about ")


def test_large_models_have_an_estimate_before_their_first_step(monkeypatch, capsys):
    training, pace = Training(CONFIG, small_corpus(), seeds=(0,)), Profile("a kernel", step=1800.0, recurrence=900.0)
    monkeypatch.setattr(training, "profile", lambda: pace)
    progress._Lines(CONFIG, (0,), "perplexity").unit(training)
    _, left = capsys.readouterr().err.splitlines()
    hours = 2 * training.position[2] * 1800 / 3600
    assert left == f"about {hours:.1f} h left, judged by the gradients of one window"


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
    line = losses | {"epoch": 10, "learning_rate": 0.0078125, "gradient_norm": 0.123456}
    config = LanguageConfig(corpus="text", epochs=20)
    for seeds in ((0,), range(20)):
        progress._Lines(config, seeds, name).epoch(7, line)
        said = capsys.readouterr().err.splitlines()
        assert max(map(len, said)) <= 80
        words = " ".join(" ".join(said).split())
        assert words.startswith("epoch 10/20 train 1235" if len(seeds) == 1 else "seed 7 epoch 10/20 train 1235")
        assert words.endswith("rate 0.007812 gradient 0.123")
