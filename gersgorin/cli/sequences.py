"""Sequences that commands read: chorales, texts, and files of numbers.

    .npy   (T,) numbers or ids, (T, m), or several sequences (S, T, m)
    .npz   such an array called `x`, or the only array; `name` and `unit` may be texts beside it
    .csv   one row for each time step, one column for each input; a first row of names, or of the
           numbers 0, 1, ... of the columns as pandas writes them, is skipped

No file is unpickled. Legend: S sequences, T time steps, m inputs of a step.
"""

import codecs
import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gersgorin import checks
from gersgorin.cli.options import DataOptions
from rhn.data.jsb import chorale, chorales
from rhn.errors import DataError, RhnError
from rhn.utils.io import check_file
from rhn.utils.results import TIME_STEPS

CHORALE = "bwv269"  # the default, and the first of the test split if a file does not have it
FIRST = "test-0"
TEXT_STEPS = 100  # tokens of a text by default
READ = 1 << 20  # bytes of a text: more tokens than any memory holds Jacobians
SUFFIXES = (".npy", ".npz", ".csv")
SHAPES = "numbers (T, m) or (S, T, m), or ids (T,)"
NAMES = ("name", "unit")


@dataclass(frozen=True, eq=False)
class Sequences:
    """One or several sequences, their name, and the length of a time step.

    >>> data = Sequences([torch.zeros(9, 3)] * 2, "waves.npy")
    >>> data.x.shape, data.parts()[0].name, data.cut(4).x.shape
    (torch.Size([9, 3]), 'waves.npy[0]', torch.Size([4, 3]))
    """

    all: list[Tensor]
    """The sequences: numbers (T, m), or ids (T,)."""
    name: str
    unit: str = TIME_STEPS
    """Length of a time step: "quarter notes", "tokens"."""

    @property
    def x(self) -> Tensor:
        """The first sequence, (T, m) or (T,)."""
        return self.all[0]

    def parts(self) -> list["Sequences"]:
        """Each sequence alone, with its number in its name."""
        if len(self.all) == 1:
            return [self]
        return [replace(self, all=[x], name=f"{self.name}[{k}]") for k, x in enumerate(self.all)]

    def cut(self, steps: int | None) -> "Sequences":
        """The first steps of each sequence; None: all. Raises InvalidInputError if there are
        fewer.
        """
        if steps is None:
            return self
        T = len(self.x)
        checks.require(1 <= steps <= T, "steps", steps, f"1 to {T}, the steps of {self.name}")
        return replace(self, all=[x[:steps] for x in self.all])


def data_of(trained: Any, options: DataOptions) -> Sequences:
    """The sequences that options name: a chorale, those of a file, or a text for the language model
    of a checkpoint. trained: the checkpoint, or None. Raises InvalidInputError or DataError.
    """
    is_of_text = trained is not None and trained.header["class"] == "LanguageModel"
    if trained is not None:
        from rhn.training.stored import corpus_of, stored_data, text_of  # loads the training loop
    if options.input:
        for name in ("chorale", "data"):
            value = getattr(options, name)
            checks.require(value is None, f"--{name}", str(value), "none, beside --input")
        if is_of_text:
            _, vocabulary = text_of(trained)
            return text_data(options.input, vocabulary, options.steps)
        return read_numbers(options.input).cut(options.steps)
    checks.require(not is_of_text, "input", "missing", "a text, for a language model")
    file = options.data
    if trained is not None and file is None:
        corpus_of(trained)  # refuses data that have changed
        file = stored_data(trained).path
    return read_chorale(options.chorale, file).cut(options.steps)


def read_chorale(name: str | None = None, file: Path | None = None) -> Sequences:
    """Read a chorale (T, 88) by its name, such as bwv66.6 or test-0; None: bwv269, or the first of
    the test split of a file without names. file: the original chorales; None: those of music21.
    Raises InvalidInputError or DataError.

    >>> read_chorale("bwv66.6").x.shape
    torch.Size([37, 88])
    """
    if name is None and file is not None:
        known = {piece.name for piece in chorales(file).pieces}
        name = CHORALE if CHORALE in known else FIRST
    piece = chorale(CHORALE if name is None else name, file)
    return Sequences([torch.from_numpy(piece.astype(np.float64))], piece.name, "quarter notes")


def text_data(path: Path, vocabulary: Any, steps: int | None = None) -> Sequences:
    """Read the ids (T,) of the first tokens of a text; None: the first 100, or fewer if it is
    shorter. Raises DataError for a file that cannot be read, and InvalidInputError for a symbol
    outside the vocabulary.

    >>> import tempfile
    >>> from rhn.data.text import Vocabulary
    >>> with tempfile.NamedTemporaryFile("w") as file:
    ...     print("abba", end="", file=file, flush=True)
    ...     text_data(Path(file.name), Vocabulary("characters", ("a", "b"))).x.tolist()
    [0, 1, 1, 0]
    """
    from rhn.data.vocabulary import split_words  # loads the records of published texts

    try:
        check_file(path)
        with path.open("rb") as file:
            symbols: Any = file.read(READ)  # text or bytes
        if vocabulary.unit != "bytes":
            decoder = codecs.getincrementaldecoder("utf-8")()
            symbols = decoder.decode(symbols, final=len(symbols) < READ)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a text: {error}") from error
    symbols = split_words(symbols) if vocabulary.unit == "words" else symbols
    ids = vocabulary.encode(symbols[: steps or TEXT_STEPS])
    checks.require(len(ids) > 0, str(path), "empty", "a text")
    return Sequences([torch.from_numpy(ids)], path.name, "tokens").cut(steps)


def read_numbers(path: Path) -> Sequences:
    """Read the sequences of a .npy, .npz or .csv file. Raises InvalidInputError for another kind
    of file, and DataError for a file that cannot be read, or that holds other things than finite
    numbers of these shapes.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.zeros((20, 3)))
    ...     read_numbers(Path(file.name)).x.shape
    torch.Size([20, 3])
    """
    suffix, ends = path.suffix.lower(), f"a name that ends in {', '.join(SUFFIXES)}"
    checks.require(suffix in SUFFIXES, "input", path, ends)
    try:
        check_file(path)
        array, names = _csv(path) if suffix == ".csv" else _numpy(path)
    except RhnError:
        raise
    except Exception as error:  # NumPy raises many kinds for a damaged or hostile file
        line = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise DataError(f"{path} cannot be read as {SHAPES}: {line}") from error
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2, 3) or not array.size:
        raise DataError(f"{path} is {array.dtype} of shape {array.shape}: expected {SHAPES}")
    if array.ndim == 1 and array.dtype.kind == "f":
        array = array[:, None]
    array = array.astype(np.int64 if array.ndim == 1 else np.float64)
    x = checks.numbers(str(path), array)
    return Sequences([*x] if x.dim() == 3 else [x], **{"name": path.name, **names})


def _numpy(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found, {}
    with found:
        own = [name for name in found.files if name not in NAMES]
        name = "x" if "x" in own else own[0]
        checks.require(len(own) == 1 or "x" in own, str(path), ", ".join(own), "one array, or x")
        return np.asarray(found[name]), {k: str(found[k]) for k in NAMES if k in found.files}


def _csv(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    mark = next((mark for mark in ";\t" if lines and mark in lines[0]), ",")
    names = next(csv.reader(lines[:1], delimiter=mark), [])
    named = not any(map(_is_number, names))
    checks.require(not named or all(names), str(path), "a column without a name", "named columns")
    rows = [line for line in lines[1:] if line.strip()]
    if not named and not _is_numbering(names, csv.reader(rows, delimiter=mark)):
        rows = [lines[0], *rows]
    checks.require(len(rows) > 0, f"number of rows in {path}", 0, SHAPES)
    return np.loadtxt(rows, delimiter=mark, ndmin=2, comments=None, quotechar='"'), {}


def _is_numbering(first: list[str], others: Iterable[list[str]]) -> bool:
    """True for a first row 0, 1, ..., m-1 that numbers the columns. Two columns or fewer may begin
    so by chance, with ids or zeros and ones, if the later rows have whole numbers only.
    """
    if first != [str(k) for k in range(len(first))]:
        return False
    whole = [all(word.strip().isdigit() for word in row) for row in others]
    may_be_chance = len(first) <= 2 and all(whole)
    return len(whole) > 0 and not may_be_chance


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
