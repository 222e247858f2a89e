"""Half a file is never met: not after a crash, a full disk, or two writers at once."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhn.errors import DataError, OutputError
from rhn.utils.io import arrays_of, atomic_path, check_writable, remove_leftovers, write_arrays, write_json


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_what_is_written_appears_under_its_name_alone(tmp_path):
    target = tmp_path / "figure.svg"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".svg", "writers choose a format by the suffix"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(tmp_path) == ["figure.svg"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit], ids=lambda e: e.__name__)
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "record.json"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half of the ne")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["record.json"]


@pytest.mark.parametrize("write", [check_writable, lambda path: atomic_path(path).__enter__()], ids=["check", "atomic"])
def test_what_is_not_a_file_is_never_replaced(tmp_path, write):
    """As root a rename over /dev/null would succeed, and break the machine."""
    os.mkfifo(tmp_path / "pipe")
    for path, kind in [
        (tmp_path, "folder"),
        ("/", "folder"),
        ("", "folder"),
        (os.devnull, "device"),
        (tmp_path / "pipe", "device"),
    ]:
        with pytest.raises(OutputError, match=f"it is a {kind}, expected a file"):
            write(path)
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere/a.txt", "the folder .*nowhere does not exist; create it first"), ("file/a.txt", ""), ("a" * 300, "")],
    ids=["folder", "under a file", "long"],
)
def test_impossible_places_are_output_errors(tmp_path, name, reason):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=f"cannot write.*{reason}"):
        check_writable(tmp_path / name)
    with pytest.raises(OutputError, match="cannot write"), atomic_path(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == ["file"]


def test_checking_leaves_no_trace(tmp_path):
    old = tmp_path / "old.png"
    old.write_bytes(b"picture")
    before = old.stat().st_mtime_ns
    assert check_writable(old) == old and check_writable(str(tmp_path / "new.png")) == tmp_path / "new.png"
    assert (old.read_bytes(), old.stat().st_mtime_ns, names(tmp_path)) == (b"picture", before, ["old.png"])


def test_any_number_may_check_one_path_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:  # with names by process two of them met within a hundred
        assert set(pool.map(check_writable, [tmp_path / "a.png"] * 2000)) == {tmp_path / "a.png"}
    assert names(tmp_path) == []


def test_a_read_only_file_is_found_by_opening_it(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("")
    real = type(tmp_path).open

    def refuse(self, mode="r", *rest, **more):
        if mode == "ab":
            raise PermissionError(13, "Permission denied")
        return real(self, mode, *rest, **more)

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        check_writable(tmp_path / "a.png")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A limit on the file's size stands for the full disk; the write fails midway, after some bytes."""
    target = tmp_path / "a.bin"
    target.write_text("old")
    script = f"""
import resource
from rhn.utils.io import atomic_path
from rhn.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with atomic_path({str(target)!r}) as temporary:
        temporary.write_bytes(bytes(100_000))
except OutputError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == f"cannot write {target}: File too large\n"
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.bin"]


file_names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)


@given(name=file_names)
def test_what_a_killed_writer_left_is_removed_whatever_its_name_was(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    with atomic_path(folder / name) as temporary:
        temporary.write_text("whole")
    temporary.write_text("half")  # as a kill before the rename leaves it
    remove_leftovers(folder)
    assert names(folder) == [name] and (folder / name).read_text() == "whole"


def test_nothing_but_what_killed_writers_left_is_removed(tmp_path):
    """`rhn train --out .` in a folder of the user's: names with eight hex digits are common, our mark is not."""
    kept = [".env.20251101", ".notes.20251120.md", ".lock", ".a.0123abcd.json", "a.rhn-partial-0123abcd.json"]
    kept += [".a.rhn-partial-0123ABCD.json", ".a.rhn-partial-0123abcd.tar.gz", ".rhn-partial-0123abcd.json"]
    for name in [*kept, ".a.rhn-partial-0123abcd.json", ".a.rhn-partial-0123abcd"]:
        (tmp_path / name).write_text("")
    (tmp_path / ".folder.rhn-partial-0123abcd.d").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([*kept, ".folder.rhn-partial-0123abcd.d"])


def test_what_is_left_of_one_file_can_be_removed_alone(tmp_path):
    for name in (left := [".0007.rhn-partial-0123abcd.safetensors", ".0007.rhn-partial-89abcdef.json"]):
        (tmp_path / name).write_text("")
    for name in (kept := [".00070.rhn-partial-0123abcd.json", ".0008.rhn-partial-0123abcd.json", "0007.json"]):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path, "0007")
    assert left and names(tmp_path) == sorted(kept)


def test_json_is_strict_and_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"nll": [float("nan"), 1.5, (float("-inf"),)], "name": "é"}, indent=2)
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"nll": [None, 1.5, [None]], "name": "é"}
    with pytest.raises(TypeError):
        write_json(path, {"not": "JSON", "for": object()})
    assert json.loads(path.read_text())["nll"][1] == 1.5 and names(tmp_path) == ["a.json"]


def _write_often(path, letter, times):
    for _ in range(times):
        with atomic_path(path) as temporary:
            temporary.write_text(letter * 50_000)


@pytest.mark.parametrize(
    "kind", [threading.Thread, multiprocessing.get_context("spawn").Process], ids=["threads", "processes"]
)
def test_two_writers_at_once_each_write_a_whole_file(tmp_path, kind):
    target = tmp_path / "a.txt"
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
    assert kind is threading.Thread or all(w.exitcode == 0 for w in writers)


def test_arrays_come_back_by_name_and_what_is_no_such_file_is_refused(tmp_path):
    path = write_arrays(tmp_path / "record.npz", {"loss": np.array([1.5, np.nan])})
    with arrays_of(path, "the writer") as arrays:
        assert np.array_equal(arrays["loss"], [1.5, np.nan], equal_nan=True)
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:60] + b"?" * 40 + whole[100:]):
        path.write_bytes(content)
        with (
            pytest.raises(DataError, match=r"is not a record written by the writer"),
            arrays_of(path, "the writer") as a,
        ):
            a["loss"]
