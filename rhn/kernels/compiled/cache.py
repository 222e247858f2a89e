"""Keep compiled code in a folder that nobody else can change, and load only what was written there as a whole.

A library is code, so whoever can replace it or a folder above it runs code as its user. Every folder from the root down is opened one
after the other, without following links, and must belong to this user or to root and be closed to other writers; a folder with the
sticky bit, such as /tmp, is safe for what lies in it, because nobody may rename another user's entry. A kept file ends in the SHA-256
of what is before it, and is loaded from the descriptor that was checked, not from its path.
"""

import contextlib
import ctypes
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LARGEST = 2**26  # bytes of a library; ours have about 2**17
ABANDONED = 3600.0  # seconds after which a temporary file belongs to a process that was killed
_DIGEST = hashlib.sha256().digest_size
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_TEMPORARY = re.compile(r"rhn-compile-\w{8}|\..+\.rhn-partial-[0-9a-f]{8}(\.so)?")
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


@contextlib.contextmanager
def private_folder(path: Path) -> Iterator[int]:
    """The descriptor of a folder that only this user can change; missing folders are made.

    Raises OSError, naming the folder, where one of them cannot be made or opened, or can be changed by another user.
    """
    resolved = Path(os.path.realpath(path))
    descriptor = os.open(resolved.anchor, _FOLDER)
    try:
        for place in (*reversed(resolved.parents[:-1]), resolved):
            _check_folder(descriptor, place.parent, sticky=True)
            inner = _opened(place, descriptor)
            os.close(descriptor)
            descriptor = inner
        _check_folder(descriptor, resolved, sticky=False)
        yield descriptor
    finally:
        os.close(descriptor)


def load_kept(folder: int, name: str) -> ctypes.CDLL | None:
    """The library of this name in a private folder; None where there is none, or none that was written there as a whole by its user."""
    try:
        # a FIFO would wait for its other end
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        owned = status.st_uid == os.geteuid() and not status.st_mode & _OTHERS
        if not (stat.S_ISREG(status.st_mode) and owned and status.st_size <= LARGEST):
            return None
        content = file.read(LARGEST + 1)
        if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
            return None
        with contextlib.suppress(OSError):
            return _loaded(descriptor, content)
    return None


def keep(folder: int, name: str, library: bytes) -> None:
    """Write a library into a private folder, as a whole or not at all; raises OSError."""
    temporary = f".{Path(name).stem}.rhn-partial-{secrets.token_hex(4)}.so"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(library + hashlib.sha256(library).digest())
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for this process only, removed in the end; by default in the temporary folder of the system."""
    if parent is None:
        parent = tempfile.gettempdir()
        with contextlib.suppress(OSError):
            remove_abandoned(parent)
    with tempfile.TemporaryDirectory(prefix="rhn-compile-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_abandoned(folder: int | str) -> None:
    """Remove what processes that were killed an hour ago or more left in a folder: their temporary files and folders."""
    before = time.time() - ABANDONED
    place = folder if isinstance(folder, int) else os.open(folder, _FOLDER)
    try:
        for name in filter(_TEMPORARY.fullmatch, _names(place)):
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=place, follow_symlinks=False)
                if status.st_uid != os.geteuid() or status.st_mtime > before:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    shutil.rmtree(name, dir_fd=place)
                else:
                    os.unlink(name, dir_fd=place)
    finally:
        if place is not folder:
            os.close(place)


def _names(folder: int) -> list[str]:
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        with os.scandir(readable) as entries:
            return [entry.name for entry in entries]
    finally:
        os.close(readable)


def _opened(place: Path, parent: int) -> int:
    """The descriptor of a folder in another, made where it is missing."""
    try:
        try:
            return os.open(place.name, _FOLDER, dir_fd=parent)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another process came first
                os.mkdir(place.name, 0o700, dir_fd=parent)
            return os.open(place.name, _FOLDER, dir_fd=parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from error


def _check_folder(descriptor: int, place: Path, *, sticky: bool) -> None:
    """Raise PermissionError unless nobody but this user and root can change what lies in a folder.

    sticky: whether a folder that is open to all is safe where it has the sticky bit.
    """
    status = os.fstat(descriptor)
    owners = {0, os.geteuid()} if sticky else {os.geteuid()}
    if status.st_uid not in owners:
        raise PermissionError(f"{place} belongs to another user")
    if status.st_mode & _OTHERS and not (sticky and status.st_mode & stat.S_ISVTX):
        raise PermissionError(f"other users can write to {place}")


def _loaded(descriptor: int, content: bytes) -> ctypes.CDLL:
    """The library in an open file. A copy of the descriptor stays open: the loader knows a library by its path, which is the number."""
    if sys.platform == "linux" and Path("/proc/self/fd").is_dir():
        return ctypes.CDLL(f"/proc/self/fd/{os.dup(descriptor)}")
    with temporary_folder() as folder:
        path = folder / "kernels.so"
        path.write_bytes(content)
        return ctypes.CDLL(str(path))
