"""Fetching published data sets from where `rhn.data.sets` says, verified."""

import contextlib
import hashlib
import logging
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from platformdirs import user_data_path

from rhn.data.sets import PublishedFile, TextSet, data_set
from rhn.errors import DataError, OutputError
from rhn.utils.io import atomic_path, writing

BLOCK = 2**16
PATIENCE = 30  # seconds without an answer
LONGEST = 3600  # seconds of an answer that comes in drops

logger = logging.getLogger(__name__)

Progress = Callable[[str], Callable[[int, int], None]]


def data_folder(name: str) -> Path:
    """Where `get` puts a data set; honours XDG_DATA_HOME."""
    return user_data_path("rhn", appauthor=False) / name


def get(name: str, folder: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Fetch a data set's files into a folder (None: `data_folder(name)`), and return what `--data` takes.

    That is the folder of a text, and the file of the chorales. Files that are there and whole are kept.
    progress: report(title) -> callback(bytes done, bytes in all), as in `rhn.cli.common.progress_bars`.
    Raises DataError where no address answers or the checksum is another (nothing is left behind), OutputError where
    the folder cannot be written, InvalidInputError for an unknown name.
    """
    found = data_set(name)
    folder = data_folder(name) if folder is None else Path(folder)
    with _folder(folder):
        files = [_get_file(file, folder / file.name, progress) for file in found.files]
    return folder if isinstance(found, TextSet) else files[0]


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder where it is missing, and remove it again where an error leaves it empty."""
    if folder.is_file():
        raise OutputError(f"cannot write {folder}: it is a file, expected a folder")
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # up to the first that is not empty
            for place in missing:
                place.rmdir()
        raise


def _get_file(file: PublishedFile, path: Path, progress: Progress | None) -> Path:
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


def _download(address: str, file: PublishedFile, path: Path, progress: Progress | None) -> None:
    show, done, total = progress(file.name) if progress else lambda done, total: None, 0, 0
    with atomic_path(path) as temporary, temporary.open("wb") as target:
        for block, total in _blocks(address, file.most):
            target.write(block)
            done += len(block)
            show(done, max(done, total))
        if not done:
            raise DataError(f"{address} answered without a file: its answer is empty")
        if done < total:
            raise DataError(f"{address} ended after {done} of {total} bytes")
        target.flush()
        found = _checksum(temporary, file)
        if found != file.checksum:
            raise DataError(f"{address} gave a file with checksum {found}, expected {file.checksum}")


def _blocks(address: str, most: int) -> Iterator[tuple[bytes, int]]:
    """What an address answers, block by block, each with the length of the whole (0: not told).

    Raises DataError, also for an answer of more than `most` bytes or one that takes longer than `LONGEST`.
    """
    done, end = 0, time.monotonic() + LONGEST
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "rhn-toolkit"})
        with urllib.request.build_opener(_OnlyWeb).open(request, timeout=PATIENCE) as answer:
            told = answer.headers.get("Content-Length", "").strip()
            total = int(told) if re.fullmatch("[0-9]{1,18}", told) else 0
            while block := answer.read1(BLOCK):
                done += len(block)
                if max(done, total) > most:
                    raise ValueError(f"it gives more than {most} bytes, which this file has not")
                if time.monotonic() > end:
                    raise TimeoutError(f"it took longer than {LONGEST} seconds")
                yield block, total
    except Exception as error:  # whatever a server that is not what it should be makes urllib raise
        reason = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split())) or type(error).__name__
        raise DataError(f"{address} cannot be fetched ({reason:.200})") from error


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith(("http://", "https://")):
            raise ValueError(f"it sends on to {newurl:.80}, expected http or https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _checksum(path: Path, file: PublishedFile) -> str:
    algorithm = file.checksum.partition(":")[0]
    with path.open("rb") as content:
        return f"{algorithm}:{hashlib.file_digest(content, algorithm).hexdigest()}"
