"""Vocabularies of language models: words, characters (Unicode code points) or bytes, numbered from
0.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rhn.data.datasets import Unit
from rhn.errors import InvalidInputError

EOS = "<eos>"  # a newline, in a text of words
UNKNOWN = "<unk>"  # any word that is not in the vocabulary

Symbol = str | int


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a text. The id of a symbol is its index in `symbols`. Two vocabularies are
    equal if their units and symbols are equal.

    unit:     "words", "characters" or "bytes"
    symbols:  V distinct symbols: words without whitespace, single characters, or byte values 0 to
              255

    Raises InvalidInputError for an unknown unit or a symbol that does not belong to the unit.

    >>> vocabulary = Vocabulary("words", ("the", "<eos>", "cat", "<unk>"))
    >>> vocabulary.encode("the cat\\nthe dog")
    array([0, 2, 1, 0, 3])
    >>> vocabulary.decode([0, 2, 1, 0, 3])
    'the cat\\nthe <unk>'
    """

    unit: Unit
    symbols: tuple[Symbol, ...]

    def __post_init__(self):
        if self.unit not in [*_SYMBOLS]:
            raise InvalidInputError(
                f"a vocabulary is of words, characters or bytes, not of {self.unit!r:.60}"
            )
        expected, is_symbol = _SYMBOLS[self.unit]
        wrong = [symbol for symbol in self.symbols if not is_symbol(symbol)]
        if wrong or not 0 < len(self.index) == len(self.symbols):
            found = f"{wrong[0]!r:.60} among them" if wrong else "none, or one twice"
            raise InvalidInputError(
                f"a vocabulary of {self.unit} needs distinct symbols, each {expected}: it "
                f"has {found}"
            )

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def index(self) -> dict[Symbol, int]:
        """The id of each symbol."""
        return {symbol: id_ for id_, symbol in enumerate(self.symbols)}

    @property
    def unknown(self) -> int | None:
        """The id of `<unk>`, which replaces every unknown word; None if the vocabulary has no
        `<unk>`.
        """
        return self.index.get(UNKNOWN) if self.unit == "words" else None

    def encode(self, text: str | Sequence[Symbol]) -> np.ndarray:
        """Return the ids (N,) int64 of a text, or of a sequence of symbols.

        Raises InvalidInputError for a symbol outside a vocabulary without `<unk>`.
        """
        symbols = _SPLIT[self.unit](text) if isinstance(text, str) else text
        ids = np.fromiter((self.index.get(symbol, -1) for symbol in symbols), np.int64)
        if self.unknown is not None:
            ids[ids < 0] = self.unknown
        elif (ids < 0).any():
            place = int(np.argmax(ids < 0))
            raise InvalidInputError(
                f"{symbols[place]!r:.60} (number {place} of the text's {self.unit}) is not in "
                f"the vocabulary of {len(self)} {self.unit}; leave it out"
            )
        return ids

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of ids (N,). Words have spaces between them, and `<eos>` becomes a
        newline. Bytes that are not UTF-8 become U+FFFD.

        Raises InvalidInputError for an id outside 0 to V - 1.
        """
        ids = np.asarray(ids, dtype=np.int64).ravel()
        outside = (ids < 0) | (ids >= len(self))
        if outside.any():
            place = int(np.argmax(outside))
            raise InvalidInputError(
                f"{ids[place]} (number {place} of the ids) is not in the vocabulary of {len(self)} "
                f"{self.unit}: expected 0 to {len(self) - 1}; give the vocabulary that encoded the "
                "ids"
            )
        symbols: list = [self.symbols[id_] for id_ in ids.tolist()]
        if self.unit == "bytes":
            return bytes(symbols).decode("utf-8", errors="replace")
        if self.unit == "characters":
            return "".join(symbols)
        words = " ".join("\n" if symbol == EOS else symbol for symbol in symbols)
        return re.sub(" ?\n ?", "\n", words)

    def to_json(self) -> dict:
        """Return the vocabulary as values for JSON; `from_json` reads them."""
        return {"unit": self.unit, "symbols": list(self.symbols)}

    @classmethod
    def from_json(cls, content) -> "Vocabulary":
        """Return the vocabulary in the values of `to_json`, from any file. Raises InvalidInputError
        for other values.
        """
        match content:
            case {"unit": unit, "symbols": list(symbols), **more} if not more:
                return cls(unit, tuple(symbols))
        raise InvalidInputError(
            "a vocabulary is read from an object with the keys unit and symbols, a list"
        )


def split_words(text: str) -> list[str]:
    """Split a text into its words. A newline is the word `<eos>`."""
    return text.replace("\n", f" {EOS} ").split()


def _is_word(symbol) -> bool:
    return isinstance(symbol, str) and symbol.split() == [symbol]


def _is_character(symbol) -> bool:
    return isinstance(symbol, str) and len(symbol) == 1


def _is_byte(symbol) -> bool:
    return type(symbol) is int and 0 <= symbol <= 255


_SPLIT: dict[str, Callable] = {
    "words": split_words,
    "characters": str,
    "bytes": lambda t: t.encode(errors="replace"),
}
_SYMBOLS: dict[str, tuple[str, Callable]] = {
    "words": ("a word without whitespace", _is_word),
    "characters": ("a single character", _is_character),
    "bytes": ("a whole number from 0 to 255", _is_byte),
}
