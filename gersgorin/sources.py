"""What a network reads: a chorale, the beginning of a text, or the numbers of a user's file, each with its name and its unit of time.

Legend: S sequences, T steps, m inputs of a step.
"""

import codecs
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from gersgorin.input_files import read_numbers
from rhn.data import Piece
from rhn.data.scores import music21_version
from rhn.data.text import Vocabulary
from rhn.data.text.vocabulary import split_words
from rhn.errors import DataError, InvalidInputError
from rhn.reading import require_file
from rhn.wording import first_line

READ = 1 << 20  # bytes of a text: more tokens than Jacobians can be held
TEXT_STEPS = 100
MOST_NAMES = 4  # of inputs, that a figure's title holds
COUNTED = {"chorale": "frames", "text": "tokens", "sequence": "steps"}


class Asked(Protocol):
    """The options that say what is read; None for what was not given."""

    chorale: str
    data: Path | None
    text: Path | None
    input: Path | None
    unit: str | None
    steps: int | None
    checkpoint: Path | None
    cell: str | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """One sequence, or several of one length."""

    name: str
    """A chorale's, or the file's."""
    kind: str
    """"chorale", "text" or "sequence"."""
    values: np.ndarray
    """Numbers (T, m), of several sequences (S, T, m), or ids of tokens (T,), int64."""
    unit: str = "steps"
    """Of time, of one step: "quarter notes", "tokens", "0.1 s"; "steps" where nothing is known of it."""
    names: tuple[str, ...] = ()
    """Of the m inputs, where they are told."""

    part: int | None = None
    """Which of several of its name, counted from 1."""
    about: str = ""
    """Where it comes from, for the second line of a figure's title: "train-41 of the chorales of music21 10.5.1"."""

    @property
    def label(self) -> str:
        """The name with those of the inputs where they are few, and its part: "lorenz.csv (x, y, z), part 2"."""
        names = f" ({', '.join(self.names)})" if 0 < len(self.names) <= MOST_NAMES else ""
        return f"{self.name}{names}" + (f", part {self.part}" if self.part else "")

    @property
    def first_label(self) -> str:
        """What `sequence()` is called: "lorenz.npz, the first of 20"."""
        return self.label if self.count == 1 else f"{self.label}, the first of {self.count}"

    @property
    def count(self) -> int:
        """S."""
        return len(self.values) if self.values.ndim == 3 else 1

    @property
    def steps(self) -> int:
        """T."""
        return self.values.shape[-2] if self.values.ndim > 1 else len(self.values)

    @property
    def input_size(self) -> int | None:
        """m; None for ids of tokens."""
        return self.values.shape[-1] if self.values.ndim > 1 else None

    def sequence(self, k: int = 0) -> np.ndarray:
        """The k-th sequence, (T, m) or ids (T,)."""
        return self.values[k] if self.values.ndim == 3 else self.values

    def cut(self, steps: int | None) -> "Source":
        """Only the first steps, or all where None; raises InvalidInputError where there are not so many."""
        if steps is None:
            return self
        if steps > self.steps:
            counted = COUNTED[self.kind]
            raise InvalidInputError(f"--steps {steps} is beyond the end of {self.name}: it has {self.steps} {counted}")
        values = self.values[..., :steps, :] if self.values.ndim > 1 else self.values[:steps]
        return replace(self, values=values, about=_cut(self, steps))


def read_source(asked: Asked) -> Source:
    """What the options say, cut to their steps; raises DataError or InvalidInputError."""
    if asked.text is not None:
        return _text(asked).cut(asked.steps)
    if asked.input is not None:
        numbers = read_numbers(asked.input)
        unit = asked.unit or numbers.unit or "steps"
        name = numbers.name or asked.input.name
        about = f"{asked.input.name}, {' x '.join(map(str, numbers.values.shape))} numbers"
        source = Source(name=name, kind="sequence", values=numbers.values, unit=unit, names=numbers.names, about=about)
        return source.cut(asked.steps)
    from rhn.data import chorale

    frames = chorale(asked.chorale, asked.data)
    return chorale_source(frames, asked.data).cut(asked.steps)


def _cut(source: Source, steps: int) -> str:
    """Where a source comes from of which only the first steps are read."""
    if steps >= source.steps:
        return source.about
    return f"first {steps} of {source.steps} {COUNTED[source.kind]}{' of ' * bool(source.about)}{source.about}"


def chorale_source(piece: Piece, data: Path | None = None) -> Source:
    """A chorale as the sets of this toolkit have it; data: the original file it was read from."""
    about = {"kind": "chorale", "unit": "quarter notes", "about": f"{piece.label} of {chorales_origin(data)}"}
    return Source(name=piece.name, values=np.asarray(piece), **about)


def chorales_origin(data: Path | None = None) -> str:
    """Which chorales: "the chorales of music21 10.5.1"; data: the original file they were read from."""
    return f"the chorales {'of music21 ' + music21_version() if data is None else 'in ' + data.name}"


def read_sources(asked: Asked, count: int) -> list[Source]:
    """The first `count` sequences: chorales of the test split, those of a user's file, or successive parts of a text.

    Each is at most so long as asked, those that end before stay as they are; `about` is that of all. Raises DataError, or
    InvalidInputError where there are fewer.
    """
    if asked.text is not None:
        steps = asked.steps or TEXT_STEPS
        whole = read_source(replace(asked, steps=count * steps))
        return [replace(whole, values=ids, part=k + 1) for k, ids in enumerate(whole.values.reshape(-1, steps))]
    if asked.input is not None:
        whole = read_source(asked)
        where, parts = whole.name, range(min(count, whole.count))
        found = [replace(whole, values=whole.sequence(k), part=k + 1) for k in parts]
    else:
        from rhn.data import chorales

        pieces, where = chorales(asked.data).test, "the test split"
        whole = [chorale_source(piece, asked.data) for piece in pieces[:count]]
        found = [source.cut(asked.steps and min(asked.steps, source.steps)) for source in whole]
        if count > 1:
            most = f"at most {asked.steps} steps of each of the " if asked.steps else ""
            about = f"{most}first {count} of {where} of {chorales_origin(asked.data)}"
            found = [replace(source, about=about) for source in found]
    if len(found) < count:
        raise InvalidInputError(f"--sequences {count}: {where} has {len(found)}, expected at most so many")
    return found


def first_tokens(path: Path, vocabulary: Vocabulary, count: int) -> np.ndarray:
    """Ids of the first tokens of a text file, (count,) or fewer where it ends before.

    Raises DataError for a file that is empty, cannot be read or is not UTF-8, InvalidInputError for a symbol outside the vocabulary.
    """
    try:
        with require_file(path).open("rb") as file:
            symbols = file.read(READ)
        if vocabulary.unit != "bytes":
            symbols = codecs.getincrementaldecoder("utf-8")().decode(symbols, final=len(symbols) < READ)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a text: {first_line(error)}") from error
    ids = vocabulary.encode((split_words(symbols) if vocabulary.unit == "words" else symbols)[:count])
    if len(ids) == 0:
        raise DataError(f"{path} holds no tokens: expected a text")
    return ids


def _text(asked: Asked) -> Source:
    from rhn.language.trained import load_text_model

    vocabulary = load_text_model(asked.checkpoint, asked.cell).vocabulary
    ids = first_tokens(asked.text, vocabulary, asked.steps or TEXT_STEPS)
    return Source(name=asked.text.name, kind="text", values=ids, unit="tokens", about=f"first {len(ids)} tokens")
