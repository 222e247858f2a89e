"""Encode files as arrays of codes, and map the codes to the ids of a vocabulary.

Codes are bytes, Unicode code points, or words numbered in order of appearance. Bytes (and the characters of an ASCII file) are memory
maps, other characters are 32-bit code points, and words are read a block at a time. A byte-order mark at the start of a UTF-8 file is
no part of its words or characters. N: tokens of one or several files.

A vocabulary numbers words by descending frequency in the training text (ties in alphabetical order), characters and bytes by their
code over the whole text.
"""

import codecs
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

import numpy as np

from rhn.data.vocabulary import EOS, UNKNOWN, Symbol, Unit, Vocabulary, split_words
from rhn.errors import DataError

BLOCK = 2**20
MOST_WORD = 2**20  # characters; a text without spaces would be joined again with every block
CODE_POINTS = 0x110000


@dataclass(frozen=True, eq=False)
class Codes:
    """Texts as codes.

    texts:   arrays (N,) of codes
    size:    every code is below it
    symbol:  the word, character or byte value that a code stands for
    """

    texts: list[np.ndarray]
    size: int
    symbol: Callable[[int], Symbol]

    def counts(self) -> np.ndarray:
        """Occurrences of each code, (number of texts, size)."""
        total = np.zeros((len(self.texts), self.size), np.int64)
        for row, text in zip(total, self.texts, strict=True):
            for block in _blocks(text):  # bincount copies its input as 64-bit integers
                row += np.bincount(block, minlength=self.size)
        return total

    def first(self, wanted: np.ndarray) -> tuple[int, int]:
        """The first of these codes that occurs: its place, counted through all texts, and the code."""
        start = 0
        for block in chain.from_iterable(map(_blocks, self.texts)):
            places = np.flatnonzero(np.isin(block, wanted))
            if len(places):
                return start + int(places[0]), int(block[places[0]])
            start += len(block)
        raise LookupError("none of these codes occurs")

    def cut(self) -> "Codes":
        """The one text cut into three: 90, 5 and 5 %."""
        (text,) = self.texts
        train, valid = len(text) * 90 // 100, len(text) * 5 // 100
        return replace(self, texts=[text[:train], text[train : train + valid], text[train + valid :]])


def byte_codes(groups: Sequence[Sequence[np.ndarray]]) -> Codes:
    """The bytes of texts as codes; the files of one text, (N,) uint8 each, are joined."""
    return Codes([_join(list(files)) for files in groups], 256, int)


def read_codes(groups: Sequence[Sequence[Path]], unit: Unit) -> Codes:
    """Read texts of words or characters as codes; the files of one text are joined.

    Raises DataError, with the place, for words or characters that are not UTF-8, and for a word without end.
    """
    if unit == "words":
        return _words(groups)
    texts = [_join([_characters(file) for file in files]) for files in groups]
    return Codes(texts, 256 if all(text.dtype == np.uint8 for text in texts) else CODE_POINTS, chr)


def _words(groups: Sequence[Sequence[Path]]) -> Codes:
    index = defaultdict(count().__next__)  # a word not seen before gets the next code

    def codes(words: list[str]) -> np.ndarray:
        return np.fromiter(map(index.__getitem__, words), np.int32, len(words))

    texts = [_join([codes(words) for file in files for words in _word_blocks(file)]) for files in groups]
    return Codes(texts, len(index), list(index).__getitem__)


def _word_blocks(path: Path) -> Iterator[list[str]]:
    rest = ""
    for block in _utf8_blocks(path):
        block = rest + block
        words = split_words(block)
        rest = words.pop() if words and not block[-1].isspace() else ""  # the next block may continue this word
        if len(rest) > MOST_WORD:
            raise DataError(
                f"{path} has a word of more than {MOST_WORD} characters, expected a text of words: read it as characters"
            )
        yield words
    yield split_words(rest)


def _characters(path: Path) -> np.ndarray:
    mapped = np.memmap(path, np.uint8, mode="r")[_text_start(path) :]
    if all(block.max() < 128 for block in _blocks(mapped)):
        return mapped
    return _join([np.frombuffer(block.encode("utf-32-le"), "<u4") for block in _utf8_blocks(path)])


def _utf8_blocks(path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        start = file.seek(_text_start(path))
        while True:
            block = file.read(BLOCK)
            held = len(decoder.getstate()[0])  # of the block before, the start of a character
            try:
                yield decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} is not UTF-8 text: {error.reason} at byte {start - held + error.start}; convert the file"
                ) from error
            if not block:
                return
            start += len(block)


def _text_start(path: Path) -> int:
    with path.open("rb") as file:
        return len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _blocks(codes: np.ndarray) -> Iterator[np.ndarray]:
    return (codes[start : start + BLOCK] for start in range(0, len(codes), BLOCK))


def build_vocabulary(codes: Codes, counts: np.ndarray, unit: Unit, size: int | None = None) -> Vocabulary:
    """Make the vocabulary of a text.

    counts: (3, number of codes), occurrences in the training, validation and test text
    size:   keep only the most frequent words, and always `<unk>` and `<eos>`; None, all of the training text
    `<unk>` is added as the last word if the text has none and a word needs it.
    """
    if unit != "words":
        return Vocabulary(unit, tuple(codes.symbol(code) for code in np.flatnonzero(counts.sum(axis=0)).tolist()))
    seen = sorted((-n, codes.symbol(code)) for code, n in enumerate(counts[0].tolist()) if n)
    words = [word for _, word in seen]
    if UNKNOWN not in words and (len(words) < codes.size or (size is not None and len(words) > size)):
        words.append(UNKNOWN)
    kept = set(sorted(words, key=lambda word: word not in (UNKNOWN, EOS))[:size])  # a stable sort: by frequency
    return Vocabulary(unit, tuple(word for word in words if word in kept))


def require_equal(built: Vocabulary, expected: Vocabulary) -> None:
    """Raise DataError, with the first difference, unless a text has a checkpoint's vocabulary."""
    if built == expected:
        return
    found, wanted = f"makes a vocabulary of {len(built)} {built.unit}", f"{len(expected)} {expected.unit}"
    if (built.unit, len(built)) == (expected.unit, len(expected)):
        id_ = next(i for i, symbol in enumerate(built.symbols) if symbol != expected.symbols[i])
        found, wanted = f"has {built.symbols[id_]!r} as symbol {id_} of its {built.unit}", repr(expected.symbols[id_])
    raise DataError(
        f"the text differs from that of the checkpoint's training: it {found}, expected {wanted}; give the files "
        "of the training"
    )


def id_table(codes: Codes, counts: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The ids by code, (number of codes,) int64; a word outside the vocabulary has the id of `<unk>`.

    Raises DataError with its first place, for a symbol outside a vocabulary without `<unk>`.
    """
    table = np.full(codes.size, -1, np.int64)
    used = np.flatnonzero(counts.sum(axis=0))
    unknown = -1 if vocabulary.unknown is None else vocabulary.unknown
    table[used] = [vocabulary.index.get(codes.symbol(code), unknown) for code in used.tolist()]
    if (table[used] < 0).any():
        place, code = codes.first(used[table[used] < 0])
        raise DataError(
            f"{codes.symbol(code)!r:.60}, number {place} of the text's {vocabulary.unit}, is not in the vocabulary of "
            f"{len(vocabulary)} {vocabulary.unit}, which has no `<unk>`; take it out or give another text"
        )
    return table
