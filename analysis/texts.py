"""The texts that a language model is looked at on: stretches of tokens that know where they begin and what their tokens are called.

A stretch is read from a state of zeros, as if nothing came before it.

Legend: N tokens of a text, T of a stretch, V symbols of the vocabulary.
"""

from collections.abc import Sequence

import numpy as np

from analysis.sequences import listed
from rhn.data.text import Tokens, Vocabulary
from rhn.errors import InvalidInputError


class Excerpt(np.ndarray):
    """A stretch of a text: ids (T,) int64 with a name and their vocabulary; slices are excerpts again.

    >>> Excerpt([0, 2, 1], name="valid-7", vocabulary=Vocabulary("words", ("the", "<eos>", "cat")))[1:].symbols
    ['cat', '<eos>']
    """

    def __new__(cls, ids, *, name: str, vocabulary: Vocabulary):
        excerpt = np.array(ids, dtype=np.int64).view(cls)
        excerpt.name, excerpt.vocabulary = name, vocabulary
        return excerpt

    def __array_finalize__(self, source):
        for attribute in ("name", "vocabulary"):
            setattr(self, attribute, getattr(source, attribute, None))

    @property
    def symbols(self) -> list[str]:
        """Words, characters, or bytes: as a character where it is one of ASCII, else in hexadecimal."""
        return [_readable(self.vocabulary.symbols[i]) for i in self.tolist()]


def excerpts(
    tokens: Tokens,
    vocabulary: Vocabulary,
    *,
    length: int,
    split: str = "text",
    starts: Sequence[int] = (),
    count: int = 4,
) -> list[Excerpt]:
    """Excerpts of `length` tokens called by their first token's number in the split, "valid-0"; shorter at the text's end.

    starts: where they begin, counted from 0; by default `count` of them, the first at 0, the others evenly spread over the text.
    Raises InvalidInputError for a start outside the text.
    """
    N = len(tokens)
    if not starts:
        count = max(1, min(count, N // length))
        starts = [N * k // count for k in range(count)]
    outside = [start for start in starts if not 0 <= start < N]
    if outside:
        raise InvalidInputError(f"there is no token {outside[0]} in the split {split!r}: expected 0 to {N - 1}")
    return [Excerpt(tokens[s : s + length], name=f"{split}-{s}", vocabulary=vocabulary) for s in starts]


def stretches(tokens: Tokens, *, length: int, max_tokens: int) -> list[np.ndarray]:
    """The beginning of a text, up to `max_tokens` predicted tokens, cut so that each stretch predicts `length` of them.

    The last token of one is the first of the next, so that no token but the text's first goes unpredicted.

    >>> [part.tolist() for part in stretches(Tokens(np.arange(9)), length=3, max_tokens=7)]
    [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7]]
    """
    last = min(len(tokens) - 1, max_tokens)
    return [tokens[start : min(start + length, last) + 1] for start in range(0, last, length)]


def ids_of(data: Sequence[np.ndarray] | np.ndarray, V: int) -> list[np.ndarray]:
    """A list of arrays of ids (T,) or one such array, as a list of arrays; excerpts stay excerpts.

    Raises InvalidInputError for other shapes, no sequences, or numbers that are no ids of V symbols.
    """
    arrays = listed(data, 1)
    for i, array in enumerate(arrays):
        if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "ui":
            raise InvalidInputError(
                f"sequence {i} is {array.dtype} of shape {array.shape}: expected ids of tokens, whole numbers (T,), T >= 1"
            )
        if not 0 <= array.min() <= array.max() < V:
            raise InvalidInputError(f"sequence {i} has ids {array.min()} to {array.max()}, expected 0 to {V - 1}")
    return [array.astype(np.int64, copy=False) for array in arrays]


def symbols_of(sequence: np.ndarray) -> np.ndarray:
    """What the tokens of a sequence are called, (T,): words, characters, bytes; ids where no vocabulary is known."""
    known = isinstance(sequence, Excerpt) and sequence.vocabulary is not None
    return np.array(sequence.symbols if known else [str(i) for i in sequence.tolist()])


def _readable(symbol: str | int) -> str:
    if isinstance(symbol, str):
        return symbol
    return chr(symbol) if 32 <= symbol < 127 or symbol == 10 else f"{symbol:02x}"
