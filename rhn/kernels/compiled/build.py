"""The shared library of `kernels.c`: compiled once a machine by its own C compiler, kept in the user's cache folder.

The file's name carries a hash of the sources, the flags, and what the compiler says of itself and of this CPU, so that nothing stale is
ever loaded. A compiled file ends in the SHA-256 of what is before it; what does not match is compiled again. It is written as a whole
(temporary file, rename), so two processes at once leave one whole file. The folder belongs to the user alone: where it cannot, as in a
home that is read only, each process compiles for itself. Where nothing can be compiled the kernels in Python are used.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from rhn.errors import OutputError
from rhn.files import atomic_path

SWITCH = "RHN_COMPILED"
_SOURCES = Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")
_DIGEST = hashlib.sha256().digest_size

_logger = logging.getLogger(__name__)


class CompileError(Exception):
    """Why there is no compiled library, in words."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library; None, and why in one line of the log, where there is none. RHN_COMPILED=0 in the environment does without."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        return _load(_compiler())
    except CompileError as error:
        _logger.info("The recurrences run without compiled code: %s", error)
        return None


def missing() -> str:
    """Why there is no library, in words."""
    off = os.environ.get(SWITCH) == "0"
    return (
        f"turned off by {SWITCH}=0"
        if off
        else "it needs a C compiler (cc, gcc or clang) that makes code for this machine"
    )


def _compiler() -> str:
    if sys.platform not in ("linux", "darwin"):
        raise CompileError(f"there is none for {sys.platform}")
    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        if found := shutil.which(name):
            return found
    raise CompileError("no C compiler was found (cc, gcc or clang)")


def _load(compiler: str) -> ctypes.CDLL:
    name = f"kernels-{_key(compiler)}.so"
    folder = user_cache_path("rhn", appauthor=False) / "compiled"
    try:
        if _is_private(folder):
            return _whole(folder / name) or _build(compiler, folder / name)
    except (OSError, OutputError) as error:
        _logger.debug("cannot keep compiled code in %s: %s", folder, error)
    try:
        with tempfile.TemporaryDirectory(prefix="rhn-") as temporary:
            return _build(compiler, Path(temporary, name))
    except (OSError, OutputError) as error:
        raise CompileError(f"it cannot be kept ({error})") from error


def _key(compiler: str) -> str:
    """Of all that decides what is compiled. The macros a compiler sets say which it is and what `native` means here."""
    macros = _run(compiler, *_FLAGS, "-dM", "-E", "-x", "c", os.devnull)
    sources = sorted([*_SOURCES.glob("*.c"), *_SOURCES.glob("*.h")])
    parts = [macros, " ".join(_FLAGS).encode(), *(path.read_bytes() for path in sources)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _is_private(folder: Path) -> bool:
    """Make the folder; whether it is ours, and nobody else can write to it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _whole(path: Path) -> ctypes.CDLL | None:
    """The library at this path; None where there is none, or where it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _build(compiler: str, path: Path) -> ctypes.CDLL:
    with atomic_path(path) as temporary:
        _run(compiler, *_FLAGS, str(_SOURCES / "kernels.c"), "-o", str(temporary))
        with temporary.open("ab") as file:
            file.write(hashlib.sha256(temporary.read_bytes()).digest())
    return ctypes.CDLL(str(path))


def _run(compiler: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run([compiler, *arguments], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{compiler} cannot be run ({error})") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CompileError(f"{compiler} failed: {last}")
    return done.stdout
