"""Cut sequences out of a text: excerpts at equal distances, or its beginning."""

import numpy as np

from gersgorin import checks
from rhn.data.vocabulary import Vocabulary
from rhn.utils.validation import whole_number


class Excerpt(np.ndarray):
    """An excerpt of a text: an array of ids (T,) int64 with a name and a vocabulary. A slice of an
    excerpt is an excerpt.

    >>> words = Vocabulary("words", ("the", "<eos>", "cat"))
    >>> Excerpt([0, 2, 1], name="valid-7", vocabulary=words)[1:].symbols
    ['cat', '<eos>']
    """

    name: str
    vocabulary: Vocabulary

    def __new__(cls, ids, *, name: str, vocabulary: Vocabulary):
        excerpt = np.array(ids, dtype=np.int64).view(cls)
        excerpt.name, excerpt.vocabulary = name, vocabulary
        return excerpt

    def __array_finalize__(self, source):
        for attribute in ("name", "vocabulary"):
            setattr(self, attribute, getattr(source, attribute, None))

    @property
    def symbols(self) -> list[str]:
        """The tokens as words, characters or bytes (ASCII or a hexadecimal number)."""
        return [_readable(self.vocabulary.symbols[i]) for i in self.tolist()]


def _readable(symbol: str | int) -> str:
    if isinstance(symbol, str):
        return symbol
    return chr(symbol) if 32 <= symbol < 127 or symbol == 10 else f"{symbol:02x}"


def excerpts(
    tokens: np.ndarray, vocabulary: Vocabulary, *, length: int, split: str = "text", count: int = 4
) -> list[Excerpt]:
    """Cut at most `count` excerpts of `length` tokens from a text. The excerpts are spread evenly,
    and the first one begins at the first token. The name of an excerpt has the split and the index
    of its first token, such as "valid-0".

    >>> words = Vocabulary("words", ("the", "<eos>", "cat"))
    >>> cut = excerpts(np.array([0, 2, 1, 0, 2, 1]), words, length=2, count=2)
    >>> [(part.name, part.tolist()) for part in cut]
    [('text-0', [0, 2]), ('text-3', [0, 2])]
    """
    tokens, length = _ids(tokens), whole_number("length", length)
    N, count = len(tokens), whole_number("count", count)
    count = max(1, min(count, N // length))
    starts = [N * k // count for k in range(count)]
    return [
        Excerpt(tokens[s : s + length], name=f"{split}-{s}", vocabulary=vocabulary) for s in starts
    ]


def stretches(
    tokens: np.ndarray, *, length: int = 200, max_tokens: int = 20_000
) -> list[np.ndarray]:
    """Cut the beginning of a text into stretches, in each of which `length` tokens are predicted.
    In all stretches together, `max_tokens` tokens are predicted.

    The last token of a stretch is the first token of the next one, so that every token but the
    first of the text is predicted once.

    >>> [part.tolist() for part in stretches(np.arange(9), length=3, max_tokens=7)]
    [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7]]
    """
    tokens, length = _ids(tokens), whole_number("length", length)
    last = min(len(tokens) - 1, whole_number("max_tokens", max_tokens))
    ids = tokens[: last + 1].astype(np.int64)
    return [ids[start : start + length + 1] for start in range(0, last, length)]


def _ids(tokens: np.ndarray) -> np.ndarray:
    array = np.asarray(tokens)
    good, given = array.ndim == 1 and array.dtype.kind in "iu", f"{array.dtype} {array.shape}"
    checks.require(good, "tokens", given, "ids of tokens (T,), whole numbers")
    return array
