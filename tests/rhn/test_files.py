"""Files are written whole or not at all, over our own files only; what is read and damaged ends in
a sentence.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.io import (
    arrays_of,
    atomic_path,
    check_file,
    check_output,
    read_json,
    remove_leftovers,
    write_arrays,
    write_json,
)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt], ids=lambda e: e.__name__)
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "record.json"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half of the ne")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["record.json"]


@pytest.mark.parametrize(
    "write", [check_output, lambda path: atomic_path(path).__enter__()], ids=["check", "atomic"]
)
def test_what_is_not_a_file_is_never_replaced(tmp_path, write):
    """As root a rename over /dev/null would succeed, and break the machine."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, os.devnull, tmp_path / "pipe"):
        with pytest.raises(OutputError, match="it is a folder or a device, expected a file"):
            write(path)
    with pytest.raises(InvalidInputError, match="expected the path of a file, got ''"):
        write("")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize(
    "name", ["nowhere/a.txt", "file/a.txt", "a" * 300], ids=["folder", "under a file", "long"]
)
def test_impossible_places_are_output_errors(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        check_output(tmp_path / name)
    with (
        pytest.raises(OutputError, match="cannot write"),
        atomic_path(tmp_path / name) as temporary,
    ):
        temporary.write_text("x")
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A limit on the file's size stands for the full disk; the write fails midway, after some
    bytes.
    """
    target = tmp_path / "a.bin"
    target.write_text("old")
    script = f"""
import resource
from rhn.utils.io import atomic_path
from rhn.errors import InvalidInputError, OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with atomic_path({str(target)!r}) as temporary:
        temporary.write_bytes(bytes(100_000))
except OutputError as error:
    print(error)
"""
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert out == f"cannot write {target}: File too large\n"
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.bin"]


def test_nothing_but_what_killed_writers_left_is_removed(tmp_path):
    kept = [
        ".env.20251101",
        ".lock",
        ".a.0123abcd.json",
        "a.rhn-partial-0123abcd.json",
    ]
    for name in [*kept, ".0007.rhn-partial-0123abcd.safetensors", ".0007.rhn-partial-89abcdef"]:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_json_is_strict_and_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"nll": [float("nan"), 1.5, (float("-inf"),)], "name": "é"}, indent=2)
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "nll": [None, 1.5, [None]],
        "name": "é",
    }
    with pytest.raises(TypeError):
        write_json(path, {"not": "JSON", "for": object()})
    assert read_json(path)["nll"][1] == 1.5 and names(tmp_path) == ["a.json"]
    path.write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        read_json(path)


def _write_often(path, letter, times):
    for _ in range(times):
        with atomic_path(path) as temporary:
            temporary.write_text(letter * 50_000)


def test_two_writers_at_once_each_write_a_whole_file(tmp_path):
    target, kind = tmp_path / "a.txt", multiprocessing.get_context("spawn").Process
    _write_often(target, "c", 1)
    writers = [kind(target=_write_often, args=(target, letter, 40)) for letter in "ab"]
    for w in writers:
        w.start()
    while any(w.is_alive() for w in writers):
        text = target.read_text()
        assert len(text) == 50_000 and len(set(text)) == 1
    for w in writers:
        w.join()
    assert names(tmp_path) == ["a.txt"]
    assert all(w.exitcode == 0 for w in writers)


def test_arrays_come_back_by_name_and_what_is_no_such_file_is_refused(tmp_path):
    path = write_arrays(tmp_path / "record.npz", {"loss": np.array([1.5, np.nan])})
    with arrays_of(path, "the writer") as arrays:
        assert np.array_equal(arrays["loss"], [1.5, np.nan], equal_nan=True)
    whole, refused = (
        path.read_bytes(),
        pytest.raises(DataError, match=r"is not a record written by the writer"),
    )
    for content in (
        b"",
        b"no archive",
        whole[: len(whole) // 2],
        whole[:60] + b"?" * 40 + whole[100:],
    ):
        path.write_bytes(content)
        with refused, arrays_of(path, "the writer") as arrays:
            arrays["loss"]
    path.write_bytes(whole)
    with refused, arrays_of(path, "the writer") as arrays:
        arrays["support"]


def test_a_file_that_is_no_regular_one_or_too_large_is_refused_before_it_is_read(
    tmp_path, monkeypatch
):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "plain.csv").write_bytes(b"1\n" * 10**6)
    check_file(tmp_path / "plain.csv")
    monkeypatch.setattr("rhn.utils.io.free_memory", lambda: 10**6)
    words = {
        tmp_path / "pipe.csv": "a device or a pipe: expected a file",
        Path("/dev/zero"): "a device or a pipe: expected a file",
        tmp_path: "a folder: expected a file",
        tmp_path / "plain.csv": "has 0.0 GiB, too much for the free memory",
    }
    for path, said in words.items():
        with pytest.raises(DataError, match=said):
            check_file(path)
    with pytest.raises(FileNotFoundError):
        check_file(tmp_path / "nowhere")


def test_a_mark_of_the_byte_order_is_no_part_of_json(tmp_path):
    """As Windows writes texts."""
    path = tmp_path / "a.json"
    path.write_text('{"depth": 3}', encoding="utf-8-sig")
    assert read_json(path) == {"depth": 3}
