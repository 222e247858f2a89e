"""How long a study takes is estimated from timed minibatches, by a clock that the test holds."""

import numpy as np
import pytest
from small_studies import MELODIES

from optim_study import estimates as module
from optim_study import smoke
from optim_study.estimates import estimates
from rhn.data import Corpus, Piece

pytestmark = pytest.mark.usefixtures("own_folder")
RUN = f"optim-study run --preset smoke --device cpu --arch rnn gru --data {MELODIES} --out study"


class Clock:
    """A clock that moves by the next of some durations between two looks."""

    def __init__(self, *durations):
        self.now, self.moves = 0.0, iter([move for each in durations for move in (each, 0.0)])

    def __call__(self) -> float:
        before, self.now = self.now, self.now + next(self.moves)
        return before


def pieces(*lengths) -> list[Piece]:
    return [Piece(np.ones((n, 88)), name="a", split="train", index=n) for n in lengths]


def test_an_estimate_is_the_time_of_all_minibatches_of_all_epochs():
    """An epoch of a minibatch of f frames takes 0.5 + 0.1 f seconds, with two trials as one."""
    first, second = module.FRAMES
    train = pieces(*([40] * 32), *([11] * 8))  # two minibatches
    corpus = Corpus(train, pieces(20), pieces(20), "ones")
    config = smoke(arch=("rhn",), depth=(1, 2), trials=4, epochs=3, fuse=2, jobs=2)
    deepest = 9.0, 0.5 + 0.1 * first, 0.5 + 0.1 * second  # the first one warms up
    (found,) = estimates({"smoke": config}, corpus, clock=Clock(*deepest))
    epoch = 0.5 + 0.1 * 40 + 0.5 + 0.1 * 11  # of two trials of depth 2; depth 1 takes half of it
    assert (found.trials, found.epochs) == (8, 24)
    assert found.seconds == pytest.approx((epoch / 2 + epoch / 4) * 4 * 3 / 2)


@pytest.mark.parametrize(
    ("seconds", "epoch"),
    [
        pytest.param((2.0, 2.0), 2 * 2.0, id="no more for more frames"),
        pytest.param((2.0, 1.0), 2 * 2.0, id="less for more frames"),
        pytest.param((1.0, 9.0), 8 / 48 * (40 + 11), id="all for frames"),
    ],
)
def test_no_part_of_an_estimate_is_below_0(seconds, epoch):
    """16 and 64 frames; two minibatches, whose longest pieces have 40 and 11 frames."""
    corpus = Corpus(pieces(*([40] * 32), *([11] * 8)), pieces(20), pieces(20), "ones")
    config = smoke(arch=("rhn",), depth=(1,), trials=1, epochs=1)
    (found,) = estimates({"smoke": config}, corpus, clock=Clock(9.0, *seconds))
    assert found.seconds == pytest.approx(epoch)


@pytest.mark.parametrize(
    ("how", "together"),
    [
        pytest.param({"trials": 40, "jobs": 2, "budget_scale": 0.01}, 10, id="half of a worker's"),
        pytest.param({"trials": 3, "fuse": 5, "budget_scale": 0.01}, 3, id="all trials"),
        pytest.param({"trials": 40, "fuse": 7, "budget_scale": 0.5}, 3, id="of large networks"),
        pytest.param({"trials": 40, "fuse": 7, "budget_scale": 2.0}, 1, id="of very large ones"),
    ],
)
def test_as_many_trials_are_timed_together_as_run_together_or_share_a_cost(
    how, together, monkeypatch
):
    """More than 262,144 parameters in all share none; the frames of minibatches are 16 and 64."""
    started = []

    class Trained:
        def run_epoch(self):
            pass

    def start(study, settings, saved, corpus):
        lengths = {len(piece) for piece in corpus.train}, {len(piece) for piece in corpus.valid}
        started.append((sorted(settings), len(corpus.train), *map(max, lengths)))
        return Trained()

    monkeypatch.setattr(module, "start_training", start)
    corpus = Corpus(pieces(*[100] * 40), pieces(*[100] * 40), pieces(100), "ones")
    config = smoke(arch=("rhn",), depth=(1,), epochs=1, **how)
    estimates({"smoke": config}, corpus, clock=Clock(1.0, 1.0, 1.0))
    numbers = [*range(together)]
    assert started == [(numbers, 32, 16, 5), (numbers, 32, 16, 5), (numbers, 32, 64, 21)]


@pytest.fixture
def timed(monkeypatch):
    """The architectures that were timed: 36 seconds an epoch of each trial."""
    names = []

    def seconds(study, *others):
        names.append(study.arch)
        return 36.0

    monkeypatch.setattr(module, "seconds_of_epoch", seconds)
    return names


TABLE = """\
preset   trials   epochs (at most)   estimate
paper         4                  8    0:04:48
small         4                  8    0:04:48
smoke         4                  8    0:04:48
"""


def test_a_run_and_its_plan_print_one_table_with_a_row_for_each_preset(timed, command):
    sizes = "--trials 2 --epochs 2"
    plan = command(f"{RUN} {sizes} --dry-run")
    assert plan.code == 0 and plan.out.endswith(f"\n\n{TABLE}")
    done = command(f"{RUN} {sizes}")
    assert done.code == 0 and f"\n\n{TABLE}" in done.err
    assert timed == ["rnn", "gru"] * 3 * 2


def test_ctrl_c_during_the_estimate_loses_nothing(timed, own_folder, command, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    def contents():
        files = own_folder.glob("study/*-depth1/**/*")
        return {path: path.read_bytes() for path in files if path.is_file()}

    assert command(f"{RUN.replace(' gru', '')} --trials 2 --epochs 2").code == 0
    before = contents()
    monkeypatch.setattr(module, "seconds_of_epoch", interrupted)
    stopped = command(f"{RUN} --trials 2 --epochs 2")
    assert stopped.code == 130 and "study is saved; run the same command again" in stopped.err
    assert len(before) == 3 and contents() == before
    monkeypatch.setattr(module, "seconds_of_epoch", lambda *given: 36.0)
    assert command(f"{RUN} --trials 3 --epochs 2").code == 0
    assert {path.name for path in contents()} == {
        "0000.json", "0001.json", "0002.json", "best.safetensors",
    }  # fmt: skip
