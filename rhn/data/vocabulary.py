"""Vocabularies of language models: words, characters (Unicode code points) or bytes, numbered from
0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np

from rhn.data.datasets import Unit
from rhn.errors import InvalidInputError
from rhn.utils.validation import in_short

EOS = "<eos>"  # a newline, in a text of words
UNKNOWN = "<unk>"  # any word that is not in the vocabulary
ABSENT = -1  # in place of the id of a symbol that is not in the vocabulary

Symbol = str | int


@dataclass(frozen=True)
class Vocabulary:
    """The V distinct symbols of a text: words without whitespace, single characters, or byte values
    0 to 255, as its unit says. The id of a symbol is its index in `symbols`.

    >>> vocabulary = Vocabulary("words", ("the", "<eos>", "cat", "<unk>"))
    >>> vocabulary.encode("the cat\\nthe dog")
    array([0, 2, 1, 0, 3])
    >>> vocabulary.decode([0, 2, 1, 0, 3])
    'the cat\\nthe <unk>'
    """

    unit: Unit
    symbols: Sequence[Symbol]

    def __post_init__(self):
        object.__setattr__(self, "symbols", tuple(self.symbols))  # JSON has lists
        units = get_args(Unit)
        if self.unit not in units:
            raise InvalidInputError(f"unit is {self.unit!r:.60}: expected {', '.join(units)}")
        known = range(256) if self.unit == "bytes" else map(str, self.symbols)
        distinct = {*self.symbols}.intersection(known)
        if not self.symbols or len(distinct) < len(self.symbols):
            symbols = in_short(self.symbols)
            raise InvalidInputError(f"symbols are {symbols}: expected different {self.unit}")

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def index(self) -> dict[Symbol, int]:
        """The id of each symbol."""
        return {symbol: id_ for id_, symbol in enumerate(self.symbols)}

    @property
    def unknown(self) -> int | None:
        """The id of `<unk>`, which replaces every unknown word; None if there is none."""
        return self.index.get(UNKNOWN) if self.unit == "words" else None

    def encode(self, text: str | Sequence[Symbol]) -> np.ndarray:
        """Return the ids (N,) int64 of a text, or of a sequence of symbols. Raises
        InvalidInputError for a symbol outside a vocabulary without `<unk>`.
        """
        symbols = text
        if isinstance(text, str) and self.unit != "characters":
            words = self.unit == "words"
            symbols = split_words(text) if words else text.encode(errors="replace")
        ids = np.fromiter((self.index.get(symbol, ABSENT) for symbol in symbols), np.int64)
        absent = ids == ABSENT
        if self.unknown is not None:
            ids[absent] = self.unknown
        elif absent.any():
            symbol = symbols[int(np.argmax(absent))]
            known = f"one of {len(self)} known {self.unit}"
            raise InvalidInputError(f"symbol is {symbol!r:.60}: expected {known}")
        return ids

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of ids (N,). Words have spaces between them, and `<eos>` becomes a
        newline. Bytes that are not UTF-8 become U+FFFD. Raises InvalidInputError for an id outside
        0 to V - 1.
        """
        ids = np.asarray(ids, dtype=np.int64).ravel()
        if len(outside := ids[(ids < 0) | (ids >= len(self))]):
            raise InvalidInputError(f"id is {outside[0]}: expected 0 to {len(self) - 1}")
        symbols: list = [self.symbols[id_] for id_ in ids.tolist()]
        if self.unit == "bytes":
            return bytes(symbols).decode("utf-8", errors="replace")
        if self.unit == "characters":
            return "".join(symbols)
        words = " ".join("\n" if symbol == EOS else symbol for symbol in symbols)
        return re.sub(" ?\n ?", "\n", words)

    def to_json(self) -> dict:
        """Return the vocabulary as values for JSON: the arguments of the constructor."""
        return {"unit": self.unit, "symbols": list(self.symbols)}


def split_words(text: str) -> list[str]:
    """Split a text into its words. A newline is the word `<eos>`."""
    return text.replace("\n", f" {EOS} ").split()
