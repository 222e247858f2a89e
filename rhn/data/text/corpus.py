"""A text as training reads it: three splits of tokens, and their vocabulary.

Shape legend: N tokens of a split, B rows of a minibatch, V symbols of the vocabulary.
"""

from dataclasses import dataclass

import numpy as np

from rhn.data.text.vocabulary import Vocabulary
from rhn.errors import DataError, InvalidInputError


@dataclass(frozen=True, eq=False)
class Tokens:
    """A split: codes as they were read, and the ids that they stand for.

    raw:    codes of any shape, (N,) for a split; may be a memory map of a file, which is never copied as a whole
    table:  ids by code, int64; None where `raw` holds ids

    Indexing is NumPy's and gives int64 ids; only what is asked for is mapped.

    >>> tokens = Tokens(np.frombuffer(b"abcabc", np.uint8), table=np.arange(256) - ord("a"))
    >>> tokens[1:4]
    array([1, 2, 0])
    >>> tokens.rows(2)[:, 0:2]
    array([[0, 1],
           [0, 1]])
    """

    raw: np.ndarray
    table: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the codes, and of all ids."""
        return self.raw.shape

    def __getitem__(self, index) -> np.ndarray:
        codes = np.asarray(self.raw[index])
        return codes.astype(np.int64) if self.table is None else self.table[codes]

    def head(self, count: int | None) -> "Tokens":
        """The first so many codes (None: all), a view."""
        return Tokens(self.raw[:count], self.table)

    def rows(self, batch_size: int) -> "Tokens":
        """The text cut into `batch_size` equal rows, a view (B, N // B); what is left over is dropped, as in the official code.

        Raises DataError for a text of fewer than 2 tokens a row: one to read and one to predict.
        """
        if batch_size < 1:
            raise InvalidInputError(f"a batch size of {batch_size}, expected at least 1")
        columns = len(self) // batch_size
        if columns < 2:
            raise DataError(
                f"{len(self)} tokens do not make {batch_size} rows of at least 2 tokens; "
                f"take a longer text or a batch size of at most {len(self) // 2}"
            )
        return Tokens(self.raw[: batch_size * columns].reshape(batch_size, columns), self.table)


@dataclass(frozen=True, eq=False)
class TextCorpus:
    """A text in three splits.

    name:      "ptb", "enwik8", "text8" or "text"
    source:    what was read, and from where
    checksum:  SHA-256 (hex) of the files' content, the vocabulary and the length; the same wherever the files lie
    """

    train: Tokens
    valid: Tokens
    test: Tokens
    vocabulary: Vocabulary
    name: str
    source: str
    checksum: str
