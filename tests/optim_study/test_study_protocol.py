"""The protocol: the paper's values, settings as a function of the trial's number, and a refusal of
every difference.
"""

import json
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
from small_studies import config

from optim_study.config import StudyConfig, config_from_protocol, require_same_protocol
from rhn.errors import DataError, InvalidInputError

STORED = {
    "epochs": 1000, "patience": 100, "budget_scale": 1.0, "objective": "train",
    "learning_rate": [0.0001, 1.0], "init_std": [1e-08, 0.01],
    "transform_bias": [0.0, -1.0, -2.0, -3.0], "seed": 0, "arch": "dt-rnn", "depth": 6,
    "data": "checksum", "batch_size": 32, "momentum": 0.9, "options": {},
}  # fmt: skip
"""The stored protocol of a study with SGD and Gaussian weights."""


def draw(number, **changes):
    return config(**({"depth": 4} | changes)).settings(number)


def test_a_configuration_survives_json_and_its_number_of_trials_is_no_part_of_the_protocol():
    original = config(learning_rate=(1e-3, 0.1), transform_bias=(-2,), options={"skip": "all"})
    stored = json.loads(json.dumps(original.protocol()))
    assert config_from_protocol(stored, trials=original.trials) == original
    require_same_protocol(original, stored)
    assert config(trials=8).fingerprint == config(trials=80).fingerprint


def test_a_protocol_of_another_version_is_refused_not_guessed():
    with pytest.raises(DataError, match=r"cannot be read: .*optimiser"):
        config_from_protocol(config().protocol() | {"optimiser": "adam"}, trials=8)


def test_a_stored_study_of_gaussian_weights_continues():
    study = config_from_protocol(STORED, trials=60)
    assert study.protocol() == STORED and study.fingerprint == "9a892a90493eb1cc"
    settings = {
        "learning_rate": 0.00025751501146777626,
        "init_std": 8.6253169812498e-05,
        "transform_bias": 0.0,
    }
    assert asdict(study.settings(59)) == settings | {"init_scheme": "gaussian"}
    assert study.settings(59).init == "gaussian:8.6253169812498e-05"
    require_same_protocol(StudyConfig(arch="dt-rnn", depth=6, data="checksum"), STORED)
    with pytest.raises(
        InvalidInputError,
        match=r"init_schemes of dt-rnn-depth6 is \['identity'\]: expected .'gauss",
    ):
        require_same_protocol(
            StudyConfig(arch="dt-rnn", depth=6, data="checksum", init_schemes=("identity",)), STORED
        )


def test_other_optimizers_have_their_own_range_and_no_momentum():
    study = config(optimizer="adam")
    assert study.learning_rate == (1e-5, 0.1) and config(
        optimizer="adam", learning_rate=(1, 2)
    ).learning_rate == (1, 2)
    drawn, papers = ([c.settings(n) for n in range(60)] for c in (study, config()))
    assert [s.learning_rate for s in drawn] == pytest.approx([s.learning_rate / 10 for s in papers])
    assert [replace(s, learning_rate=0.0) for s in drawn] == [
        replace(s, learning_rate=0.0) for s in papers
    ]
    stored = json.loads(json.dumps(study.protocol()))
    assert stored["optimizer"] == "adam" and "momentum" not in stored
    assert config_from_protocol(stored, trials=study.trials) == study


@cache
def settings():
    """Those of 2000 trials."""
    return [draw(n) for n in range(2000)]


def test_schemes_are_drawn_last_and_equally():
    schemes = ("gaussian", "scaled", "orthogonal", "identity")
    drawn = [draw(n, init_schemes=schemes) for n in range(1000)]
    assert [replace(s, init_scheme="gaussian") for s in drawn] == settings()[:1000]
    names, counts = np.unique([s.init_scheme for s in drawn], return_counts=True)
    assert names.tolist() == sorted(schemes) and counts.min() > 200


def test_a_setting_depends_only_on_seed_architecture_depth_and_number():
    assert [draw(n) for n in range(60)] == [draw(n) for n in reversed(range(60))][::-1]
    assert draw(7) not in [draw(7, seed=1), draw(7, arch="dt-rnn"), draw(7, depth=6), draw(8)]
    assert draw(7, options={"skip": "last"}) == draw(7), (
        "both readings of a shortcut are compared at the same settings"
    )


def test_the_settings_fill_the_papers_ranges_evenly_in_the_logarithm():
    drawn = settings()
    for name, low, high in [("learning_rate", -4, 0), ("init_std", -8, -2)]:
        logs = np.log10([getattr(setting, name) for setting in drawn])
        quantiles = np.quantile((logs - low) / (high - low), [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(quantiles, [0, 0.25, 0.5, 0.75, 1], atol=0.05)
        assert low <= logs.min() and logs.max() <= high
    biases, counts = np.unique([setting.transform_bias for setting in drawn], return_counts=True)
    assert biases.tolist() == [-3, -2, -1, 0] and counts.min() > 400
