"""What a user's file says is what a network reads, and what cannot be read is refused in one
sentence.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import for_each
from test_gersgorin_cli import expected_radii, radii
from test_modules import Bomb

from gersgorin import spectra
from gersgorin.analyses.spectra import Spectra
from gersgorin.cli.analysis import main
from gersgorin.cli.trained import first_tokens
from gersgorin.data.files import Dataset, read_numbers
from gersgorin.figures import draw_run
from rhn.cells import LSTM, RHN
from rhn.checkpoints import save_checkpoint
from rhn.data.jsb import read_original
from rhn.data.text import read_text
from rhn.errors import DataError
from rhn.files import read_tensors
from rhn.utils.old import Result

SINE = np.sin(np.arange(12) / 3)


pytestmark = pytest.mark.usefixtures("own_folder", "unarranged")


def labels(figure) -> set[str]:
    return {ax.get_xlabel() for ax in figure.get_axes()}


def test_a_cell_runs_along_the_numbers_of_a_file_and_nothing_speaks_of_quarter_notes(capsys):
    np.save("sine.npy", SINE.astype(np.float32))
    words = [
        "--cell",
        "lstm",
        "--input",
        "sine.npy",
        "--hidden-size",
        "5",
        "--output",
        "d.png",
        "d.npz",
        "--json",
    ]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sequence"], found["unit"]) == ("sine.npy", "steps")
    cell = LSTM(1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.from_numpy(SINE.astype(np.float32)).double()[:, None]
    assert radii(found) == expected_radii(cell, x)
    record = Spectra.load("d.npz")
    assert record.along == "sequence sine.npy" and record.unit == "steps"
    assert "time step" in labels(draw_run(record))


def test_a_table_names_its_inputs(capsys):
    rows = "\n".join(f"{k},{k * k}" for k in range(8))
    Path("fall.csv").write_text(f"speed,height\n{rows}\n")
    save_checkpoint("two.safetensors", RHN(2, 4))
    for network in (["--hidden-size", "4"], ["--checkpoint", "two.safetensors"]):
        args = [
            *network,
            "--input",
            "fall.csv",
            "--steps",
            "6",
            "--output",
            "d.png",
            "d.npz",
            "--json",
        ]
        assert main(args) == 0 and len(json.loads(capsys.readouterr().out)["steps"]) == 6
        record = Spectra.load("d.npz")
        assert record.along == "sequence fall.csv (speed, height)" and record.unit == "steps"
    record = spectra(RHN(2, 4), "fall.csv", unit="days")
    assert record.unit == "days" and "time step (days)" in labels(draw_run(record))
    record.save("new.npz")
    arrays = dict(np.load("new.npz"))
    del arrays["unit"]  # as before units were kept
    np.savez("old.npz", **arrays)
    assert Spectra.load("old.npz").unit == "steps"


@for_each(
    ("table", "names"),
    [
        ("1,2\n3,4\n5,6", ()),
        ("a;b\n1;2\n3;4\n5;6", ("a", "b")),
        ("\ufeff# a\tb\n1\t2\n\n3\t4\n5\t6\n", ("a", "b")),
        ('"a","b"\r\n1.0, 2\r\n"3","4"\r\n5, 6', ("a", "b")),
        ("time,water level\n1,2\n3,4\n5,6", ("time", "water level")),  # an input as any other
    ],
)
def test_tables_as_people_write_them(table, names):
    Path("t.csv").write_text(table, encoding="utf-8")
    found = read_numbers(Path("t.csv"))
    assert found.sequence().tolist() == [[1, 2], [3, 4], [5, 6]] and found.names == names


def test_arrays_are_read_with_what_is_said_of_them():
    several = np.arange(24).reshape(2, 4, 3)
    about = {"unit": "0.1 s", "names": ["x", "y", "z"], "name": "lorenz"}
    np.savez("said.npz", other=SINE, x=several, **about)
    np.savez("first.npz", SINE)
    found = read_numbers(Path("said.npz"))
    assert found.frames().tolist() == several.swapaxes(0, 1).tolist()
    assert (found.unit, found.name) == (
        "0.1 s",
        "lorenz",
    )
    source = Dataset(name="lorenz", kind="sequence", x=found.x, names=found.names).cut(3)
    assert (source.label, source.count, source.steps, source.input_size) == (
        "lorenz (x, y, z)",
        2,
        3,
        3,
    )
    assert source.first_label == "lorenz (x, y, z), the first of 2"
    assert source.frames()[:, 1].tolist() == several[1, :3].tolist()
    assert read_numbers(Path("first.npz")).sequence().ravel().tolist() == SINE.tolist()


def spoiled():
    """Files that hold no sequences."""
    np.save("nan.npy", np.array([1, np.nan, np.inf]))
    np.save("four.npy", np.zeros((1, 2, 3, 4)))
    np.savez("objects.npz", x=np.array([Bomb()], dtype=object))
    np.savez("names.npz", x=SINE, names=["a", "b"])
    np.savez("two.npz", targets=SINE, inputs=SINE, unit="1 s")
    Path("cut.npz").write_bytes(Path("names.npz").read_bytes()[:90])
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"
    Path("lies.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + bytes([len(header) + 1, 0]) + header + b"\n"
    )
    Path("header.csv").write_text("a,b\n")
    Path("first.csv").write_text("1,x\n2,3\n4,5\n")
    Path("hexadecimal.csv").write_text("0x10,1_000\n1,2\n")
    for name, rows in {"word": "3,no", "gap": "3,", "nan": "nan,4", "ragged": "3"}.items():
        Path(f"{name}.csv").write_text(f"a,b\n1,2\n{rows}\n")
    for name in ("text.npy", "text.npz"):
        Path(name).write_text("a,b\n1,2\n")
    for name, shape in {"empty": (0, 3), "none": (0, 4, 3), "short": (2, 0, 3)}.items():
        np.save(f"{name}.npy", np.zeros(shape))
    np.save("sine.npy", SINE)
    save_checkpoint("keys.safetensors", RHN(88, 4))


@for_each(
    ("args", "words"),
    [
        ("nan.npy", "2 of 3 numbers are NaN or infinite"),
        ("four.npy", "of shape (1, 2, 3, 4)"),
        ("objects.npz", "holds objects of Python: expected numbers of shape"),
        (
            "text.npy",
            "text.npy is not a .npy file in spite of its name: expected what numpy.save writes",
        ),
        ("text.npz", "text.npz is not a .npz file in spite of its name: expected what numpy.savez"),
        ("empty.npy", "empty.npy has no steps: its shape is (0, 3)"),
        ("short.npy", "short.npy has no steps: its shape is (2, 0, 3)"),
        ("none.npy", "none.npy has no sequences: its shape is (0, 4, 3)"),
        ("names.npz", "names 2 inputs (a, b), its sequences have 1"),
        (
            "two.npz",
            "two.npz has no array called x: it holds targets, inputs; expected the sequences as x",
        ),
        ("cut.npz", "cannot be read as numbers"),
        ("lies.npy", "cannot be read as numbers"),
        ("nowhere.txt", "expected a name ending in .npy, .npz, .csv"),
        ("header.csv", "no row of numbers"),
        ("word.csv", "row 3, column b is 'no'"),
        ("gap.csv", "row 3, column b is empty"),
        ("nan.csv", "row 3, column a is 'nan'"),
        ("ragged.csv", "row 3 has 1 number: expected 2"),
        ("first.csv", "first.csv, row 1, column 2 is 'x': expected a finite number"),
        ("hexadecimal.csv", "row 1, column 1 is '0x10'"),
        ("sine.npy --steps 13", "it has 12 steps"),
        ("sine.npy --checkpoint keys.safetensors", "expected a recurrent cell with 1 inputs"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_and_nothing_is_unpickled(args, words, capsys):
    spoiled()
    assert main(["--input", *args.split()]) == 2
    err = capsys.readouterr().err
    assert (
        words in err
        and "allow_pickle" not in err
        and err.startswith("error: ")
        and err.count("\n") == 1
        and not Path("exploded").exists()
    )


def test_what_is_larger_than_the_memory_is_refused_unread(monkeypatch):
    spoiled()
    monkeypatch.setattr("rhn.utils.io.free_memory", lambda: 100)
    with pytest.raises(DataError, match="too much for the free memory"):
        read_numbers(Path("sine.npy"))


@for_each(
    "read",
    [
        lambda path: read_numbers(path.rename(path.with_suffix(".csv"))),
        lambda path: read_text("text", path),
        lambda path: read_original(path.rename(path.with_suffix(".json"))),
        Result.load,
        lambda path: read_tensors(path, "header"),
        lambda path: first_tokens(path, None, 3),
    ],
)
def test_no_reader_waits_for_a_pipe(read):
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(Path(folder, "pipe"))
        with pytest.raises(DataError, match="a device or a pipe: expected a file"):
            read(Path(folder, "pipe"))
