"""How much the well-known data sets should count, and how much is found.

Texts: tokens of each split and symbols of the vocabulary (Mikolov et al. 2010; Graves 2013). Chorales: pieces of each
split (Boulanger-Lewandowski et al. 2012).
"""

from typing import NamedTuple

from rhn.data.corpus import SPLITS, Corpus
from rhn.data.text.corpus import TextCorpus

TOKENS = {
    "ptb": {"train": 929_589, "valid": 73_760, "test": 82_430, "vocabulary": 10_000},
    "enwik8": {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000, "vocabulary": 205},
    "text8": {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000, "vocabulary": 27},
}
CHORALES = {"train": 229, "valid": 76, "test": 77}


class Row(NamedTuple):
    """One count: what is counted, how many are found and published (None: nobody published it), and whether they agree."""

    what: str
    found: int
    published: int | None
    same: bool


def check(corpus: TextCorpus | Corpus) -> list[Row]:
    """The counts of a corpus beside the published ones: a row for each split, and for a text's vocabulary.

    A text of one's own has nothing published, and agrees with it.
    """
    found = {split: len(getattr(corpus, split)) for split in SPLITS}
    if isinstance(corpus, Corpus):
        published = CHORALES
    else:
        found["vocabulary"] = len(corpus.vocabulary)
        published = TOKENS.get(corpus.name, {})
    return [Row(what, count, published.get(what), published.get(what, count) == count) for what, count in found.items()]
