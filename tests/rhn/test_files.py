"""Files are written whole or not at all, over our own files only; what is read and damaged ends in
a sentence.
"""

import contextlib
import itertools
import json
import os
import zipfile
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhn.cells import RHN
from rhn.checkpoints import load, read, save
from rhn.data.jsb import chorales, load_cached, read_score, save_cached
from rhn.data.text import read_text
from rhn.errors import DamagedError, DataError, InvalidInputError, OutputError, RhnError
from rhn.state_dict import read_weights
from rhn.training.state import read_state, write_state
from rhn.utils.io import (
    arrays_of,
    atomic_path,
    begins_with,
    check_file,
    check_output,
    check_result,
    read_json,
    remove_leftovers,
    set_aside,
    write_arrays,
    write_json,
)
from rhn.utils.seed_folders import home_of


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(error, tmp_path):
    target = tmp_path / "record.json"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half of the ne")
        raise error
    assert target.read_text() == "old" and names(tmp_path) == ["record.json"]


def test_what_is_not_a_file_is_never_replaced(tmp_path):
    """As root a rename over /dev/null would succeed, and break the machine."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, os.devnull, tmp_path / "pipe"):
        for write in (check_output, lambda path: atomic_path(path).__enter__()):
            with pytest.raises(OutputError, match="it is a folder or a device, expected a file"):
                write(path)
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        pytest.param("run/config.json", "run/state.safetensors", id="configuration"),
        pytest.param("run/record.npz", "run/state.safetensors", id="recording"),
        pytest.param("run/seed-1/record.npz", "run/state.safetensors", id="recording of a seed"),
        pytest.param("out/rnn-depth1/trials/0007.json", None, id="record of a trial"),
    ],
)
def test_an_output_of_a_command_does_not_replace_a_file_of_a_run(name, beside, tmp_path):
    for file in filter(None, (name, beside)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("of a run")
    with pytest.raises(OutputError, match="it is a file of a run, expected another name"):
        check_result(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        pytest.param("run/found.json", "run/state.safetensors", id="in a run"),
        pytest.param("config.json", "run/state.safetensors", id="beside a run"),
        pytest.param("trials/found.json", None, id="a name in a study"),
        pytest.param("trials/0007.npz", None, id="another suffix"),
        pytest.param("0007.json", "trials/0007.json", id="beside trials"),
    ],
)
def test_an_output_of_a_command_replaces_any_other_file(name, beside, tmp_path):
    for file in filter(None, (name, beside)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("found")
    assert check_result(tmp_path / name) == tmp_path / name


def test_a_result_gets_a_new_name_in_the_folder_of_a_run(tmp_path):
    (tmp_path / "state.safetensors").write_text("of a run")
    assert check_result(tmp_path / "record.npz") == tmp_path / "record.npz"


def test_a_file_is_read_only_if_it_fits_twice_into_the_memory(tmp_path, monkeypatch):
    plain, packed = tmp_path / "a.txt", tmp_path / "a.zip"
    plain.write_bytes(b"1" * 300)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ab":
            archive.writestr(name, b"1" * 700)
    for path, size in ((plain, 300), (packed, 1400)):
        monkeypatch.setattr("rhn.utils.resources.free_memory", lambda _, size=size: 2 * size)
        check_file(path)
        monkeypatch.setattr("rhn.utils.resources.free_memory", lambda _, size=size: 2 * size - 1)
        with pytest.raises(InvalidInputError, match=r"a\.(txt|zip) needs about "):
            check_file(path)


def test_the_configuration_of_a_seed_is_in_its_folder_or_above(tmp_path):
    alone, of_several = tmp_path / "seed-3", tmp_path / "run" / "seed-0"
    for folder in (alone, of_several):
        folder.mkdir(parents=True)
    (alone / "config.json").touch()
    assert [home_of(folder) for folder in (alone, of_several, tmp_path)] == [
        alone,
        tmp_path / "run",
        tmp_path,
    ]


def test_a_missing_array_is_no_damage(tmp_path):
    path = write_arrays(tmp_path / "a.npz", {"result": np.array("")})
    with pytest.raises(DataError) as found, arrays_of(path, "a writer") as stored:
        stored["loss"]
    assert type(found.value) is DataError


def test_a_damaged_file_is_kept_under_a_new_name(tmp_path):
    path = tmp_path / "0007.json"
    for content in ("one", "other"):
        path.write_text(content)
        assert set_aside(path).read_text() == content
    set_aside(path)  # another process was faster
    kept = [file.read_text() for file in tmp_path.iterdir()]
    assert sorted(kept) == ["one", "other"]


def test_two_writers_at_once_each_write_a_whole_file(tmp_path):
    target, old = tmp_path / "a.txt", tmp_path / "link.txt"
    with atomic_path(target) as one:
        with atomic_path(target) as other:
            one.write_text("one")
            other.write_text("other")
        old.hardlink_to(target)
    assert target.read_text() == "one" and names(tmp_path) == ["a.txt", "link.txt"]
    assert old.read_text() == "other", "the new file replaces the old one, which is not changed"


def test_only_files_that_killed_writers_left_are_removed(tmp_path):
    kept = [".a.0123abcd.json", ".env.20251101", ".lock", "a.rhn-partial-0123abcd.json"]
    for name in [*kept, ".0007.rhn-partial-0123abcd.safetensors", ".0007.rhn-partial-89abcdef"]:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == kept


def test_json_is_strict_and_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"nll": [float("nan"), 1.5, (float("-inf"),)], "name": "é"}, indent=2)
    found = {"nll": [None, 1.5, [None]], "name": "é"}
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == read_json(path) == found
    with pytest.raises(TypeError):
        write_json(path, {"not JSON": object()})
    assert read_json(path) == found and names(tmp_path) == ["a.json"]
    path.write_text('{"depth": 3}', encoding="utf-8-sig")  # as Windows writes texts
    assert read_json(path) == {"depth": 3}


def checkpoint(path):
    save(path, RHN(3, 4, 2))
    return lambda: [p.tolist() for p in load(path).parameters()]


def cache_of_chorales(path):
    save_cached([np.eye(k, 88, dtype=np.uint8) for k in (3, 5)], path)
    return lambda: (rolls := load_cached(path)) and [roll.tolist() for roll in rolls]


def arrays(path):
    write_arrays(path, {"loss": np.array([1.5, 2.0])})

    def read():
        with arrays_of(path, "a writer") as found:
            return found["loss"].tolist()

    return read


def state(path):
    write_state(path, {"loss": np.array([1.5, 2.0])}, {"epoch": "3"})
    return lambda: [*(found := read_state(path))[0]["loss"].tolist(), *found[1].items()]


def archive_of_a_text(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("enwik8", bytes(range(60, 80)) * 20)
    return lambda: read_text("enwik8", path).test.tolist()


@settings(max_examples=60)
@given(where=st.integers(0, 10**6), change=st.none() | st.integers(1, 255))
@pytest.mark.parametrize(
    "written", [checkpoint, state, cache_of_chorales, archive_of_a_text, arrays]
)
def test_a_changed_byte_or_a_missing_end_is_noticed_or_harmless(
    written, where, change, tmp_path_factory
):
    path = tmp_path_factory.mktemp("byte") / "enwik8.zip"
    read = written(path)
    before, data = read(), bytearray(path.read_bytes())
    assert before
    where %= len(data)
    data[where:] = b"" if change is None else bytes([data[where] ^ change]) + data[where + 1 :]
    path.write_bytes(data)
    with contextlib.suppress(RhnError):
        assert read() in (None, before) and written is not state


def first_array(path):
    with arrays_of(path, "a writer") as found:
        return found


READERS = {  # name: (function that lacks memory, a file, its reader)
    "weights of torch": ("torch.load", "a.pt", read_weights),
    "weights": ("rhn.state_dict.load_file", "a.safetensors", read_weights),
    "checkpoint": ("rhn.files.safe_open", "a.safetensors", read),
    "state": ("rhn.files.safe_open", "a.safetensors", read_state),
    "arrays": ("numpy.load", "a.npz", first_array),
    "text": ("pathlib.Path.read_bytes", "a.txt", partial(read_text, "text")),
    "chorales": ("json.loads", "a.json", chorales),
    "score": ("rhn.data.jsb._musicxml", "a.xml", read_score),
}
LACKS = (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"))


@pytest.mark.parametrize(("name", "error"), [*itertools.product(READERS, LACKS)], ids=str)
def test_a_lack_of_memory_is_not_called_damage(name, error, tmp_path, monkeypatch):
    lacking, file, reader = READERS[name]
    path = tmp_path / file
    path.write_text("content")
    with monkeypatch.context() as patch, pytest.raises(RhnError) as refused:  # noqa: PT012
        patch.setattr(lacking, Mock(side_effect=error))
        reader(path)
    assert str(refused.value) == f"there is not enough memory for {path}"
    assert not isinstance(refused.value, DamagedError)


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        pytest.param(b"", True, id="empty"),
        pytest.param(b"." * 97 + b"two", True, id="at the end of 100 bytes"),
        pytest.param(b"." * 98 + b"two", False, id="one byte later"),
    ],
)
def test_an_unreadable_file_is_ours_by_its_first_bytes(content, ours, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert begins_with(path, b"two") is ours


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda path: write_state(path, {}, {}), id="write"),
        pytest.param(read_state, id="read"),
        pytest.param(read_weights, id="read weights"),
    ],
)
def test_a_path_that_safetensors_cannot_read_is_refused_and_not_called_damage(use, tmp_path):
    write_state(tmp_path / "state.safetensors", {"loss": np.zeros(2)}, {})
    path = tmp_path / os.fsdecode(b"r\xe9seau.safetensors")  # Latin-1
    (tmp_path / "state.safetensors").rename(path)
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match="expected UTF-8"):
        use(path)
    assert [*tmp_path.iterdir()] == [path] and path.read_bytes() == before
