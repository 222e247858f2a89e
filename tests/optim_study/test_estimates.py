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
preset   trials   epochs (at most)   estimate (h:mm:ss)
paper         4                  8              0:04:48
small         4                  8              0:04:48
smoke         4                  8              0:04:48
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

    assert command(f"{RUN} --trials 2 --epochs 2").code == 0
    before = contents()
    monkeypatch.setattr(module, "seconds_of_epoch", interrupted)
    stopped = command(f"{RUN} --trials 3 --epochs 2")
    assert stopped.code == 130 and "study is saved; run the same command again" in stopped.err
    assert len(before) == 6 and contents() == before
    monkeypatch.setattr(module, "seconds_of_epoch", lambda *given: 36.0)
    assert command(f"{RUN} --trials 3 --epochs 2").code == 0
    assert {path.name for path in contents()} == {
        "0000.json", "0001.json", "0002.json", "best.safetensors",
    }  # fmt: skip
