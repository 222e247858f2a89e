import json

import pytest
from helpers import config

from optim_study.config import StudyConfig, config_from_protocol, require_same_protocol
from optim_study.space import Space
from rhn.errors import DataError, InvalidInputError


def test_the_paper_is_the_default():
    paper = StudyConfig(arch="rhn", depth=4, data="checksum")
    assert (paper.trials, paper.epochs, paper.patience, paper.batch_size, paper.momentum) == (60, 1000, 100, 32, 0.9)
    assert paper.name == "rhn-depth4"


def test_a_configuration_survives_json():
    original = config(space=Space(learning_rate=(1e-3, 0.1), transform_bias=(-2,)), options={"skip": "all"})
    stored = json.loads(json.dumps(original.protocol()))
    assert config_from_protocol(stored, trials=original.trials) == original
    require_same_protocol(original, stored)


def test_the_number_of_trials_is_no_part_of_the_protocol():
    assert config(trials=8).fingerprint == config(trials=80).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"data": "other"},
        {"epochs": 25},
        {"patience": 15},
        {"budget_scale": 0.5},
        {"objective": "valid"},
        {"batch_size": 16},
        {"momentum": 0.5},
        {"space": Space(init_std=(1e-3, 1e-2))},
        {"options": {"skip": "last"}},
    ],
)
def test_every_other_value_is(change):
    assert config(**change).fingerprint != config().fingerprint
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        require_same_protocol(config(**change), config().protocol())


def test_the_refusal_names_each_difference_here_and_there():
    with pytest.raises(InvalidInputError) as refusal:
        require_same_protocol(config(seed=1, epochs=30, options={"skip": "all"}), config().protocol())
    assert "epochs 30 here, 24 in the study; options.skip " in str(refusal.value)
    assert 'options.skip "all" here, absent in the study; seed 1 here, 0 in the study;' in str(refusal.value)


def test_a_whole_number_and_the_same_float_are_the_same_protocol():
    assert config(budget_scale=1).fingerprint == config(budget_scale=1.0).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "../rhn"},
        {"arch": ""},
        {"depth": 0},
        {"seed": -1},
        {"trials": 0},
        {"epochs": 0},
        {"patience": 0},
        {"batch_size": 0},
        {"budget_scale": 0.0},
        {"momentum": 1.0},
        {"objective": "test"},
    ],
)
def test_values_out_of_range_are_refused_by_name(change):
    (name,) = change
    with pytest.raises(InvalidInputError, match="architecture" if name == "arch" else name):
        config(**change)


def test_a_users_own_cell_names_a_study():
    assert config(arch="my.package:make_cell").name == "my.package:make_cell-depth2"


def test_a_protocol_of_another_version_is_refused_not_guessed():
    with pytest.raises(DataError, match="another version"):
        config_from_protocol(config().protocol() | {"optimiser": "adam"}, trials=8)
