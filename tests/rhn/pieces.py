"""The shortest chorales: small trainings on real music."""

from rhn.data import Corpus, chorales


def shortest_chorales(train: int, valid: int = 4, test: int = 3, *, skip: int = 0) -> Corpus:
    """So many of the shortest rebuilt chorales of each split, without the first few to train on."""
    whole = chorales()
    splits = (sorted(pieces, key=len) for pieces in (whole.train, whole.valid, whole.test))
    pieces = [
        split[first:end]
        for split, first, end in zip(splits, (skip, 0, 0), (train, valid, test), strict=True)
    ]
    return Corpus(*pieces, source="the shortest chorales")
