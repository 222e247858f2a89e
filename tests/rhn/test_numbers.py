"""Numbers of NumPy and torch are numbers, and what is no number is refused."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import optim_study
from rhn.errors import InvalidInputError, is_out_of_memory
from rhn.training.configure import preset
from rhn.training.state import best_epoch
from rhn.utils.validation import check_values, number, plain, whole_number

KINDS = [np.int64, np.uint8, np.array, torch.tensor, np.float16, np.float32, np.bool_]


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_of_scalars_is_that_of_numbers(kind):
    def config(whole, real, boolean):
        options = {"coupled": boolean(False), "gate_constant": real(-1.0)}
        changes = {"hidden_size": whole(5), "seed": whole(7), "momentum": real(0.5)}
        return preset("jsb-depth-2", cell_options=options, **changes)

    assert plain(kind(1)) == 1 and type(plain(kind(1))) in (int, float, bool)
    whole = kind if type(plain(kind(1))) is int else int
    found, usual = config(whole, np.float32, np.bool_), config(int, float, bool)
    assert found == usual and json.dumps(vars(found)) == json.dumps(vars(usual))
    study = {"trials": whole(3), "budget_scale": np.float32(0.5), "depth": np.arange(1, 3)}
    assert optim_study.smoke(**study) == optim_study.smoke(trials=3, budget_scale=0.5, depth=(1, 2))


@pytest.mark.parametrize(
    ("check", "good", "wrong"),
    [
        ({}, [1, np.int64(7), 2**63 - 1], [np.float64(1.5), np.bool_(True), 0, "3", None, 2**63]),
        ({"above": 0}, [1e-300, 5], [np.float32(0), True, "1", None, math.inf, math.nan, [1.0]]),
        ({"least": 1, "most": 2}, [1, 1.5, 2], [0.999, 2.001]),
        ({"below": 2}, [-9, 1.999], [2]),
    ],
    ids=["whole", "above 0", "1 to 2", "below 2"],
)
def test_what_is_no_number_of_a_range_is_refused(check, good, wrong):
    checked = number if check else whole_number
    assert [checked("x", value, **check) for value in good] == good
    for value in wrong:
        with pytest.raises(InvalidInputError, match=r"^x is .*: expected "):
            checked("x", value, **check)


@pytest.mark.parametrize(
    ("checked", "check", "value", "expected"),
    [
        pytest.param(whole_number, {"least": 2}, 1, "a whole number of at least 2", id="at least"),
        pytest.param(whole_number, {"least": 2}, "2", "a whole number of at least 2", id="a text"),
        pytest.param(
            whole_number, {}, 2**63, f"a whole number from 1 to {2**63 - 1}", id="too large"
        ),
        pytest.param(
            whole_number, {"least": 2, "most": 5}, 1, "a whole number from 2 to 5", id="from to"
        ),
        pytest.param(whole_number, {"least": 5, "most": 5}, 6, "5", id="one number"),
        pytest.param(number, {"above": 0}, 0, "a number in (0, inf)", id="above"),
        pytest.param(number, {"least": 0, "below": 1}, 1, "a number in [0, 1)", id="below"),
        pytest.param(
            number, {"above": 0.5, "most": 2.5}, 3, "a number in (0.5, 2.5]", id="at most"
        ),
        pytest.param(
            number, {"least": -1.5, "most": 2.5}, 3, "a number in [-1.5, 2.5]", id="between"
        ),
        pytest.param(number, {"below": 2.5}, 3, "a number in (-inf, 2.5)", id="no least"),
    ],
)
def test_a_refusal_of_a_number_names_the_range(checked, check, value, expected):
    with pytest.raises(InvalidInputError) as found:
        checked("x", value, **check)
    assert str(found.value) == f"x is {value!r}: expected {expected}"


@dataclass(frozen=True)
class Pairs:
    """Fields of a number of values that is fixed, and of any number of them."""

    pair: tuple[int, float] = (1, 2.0)
    several: tuple[int, ...] = (3,)


def test_a_field_of_several_values_has_as_many_as_its_type_and_at_least_one():
    found = Pairs(pair=np.array([4, 0.5], object), several=5)
    check_values(found)
    assert (found.pair, found.several) == ((4, 0.5), (5,))
    check_values(Pairs(several=range(1, 3)))
    for wrong, expected in (
        ({"pair": (1, 2.0, 3)}, r"^pair is \(1, 2\.0, 3\): expected 2 values$"),
        ({"pair": 1}, r"^pair is 1: expected 2 values$"),
        ({"pair": ()}, r"^pair is \(\): expected 2 values$"),
        ({"several": []}, r"^several is \[\]: expected one value or more$"),
        ({"several": (1, 0.5)}, r"^several is 0\.5: expected a whole number"),
    ):
        with pytest.raises(InvalidInputError, match=expected):
            check_values(Pairs(**wrong))


def test_an_epoch_whose_losses_are_not_finite_is_not_the_best():
    losses = np.array([[9.0, 8.0], [5.0, math.nan], [7.0, 8.5], [math.inf, 1.0]])
    assert [best_epoch(losses, name) for name in ("train", "valid")] == [2, 0]


@pytest.mark.parametrize(
    "said", ["[enforce] can't allocate memory: 8 bytes", "Storage size calculation overflowed"]
)
def test_a_lack_of_memory_of_torch_is_known(said):
    assert is_out_of_memory(RuntimeError(said)) and not is_out_of_memory(RuntimeError("memory"))
