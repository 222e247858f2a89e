"""A command line that cannot be read is refused in one sentence, with the names that exist."""

from dataclasses import fields

import pytest

from optim_study.config import RunConfig
from rhn.training.config import ChoraleConfig, LanguageConfig

STUDY = "optim-study run --preset smoke --dry-run"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("gersgorin plot --depth 1 5 10", "--depth is 1 5 10:", id="a list"),
        pytest.param(
            "gersgorin run --hidden-size=3 5", "--hidden-size is 3 5:", id="a list with ="
        ),
        pytest.param(
            "gersgorin gains --cell rnn rhn", "`gersgorin compare` takes several", id="two cells"
        ),
        pytest.param(
            "gersgorin plot --steps 5 9", "--steps is 5 9: expected one value (", id="two lengths"
        ),
        pytest.param("rhn train jsb-depth-1 more", "argument is more: expected", id="two presets"),
        pytest.param("rhn train --lr 1", "expected --learning-rate,", id="initials"),
        pytest.param("gersgorin plot --hidden=3", "expected --hidden-size,", id="a part of a name"),
        pytest.param("rhn train --epoch 3", "option is --epoch: expected --epochs,", id="a letter"),
        pytest.param("rhn sample here", "--output is missing", id="an option that is missing"),
        pytest.param("rhn evaluate", "CHECKPOINT is missing", id="an argument that is missing"),
        pytest.param(
            "gersgorin plot --leading", "--leading is missing: expected a value (", id="no value"
        ),
        pytest.param(
            f"{STUDY} --init-std 1", "--init-std is 1: expected 2 values (", id="one of two values"
        ),
    ],
)
def test_words_that_nothing_takes_are_refused_with_what_exists(line, says, refused):
    refused(line, says=says)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        pytest.param("rhn train jsb-depth-1 --dry-run", ChoraleConfig, id="chorales"),
        pytest.param("rhn train ptb-sota --dry-run", LanguageConfig, id="a text"),
        pytest.param(STUDY, RunConfig, id="a study"),
    ],
)
def test_an_unknown_field_is_refused_with_all_that_exist_and_the_nearest_first(line, kind, command):
    for name, first in (("foo", ""), ("lr", "learning_rate"), ("epoch", "epochs")):
        found = command(f"{line} --set {name}=1")
        said, _, listed = found.err.partition(": expected ")
        names = listed.strip().split(", ")
        assert (found.code, found.out, said) == (2, "", f"error: field is {name}")
        assert {*names} == {field.name for field in fields(kind)}
        assert names[0].startswith(first)


def test_a_file_without_a_needed_field_is_refused_by_its_name(own_folder, refused):
    (own_folder / "config.json").write_text('{"cell": "rhn", "hidden_size": 3, "init_std": 0.1}')
    refused("rhn train --dry-run --config config.json", says="depth is missing: expected a value")
