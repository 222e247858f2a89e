"""Read texts for language models: Penn Treebank, enwik8, text8, or any text, as three splits of ids
and a vocabulary.

In a text of words a newline is the word `<eos>`. A vocabulary numbers words by descending frequency
in the training text (ties in alphabetical order), characters and bytes of the whole text in the
order of their codes.

Shape legend: N tokens of a split, B rows of a minibatch, V symbols of the vocabulary, S symbols of
a text.
"""

import hashlib
import io
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from rhn.data.corpus import SPLITS, Corpus
from rhn.data.datasets import TEXT_SETS, Unit, data_folder
from rhn.data.jsb import chorales
from rhn.data.vocabulary import ABSENT, EOS, UNKNOWN, Symbol, Vocabulary, split_words
from rhn.errors import DataError, InvalidInputError, first_line, unreadable
from rhn.utils.io import as_path, check_file
from rhn.utils.validation import unexpected, whole_number

ALL_BYTES: list[Symbol] = [*range(256)]
BLOCK = 2**20  # tokens that are counted at once: bincount copies them as 64-bit integers


@dataclass(frozen=True, eq=False)
class TextCorpus:
    """A text in three splits of ids (N,), in the smallest integer type that holds them, with its
    vocabulary.

    source: name, unit and path. checksum: SHA-256 (hex) of the files' content, the vocabulary and
    the length, wherever the files are.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    vocabulary: Vocabulary
    name: str
    source: str
    checksum: str


def load_data(name: str = "jsb", path: str | Path | None = None, **options) -> Corpus | TextCorpus:
    """Load the chorales ("jsb", see `chorales`) or a text (see `read_text`).

    >>> len(load_data().test)
    77
    """
    if not isinstance(name, str):
        raise unexpected("name", name, f"jsb, text, {', '.join(TEXT_SETS)}")
    path = None if path is None else as_path(path)
    return chorales(path, **options) if name == "jsb" else read_text(name, path, **options)


def read_text(
    name: str,
    path: str | Path | None = None,
    *,
    unit: Unit = "words",
    max_tokens: int | None = None,
    vocabulary_size: int | None = None,
    vocabulary: Vocabulary | None = None,
) -> TextCorpus:
    """Read a text in three splits.

    name: "ptb", "enwik8", "text8", or "text" for your own.
    path: the folder of a published text, or one of its files (plain, or .zip if the text is one
        file). For "text": a file, which is split into 90 / 5 / 5 %, or a folder with one file for
        each split, with "train", "valid" or "test" in its name. None: the folder of `rhn data get`.
    unit: "words" or "characters" for a `text`; published texts and a `vocabulary` have their own.
    max_tokens: keep only the first tokens of each split; the vocabulary is that of the whole text.
    vocabulary_size: number of words to keep, the most frequent ones of the training text; `<unk>`
        replaces all others.
    vocabulary: that of a checkpoint. A published text must have the same; any other is encoded with
        it.

    Raises DataError for files that are missing, damaged or do not match; InvalidInputError.
    """
    if name in TEXT_SETS:
        unit = TEXT_SETS[name].unit or unit
    elif vocabulary is not None:
        unit = vocabulary.unit
    if vocabulary_size is not None and unit != "words":
        raise InvalidInputError(f"unit is {unit}: expected words, for a vocabulary size")
    files = _files(name, path)
    place = files[0].parent if len(files) > 1 else files[0]
    digests, contents = zip(*(_content(file, name, unit) for file in files), strict=True)
    texts, symbols = _codes(contents, unit)
    if len(texts) == 1:
        (whole,) = texts
        train, valid = len(whole) * 90 // 100, len(whole) * 5 // 100
        texts = np.split(whole, (train, train + valid))
    if (least := min(len(text[:max_tokens]) for text in texts)) < 2:
        raise DataError(f"shortest split of {place} has {least} tokens: expected at least 2")
    counts = np.array([_counts(text, len(symbols)) for text in texts])
    own = vocabulary
    if own is None or name != "text":
        size = vocabulary_size or (len(vocabulary) if vocabulary else None)
        own = _vocabulary(symbols, counts, unit, size)
    if vocabulary not in (None, own):
        raise DataError(f"vocabulary of {place} has {len(own)} other {own.unit}: expected the same")
    table = _id_table(symbols, counts, own)
    train, valid, test = (table[text[:max_tokens]] for text in texts)
    described = {"files": digests, "vocabulary": own.to_json(), "max_tokens": max_tokens}
    checksum = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    source = f"{name}, {unit}, from {place.absolute()}"
    return TextCorpus(train, valid, test, own, name, source, checksum)


def in_rows(tokens: np.ndarray, batch_size: int) -> np.ndarray:
    """Return a view of a text (N,) as B equal rows (B, N // B), without the remaining tokens.
    Raises DataError for rows of fewer than 2 tokens: one to read and one to predict.
    """
    columns = len(tokens) // whole_number("batch_size", batch_size)
    if columns < 2:
        raise DataError(f"batch size is {batch_size}: expected at most {len(tokens) // 2}")
    return tokens[: batch_size * columns].reshape(batch_size, columns)


def _files(name: str, path: str | Path | None) -> list[Path]:
    if name not in (*TEXT_SETS, "text"):
        raise InvalidInputError(f"text is {name!r}: expected {', '.join(TEXT_SETS)} or text")
    if path is None and name == "text":
        raise InvalidInputError("data is missing: expected a file or folder of plain text")
    place = data_folder(name) if path is None else Path(path)
    files = _own_files(place) if name == "text" else published_files(name, place)
    if not files:
        raise DataError(f"{place} holds no {name}: expected the files of `rhn data get {name}`")
    return files


def published_files(name: str, place: Path) -> list[Path]:
    """Return the files of a published text in a folder, or beside one of them; none if a file is
    missing.
    """
    names = [*TEXT_SETS[name].files] if name in TEXT_SETS else []
    if len(names) == 1:
        plain_or_packed = (place, place / name, place / names[0])
        return [f for f in plain_or_packed if f.is_file() and f.name.startswith(name)][:1]
    folder = place.parent if place.name in names else place
    files = [folder / file for file in names]
    return files if all(file.is_file() for file in files) else []


def _own_files(place: Path) -> list[Path]:
    """Return a file, or the three files of a folder whose names have a split as a whole word."""
    if not place.is_dir():
        return [place]
    files = [(f, re.split("[^a-z]+", f.name.lower())) for f in sorted(place.iterdir())]
    found = [(split, file) for split in SPLITS for file, words in files if split in words]
    if tuple(split for split, _ in found) != SPLITS:
        names = ", ".join(file.name for _, file in found)
        raise DataError(f"texts in {place} are {names or 'none'}: expected train, valid and test")
    return [file for _, file in found]


def _content(file: Path, name: str, unit: Unit) -> tuple[str, Any]:
    """Return the SHA-256 (hex) and the text or bytes of a file. A published archive is unpacked."""
    try:
        check_file(file)
        if name == "text" or file.suffix != ".zip":
            content = file.read_bytes()
        else:
            with zipfile.ZipFile(file) as archive:
                content = archive.read(name)
        text = content if unit == "bytes" else str(content, "utf-8-sig")
    except Exception as error:  # zipfile, zlib, bz2 and lzma raise many kinds
        said = f"{file} cannot be read: {first_line(error)}"
        raise DataError(unreadable(file, error, said)) from error
    return hashlib.sha256(content).hexdigest(), text


def _codes(texts: Sequence[Any], unit: Unit) -> tuple[list[np.ndarray], list[Symbol]]:
    """Encode texts as indices (N,) into the list of all S symbols. Returns texts and symbols."""
    if unit == "bytes":
        return [np.frombuffer(text, np.uint8) for text in texts], ALL_BYTES
    if unit == "characters":
        codes = [np.frombuffer(text.encode("utf-32-le"), "<u4") for text in texts]
        return codes, [*map(chr, range(1 + max(int(text.max(initial=0)) for text in codes)))]
    # a word not seen before gets the next place
    index: dict[Symbol, int] = defaultdict(count().__next__)

    def words(text: str) -> Iterator[str]:
        for line in io.StringIO(text, newline="\n"):  # a long list of words is large
            yield from split_words(line)

    return [np.fromiter(map(index.__getitem__, words(t)), np.int32) for t in texts], [*index]


def _counts(text: np.ndarray, size: int) -> np.ndarray:
    """Count the occurrences (S,) of each symbol."""
    blocks = (text[start : start + BLOCK] for start in range(0, len(text), BLOCK))
    return sum((np.bincount(block, minlength=size) for block in blocks), np.zeros(size, np.int64))


def _vocabulary(
    symbols: list[Symbol], counts: np.ndarray, unit: Unit, size: int | None
) -> Vocabulary:
    """Make the vocabulary of a text from the occurrences (3, S) of its symbols in the splits."""
    if unit != "words":
        used = np.flatnonzero(counts.any(axis=0))
        return Vocabulary(unit, tuple(sorted(symbols[place] for place in used)))
    seen = sorted((-n, word) for word, n in zip(symbols, counts[0].tolist(), strict=True) if n)
    words = [word for _, word in seen]
    too_many = size is not None and len(words) > size
    if UNKNOWN not in words and (too_many or len(words) < len(symbols)):
        words.append(UNKNOWN)
    # the sort is stable: the others stay in the order of their frequency
    kept = set(sorted(words, key=lambda word: word not in (UNKNOWN, EOS))[:size])
    return Vocabulary(unit, tuple(word for word in words if word in kept))


def _id_table(symbols: list[Symbol], counts: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return the ids (S,) of the symbols, from their occurrences (3, S) in the splits."""
    table = np.array([vocabulary.index.get(symbol, ABSENT) for symbol in symbols])
    absent = table == ABSENT
    outside = absent & counts.any(axis=0)
    if outside.any() and vocabulary.unknown is None:
        symbol = symbols[np.argmax(outside)]
        raise DataError(
            f"symbol is {symbol!r:.60}: expected one of {len(vocabulary)} known {vocabulary.unit}"
        )
    table[absent] = vocabulary.unknown or 0
    return table.astype(np.min_scalar_type(len(vocabulary)))
