"""What is said on stderr while chorales are trained on, by a clock of our own."""

import sys

import numpy as np
import pytest

from rhn.training.chorale_progress import Lines, training_progress
from rhn.training.config import ChoraleConfig

CONFIG = ChoraleConfig(cell="rhn", depth=2, hidden_size=6, learning_rate=1, init_std=1, transform_bias=None, epochs=100)


class Training:
    """Stands for one that has done so many epochs."""

    epoch, profile, finished = 40, lambda self: "70 % of a step; compiled for this CPU", False

    def live(self):
        return [] if self.finished else [0]

    def curve(self, number):
        return np.array([[7.0, 8.0]] * (self.epoch + 1))


@pytest.mark.parametrize("live", [False, True], ids=["lines", "terminal"])
def test_the_kernel_then_the_time_that_is_left_then_lines_now_and_then(live):
    now, training = [0.0], Training()
    lines, said = Lines(CONFIG, live, lambda: now[0]), []
    for _ in range(14):
        said.append(list(lines.of(training)))
        now[0] += 7.5 if training.epoch > 40 else 1000.0  # the first epoch also loads and compiles
        training.epoch += 1
    assert said[0] == ["recurrence: 70 % of a step; compiled for this CPU"]
    assert [len(each) for each in said[1:4]] == [0, 0, 0], "40 was loaded, 41 counts as the first, 44 is the fourth"
    assert said[4] == ["100 epochs: 0.13 epochs/s, at most 7 min left"]
    later = [line for each in said[5:] for line in each]
    left = {45: 7, 49: 6, 53: 6}  # every half minute
    wanted = [
        f"epoch {n}/100  train 7.000  valid 8.000 nats/frame  0.13 epochs/s  {m} min left" for n, m in left.items()
    ]
    assert later == ([] if live else wanted)
    assert max(map(len, [*said[0], *said[4], *later])) <= 80


def test_a_training_with_nothing_left_to_do_says_nothing():
    training = Training()
    training.finished = True
    assert list(Lines(CONFIG, False, lambda: 0.0).of(training)) == []


def test_a_terminal_shows_losses_from_the_first_epoch_on(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    with training_progress(CONFIG) as show:
        pass
    assert "0/100" in (before := capsys.readouterr().err) and "nan" not in before and "train" not in before
    with training_progress(CONFIG) as show:
        show(Training())
    assert "train 7.000  valid 8.000 nats/frame  best epoch 0" in capsys.readouterr().err
