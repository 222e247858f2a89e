"""Read texts for language models: Penn Treebank, enwik8, text8, or any text, as three splits of ids
and a vocabulary.

    from rhn.data.text import in_rows, read_text

    corpus = read_text("ptb", Path("data/ptb"))          # words; corpus.vocabulary has 10,000
    corpus = read_text("enwik8", Path("enwik8.zip"))     # bytes
    corpus = read_text("text", Path("novel.txt"), unit="characters")
    rows = in_rows(corpus.train, 20)                     # (20, N // 20), no copy

In a text of words a newline is the word `<eos>`. A byte-order mark at the start of a UTF-8 file is
not part of its words or characters. A vocabulary numbers words by descending frequency in the
training text (ties in alphabetical order). Characters and bytes of the whole text are numbered in
the order of their codes.

Shape legend: N tokens of a split, B rows of a minibatch, V symbols of the vocabulary, S symbols of
a text.
"""

import hashlib
import io
import json
import logging
import re
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np

from rhn.data.corpus import SPLITS
from rhn.data.datasets import TEXT_SETS, Unit, data_folder
from rhn.data.vocabulary import EOS, UNKNOWN, Symbol, Vocabulary, split_words
from rhn.errors import DataError, InvalidInputError
from rhn.utils.io import check_file
from rhn.utils.validation import whole_number

# share of unknown words above which a warning says that the vocabulary does not suit the text
FOREIGN = 0.2
BLOCK = 2**20  # tokens that are counted at once: bincount copies them as 64-bit integers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TextCorpus:
    """A text in three splits of ids (N,), in the smallest integer type that holds them, with its
    vocabulary.

    name:      "ptb", "enwik8", "text8" or "text"
    source:    name, unit and path
    checksum:  SHA-256 (hex) of the files' content, the vocabulary and the length; it does not
               depend on the files' paths
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    vocabulary: Vocabulary
    name: str
    source: str
    checksum: str


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

    name: the name of a published text, or "text" for your own.
    path: the folder of a published text, or one of its files (plain, or .zip if the text is one
        file). For "text", path can be a folder with one file for each split; the names of these
        files contain "train", "valid" and "test". Any other folder of *.txt files, or a single
        file, is split into 90 / 5 / 5 %. None: the folder of `rhn data get`.
    unit: "words" or "characters" for a `text`. Published texts and a `vocabulary` have their own
        unit.
    max_tokens: keep only the first tokens of each split; the vocabulary is that of the whole text.
    vocabulary_size: number of words to keep: the most frequent words of the training text. `<unk>`
        replaces all other words.
    vocabulary: the vocabulary of a checkpoint. A published text must have the same vocabulary. Any
        other text is encoded with this vocabulary, with a warning if more than a fifth of its words
        are unknown.

    Raises DataError for files that are missing, empty or damaged, or do not match the vocabulary,
    and for a split of fewer than 2 tokens; InvalidInputError for options that cannot be combined.
    """
    unit = _unit(name, unit, vocabulary)
    if vocabulary_size is not None and unit != "words":
        raise InvalidInputError(
            f"a vocabulary size is for words; a text of {unit} keeps all its symbols"
        )
    groups = _contents(name, path)
    contents = {file: content for group in groups for file, content in group.items()}
    first, *others = contents
    place = first.parent if others else first
    texts, symbols = _codes(groups, unit)
    if len(texts) == 1:
        texts = _cut(texts[0])
    _require_tokens(texts, max_tokens, place)
    counts = np.array([_counts(text, len(symbols)) for text in texts])
    if vocabulary is None or name != "text":
        size = vocabulary_size or (len(vocabulary) if vocabulary else None)
        own = _vocabulary(symbols, counts, unit, size)
        _require_same(own, vocabulary, place)
        table = _id_table(symbols, counts, own)
    else:
        own = vocabulary
        table = _id_table(symbols, counts, own, place)
    digests = [hashlib.sha256(content).hexdigest() for content in contents.values()]
    described = {"files": digests, "vocabulary": own.to_json(), "max_tokens": max_tokens}
    train, valid, test = (table[text[:max_tokens]] for text in texts)
    several = f"{len(digests)} files in " if others else ""
    source = f"{name}, {unit}, from {several}{place.absolute()}"
    checksum = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    return TextCorpus(train, valid, test, own, name, source, checksum)


def _contents(name: str, path: str | Path | None) -> list[dict[Path, bytes]]:
    """Read the bytes of the files of each split, or of a text without splits; see `find_files`."""
    try:
        groups = find_files(name, path)
        for file in chain(*groups):
            check_file(file)
        return [{file: _content(file, name) for file in group} for group in groups]
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror or error}"
        ) from error


def _cut(text: np.ndarray) -> list[np.ndarray]:
    """Split a text 90 / 5 / 5 % into training, validation and test text.

    >>> [len(part) for part in _cut(np.arange(101))]
    [90, 5, 6]
    """
    train, valid = len(text) * 90 // 100, len(text) * 5 // 100
    return np.split(text, (train, train + valid))


def _require_tokens(texts: Sequence[np.ndarray], max_tokens: int | None, place: Path) -> None:
    """Raise DataError for a split of fewer than 2 tokens: one to read and one to predict."""
    for split, text in zip(SPLITS, texts, strict=True):
        count = len(text[:max_tokens])
        if count < 2:
            raise DataError(f"{place}: its {split} split has {count} tokens, expected at least 2")


def _require_same(own: Vocabulary, expected: Vocabulary | None, place: Path) -> None:
    """Raise DataError if the vocabulary of a text is not that of a checkpoint."""
    if expected not in (None, own):
        raise DataError(
            f"{place} has another vocabulary ({len(own)} {own.unit}) than the training of the "
            f"checkpoint ({len(expected)} {expected.unit}): give the files of the training"
        )


def in_rows(tokens: np.ndarray, batch_size: int) -> np.ndarray:
    """Cut a text (N,) into B equal rows. Returns a view (B, N // B); the remaining tokens are
    dropped, as in the official code.

    Raises DataError for a text of fewer than 2 tokens for each row: one to read and one to predict.
    """
    columns = len(tokens) // whole_number("batch_size", batch_size)
    if columns < 2:
        raise DataError(
            f"{len(tokens)} tokens do not make {batch_size} rows of at least 2 tokens; "
            f"take a longer text or a batch size of at most {len(tokens) // 2}"
        )
    return tokens[: batch_size * columns].reshape(batch_size, columns)


def _unit(name: str, unit: Unit, vocabulary: Vocabulary | None) -> Unit:
    """Return the unit of a text: the given unit, that of a published text, or that of the
    vocabulary.
    """
    if name == "text":
        return unit if vocabulary is None else vocabulary.unit
    if name not in TEXT_SETS:
        raise InvalidInputError(
            f"no text is called {name!r}, expected one of {', '.join((*TEXT_SETS, 'text'))}"
        )
    if unit not in ("words", own := TEXT_SETS[name].unit):
        raise InvalidInputError(
            f"{name} is read as {own}; to read its files as {unit}, read them as a text of your own"
        )
    return own or unit


def _codes(groups: list[dict[Path, bytes]], unit: Unit) -> tuple[list[np.ndarray], list[Symbol]]:
    """Encode texts, each of one or several files, as indices (N,) into the list of all S symbols.
    Returns the texts and the symbols.
    """
    # a word not seen before gets the next place
    index: dict[str, int] = defaultdict(count().__next__)

    def codes(file: Path, content: bytes) -> np.ndarray:
        if unit == "bytes":
            return np.frombuffer(content, np.uint8)
        if unit == "characters":
            return np.frombuffer(_decoded(file, content).encode("utf-32-le"), "<u4")
        lines = io.StringIO(_decoded(file, content), newline="\n")
        # line by line: a long list of words is large
        words = chain.from_iterable(map(split_words, lines))
        return np.fromiter(map(index.__getitem__, words), np.int32)

    texts = [np.concatenate([codes(*file) for file in files.items()]) for files in groups]
    if unit == "words":
        return texts, list(index)
    numbers = range(1 + max(int(text.max(initial=0)) for text in texts))
    return texts, [*map(chr, numbers)] if unit == "characters" else [*numbers]


def _decoded(file: Path, content: bytes) -> str:
    try:
        return str(content, "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 text: {error.reason} at byte {error.start}; convert the file"
        ) from error


def _counts(text: np.ndarray, size: int) -> np.ndarray:
    """Count the occurrences (S,) of each symbol."""
    blocks = (text[start : start + BLOCK] for start in range(0, len(text), BLOCK))
    return sum((np.bincount(block, minlength=size) for block in blocks), np.zeros(size, np.int64))


def _vocabulary(
    symbols: list[Symbol], counts: np.ndarray, unit: Unit, size: int | None
) -> Vocabulary:
    """Make the vocabulary of a text.

    counts: (3, S), occurrences in the training, validation and test text
    size:   number of words to keep: `<unk>`, `<eos>` and the most frequent words; None: all words
            of the training text

    `<unk>` is added as the last word if the text does not contain it and a word needs it.
    """
    if unit != "words":
        used = np.flatnonzero(counts.sum(axis=0))
        return Vocabulary(unit, tuple(sorted(symbols[place] for place in used)))
    seen = sorted((-n, word) for word, n in zip(symbols, counts[0].tolist(), strict=True) if n)
    words = [word for _, word in seen]
    too_many = size is not None and len(words) > size
    if UNKNOWN not in words and (too_many or len(words) < len(symbols)):
        words.append(UNKNOWN)
    # the sort is stable: the others stay in the order of their frequency
    kept = set(sorted(words, key=lambda word: word not in (UNKNOWN, EOS))[:size])
    return Vocabulary(unit, tuple(word for word in words if word in kept))


def _id_table(
    symbols: list[Symbol], counts: np.ndarray, vocabulary: Vocabulary, place: Path | None = None
) -> np.ndarray:
    """Return the ids (S,) of the symbols. A word outside the vocabulary has the id of `<unk>`.

    place: the path for a warning if more than a fifth of a text's words are outside; None: no
    warning. Raises DataError for a symbol outside a vocabulary without `<unk>`.
    """
    table = np.array([vocabulary.index.get(symbol, -1) for symbol in symbols])
    used = counts.sum(axis=0)
    outside = (table < 0) & (used > 0)
    if outside.any() and vocabulary.unknown is None:
        raise DataError(
            f"{symbols[np.argmax(outside)]!r:.60} is not in the vocabulary of {len(vocabulary)} "
            f"{vocabulary.unit}, which has no `<unk>`; remove it from the text or give another one"
        )
    share = used[outside].sum() / used.sum()
    if place is not None and share > FOREIGN:
        logger.warning(
            "%s: %.0f %% of the words are not in the checkpoint's vocabulary and are read as "
            "`<unk>`",
            place,
            100 * share,
        )
    table[table < 0] = vocabulary.unknown or 0
    return table.astype(np.min_scalar_type(len(vocabulary)))


def find_files(name: str, path: str | Path | None) -> list[list[Path]]:
    """Find the files of the training, validation and test text, as three lists; or one list of all
    files of a text without splits.

    path: a file or a folder; None: the folder of `rhn data get`. Raises DataError for a missing
    file.
    """
    if path is None and name == "text":
        raise InvalidInputError(
            "a text of your own needs its path: give --data, a file or a folder of plain text"
        )
    place = data_folder(name) if path is None else Path(path)
    if name == "text":
        return _plain_text(place)
    if files := _published(name, place):
        return [[file] for file in files]
    raise DataError(
        f"{place} holds no {name}: `rhn data get {name}` fetches it, --data says where else it "
        "is, and a text of your own is read with --corpus text"
    )


def belongs_to(name: str, place: Path) -> bool:
    """Return True if a path is a file of a published text, by its name, or a folder that contains
    the text.
    """
    return name != "text" and bool(_published(name, place))


def _published(name: str, place: Path) -> list[Path]:
    """Return the files of a published text in a folder, or beside one of them; none if a file is
    missing.
    """
    names = [file.name for file in TEXT_SETS[name].files]
    if len(names) == 1:
        plain_or_packed = (place, place / name, place / names[0])
        found = [f for f in plain_or_packed if f.is_file() and f.name.startswith(name)]
        return found[:1]
    folder = place.parent if place.name in names else place
    files = [folder / file for file in names]
    return files if all(file.is_file() for file in files) else []


def _plain_text(place: Path) -> list[list[Path]]:
    if not place.is_dir():
        return [[place]]
    files = sorted(f for f in place.iterdir() if f.is_file() and not f.name.startswith("."))
    # by whole words: "latest.txt" is no test split, "wiki.test.tokens" is one
    groups = [
        [file for file in files if split in re.split("[^a-z]+", file.name.lower())]
        for split in SPLITS
    ]
    if all(len(group) == 1 for group in groups):
        return groups
    texts = [file for file in files if file.suffix == ".txt"]
    if any(groups) or not texts:
        names = ", ".join(file.name for group in groups for file in group) or "none"
        raise DataError(
            f"{place} needs one file each with train, valid and test in its name, or else "
            f"*.txt: found {names}"
        )
    return [texts]


def _content(file: Path, name: str) -> bytes:
    """Read the bytes of a file. The archive of a published text is unpacked. Raises DataError for a
    damaged archive.
    """
    if name == "text" or file.suffix != ".zip":
        return file.read_bytes()
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.read(name)
    except Exception as error:  # zipfile, zlib, bz2 and lzma raise many kinds
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{file} is not a complete .zip file of {name} ({reason}); fetch it again"
        ) from error
