"""Numbers of NumPy and torch are numbers, and what cannot be used is refused."""

import json
import math

import numpy as np
import pytest
import torch
from tables import for_each

import optim_study
import rhn
from rhn.cells import make_cell
from rhn.data import Corpus, Piece
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from rhn.presets import preset
from rhn.utils.validation import number, plain, whole_number

ONES = [Piece(np.ones((4, 88)), name="ones", split="train", index=0)] * 2
CHORALES = Corpus(ONES, ONES, ONES, "ones")
WHOLE = [np.int64, np.int32, np.uint8, np.array, torch.tensor]


@for_each("kind", [*WHOLE, np.float16, np.float32, np.float64, np.bool_])
def test_a_scalar_becomes_the_number_of_python(kind):
    found = plain(kind(1))
    assert type(found) in (int, float, bool) and found == 1


@for_each("whole", WHOLE)
def test_a_configuration_of_scalars_is_that_of_numbers(whole):
    def config(whole, real, boolean):
        sizes = {name: whole(n) for name, n in {"hidden_size": 5, "epochs": 3, "seed": 7}.items()}
        options = {"coupled": boolean(False), "gate_constant": real(-1.0)}
        return preset("jsb-depth-2", momentum=real(0.5), cell_options=options, **sizes)

    found, usual = config(whole, np.float32, np.bool_), config(int, float, bool)
    assert found == usual and json.dumps(vars(found)) == json.dumps(vars(usual))


def test_work_with_scalars_is_that_with_numbers(tmp_path):
    def losses(out, whole, real):
        changes = {"hidden_size": whole(4), "epochs": whole(2), "learning_rate": real(0.125)}
        how = {"seeds": np.arange(2), "max_minutes": real(1), "out": tmp_path / out}
        found = rhn.train("jsb-depth-1", CHORALES, **how, **changes)
        return [(each.seed, each.valid_nll) for each in found]

    assert losses("a", int, float) == losses("b", np.int64, np.float32)
    cell = make_cell("rhn", np.int64(3), np.array(4), gate_constant=np.float32(0.5))
    assert cell.config() == make_cell("rhn", 3, 4, gate_constant=0.5).config()
    music = PolyphonicModel("rnn", hidden_size=3)
    drawn = [rhn.sample(music, bars=n(2), seed=n(3), temperature=1.0) for n in (int, np.int16)]
    assert np.array_equal(*drawn)
    scalars = {"trials": np.int64(3), "budget_scale": np.float32(0.5), "depth": np.arange(1, 3)}
    usual = {"trials": 3, "budget_scale": 0.5, "depth": (1, 2), "transform_bias": (0.0, -1.0)}
    found = optim_study.smoke(**scalars, transform_bias=np.array([0, -1]))
    assert found == optim_study.smoke(**usual)


@for_each("value", [np.float64(1.5), np.bool_(True), True, 0, np.int64(0), "3", None, 2**63])
def test_what_is_no_size_is_refused(value):
    with pytest.raises(InvalidInputError, match="expected a whole number"):
        whole_number("hidden_size", value)


@for_each("value", [np.float32(0), -1, True, "1", None, math.inf, math.nan, [1.0]])
def test_what_is_no_finite_number_above_0_is_refused(value):
    with pytest.raises(InvalidInputError, match=r"^rate is .*: expected a finite number above 0$"):
        number("rate", value, above=0)


@for_each(("limits", "least", "most"), [({"least": 1, "most": 2}, 1, 2), ({"below": 2}, -9, 1.99)])
def test_limits_are_kept(limits, least, most):
    assert [number("x", value, **limits) for value in (least, most)] == [least, most]
    for value in ([least - 0.01] if "least" in limits else []) + [most + 0.01]:
        with pytest.raises(InvalidInputError, match="x is "):
            number("x", value, **limits)
    assert type(number("rate", np.float64(0.5))) is float
    assert type(whole_number("steps", torch.tensor(3))) is int
