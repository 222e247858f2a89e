"""The protocol: the paper's values, settings as a function of the trial's number, and a refusal of
every difference.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare, kstest
from small_studies import config

from optim_study import paper, small, smoke
from optim_study.config import (
    SCHEMES,
    RunConfig,
    StudyConfig,
    config_from_protocol,
    require_same_protocol,
)
from rhn.errors import DataError, InvalidInputError

STORED = {
    "epochs": 1000, "patience": 100, "budget_scale": 1.0, "objective": "train",
    "learning_rate": [0.0001, 1.0], "init_std": [1e-08, 0.01],
    "transform_bias": [0.0, -1.0, -2.0, -3.0], "seed": 0, "arch": "dt-rnn", "depth": 6,
    "data": "checksum", "batch_size": 32, "momentum": 0.9, "options": {},
}  # fmt: skip
"""The stored protocol of a study with SGD and Gaussian weights, as 0.6.0 wrote it."""


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="paper"),
        pytest.param(
            {"learning_rate": (1e-3, 0.1), "transform_bias": (-2,), "options": {"skip": "all"}},
            id="ranges and an option",
        ),
        pytest.param({"optimizer": "adam", "init_schemes": SCHEMES}, id="Adam, all schemes"),
    ],
)
def test_a_protocol_comes_back_from_json_and_has_no_number_of_trials(changes):
    study = config(**changes)
    stored = json.loads(json.dumps(study.protocol()))
    assert config_from_protocol(stored, trials=study.trials) == study
    require_same_protocol(study, stored, "out")
    assert study.fingerprint == replace(study, trials=80).fingerprint
    assert ("momentum" in stored) == (study.optimizer == "sgd")


def test_a_stored_study_of_an_older_version_continues():
    study = config_from_protocol(STORED, trials=60)
    assert study.protocol() == STORED and study.fingerprint == "9a892a90493eb1cc"
    assert asdict(study.settings(59)) == {
        "learning_rate": 0.00025751501146777626,
        "init_std": 8.6253169812498e-05,
        "transform_bias": 0.0,
        "init_scheme": "gaussian",
    }
    assert study.settings(59).init == "gaussian:8.6253169812498e-05"
    require_same_protocol(StudyConfig(arch="dt-rnn", depth=6, data="checksum"), STORED, "out")
    with pytest.raises(InvalidInputError, match=r"init_schemes is \['identity'\] here and"):
        require_same_protocol(replace(study, init_schemes=("identity",)), STORED, "out")
    with pytest.raises(DataError, match="protocol is of another version: it has width"):
        config_from_protocol({**STORED, "width": 3}, trials=60)


def test_an_option_goes_to_the_cells_that_have_it_and_one_of_no_cell_is_refused():
    run = RunConfig(arch=("rnn", "dts-rnn"), depth=(1, 2), cell_options={"skip": "last"})
    found = {study.name: study.options for study in run.studies("toy")}
    skips = {f"dts-rnn-skip-last-depth{depth}": {"skip": "last"} for depth in (1, 2)}
    assert found == {"rnn-depth1": {}} | skips
    with pytest.raises(InvalidInputError, match="skip"):
        replace(run, arch=("rnn",)).studies("toy")


PRESETS = {
    paper: (1.0, 1000, 100, 60, (1, 2, 4, 6), 60.0),
    small: (0.015, 120, 80, 60, (1, 2, 4, 6), 60.0),
    smoke: (0.01, 4, 4, 4, (1, 2), 0.0),
}
"""As docs/guides/study.md states them: the scale of the budget of parameters, epochs, patience,
trials, depths, seconds between saves.
"""


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_a_preset_has_its_sizes_and_changes_of_them(preset):
    found = preset(seed=3)
    sizes = found.budget_scale, found.epochs, found.patience, found.trials, found.depth
    assert (*sizes, found.save_seconds) == PRESETS[preset] and found.seed == 3
    changed = preset(epochs=7, budget_scale=0.5, save_seconds=9.0, trials=2, depth=(3,))
    assert (changed.epochs, changed.budget_scale, changed.save_seconds) == (7, 0.5, 9.0)
    assert (changed.trials, changed.depth) == (2, (3,))


def test_a_cell_without_a_depth_runs_at_depth_1_only_if_that_is_one_of_the_depths():
    both = {"arch": ("lstm", "dt-rnn")}
    names = [study.name for study in RunConfig(depth=(2, 1), **both).studies("toy")]
    assert names == ["lstm-depth1", "dt-rnn-depth2", "dt-rnn-depth1"]
    names = [study.name for study in RunConfig(depth=(2,), **both).studies("toy")]
    assert names == ["lstm-depth2", "dt-rnn-depth2"], "a plan refuses the first"


def test_the_folder_of_a_run_is_named_by_its_architectures():
    assert RunConfig(arch=("a.b:Own", "rhn")).folder == Path("runs/a.b.Own-rhn")
    assert RunConfig(arch=("rhn",), out="here").folder == Path("here")


def test_an_address_is_that_of_ray():
    assert RunConfig(engine="ray", address="a:1").address == "a:1"
    with pytest.raises(InvalidInputError, match="engine is 'processes': expected 'ray' with addr"):
        RunConfig(address="a:1")


def test_a_setting_depends_only_on_seed_architecture_depth_and_number():
    study = config()
    drawn, more = ([s.settings(n) for n in range(20)] for s in (study, replace(study, trials=99)))
    assert drawn == more and len(set(map(str, drawn))) == 20
    for changes in ({"seed": 1}, {"arch": "dt-rnn"}, {"depth": 6}):
        assert config(**changes).settings(7) != drawn[7]
    # both readings of a shortcut are compared at the same settings
    assert config(options={"skip": "last"}).settings(7) == drawn[7]


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [pytest.param("sgd", (-4, 0), id="SGD"), pytest.param("adam", (-5, -1), id="Adam")],
)
def test_settings_fill_the_papers_ranges_evenly_in_the_logarithm(optimizer, rates):
    study = config(optimizer=optimizer, init_schemes=SCHEMES)
    drawn = [study.settings(n) for n in range(500)]
    for name, low, high in (("learning_rate", *rates), ("init_std", -8, -2)):
        logs = np.log10([getattr(settings, name) for settings in drawn])
        assert kstest(logs, "uniform", args=(low, high - low)).pvalue > 0.01
    for name, among in (("transform_bias", (0, -1, -2, -3)), ("init_scheme", SCHEMES)):
        values = [getattr(settings, name) for settings in drawn]
        assert chisquare([values.count(value) for value in among]).pvalue > 0.01
    # schemes are drawn last: the rest is that of Gaussian weights
    gaussian = [replace(s, init_scheme="gaussian") for s in drawn]
    assert gaussian == [config(optimizer=optimizer).settings(n) for n in range(500)]
