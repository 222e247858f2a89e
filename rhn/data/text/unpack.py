"""A compressed text, unpacked once into the user's cache folder so that it can be memory-mapped.

The unpacked file's name carries the start of two SHA-256: of the archive, by which it is found again, and of its own
content, by which damage is noticed.
"""

import gzip
import hashlib
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from platformdirs import user_cache_path

from rhn.errors import DataError, OutputError
from rhn.utils.io import atomic_path

MAX_BYTES = 2 * 10**9  # unpacked; enwik8 and text8 have 10^8. A small archive can claim any size
BLOCK = 2**20

logger = logging.getLogger(__name__)


def unpacked(path: Path, name: str) -> Path:
    """The plain file in a .gz, or the file called `name` in a .zip.

    Raises DataError for an archive that is damaged, holds no such file, nothing or more than 2 GB; OutputError where
    the cache folder cannot be written.
    """
    folder = user_cache_path("rhn", appauthor=False)
    prefix = f"{name}-{file_digest(path)[:12]}"
    for kept in folder.glob(f"{prefix}-*"):
        if kept.name == f"{prefix}-{file_digest(kept)[:12]}":
            return kept
        logger.warning("The unpacked text is damaged and will be unpacked again: %s", kept)
    digest, size = hashlib.sha256(), 0
    for block in _blocks(path, name):  # once without writing: a damaged archive or a bomb leaves no trace
        digest.update(block)
        size += len(block)
    if size == 0:
        raise DataError(f"{path} unpacks to nothing, expected a text; fetch it again")
    target = folder / f"{prefix}-{digest.hexdigest()[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot unpack {path} into {folder} ({error.strerror}); unpack it by hand") from error
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        for block in _blocks(path, name):
            file.write(block)
    return target


def file_digest(path: Path) -> str:
    """The SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _blocks(path: Path, name: str) -> Iterator[bytes]:
    """The content of an archive, block by block; raises DataError where it is damaged or too large."""
    size = 0
    try:
        with _opened(path, name) as file:
            while block := file.read(BLOCK):
                size += len(block)
                if size > MAX_BYTES:
                    raise DataError(f"{path} unpacks to more than {MAX_BYTES} bytes; check the file")
                yield block
    except DataError:
        raise
    except Exception as error:  # whatever damage makes zipfile, zlib, bz2 and lzma raise, the answer is the same
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} is damaged or not a {path.suffix} file ({reason}); fetch it again") from error


def _opened(path: Path, name: str) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path)
    with zipfile.ZipFile(path) as archive:  # which stays open as long as its member
        if name not in archive.namelist():
            held = ", ".join(archive.namelist()[:5]) or "nothing"
            raise DataError(
                f"{path} holds no file {name}, but {held}; expected the archive that {name} is published in"
            )
        return archive.open(name)
