"""From codes to ids: the vocabulary that a text makes, or the one that a checkpoint brings.

Words are numbered by descending frequency in the training text (ties in alphabetical order), characters and bytes by
their code over the whole text.
"""

import numpy as np

from rhn.data.text.codes import Codes
from rhn.data.text.vocabulary import EOS, UNKNOWN, Unit, Vocabulary
from rhn.errors import DataError


def build_vocabulary(codes: Codes, counts: np.ndarray, unit: Unit, size: int | None = None) -> Vocabulary:
    """The vocabulary of a text.

    counts: (3, number of codes), how often each occurs in the training, validation and test text
    size:   keep only so many words, the most frequent and always `<unk>` and `<eos>`; None, all of the training text
    `<unk>` is added, as the last word, where the text has none and a word needs it.
    """
    if unit != "words":
        return Vocabulary(unit, tuple(codes.symbol(code) for code in np.flatnonzero(counts.sum(axis=0)).tolist()))
    train = counts[0].tolist()
    seen = [(-n, codes.symbol(code)) for code, n in enumerate(train) if n]
    words = [word for _, word in sorted(seen)]
    outside = bool((counts[0] == 0).any()) or (size is not None and len(words) > size)
    if outside and UNKNOWN not in words:
        words.append(UNKNOWN)
    return Vocabulary(unit, tuple(words if size is None else _most_frequent(words, size)))


def _most_frequent(words: list[str], size: int) -> list[str]:
    always = {UNKNOWN, EOS}.intersection(words)
    others = [word for word in words if word not in always][: max(size - len(always), 0)]
    kept = always.union(others)
    return [word for word in words if word in kept]


def require_equal(built: Vocabulary, expected: Vocabulary) -> None:
    """Raises DataError, with the first difference, where a text does not make a checkpoint's vocabulary."""
    if built == expected:
        return
    found = f"{len(built)} {built.unit}"
    if (built.unit, len(built)) == (expected.unit, len(expected)):
        pairs = zip(built.symbols, expected.symbols, strict=True)
        id_, (symbol, wanted) = next((id_, pair) for id_, pair in enumerate(pairs) if pair[0] != pair[1])
        raise DataError(
            f"the vocabulary does not match the checkpoint: symbol {id_} of the {built.unit} is {symbol!r}, "
            f"expected {wanted!r}; give the text that the checkpoint was trained on"
        )
    raise DataError(
        f"the vocabulary does not match the checkpoint: the text makes {found}, expected {len(expected)} "
        f"{expected.unit}; give the text that the checkpoint was trained on"
    )


def id_table(codes: Codes, counts: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Ids by code, (number of codes,) int64; a word outside the vocabulary has the id of `<unk>`.

    Raises DataError for a symbol outside a vocabulary without `<unk>`, with its first place.
    """
    table = np.full(codes.size, -1, np.int64)
    used = np.flatnonzero(counts.sum(axis=0))
    unknown = -1 if vocabulary.unknown is None else vocabulary.unknown
    table[used] = [vocabulary.index.get(codes.symbol(code), unknown) for code in used.tolist()]
    if (table[used] < 0).any():
        place, code = codes.first(used[table[used] < 0])
        raise DataError(
            f"the text has {codes.symbol(code)!r:.60} as number {place} of its {vocabulary.unit}, which is not in the "
            f"vocabulary of {len(vocabulary)} {vocabulary.unit} and has no `<unk>` to stand for it; take it out"
        )
    return table
