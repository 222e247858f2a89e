"""Numbers of NumPy and torch are numbers, and what cannot be used is refused in one sentence before
the work begins.
"""

import json
import math
import re

import numpy as np
import pytest
import torch

import optim_study
import rhn
from rhn.cells import make_cell
from rhn.data import Corpus, Piece
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from rhn.presets import preset
from rhn.training.run import train
from rhn.utils.validation import check_device, number, plain, whole_number
from tests.rhn.texts import sentences

ONES = [Piece(np.ones((4, 88)), name="ones", split="train", index=0)] * 2
CHORALES = Corpus(ONES, ONES, ONES, "ones")
WHOLE = [np.int64, np.int32, np.uint8, np.array, torch.tensor]


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text(sentences(80, 0))
    return rhn.load_data("text", file, unit="words")


@pytest.mark.parametrize("kind", [*WHOLE, np.float16, np.float32, np.float64, np.bool_])
def test_a_scalar_becomes_the_number_of_python(kind):
    found = plain(kind(1))
    assert type(found) in (int, float, bool) and found == 1


@pytest.mark.parametrize("whole", WHOLE)
def test_a_configuration_of_scalars_is_that_of_numbers(whole):
    rates = np.logspace(-3, 0, 4)
    found = preset(
        "jsb-depth-2",
        learning_rate=rates[1],
        momentum=np.float32(0.5),
        hidden_size=whole(5),
        epochs=whole(3),
        seed=whole(7),
        cell_options={"coupled": np.bool_(False), "gate_constant": np.float64(-1)},
    )
    usual = preset(
        "jsb-depth-2",
        learning_rate=rates.tolist()[1],
        momentum=0.5,
        hidden_size=5,
        epochs=3,
        seed=7,
        cell_options={"coupled": False, "gate_constant": -1.0},
    )
    assert found == usual and json.dumps(vars(found)) == json.dumps(vars(usual))


def test_a_training_with_scalars_is_that_with_numbers(tmp_path):
    def losses(out, number, real):
        changes = {"hidden_size": number(4), "epochs": number(2), "learning_rate": real(0.125)}
        (found,) = rhn.train(
            "jsb-depth-1", CHORALES, out=tmp_path / out, max_minutes=real(1), **changes
        )
        return found.valid_nll

    assert losses("a", int, float) == losses("b", np.int64, np.float32)
    files = [json.loads((tmp_path / out / "config.json").read_text()) for out in "ab"]
    assert files[0] == files[1]


def test_seeds_and_sizes_are_scalars_too(tmp_path):
    config = preset("jsb-depth-1", hidden_size=3, epochs=1)
    found = train(config, CHORALES, out=tmp_path / "out", seeds=np.arange(2))
    assert [result.seed for result in found] == [0, 1]
    cell = make_cell("rhn", np.int64(3), np.array(4), gate_constant=np.float32(0.5))
    assert cell.config() == make_cell("rhn", 3, 4, gate_constant=0.5).config()
    music = PolyphonicModel("rnn", hidden_size=3)
    drawn = [rhn.sample(music, bars=n(2), seed=n(3), temperature=1.0) for n in (int, np.int16)]
    assert np.array_equal(*drawn)


def test_a_study_takes_scalars_and_arrays():
    options = {"trials": np.int64(3), "budget_scale": np.float32(0.5), "fuse": np.int32(2)}
    ranges = {"learning_rate": np.array([0.125, 0.5]), "depth": np.arange(1, 3)}
    found = optim_study.smoke(**options, **ranges, transform_bias=np.array([0, -1]))
    usual = {"learning_rate": (0.125, 0.5), "depth": (1, 2), "transform_bias": (0.0, -1.0)}
    assert found == optim_study.smoke(trials=3, budget_scale=0.5, fuse=2, **usual)


@pytest.mark.parametrize(
    "value", [np.float64(1.5), np.bool_(True), True, 0, np.int64(0), "3", None]
)
def test_what_is_no_size_is_refused(value):
    with pytest.raises(InvalidInputError, match="whole number of at least 1"):
        whole_number("hidden_size", value)


@pytest.mark.parametrize("value", [np.float32(0), -1, True, "1", None, math.inf, math.nan, [1.0]])
def test_what_is_no_finite_number_above_0_is_refused(value):
    with pytest.raises(InvalidInputError, match=r"^rate is .*: expected a finite number above 0$"):
        number("rate", value, above=0)


def test_numbers_of_numpy_and_torch_are_those_of_python():
    found = [number("rate", np.float64(0.5), above=0), whole_number("steps", torch.tensor(3))]
    assert found == [0.5, 3] and [type(value) for value in found] == [float, int]


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [(0, "'cpu'"), (1, "'cpu' or 'cuda:0'"), (2, "'cpu' or 'cuda:0' or 'cuda:1'")],
)
def test_a_device_that_is_not_there_is_refused_by_those_that_are(gpus, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        InvalidInputError, match=re.escape(f"device is 'cuda:99': expected {expected}") + "$"
    ):
        check_device("cuda:99")
