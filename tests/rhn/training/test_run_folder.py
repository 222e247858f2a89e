"""A training's folder: cleaned of what killed writers left, of one configuration, and a full disk is told."""

import json
import resource
from dataclasses import dataclass, field

import pytest
from tables import for_each

from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.training.run import add_line, locked, require_same_training, write_lines


@pytest.fixture
def config(tmp_path):
    return tmp_path / "config.json"


# held


def test_what_killed_writers_left_is_removed_from_the_folder_and_from_its_seeds(tmp_path):
    left = [
        ".state.rhn-partial-0123abcd.safetensors",
        ".config.rhn-partial-0123abcd.json",
        ".command.rhn-partial-0123abcd.json",
    ]
    left += ["seed-0/.best.rhn-partial-89abcdef.safetensors", "seed-12/.metrics.rhn-partial-89abcdef.jsonl"]
    kept = ["best.safetensors", "seed-0/metrics.jsonl", "other/.best.rhn-partial-89abcdef.safetensors"]
    for name in [*left, *kept]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    with locked(tmp_path):
        found = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(found) == sorted([".lock", *kept]), "another training may be writing to other"


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
