"""Encode texts as arrays of codes, and map the codes to the ids of a vocabulary.

Codes are bytes, Unicode code points, or words numbered in order of appearance. A byte-order mark at the start of a UTF-8 file is no
part of its words or characters. N: tokens of one or several files.

A vocabulary numbers words by descending frequency in the training text (ties in alphabetical order), characters and bytes by their
code over the whole text.
"""

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

import numpy as np

from rhn.data.vocabulary import EOS, UNKNOWN, Symbol, Unit, Vocabulary, split_words
from rhn.errors import DataError

BLOCK = 2**20  # codes that are counted at once: bincount copies them as 64-bit integers
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
            for start in range(0, len(text), BLOCK):
                row += np.bincount(text[start : start + BLOCK], minlength=self.size)
        return total

    def cut(self) -> "Codes":
        """The one text cut into three: 90, 5 and 5 %."""
        (text,) = self.texts
        train, valid = len(text) * 90 // 100, len(text) * 5 // 100
        return replace(self, texts=[text[:train], text[train : train + valid], text[train + valid :]])


def read_codes(groups: Sequence[Sequence[Path]], contents: dict[Path, np.ndarray], unit: Unit) -> Codes:
    """Read texts as codes; the files of one text are joined.

    contents: the bytes (N,) of each file; those of ASCII characters are not copied
    Raises DataError, with the place, for words or characters that are not UTF-8.
    """
    index = defaultdict(count().__next__)  # a word not seen before gets the next code

    def codes(file: Path) -> np.ndarray:
        content = contents[file]
        if unit == "bytes" or (unit == "characters" and content.max(initial=0) < 128):
            return content
        text = _decoded(content, file)
        if unit == "characters":
            return np.frombuffer(text.encode("utf-32-le"), "<u4")
        words = chain.from_iterable(
            map(split_words, io.StringIO(text, newline="\n"))
        )  # by line: a long list of words is large
        return np.fromiter(map(index.__getitem__, words), np.int32)

    texts = [codes(files[0]) if len(files) == 1 else np.concatenate([*map(codes, files)]) for files in groups]
    if unit == "words":
        return Codes(texts, len(index), [*index].__getitem__)
    plain = all(text.dtype == np.uint8 for text in texts)
    return Codes(texts, 256 if plain else CODE_POINTS, int if unit == "bytes" else chr)


def _decoded(content: np.ndarray, file: Path) -> str:
    try:
        return str(content, "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}; convert the file") from error


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


def id_table(codes: Codes, counts: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The ids by code, (number of codes,) int64; a word outside the vocabulary has the id of `<unk>`.

    Raises DataError for a symbol outside a vocabulary without `<unk>`.
    """
    table = np.full(codes.size, -1, np.int64)
    used = np.flatnonzero(counts.sum(axis=0)).tolist()
    unknown = -1 if vocabulary.unknown is None else vocabulary.unknown
    table[used] = [vocabulary.index.get(codes.symbol(code), unknown) for code in used]
    if missing := [codes.symbol(code) for code in used if table[code] < 0]:
        raise DataError(
            f"{missing[0]!r:.60} is not in the vocabulary of {len(vocabulary)} {vocabulary.unit}, which has no `<unk>`; "
            "take it out of the text or give another one"
        )
    return table
