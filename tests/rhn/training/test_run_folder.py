"""A training's folder: of one configuration, and a full disk is told."""

import json
import resource
from dataclasses import dataclass, field

import pytest
from tables import for_each

from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.training.run import add_line, require_same_training, write_lines


@pytest.fixture
def config(tmp_path):
    return tmp_path / "config.json"


# config.json


@dataclass
class Config:
    depth: int
    layers: int = 1
    options: dict = field(default_factory=dict)


def same(path, wanted, free=()):
    return require_same_training(path, Config(2), wanted, free)


def test_the_configuration_found_is_returned_and_none_where_the_folder_is_new(config):
    assert same(config, {"depth": 2, "device": "cpu"}) is None
    assert same(config, {"depth": 2, "device": "cuda"}, {"device"}) == {"depth": 2, "device": "cpu"}
    assert json.loads(config.read_text()) == {"depth": 2, "device": "cuda"}


def test_an_entry_that_an_older_version_did_not_write_has_its_default(config):
    config.write_text(json.dumps({"depth": 2}))
    with pytest.raises(InvalidInputError, match="layers is 3 here and 1 there"):
        same(config, {"depth": 2, "layers": 3})
    with pytest.raises(InvalidInputError, match=r'options is \{"leak": 1\} here and \{\} there'):
        same(config, {"depth": 2, "options": {"leak": 1}})
    with pytest.raises(InvalidInputError, match="seeds is 1 here and null there"):
        same(config, {"depth": 2, "seeds": 1})
    assert same(config, {"depth": 2, "layers": 1}) == {"depth": 2}
    assert json.loads(config.read_text()) == {"depth": 2, "layers": 1}


@for_each(
    "content",
    [b"[1]", b"{", b"\xff", b"[" * 100_000],
)
def test_a_damaged_configuration_is_told_and_not_overwritten(config, content):
    config.write_bytes(content)
    with pytest.raises(DataError, match=r"config\.json .*: give another --out"):
        same(config, {"depth": 2})
    assert config.read_bytes() == content


# metrics.jsonl


@for_each("room", [0, 20, 40])  # none for the lines given, a part of a line, a part of the next line
def test_a_full_disk_is_an_output_error_with_the_reason(tmp_path, room):
    """A limit on the file's size stands for the full disk."""
    path, before, error = tmp_path / "metrics.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE), None
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        write_lines(path, [{"epoch": 0}])
        for epoch in range(1, 9):
            add_line(path, {"epoch": epoch})
    except OutputError as caught:
        error = str(caught)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error == f"cannot write {path}: File too large"
