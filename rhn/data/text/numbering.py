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
    seen = sorted((-n, codes.symbol(code)) for code, n in enumerate(counts[0].tolist()) if n)
    words = [word for _, word in seen]
    if UNKNOWN not in words and (len(words) < codes.size or (size is not None and len(words) > size)):
        words.append(UNKNOWN)
    kept = set(sorted(words, key=lambda word: word not in (UNKNOWN, EOS))[:size])  # a stable sort: by frequency
    return Vocabulary(unit, tuple(word for word in words if word in kept))


def require_equal(built: Vocabulary, expected: Vocabulary) -> None:
    """Raises DataError, with the first difference, where a text does not make a checkpoint's vocabulary."""
    if built == expected:
        return
    found, wanted = f"makes a vocabulary of {len(built)} {built.unit}", f"{len(expected)} {expected.unit}"
    if (built.unit, len(built)) == (expected.unit, len(expected)):
        id_ = next(i for i, symbol in enumerate(built.symbols) if symbol != expected.symbols[i])
        found, wanted = f"has {built.symbols[id_]!r} as symbol {id_} of its {built.unit}", repr(expected.symbols[id_])
    raise DataError(
        f"the text is not the one that the checkpoint was trained on: it {found}, expected {wanted}; give the files "
        "that the checkpoint was trained on"
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
            f"{codes.symbol(code)!r:.60}, number {place} of the text's {vocabulary.unit}, is not in the vocabulary of "
            f"{len(vocabulary)} {vocabulary.unit}, which has no `<unk>` to stand for it; take it out or give another text"
        )
    return table
