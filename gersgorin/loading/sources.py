"""Read sequences with their names and units: chorales, texts, and files of numbers. Nothing is
unpickled.

    .npy   (T,) one input, (T, m), or several sequences (S, T, m); ids (T,), or (S, T)
    .npz   such an array called `x`, or the first one; beside it, as text, `unit` of a step, `names`
           of the inputs, `name` of the data
    .csv   a row a step, a column an input; a first row of words names them

Legend: S sequences, T steps, m inputs of a step.
"""

import codecs
import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gersgorin._validate import real_tensor
from gersgorin.data.layout import as_module_takes, has_batch, is_ids
from gersgorin.loading.inputs import (
    as_input,
    frames_of,
    is_several,
    one_sequence,
    padded,
    reads_ids,
    shape_of,
    without_batch,
)
from gersgorin.loading.options import DataOptions, NewOrTrained
from gersgorin.loading.watched import Watched
from rhn.checkpoints import read_metadata
from rhn.data import Piece
from rhn.data.jsb import chorales, music21_version
from rhn.data.text import Vocabulary
from rhn.data.vocabulary import split_words
from rhn.errors import CheckpointError, DataError, InvalidInputError
from rhn.utils.shared_options import given_flags
from rhn.utils.validation import free_memory, in_words
from rhn.utils.wording import counted, first_line, kind_of

SUFFIXES = (".npy", ".npz", ".csv")
EXPECTED = "expected numbers of shape (T,), (T, m) or (S, T, m), real ones"
ZIP = (b"PK\3\4", b"PK\5\6")  # beginnings of an archive, and of an empty one
ABOUT = ("unit", "names", "name")  # arrays of an .npz file that describe the others
READ = 1 << 20  # bytes of a text: more tokens than any memory holds Jacobians
TEXT_STEPS = 100
EXCERPT = 25  # frames of a chorale, at most: a step is four times as fast as with whole ones
MOST_NAMES = 4  # names of inputs in a figure's title
COUNTED = {"chorale": "frames", "text": "tokens", "sequence": "steps"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One sequence, or several of one length."""

    name: str
    """A chorale's, or the file's."""
    kind: str
    """"chorale", "text" or "sequence"."""
    values: np.ndarray
    """Numbers (S, T, m), or ids of tokens (S, T), int64."""
    unit: str = "steps"
    """Of one step: "quarter notes", "tokens", "0.1 s"; "steps" if unknown."""
    names: tuple[str, ...] = ()
    """Of the m inputs, if known."""

    part: int | None = None
    """Which of several of its name, counted from 1."""
    about: str = ""
    """Origin, for the second line of a figure's title: "train-41 of the chorales of music21
    10.5.1".
    """
    given: Any = None
    """The input of a caller, in its own layout and precision."""
    raw: np.ndarray | None = None
    """The array of a file with one sequence, as it is there."""

    @property
    def label(self) -> str:
        """The name, the names of the inputs if they are few, and the part: "lorenz.csv (x, y, z),
        part 2".
        """
        names = f" ({', '.join(self.names)})" if 0 < len(self.names) <= MOST_NAMES else ""
        return f"{self.name}{names}" + (f", part {self.part}" if self.part else "")

    @property
    def first_label(self) -> str:
        """Label of `sequence()`: "lorenz.npz, the first of 20"."""
        return self.label if self.count == 1 else f"{self.label}, the first of {self.count}"

    @property
    def first_about(self) -> str:
        """Origin of `sequence()`."""
        return (
            self.about if self.count == 1 else f"{self.about}; the first is read".removeprefix("; ")
        )

    @property
    def count(self) -> int:
        """S."""
        return len(self.values)

    @property
    def steps(self) -> int:
        """T."""
        return self.values.shape[1]

    @property
    def input_size(self) -> int | None:
        """m; None for ids of tokens."""
        return self.values.shape[2] if self.values.ndim == 3 else None

    def sequence(self) -> Any:
        """The first sequence, (T, m) or ids (T,); the input of a caller as it was given."""
        return torch.from_numpy(self.values[0]) if self.given is None else self.given

    def frames_for(self, module: nn.Module) -> Tensor:
        """The same for a module; for one that reads ids those in the file, (T,), or several
        sequences (S, T), as ids.
        """
        if self.raw is None or not reads_ids(module, x := real_tensor("x", self.raw)):
            return self.frames()
        if x.dim() == 2 and 1 not in x.shape:
            return x.long().T
        return without_batch(one_sequence(x, ids=True))

    def frames(self) -> Tensor:
        """One sequence (T, m) or ids (T,), or several with time first."""
        values = torch.from_numpy(self.values)
        return values[0] if self.count == 1 else values.transpose(0, 1)

    def cut(self, steps: int | None) -> "Source":
        """The first steps, or all for None. Raises InvalidInputError if there are fewer."""
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
        values = self.values[:, :steps]
        given, raw = self._cut(self.given, steps), self._cut(self.raw, steps)
        return replace(self, values=values, about=about, given=given, raw=raw)

    def _cut(self, given: Any, steps: int) -> Any:
        """The first steps of one sequence in its own layout. Raises InvalidInputError for inputs
        that are no single array.
        """
        if given is None:
            return None
        if not isinstance(given, Tensor | np.ndarray):
            raise InvalidInputError(
                f"steps is {steps}: leave it out, or cut each of the inputs in x yourself"
            )
        return given[:steps] if len(given) == self.steps else given[:, :steps]

    def for_module(self, watched: Watched, batch_axis: int | None = None) -> "Source":
        """A sequence of a file or a chorale as the module of a cell reads it: ids as such, and
        with a batch if the module says its axis, see `as_module_takes`.
        """
        x = self.sequence() if self.raw is None else real_tensor("x", self.raw)
        ids = watched.reads_ids(x)
        x = one_sequence(x, ids=ids)
        if has_batch(x, ids=ids):
            return replace(self, given=x)
        return replace(self, given=as_module_takes(watched.module, x, batch_axis))


def source_of(x, data: DataOptions, network: NewOrTrained, *, ids: bool = False) -> Source:
    """The data x of `open_run`, for the network of these options; ids: see `one_sequence`."""
    text = reads_text(network)
    if isinstance(x, Piece):
        return chorale_source(x).cut(data.steps)
    if is_array(x):
        return source_of_array(one_sequence(x, ids=text or ids)).cut(data.steps)
    if x is not None and not isinstance(x, str | Path):
        raise InvalidInputError(
            f"x is {kind_of(x)}: expected a chorale's name, a file, or numbers (T, m)"
        )
    of_file = text or isinstance(x, Path) or str(x).lower().endswith(SUFFIXES)
    if x is None:
        return source_of_options(network, data)
    named: dict[str, Any] = {"input": Path(x)} if of_file else {"chorale": x}
    return source_of_options(network, replace(data, **named))


def source_of_array(x: Tensor) -> Source:
    """One sequence of a caller, see `one_sequence`."""
    if x.dtype == torch.bfloat16:  # which NumPy does not have
        raise InvalidInputError("x is bfloat16: give x, state and step in float32 or float64")
    values = without_batch(x).detach().cpu().numpy()[None]
    return Source(name=_sizes(x.shape), kind="sequence", values=values, given=x)


def source_of_module(x, data: DataOptions, network: NewOrTrained, watched: Watched) -> Source:
    """The same for the module of a watched cell, which reads x as it is given, also several inputs
    and packed sequences.
    """
    if is_array(x) and not isinstance(x, PackedSequence):
        x = real_tensor("x", x)
        return source_of_array(one_sequence(x, ids=watched.reads_ids(x))).cut(data.steps)
    if not is_several(x) and not isinstance(x, PackedSequence):
        return source_of(x, data, network)
    x = as_input(x)
    frames = padded(frames_of(x)).detach().cpu()
    if frames.dim() > (1 if is_ids(frames) else 2):  # a batch of one is read, see `Watched.along`
        frames = frames.flatten(0, 1)
    name = _sizes(shape_of(x))
    return Source(name=name, kind="sequence", values=frames.numpy()[None], given=x).cut(data.steps)


def _sizes(shape: tuple[int, ...]) -> str:
    return f"of {' x '.join(map(str, shape))}"


def is_array(x) -> TypeGuard[Tensor | np.ndarray]:
    """True for the numbers of a caller, which are no chorale and no name: a tensor, an array, a
    data frame, a packed sequence.
    """
    return (
        isinstance(x, Tensor | np.ndarray | PackedSequence) and not isinstance(x, Piece)
    ) or hasattr(x, "to_numpy")


def source_of_options(network: NewOrTrained, data: DataOptions) -> Source:
    """The data that a command's options name. Raises InvalidInputError or DataError."""
    return sources_of_options(network, data)[0]


def sources_of_options(
    network: NewOrTrained, data: DataOptions, count: int | None = None
) -> list[Source]:
    """The sequence that options name, or the first `count`: chorales of the test split, sequences
    of a file, or parts of a text.

    Each has at most `data.steps` steps; of several, `about` describes all. A text is what the
    language model of a checkpoint reads.

    Raises DataError, or InvalidInputError if there are fewer, or for options that exclude each
    other.
    """
    if data.input and (given := given_flags(data, ("chorale", "data"))):
        raise InvalidInputError(
            f"--input and {given[0]} both name something to read: give only one"
        )
    text = reads_text(network)
    if text and data.input is None:
        raise InvalidInputError(
            f"{network.checkpoint} holds a language model, which reads a text: give one as input"
        )
    if data.input is None:
        found, where = _chorales(data, count), "the test split"
    else:
        whole = (
            _text(data.input, network, data.steps, count)
            if text
            else read_numbers(data.input).cut(data.steps)
        )
        parts = enumerate(whole.values[:count], 1)
        found = (
            [whole]
            if count is None
            else [replace(whole, values=part[None], part=k) for k, part in parts]
        )
        where = whole.name
    if count and len(found) < count:
        raise InvalidInputError(
            f"{count} sequences: {where} has {len(found)}, expected at most that number"
        )
    return found


def reads_text(network: NewOrTrained) -> bool:
    """True for the checkpoint of a language model. Raises CheckpointError."""
    if network.module or not network.checkpoint:
        return False
    try:
        return read_metadata(network.checkpoint)["class"] == "LanguageModel"
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; for weights of your own module add --module package.module:factory"
        ) from error


def read_numbers(path: Path) -> Source:
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
    values = array.astype(np.float64)
    if bad := int((~np.isfinite(values)).sum()):
        raise DataError(
            f"{path}: {bad} of {values.size} numbers are NaN or infinite, expected finite ones"
        )
    S, T, m = values.shape if values.ndim == 3 else (1, len(values), values[0].size)
    if len(about.get("names", ())) not in (0, m):
        raise DataError(
            f"{path} names {len(about['names'])} inputs ({', '.join(about['names'])}), its "
            f"sequences have {m}: expected as many"
        )
    size = f"{T} x {m} numbers" if values.ndim > 1 else f"{T} numbers"
    if values.ndim == 3:
        size = f"{S} sequences of {T} steps, {m} numbers each"
    known = {"name": path.name, "kind": "sequence", "about": f"{path.name}, {size}"} | about
    values = values.reshape(S, T, m)
    if S > 1 and T == 1:  # (T, 1, m), one sequence as torch has it
        values = values.transpose(1, 0, 2)
    raw = array if len(values) == 1 else None
    return Source(values=values, raw=raw, **known)


def _lacking(shape: tuple[int, ...]) -> str:
    """The axis of length 0 in the shape of sequences, in words.

    >>> _lacking((0, 3)), _lacking((0, 9, 3)), _lacking((9, 0))
    ('no steps', 'no sequences', 'no inputs')
    """
    axes = (
        ("no sequences", "no steps", "no inputs") if len(shape) == 3 else ("no steps", "no inputs")
    )
    return next((words for words, n in zip(axes, shape, strict=False) if n == 0), "no numbers")


def _read(path: Path, reader: Callable[[Path], tuple[np.ndarray, dict]]) -> tuple[np.ndarray, dict]:
    """The real numbers that a reader finds in a file, and their description there. Raises DataError
    for any error of it.
    """
    try:
        if (size := path.stat().st_size) > free_memory():
            raise DataError(
                f"{path} has {in_words(size)}, more than the free memory: cut it into smaller files"
            )
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
    """Raise DataError unless a file begins as those of its suffix do; another kind of file may have
    that name.
    """
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
    """The numbers, and their description in the file."""
    _check_beginning(path, ZIP, "numpy.savez")
    with np.load(path, allow_pickle=False) as arrays:
        data = [key for key in arrays.files if key not in ABOUT]
        if not data:
            raise DataError(f"{path} holds no array of numbers: {EXPECTED}, called x")
        about = {
            key: np.atleast_1d(arrays[key]).astype(str).tolist()
            for key in ABOUT
            if key in arrays.files
        }
        array = arrays["x" if "x" in data else data[0]]
    return array, {
        key: tuple(words) if key == "names" else words[0]
        for key, words in about.items()
        if any(words)
    }


def _csv(path: Path) -> tuple[np.ndarray, dict]:
    """The numbers of the rows, and the names of the columns if the first row has words."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    mark = next((mark for mark in ";\t" if lines and mark in lines[0]), ",")
    rows = [row for row in csv.reader(lines, delimiter=mark, skipinitialspace=True) if row]
    names: list[str] = []
    if rows and not all(map(_is_number, rows[0])):
        names = [word.strip("# ") for word in rows.pop(0)]
    if not rows:
        raise DataError(
            f"{path} holds no row of numbers: expected a row a step and a column an input"
        )
    begin = 2 if names else 1
    numbers = [
        _row(f"{path}, row {k}", row, len(rows[0]), names) for k, row in enumerate(rows, begin)
    ]
    return np.array(numbers, dtype=np.float64), {"names": tuple(names)} if names else {}


def _row(place: str, words: list[str], columns: int, names: list[str]) -> list[float]:
    """The numbers of a row. Raises DataError for another count, and for a word that is no finite
    number.
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
    """NaN for a word that is no number."""
    return float(word) if _is_number(word) else math.nan


def chorale_source(piece: Piece, data: Path | None = None) -> Source:
    """A chorale of the sets of this toolkit; data: the original file it was read from."""
    about, values = f"{piece.label} of {chorales_origin(data)}", np.asarray(piece)[None]
    return Source(name=piece.name, kind="chorale", values=values, unit="quarter notes", about=about)


def chorales_origin(data: Path | None = None) -> str:
    """Name of the set: "the chorales of music21 10.5.1"; data: the original file it was read
    from.
    """
    return (
        f"the chorales {'of music21 ' + music21_version() if data is None else 'in ' + data.name}"
    )


def chorale_excerpts(data: Path | None = None) -> np.ndarray:
    """Frames (T, B, 88) of the training chorales, from different frames of each on.

    T is 25, or the length of the longest piece; shorter pieces are left out. data: an original file
    of chorales instead of those rebuilt from music21.
    """
    pieces = chorales(data).train
    T = min(EXCERPT, max(map(len, pieces)))
    cut = []
    for k, piece in enumerate(pieces):
        if len(piece) >= T:
            start = 5 * k % (len(piece) - T + 1)
            cut.append(piece[start : start + T])
    return np.stack(cut, 1).astype(float)


def _chorales(data: DataOptions, count: int | None) -> list[Source]:
    """The chorale that options name, or the first ones of the test split."""
    from rhn.data import chorale

    if count is None:
        return [chorale_source(chorale(data.chorale, data.data), data.data).cut(data.steps)]
    found = [chorale_source(piece, data.data) for piece in chorales(data.data).test[:count]]
    found = [source.cut(data.steps and min(data.steps, source.steps)) for source in found]
    most = f"at most {data.steps} steps of each of the " if data.steps else ""
    about = f"{most}first {count} of the test split of {chorales_origin(data.data)}"
    return found if count == 1 else [replace(source, about=about) for source in found]


def first_tokens(path: Path, vocabulary: Vocabulary, count: int) -> np.ndarray:
    """Ids of the first tokens of a text file, (count,) or fewer if it ends before.

    Raises DataError for a file that is empty, cannot be read or is not UTF-8, InvalidInputError for
    a symbol outside the vocabulary.
    """
    try:
        with path.open("rb") as file:
            symbols: Any = file.read(READ)  # text or bytes
        if vocabulary.unit != "bytes":
            symbols = codecs.getincrementaldecoder("utf-8")().decode(
                symbols, final=len(symbols) < READ
            )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a text: {first_line(error)}") from error
    ids = vocabulary.encode(
        (split_words(symbols) if vocabulary.unit == "words" else symbols)[:count]
    )
    if len(ids) == 0:
        raise DataError(f"{path} holds no tokens: expected a text")
    return ids


def _text(path: Path, network: NewOrTrained, steps: int | None, count: int | None) -> Source:
    """The first tokens of a text, or `count` successive parts of it."""
    from rhn.training.trained import load_text_model

    assert network.checkpoint  # see `reads_text`
    wanted = (count or 1) * (steps or TEXT_STEPS)
    ids = first_tokens(path, load_text_model(network.checkpoint, network.cell).vocabulary, wanted)
    whole = Source(
        name=path.name,
        kind="text",
        values=ids[None],
        unit="tokens",
        about=f"first {len(ids)} tokens",
    )
    whole = whole.cut(wanted if count or steps else None)
    return replace(whole, values=whole.values.reshape(count or 1, -1))
