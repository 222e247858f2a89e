"""Read sequences with their names and units: chorales, texts, and files of numbers. No file is
unpickled.

    .npy   (T,) one input, (T, m), or several sequences (S, T, m); ids (T,), or (S, T)
    .npz   such an array called `x`, or the only array; optional texts `unit` of a step, `names`
           of the inputs, `name` of the data
    .csv   one row per step, one column per input; a first row without a number names the inputs,
           and a column without a name that counts the rows is refused

Legend: S sequences, T steps, m inputs of a step.
"""

import csv
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gersgorin.data.inputs import one_sequence, reads_ids
from gersgorin.data.layout import Layout, has_batch, with_batch
from gersgorin.validate import real_tensor
from rhn.data import Piece
from rhn.data.jsb import music21_version
from rhn.errors import DataError, InvalidInputError, first_line
from rhn.utils.io import check_file
from rhn.utils.old import counted, listed, plain
from rhn.utils.validation import in_short, kind_of

SUFFIXES = (".npy", ".npz", ".csv")
PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
EXPECTED = "expected numbers of shape (T,), (T, m) or (S, T, m), real ones"
ZIP = (b"PK\3\4", b"PK\5\6")  # beginnings of an archive, and of an empty one
ABOUT = ("unit", "names", "name")  # arrays of an .npz file that describe the others
CHORALE = "bwv269"  # read if nothing is named
MOST_NAMES = 4  # names of inputs in a figure's title
COUNTED = {"chorale": "frames", "text": "tokens", "sequence": "steps"}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One sequence, or several sequences of equal length, with their name and unit.

    >>> found = Dataset(name="waves", kind="sequence", x=torch.zeros(20, 9, 3))
    >>> found.count, found.steps, found.frames().shape
    (20, 9, torch.Size([9, 20, 3]))
    """

    name: str
    """Name of the chorale or of the file."""
    kind: str
    """Kind of the data: "chorale", "text" or "sequence"."""
    x: Tensor
    """The array as in the file: numbers (T,), (T, m), (S, T, m) or (T, 1, m), or ids of tokens
    (T,), (S, T) or (T, 1).
    """
    unit: str = "steps"
    """Length of one time step: "quarter notes", "tokens", "0.1 s"; "steps" if unknown."""
    names: tuple[str, ...] = ()
    """Names of the m inputs; () if unknown."""
    part: int | None = None
    """Number of this sequence among the sequences of the file, counted from 1; None: the data are
    the whole file.
    """
    about: str = ""
    """Origin of the data, for the second line of a figure's title: "train-41 of the chorales of
    music21 10.5.1".
    """

    @property
    def label(self) -> str:
        """The name of the data, the names of the inputs if there are few, and the part of the data,
        such as "lorenz.csv (x, y, z), part 2".
        """
        names = f" ({', '.join(self.names)})" if 0 < len(self.names) <= MOST_NAMES else ""
        return f"{self.name}{names}" + (f", part {self.part}" if self.part else "")

    @property
    def first_label(self) -> str:
        """Label of the first sequence, such as "lorenz.npz, the first of 20"."""
        return self.label if self.count == 1 else f"{self.label}, the first of {self.count}"

    @property
    def first_about(self) -> str:
        """Origin of the first sequence."""
        return (
            self.about if self.count == 1 else f"{self.about}; the first is read".removeprefix("; ")
        )

    def layout(self, *, ids: bool | None = None) -> Layout:
        """The layout of x. ids: whether x contains ids of tokens; None: only for a text."""
        x, ids = self.x, self.kind == "text" if ids is None else ids
        if not has_batch(x, ids=ids):
            return Layout(None)
        return Layout(1 if x.shape[1] == 1 and x.shape[0] > 1 else 0)

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return self.layout().sizes(self.x)[0]

    @property
    def count(self) -> int:
        """S, the number of sequences."""
        return self.layout().sizes(self.x)[1]

    @property
    def input_size(self) -> int | None:
        """m, the number of inputs; None for the tokens of a text."""
        return None if self.kind == "text" else self._numbers.shape[-1]

    @property
    def _numbers(self) -> Tensor:
        """x in float64, with an axis of inputs; the ids of a text unchanged."""
        if self.kind == "text":
            return self.x
        return (self.x if self.x.dim() > 1 else self.x.unsqueeze(1)).double()

    def frames(self) -> Tensor:
        """All sequences with time first, (T, S, m) or ids (T, S)."""
        return self.layout().to_time_first(self._numbers)

    def ids(self) -> Tensor:
        """All sequences with time first, as ids (T, S). The ids are the numbers in the file."""
        return self.layout(ids=True).to_time_first(self.x)

    def sequence(self) -> Tensor:
        """The first sequence, (T, m) or ids (T,)."""
        return self.frames()[:, 0]

    def first(self, axis: int | None, *, ids: bool) -> Tensor:
        """The first sequence, (T, m) or ids (T,), with this axis as the batch; None: without one.

        Raises InvalidInputError if x contains ids of several sequences.
        """
        x = one_sequence(self.x, ids=True) if ids else self._numbers
        return with_batch(self.layout(ids=ids).frames(x), axis)

    def all_read_by(self, module: nn.Module) -> Tensor:
        """All sequences with time first, as ids if the module reads ids. A single sequence has no
        axis of the batch.
        """
        if not reads_ids(module, self.x):
            return self.frames() if self.count > 1 else self.sequence()
        ids = self.ids().long()
        return ids if ids.shape[1] > 1 else ids[:, 0]

    def cut(self, steps: int | None) -> "Dataset":
        """The data with only the first steps; None: all steps. Raises InvalidInputError if there
        are fewer.
        """
        if steps is None or steps == self.steps:
            return self
        counted = COUNTED[self.kind]
        if steps > self.steps:
            raise InvalidInputError(
                f"steps is {steps}, beyond the end of the {self.kind} {self.name}: it has "
                f"{self.steps} {counted}; for a longer run give longer data of your own"
            )
        about = f"first {steps} of {self.steps} {counted}"
        if self.about:
            about = f"{about} of {self.about}"
        return replace(self, x=self.layout().first_steps(self.x, steps), about=about)

    def parts(self, count: int) -> "Iterator[Dataset]":
        """Yield each of the first `count` sequences as a separate `Dataset`."""
        layout = self.layout()
        for k in range(min(count, self.count)):
            yield replace(self, x=layout.sequence(self.x, k), part=k + 1)


def read_data(x: Any) -> Dataset:
    """Read a chorale or a file by its name; return a `Dataset` unchanged. None: the chorale bwv269.

    Raises InvalidInputError or DataError if it cannot be read.
    """
    from rhn.data import chorale

    if isinstance(x, Dataset):
        return x
    if isinstance(x, Piece):
        return chorale_data(x)
    if x is not None and not isinstance(x, str | Path):
        raise InvalidInputError(
            f"x is {kind_of(x)}: expected a chorale's name, a file, or numbers (T, m)"
        )
    x = CHORALE if x is None else x
    if isinstance(x, Path) or x.lower().endswith(SUFFIXES):
        return read_numbers(Path(x))
    try:
        return chorale_data(chorale(x))
    except InvalidInputError:
        if not os.path.exists(x):  # noqa: PTH110 (Path.exists raises for a name too long)
            raise
    return read_numbers(Path(x))


def is_array(x) -> TypeGuard[Tensor | np.ndarray]:
    """True if x contains numbers and is not a chorale or a name: a tensor, an array, a data frame
    or a packed sequence.
    """
    return (
        isinstance(x, Tensor | np.ndarray | PackedSequence) and not isinstance(x, Piece)
    ) or hasattr(x, "to_numpy")


def read_numbers(path: Path) -> Dataset:
    """Read the sequences of a file.

    Raises DataError for a file that is missing, damaged or empty, or that holds anything but finite
    real numbers of these shapes; InvalidInputError for another kind of file.
    """
    reader = {".npy": _load, ".npz": _npz, ".csv": _csv}.get(path.suffix.lower())
    if reader is None:
        raise InvalidInputError(
            f"{path} is not a file of numbers: expected a name ending in {', '.join(SUFFIXES)}"
        )
    array, about = _read(path, reader)
    if not array.size:
        raise DataError(
            f"{path} has {_lacking(array.shape)}: its shape is {array.shape}, {EXPECTED}"
        )
    if not 1 <= array.ndim <= 3:
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}: {EXPECTED}")
    if bad := int((~np.isfinite(array)).sum()):
        raise DataError(
            f"{path}: {bad} of {array.size} numbers are NaN or infinite, expected finite ones"
        )
    array = array if array.dtype.kind in "biu" else array.astype(np.float64, copy=False)
    found = Dataset(x=real_tensor("x", array), **{"name": path.name, "kind": "sequence"} | about)
    if len(found.names) not in (0, found.input_size):
        raise DataError(
            f"{path} names {len(found.names)} inputs ({', '.join(found.names)}), its "
            f"sequences have {found.input_size}: expected as many"
        )
    return replace(found, about=f"{path.name}, {_size(found)}")


def _size(data: Dataset) -> str:
    """The size of the numbers of a file, in words.

    >>> [_size(Dataset(name="", kind="", x=torch.zeros(shape))) for shape in ((9,), (9, 1, 3))]
    ['9 numbers', '9 x 3 numbers']
    """
    if data.count > 1:
        return f"{data.count} sequences of {data.steps} steps, {data.input_size} numbers each"
    one = counted(data.steps, "number")
    return one if data.x.dim() == 1 else f"{data.steps} x {data.input_size} numbers"


def _lacking(shape: tuple[int, ...]) -> str:
    """Words for the axis that has length 0 in the shape of sequences.

    >>> _lacking((0, 3)), _lacking((0, 9, 3)), _lacking((9, 0))
    ('no steps', 'no sequences', 'no inputs')
    """
    axes = (
        ("no sequences", "no steps", "no inputs") if len(shape) == 3 else ("no steps", "no inputs")
    )
    return next((words for words, n in zip(axes, shape, strict=False) if n == 0), "no numbers")


def _read(path: Path, reader: Callable[[Path], tuple[np.ndarray, dict]]) -> tuple[np.ndarray, dict]:
    """The real numbers that `reader` returns for a file, and their description. Raises DataError
    for any error of the reader.
    """
    try:
        check_file(path)
        array, about = reader(path)
    except DataError:
        raise
    except Exception as error:  # any error of NumPy at a damaged or hostile file
        if "allow_pickle" in str(error):  # advice of NumPy that runs code
            raise DataError(f"{path} holds objects of Python: {EXPECTED}") from error
        raise DataError(f"{path} cannot be read as numbers: {first_line(error)}") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}: {EXPECTED}")
    return array, about


def _check_beginning(path: Path, beginnings: tuple[bytes, ...], writer: str) -> None:
    """Raise DataError unless the first bytes of a file are those that its suffix requires."""
    with path.open("rb") as file:
        begins = file.read(len(beginnings[0]))
    if begins not in beginnings:
        raise DataError(
            f"{path} is not a {path.suffix.lower()} file in spite of its name: expected what "
            f"{writer} writes, or a table of text in a .csv file"
        )


def _load(path: Path) -> tuple[np.ndarray, dict]:
    _check_beginning(path, (np.lib.format.MAGIC_PREFIX,), "numpy.save")
    return np.asarray(np.load(path, allow_pickle=False)), {}


def _npz(path: Path) -> tuple[np.ndarray, dict]:
    """The numbers of a .npz file, and their description in the file."""
    _check_beginning(path, ZIP, "numpy.savez")
    with np.load(path, allow_pickle=False) as arrays:
        data = [key for key in arrays.files if key not in ABOUT]
        if not data:
            raise DataError(f"{path} holds no array of numbers: {EXPECTED}, called x")
        about = {key: _texts(f"{path}: {key}", arrays[key]) for key in ABOUT if key in arrays.files}
        if "x" not in data and len(data) > 1:
            raise DataError(
                f"{path} has no array called x: it holds {listed(data, 8)}; expected the sequences "
                "as x, or as the only array"
            )
        array = arrays[name := "x" if "x" in data else data[0]]
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path}: {name} is no array, but another file: {EXPECTED}, called x")
    return array, {
        key: tuple(words) if key == "names" else words[0]
        for key, words in about.items()
        if any(words)
    }


def _texts(place: str, array: Any) -> list[str]:
    """The texts in an array of a .npz file. Raises DataError for an array of anything else."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "US":
        raise DataError(f"{place} is {in_short(plain(array))}: expected a text")
    return np.atleast_1d(array).astype(str).tolist()


def _csv(path: Path) -> tuple[np.ndarray, dict]:
    """The numbers of the rows of a .csv file, and the names of the columns if no cell of the first
    row is a number.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    mark = next((mark for mark in ";\t" if lines and mark in lines[0]), ",")
    rows = [row for row in csv.reader(lines, delimiter=mark, skipinitialspace=True) if row]
    names: list[str] = []
    if rows and not any(map(_is_number, rows[0])):
        names = [word.strip("# ") for word in rows.pop(0)]
    if not rows:
        raise DataError(
            f"{path} holds no row of numbers: expected a row per step and a column per input"
        )
    begin = 2 if names else 1
    numbers = [
        _row(f"{path}, row {k}", row, len(rows[0]), names) for k, row in enumerate(rows, begin)
    ]
    array = np.array(numbers, dtype=np.float64)
    _check_no_index(path, names, array)
    return array, {"names": tuple(names)} if names else {}


def _check_no_index(path: Path, names: list[str], array: np.ndarray) -> None:
    """Raise DataError if a column without a name counts the rows."""
    for name, column in zip(names, array.T, strict=False):
        if not name and np.array_equal(column, np.arange(len(column))):
            raise DataError(
                f"{path} has a column without a name that counts the rows, as pandas writes the "
                "index: write the table by to_csv(path, index=False), or give the column a name"
            )


def _row(place: str, words: list[str], columns: int, names: list[str]) -> list[float]:
    """The numbers of a row. Raises DataError if there are too few or too many, or if one is not a
    finite number.
    """
    if len(words) != columns:
        raise DataError(
            f"{place} has {counted(len(words), 'number')}: expected {columns} as in the first"
        )
    row = [_number(word) for word in words]
    for j, (word, value) in enumerate(zip(words, row, strict=True)):
        if not math.isfinite(value):
            column = names[j] if j < len(names) else j + 1
            got = repr(word)[:40] if word else "empty"
            raise DataError(f"{place}, column {column} is {got}: expected a finite number")
    return row


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _number(word: str) -> float:
    """Convert a word to a number; NaN if it is not a plain number, such as 0.5, -1 or 1e-3. Python
    itself also reads 1_000, which other programs write for other numbers.
    """
    return float(word) if PLAIN.fullmatch(word.strip()) else math.nan


def chorale_data(piece: Piece, data: Path | None = None) -> Dataset:
    """The data of a chorale. data: the original file from which it was read; None: rebuilt from
    music21.
    """
    about, x = f"{piece.label} of {chorales_origin(data)}", torch.from_numpy(np.asarray(piece))
    return Dataset(name=piece.name, kind="chorale", x=x, unit="quarter notes", about=about)


def chorales_origin(data: Path | None = None) -> str:
    """The name of the set of chorales: "the chorales of music21 10.5.1". data: the original file
    from which it was read.
    """
    return (
        f"the chorales {'of music21 ' + music21_version() if data is None else 'in ' + data.name}"
    )
