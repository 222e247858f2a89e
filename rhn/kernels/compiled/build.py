"""Compile `kernels.c` with the machine's own C compiler, once for each user, and load it.

The name of the library carries a hash of the sources, the flags, and what the compiler says of itself and of this CPU: a stale one is
never loaded. It is kept in a folder of the user's cache that is closed to others. Without such a folder each process compiles its own;
without a compiler the kernels in Python are used.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from rhn.kernels.compiled.signatures import declarations

SWITCH = "RHN_COMPILED"
_SOURCES = Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")

_logger = logging.getLogger(__name__)


class CompileError(Exception):
    """Why there is no compiled library, in words."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library; None without one, with the reason in the log. RHN_COMPILED=0 in the environment turns it off."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        return _load(_compiler())
    except (OSError, CompileError) as error:
        _logger.info("The recurrences run without compiled code: %s", error)
        return None


def missing() -> str | None:
    """Why there is no library, in words; None if there is one."""
    if library() is not None:
        return None
    if os.environ.get(SWITCH) == "0":
        return f"turned off by {SWITCH}=0"
    return "it needs a C compiler (cc, gcc or clang) that makes code for this machine"


def _compiler() -> str:
    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        if found := shutil.which(name):
            return found
    raise CompileError("no C compiler was found (cc, gcc or clang)")


def _load(compiler: str) -> ctypes.CDLL:
    """The library kept for this user, or a new one if there is none that can be loaded."""
    path = user_cache_path("rhn", appauthor=False) / "compiled"
    with contextlib.ExitStack() as stack:
        try:
            folder = _private_folder(path)
        except OSError as error:
            _logger.warning("Compiled code cannot be kept in %s (%s): every process compiles its own", path, error)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rhn-compile-")))
        kept = folder / f"kernels-{_hash(compiler)}.so"
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(kept))
        with tempfile.TemporaryDirectory(dir=folder) as room:
            new = Path(room) / "kernels.so"
            program = declarations() + '#include "kernels.c"\n'
            _run(compiler, *_FLAGS, "-I", str(_SOURCES), "-x", "c", "-", "-o", str(new), program=program.encode())
            new.replace(kept)
        return ctypes.CDLL(str(kept))


def _private_folder(path: Path) -> Path:
    """The folder, made if it is missing; raises OSError unless only this user can enter and change it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(f"{path} is open to other users")
    return path


def _hash(compiler: str) -> str:
    """Of all that decides what is compiled. The macros of a compiler say which it is, and what `native` means here."""
    macros = _run(compiler, *_FLAGS, "-dM", "-E", "-x", "c", os.devnull)
    sources = [path.read_bytes() for path in sorted(_SOURCES.glob("*.[ch]"))]
    return hashlib.sha256(b"\0".join([macros, repr(_FLAGS).encode(), declarations().encode(), *sources])).hexdigest()[
        :16
    ]


def _run(compiler: str, *arguments: str, program: bytes = b"") -> bytes:
    try:
        done = subprocess.run([compiler, *arguments], input=program, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"{compiler} cannot be run ({error})") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CompileError(f"{compiler} failed: {last}")
    return done.stdout
