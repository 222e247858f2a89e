"""Sequences of files: numbers as they were written, and refusals in one sentence. Nothing is
unpickled, and no reader waits for a pipe.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gersgorin.cli.sequences import READ, read_chorale, read_numbers, text_data
from rhn.data import chorale
from rhn.data.text import Vocabulary
from rhn.errors import DataError, InvalidInputError, NotFiniteError

SINE = np.sin(np.arange(12) / 3)
pytestmark = pytest.mark.usefixtures("own_folder")


class Bomb:
    """An object that writes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize(
    "table",
    [
        "1,2\n3,4\n5,6",
        "a;b\n1;2\n3;4\n5;6",
        "\ufeff# a\tb\n1\t2\n\n3\t4\n5\t6\n",
        '"a","b"\r\n1.0, 2\r\n"3","4"\r\n5, 6',
    ],
    ids=["plain", "semicolons", "tabs", "quotes"],
)
def test_tables_as_people_write_them(table):
    Path("t.csv").write_text(table, encoding="utf-8")
    found = read_numbers(Path("t.csv"))
    assert found.x.tolist() == [[1, 2], [3, 4], [5, 6]] and found.x.dtype == torch.float64
    assert (found.name, found.unit, found.parts()) == ("t.csv", "time steps", [found])


@pytest.mark.parametrize(
    ("table", "steps"),
    [
        ("0,1\n0.5,0.25\n1.0,0.0\n", 2),  # DataFrame(x).to_csv(index=False)
        ("0\n0.5\n1e-05\n", 2),
        ("0,1,2\n1,0,0\n0,1,0\n", 2),
        ("0,1\n1,0\n0,1\n", 3),  # zeros and ones
        ("0\n1\n2\n", 3),
        ("0.0,1.0\n0.5,0.25\n", 2),
        ("1,0\n0.5,0.25\n", 2),
        ("0,1\n", 1),
    ],
)
def test_the_numbers_of_columns_are_no_time_step(table, steps):
    Path("numbered.csv").write_text(table)
    assert len(read_numbers(Path("numbered.csv")).x) == steps


def test_arrays_are_read_with_their_names():
    several = np.arange(24.0).reshape(2, 4, 3)
    np.savez("named.npz", other=SINE, x=several, unit="0.1 s", name="lorenz")
    np.savez("first.npz", SINE)
    np.save("ids.npy", np.array([3, 1, 2], np.uint8))
    np.save("sine.npy", SINE.astype(np.float32))
    found = read_numbers(Path("named.npz")).cut(3)
    assert (found.unit, found.name) == ("0.1 s", "lorenz")
    assert [x.tolist() for x in found.all] == several[:, :3].tolist()
    assert [part.name for part in found.parts()] == ["lorenz[0]", "lorenz[1]"]
    assert read_numbers(Path("first.npz")).x.tolist() == SINE[:, None].tolist()
    ids = read_numbers(Path("ids.npy")).x
    assert ids.tolist() == [3, 1, 2] and ids.dtype == torch.int64
    assert read_numbers(Path("sine.npy")).x[:, 0].tolist() == SINE.astype(np.float32).tolist()


def write_spoiled():
    """Write files without sequences."""
    np.save("nan.npy", np.array([1, np.nan, np.inf]))
    np.save("four.npy", np.zeros((1, 2, 3, 4)))
    np.save("complex.npy", np.zeros(3, complex))
    np.savez("objects.npz", x=np.array([Bomb()], dtype=object))
    np.save("objects.npy", np.array([Bomb()], dtype=object))
    np.savez("two.npz", targets=SINE, inputs=SINE, unit="1 s")
    np.savez("none.npz", unit="1 s")
    Path("cut.npz").write_bytes(Path("two.npz").read_bytes()[:90])
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"
    Path("lies.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + bytes([len(header) + 1, 0]) + header + b"\n"
    )
    rows = {"header": "", "word": "3,no", "gap": "3,", "ragged": "3", "code": "0x10,1_000"}
    for name, row in rows.items():
        Path(f"{name}.csv").write_text(f"a,b\n1,2\n{row}\n" if row else "a,b\n")
    Path("index.csv").write_text(",a\n0,5\n1,6\n")
    Path("text.npy").write_text("a,b\n1,2\n")
    Path("text.npz").write_text("a,b\n1,2\n")
    np.save("empty.npy", np.zeros((0, 3)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan.npy", "nan.npy is NaN or infinite at 2 of 3 places"),
        ("four.npy", "of shape (1, 2, 3, 4): expected numbers (T, m) or (S, T, m)"),
        ("complex.npy", "is complex128"),
        ("objects.npz", "Object arrays cannot be loaded"),
        ("objects.npy", "Object arrays cannot be loaded"),
        ("text.npy", "cannot be read as numbers"),
        ("text.npz", "cannot be read as numbers"),
        ("two.npz", "two.npz is targets, inputs: expected one array, or x"),
        ("none.npz", "cannot be read as numbers"),
        ("cut.npz", "cannot be read as numbers"),
        ("lies.npy", "cannot be read as numbers"),
        ("missing.npy", "cannot be read as numbers"),
        ("missing.txt", "expected a name that ends in .npy, .npz, .csv"),
        ("header.csv", "number of rows in header.csv is 0"),
        ("word.csv", "could not convert string 'no'"),
        ("gap.csv", "could not convert string ''"),
        ("ragged.csv", "number of columns changed"),
        ("code.csv", "could not convert string '0x10'"),
        ("index.csv", "index.csv is a column without a name"),
        ("empty.npy", "of shape (0, 3)"),
    ],
)
@pytest.mark.filterwarnings("error:loadtxt")
def test_a_file_without_sequences_is_refused_and_nothing_is_unpickled(name, words):
    write_spoiled()
    with pytest.raises((DataError, InvalidInputError, NotFiniteError)) as caught:
        read_numbers(Path(name))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert "allow_pickle=True" not in str(caught.value) and not Path("exploded").exists()


def test_a_file_that_is_larger_than_the_memory_is_refused_unread(monkeypatch):
    np.save("sine.npy", SINE)
    np.savez_compressed("packed.npz", np.zeros(10**5))  # a kilobyte
    for name, free in {"sine.npy": 100, "packed.npz": 10**5}.items():
        monkeypatch.setattr("rhn.utils.resources.free_memory", lambda _, free=free: free)
        with pytest.raises(InvalidInputError, match="of memory"):
            read_numbers(Path(name))


@pytest.mark.parametrize(
    "read", [lambda p: read_numbers(p.rename("pipe.csv")), lambda p: text_data(p, None, 3)]
)
def test_no_reader_waits_for_a_pipe(read):
    os.mkfifo("pipe")
    with pytest.raises(DataError, match="a device or a pipe: expected a file"):
        read(Path("pipe"))
    Path("pipe").unlink(missing_ok=True)


def test_only_the_beginning_of_a_text_is_read_and_no_character_is_cut():
    path = Path("long.txt")
    path.write_text("a" + "é" * READ)  # the last byte that is read is the first of two
    letters = Vocabulary("characters", ("a", "é"))
    assert len(text_data(path, letters, READ // 2).x) == READ // 2
    assert text_data(path, letters).x.tolist() == [0, *[1] * 99]
    path.write_bytes(b"a\xe9")
    with pytest.raises(DataError, match="cannot be read as a text"):
        text_data(path, letters, 1)
    assert text_data(path, Vocabulary("bytes", (97, 0xE9))).x.tolist() == [0, 1]
    words = Vocabulary("words", ("the", "<eos>", "cat", "<unk>"))
    path.write_text("the cat\nthe dog")
    assert text_data(path, words).x.tolist() == [0, 2, 1, 0, 3]
    with pytest.raises(InvalidInputError, match="steps is 9: expected 1 to 5"):
        text_data(path, words, 9)


def test_a_chorale_is_read_by_its_name():
    found = read_chorale()
    assert (found.name, found.unit) == ("bwv269", "quarter notes")
    assert found.x.tolist() == chorale("bwv269").tolist()
    assert read_chorale("BWV 66.6").x.tolist() == chorale("bwv66.6").tolist()


def test_the_original_chorales_can_be_read_instead(original_chorales):
    other = read_chorale("test-0", original_chorales)
    assert other.x.tolist() == chorale("test-0", original_chorales).tolist()
    assert read_chorale(None, original_chorales).x.shape[1] == 88
