"""Long work shows what is done and the time left, by a clock that the test holds. A script shows
nothing unless it asks for it.
"""

import io
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import analysis
import gersgorin
import rhn
import trainability
from rhn.cli.entry import run_command
from rhn.data import Corpus, Piece, Vocabulary
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.evaluation import score
from rhn.utils import progress
from rhn.utils.progress import Bars, Lines, Work, reported, shown


class Clock:
    """A clock that stands still."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_what_remains_at_the_rate_since_the_start():
    clock = Clock()
    task = Work("train", done=1000, clock=clock)
    assert task.counts() == ("1000/-", "-")
    clock.now = 20.0
    task(1010, 1100)
    assert task.counts() == ("1010/1100", "0:03:00"), "90 steps of 2 seconds"
    clock.now = 25.0
    task(1010, 1100)
    assert task.counts() == ("1010/1100", "0:02:55"), "without a new step the time passes"
    clock.now = 1000.0
    assert task.seconds_left() == 0
    quick = Work("score", clock=clock)
    clock.now += 0.25
    quick(1, 4)
    assert quick.seconds_left() == 0.75


def test_there_is_no_time_left_before_a_rate_or_without_a_total():
    clock = Clock()
    task = Work("train", done=3, total=10, clock=clock)
    clock.now = 5.0
    assert task.counts() == ("3/10", "-"), "nothing is done since the start"
    task(4, None)
    assert task.counts() == ("4/-", "-")
    task(5, 10)
    assert task.seconds_left() == pytest.approx(5 * 5 / 2)


def test_the_rate_starts_anew_when_the_count_falls():
    clock = Clock()
    task = Work("fixed-points", clock=clock)
    for clock.now, done in ((10.0, 5), (20.0, 10), (30.0, 0), (32.0, 1)):
        task(done, 10)
    assert task.seconds_left() == 9 * 2


def test_without_a_terminal_there_is_a_line_each_half_minute(capsys):
    clock = Clock()
    lines, task = Lines(clock), Work("a long one", clock=clock)
    for clock.now, done, title in (
        (29.0, 1, None), (31.0, 2, None), (40.0, 3, "another"), (62.0, 4, None),
    ):  # fmt: skip
        task(done, 8, title)
        lines.draw([task])
    assert capsys.readouterr().err == (
        "a long one: 2/8, time left 0:01:33\nanother: 4/8, time left 0:01:02\n"
    )


def test_a_bar_appears_after_two_seconds_and_is_removed(capsys):
    clock, drawn = Clock(), list[str]()

    def text_of(table) -> None:
        console = Console(file=io.StringIO(), width=80)
        console.print(table)
        drawn.append(" ".join(console.file.getvalue().split()))

    def show(table):
        text_of(table)
        return text_of, lambda: drawn.append("removed")

    bars, task = Bars(show, clock), Work("spectra", clock=clock)
    for clock.now, done in ((1.9, 1), (2.0, 2), (3.0, 3)):
        task(done, 300)
        bars.draw([task])
    bars.close()
    first, second, end = drawn
    assert first.startswith("spectra") and first.endswith("2/300 0:04:58")
    assert second.endswith("3/300 0:04:57") and end == "removed"
    quick = Bars(show, clock)
    quick.draw([Work("quick", clock=clock)])
    quick.close()
    assert len(drawn) == 3


class Drawn(Lines):
    """A drawer that notes the titles that it draws."""

    def __init__(self):
        self.titles, self._news = list[list[str]](), threading.Condition()

    def draw(self, tasks):
        with self._news:
            self.titles.append([task.title for task in tasks])
            self._news.notify_all()

    def draws(self, *titles: str) -> bool:
        """Wait until tasks with these titles are drawn together, the innermost ones last."""
        wanted = [*titles]
        with self._news:
            return self._news.wait_for(
                lambda: any(drawn[-len(wanted) :] == wanted for drawn in self.titles), 60
            )


@pytest.fixture
def drawer(monkeypatch) -> Drawn:
    """What draws the progress in a test."""
    drawn = Drawn()
    monkeypatch.setattr(progress, "drawer", lambda: drawn)
    monkeypatch.setattr(progress, "DRAW_SECONDS", 0.001)
    monkeypatch.delattr(sys, "ps1", raising=False)
    return drawn


@pytest.mark.parametrize(
    ("asked", "in_command", "session", "is_drawn"),
    [
        pytest.param(None, False, False, False, id="script"),
        pytest.param(True, False, False, True, id="script that asks"),
        pytest.param(None, True, False, True, id="command"),
        pytest.param(None, False, True, True, id="session"),
        pytest.param(False, False, True, False, id="session that refuses"),
    ],
)
def test_who_sees_the_progress(asked, in_command, session, is_drawn, drawer, monkeypatch):
    if session:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with shown(True) if in_command else reported(lambda *counts: None, "none"):
        pass  # a context that has ended changes nothing
    inside = shown(in_command) if in_command else reported(asked, "outer")
    with inside, reported(asked, "own"):
        if is_drawn:
            assert drawer.draws("own")
    assert bool(drawer.titles) == is_drawn


def test_work_within_work_is_shown_only_if_the_whole_is(drawer):
    counts = []
    with reported(True, "whole"), reported(None, "part"):
        assert drawer.draws("whole", "part")
    drawer.titles.clear()
    with reported(lambda *count: counts.append(count), "whole") as advance:
        advance(1, 2)
        with reported(None, "part") as part:
            part(1, 9)
    assert counts == [(1, 2)] and drawer.titles == []


X = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 3)))
ROLLS = [np.random.default_rng(k).integers(0, 2, (6, 88)).astype(np.uint8) for k in range(3)]
PIECES = [Piece(roll, name="a", split="train", index=k) for k, roll in enumerate(ROLLS)]
CORPUS = Corpus(PIECES, PIECES, PIECES, "three pieces")


def step(x, s):
    return torch.tanh(s + x[:1])


def trained(function, report):
    """A call of `check` or `cure`."""
    x, model = torch.randn(60, 3), nn.Linear(3, 1)
    parts = model, x, x[:, :1], nn.MSELoss(), torch.optim.SGD(model.parameters(), 0.01)
    return function(*parts, steps=8, progress=report)


def networks():
    return {"a": nn.RNN(3, 2), "b": nn.GRU(3, 2)}


def polyphonic():
    return PolyphonicModel("gru", hidden_size=3)


WORDS = Vocabulary("words", ("a", "b", "<eos>", "c", "<unk>"))


def language():
    return LanguageModel("gru", vocabulary_size=5, hidden_size=3)


OWN = {"network": step, "x": X, "s0": torch.zeros(1).double()}
CALLS = {
    "spectra": lambda report: gersgorin.spectra(**OWN, progress=report),
    "leading": lambda report: gersgorin.spectra(**OWN, leading=1, progress=report),
    "products": lambda report: gersgorin.products(**OWN, progress=report),
    "gains": lambda report: gersgorin.gains(**OWN, progress=report),
    "gates": lambda report: gersgorin.gates(**OWN, of=lambda x, s: s.abs(), progress=report),
    "lyapunov": lambda report: gersgorin.lyapunov(**OWN, repeat=2, progress=report),
    "pseudospectra": lambda report: gersgorin.pseudospectra(**OWN, side=3, progress=report),
    "fixed_points": lambda report: gersgorin.fixed_points(**OWN, starts=5, progress=report),
    "influence": lambda report: gersgorin.influence(nn.RNN(3, 2), X[:, None], progress=report),
    "compare": lambda report: gersgorin.compare(networks(), X, progress=report),
    "gate_activity": lambda report: analysis.gate_activity(polyphonic(), ROLLS, progress=report),
    "lesion": lambda report: analysis.lesion(polyphonic(), ROLLS, progress=report),
    "refinement": lambda report: analysis.refinement(polyphonic(), ROLLS, progress=report),
    "check": lambda report: trained(trainability.check, report),
    "cure": lambda report: trained(trainability.cure, report),
    "score": lambda report: score(language(), np.arange(40) % 5, progress=report),
    "evaluate": lambda report: rhn.evaluate(polyphonic(), CORPUS, progress=report),
    "generate": lambda report: rhn.sample(language(), WORDS, length=5, progress=report),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_long_call_reports_up_to_its_end(name, capsys):
    counts = []
    CALLS[name](lambda *count: counts.append(count[:2]))
    assert counts, "nothing was reported"
    done, total = counts[-1]
    assert done == total
    assert all(0 <= done <= total for done, total in counts)
    assert capsys.readouterr().err == ""


def test_a_training_run_reports_the_steps_up_to_its_last_epoch(tmp_path, capsys):
    counts, how = [], {"out": tmp_path, "hidden_size": 3, "patience": 9, "batch_size": 2}
    report = lambda *count: counts.append(count)  # noqa: E731
    rhn.train("jsb-depth-1", CORPUS, epochs=2, progress=report, **how)
    assert counts == [(1, 4), (2, 4), (3, 4), (4, 4)]
    counts.clear()
    rhn.train("jsb-depth-1", CORPUS, epochs=4, progress=report, **how)
    assert counts == [(5, 8), (6, 8), (7, 8), (8, 8)] and capsys.readouterr().err == ""


def test_the_work_of_a_command_is_shown(drawer):
    def main():
        with reported(None, "own"):
            assert drawer.draws("own")

    assert run_command(main) == 0 and drawer.titles[0] == ["own"]
    with reported(None, "after the command"):
        pass
    assert ["after the command"] not in drawer.titles


@pytest.mark.slow
def test_a_script_prints_nothing_on_its_standard_error():
    code = """
import gersgorin, torch
gersgorin.spectra(torch.nn.RNN(3, 4), torch.rand(9, 1, 3))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
