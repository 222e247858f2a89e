"""What is read is a regular file of a size that fits; JSON and arrays that are none end in a sentence."""

import os

import numpy as np
import pytest

from rhn.errors import DataError
from rhn.utils.io import arrays_of, read_json, require_file


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_a_regular_file_is_read(tmp_path, make):
    make(tmp_path / "thing")
    for read in (require_file, read_json):
        with pytest.raises(DataError, match="expected a file"):
            read(tmp_path / "thing")
    with pytest.raises(DataError, match="a device, expected a file"):
        require_file("/dev/zero")


def test_a_file_beyond_the_bound_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse.json"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(DataError, match="has 1099511627776 bytes, expected at most"):
        read_json(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[" * 100_000, "nested too deeply"), ('{"a": ' + "9" * 5000 + "}", "integer string"), ("{", "Expecting")],
    ids=["deep", "long", "cut"],
)
def test_a_file_that_is_not_json_is_a_value_error(text, reason, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"PK", b""], ids=["cut", "empty"])
def test_a_damaged_record_is_named_with_who_writes_such(tmp_path, content):
    (tmp_path / "r.npz").write_bytes(content)
    with (
        pytest.raises(DataError, match="not a record written by the recorder: it is no whole"),
        arrays_of(tmp_path / "r.npz", "the recorder"),
    ):
        pass


def test_an_archive_that_unpacks_to_more_than_any_record_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "r.npz", a=np.zeros(1000))
    monkeypatch.setattr("rhn.utils.io.MOST_ARRAYS", 8000)
    with pytest.raises(DataError, match="unpacks to 8128 bytes"), arrays_of(tmp_path / "r.npz", "the recorder"):
        pass


def test_a_record_of_another_version_is_told_what_it_lacks(tmp_path):
    np.savez(tmp_path / "r.npz", a=np.zeros(2))
    said = pytest.raises(DataError, match="it lacks support, as files of other versions may")
    with said, arrays_of(tmp_path / "r.npz", "the recorder") as arrays:
        arrays["support"]
