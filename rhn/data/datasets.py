"""Published data sets: a record of each (addresses, checksums, counts), and their download.

To add a text, add a record to datasets.json.

Sources: Penn Treebank as Mikolov et al. (2010) prepared it and Zaremba et al. (2014) published it;
Mahoney's enwik8 and text8, split as in Graves (2013); the chorales of Boulanger-Lewandowski et al.
(2012), and the Internet Archive's copy of them.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

from platformdirs import user_data_path

from rhn.errors import DataError, InvalidInputError, first_line
from rhn.utils.io import atomic_path, set_aside, writing
from rhn.utils.progress import Advance, Progress, reported

_logger = logging.getLogger(__name__)
BLOCK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without an answer
Unit = Literal["words", "characters", "bytes"]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set."""

    files: dict[str, list[str]]
    """The SHA-256 (hex) and the addresses of each file: three splits of a text, or one file with
    the name of the set, plain or in a .zip, which is split 90 / 5 / 5 %.
    """
    counts: dict[str, int]
    """Number of pieces or tokens in each split, and of symbols in the "vocabulary"."""
    unit: Unit | None = None
    """The kind of a token; None for music."""


_RECORDS = json.loads(Path(__file__).with_name("datasets.json").read_text())
CHORALES = DataSet(**_RECORDS.pop("jsb"))
TEXT_SETS = {name: DataSet(**record) for name, record in _RECORDS.items()}


def data_set(name: str) -> DataSet:
    """Return the data set with this name. Raises InvalidInputError for an unknown name."""
    known = TEXT_SETS | {"jsb": CHORALES}
    if name not in known:
        raise InvalidInputError(f"name is {name!r}: expected {', '.join(known)}")
    return known[name]


def data_folder(name: str) -> Path:
    """Return the folder into which `get` downloads a data set, in XDG_DATA_HOME if it is set."""
    return user_data_path("rhn", appauthor=False) / name


def get(name: str, folder: Path | None = None, progress: Progress = None) -> Path:
    """Download a data set's files into a folder (None: `data_folder(name)`), and return the path
    for `--data`: the folder of a text, the file of the chorales. Complete files that exist are
    kept, other files of these names renamed; each new file is written when all of it is there.
    progress: as for `rhn.train`, of bytes.
    Raises DataError or OutputError.
    """
    found = data_set(name)
    folder = data_folder(name) if folder is None else Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for file, (sha256, *addresses) in found.files.items():
        path = folder / file
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            continue
        with reported(progress, f"{file}, bytes") as advance:
            content = _received(addresses, sha256, advance)
        if path.is_file():  # the user's own, or damaged
            _logger.warning("SHA-256 of %s differs; renamed to %s", path, set_aside(path).name)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return folder if found.unit else folder / next(iter(found.files))


def _received(addresses: list[str], sha256: str, advance: Advance) -> bytes:
    """Return a file from its first address with the right checksum."""
    failures = []
    for address in addresses:
        try:
            with urlopen(address, timeout=TIMEOUT) as answer:
                content, total = b"", answer.length
                while block := answer.read(BLOCK):
                    content += block
                    advance(len(content), total)
        except (OSError, HTTPException) as error:
            failures.append(f"{address}: {first_line(error)}")
            continue
        if (found := hashlib.sha256(content).hexdigest()) == sha256:
            return content
        failures.append(f"SHA-256 of {address} is {found}: expected {sha256}")
    raise DataError("; ".join(failures))
