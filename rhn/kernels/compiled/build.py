"""Compile `kernels.c` once a machine with its own C compiler, and load it from the user's cache folder.

The file's name carries a hash of the sources, the flags, and what the compiler says of itself and of this CPU, so that nothing stale is
ever loaded. A new library is tried in a process of its own before it is kept, see `cache`. Where it cannot be kept, as in a home
that is read only, each process compiles for itself. Where nothing can be compiled the kernels in Python are used.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from platformdirs import user_cache_path

from rhn.kernels.compiled.cache import keep, load_kept, private_folder, remove_abandoned, temporary_folder

SWITCH = "RHN_COMPILED"
_SOURCES = Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")
# loads a library that may end the process, and looks up its functions
_TRIAL = "import ctypes, os, sys; [getattr(ctypes.CDLL(sys.argv[1]), name) for name in sys.argv[2:]]; os._exit(0)"

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
    """The cached library, or a new one. A cached library that lacks one of our functions is compiled again."""
    name, path = f"kernels-{_key(compiler)}.so", user_cache_path("rhn", appauthor=False) / "compiled"
    try:
        with private_folder(path) as folder:
            kept = load_kept(folder, name)
            if kept is None or not all(hasattr(kept, function) for function in _functions()):
                remove_abandoned(folder)
                with _compiled(compiler, path) as file:
                    keep(folder, name, file.read_bytes())
                kept = load_kept(folder, name)
        if kept is not None:
            return kept
        reason = f"{name} changed as it was written"
    except (OSError, CompileError) as error:
        reason = error
    try:
        with _compiled(compiler) as file:
            loaded = ctypes.CDLL(str(file))
    except OSError as error:
        raise CompileError(f"there is no place for compiled code ({error})") from error
    _logger.warning("Compiled code cannot be kept in %s (%s): every process compiles its own", path, reason)
    return loaded


def _key(compiler: str) -> str:
    """Of all that decides what is compiled. The macros a compiler sets say which it is and what `native` means here."""
    macros = _run(compiler, *_FLAGS, "-dM", "-E", "-x", "c", os.devnull)
    sources = sorted([*_SOURCES.glob("*.c"), *_SOURCES.glob("*.h")])
    parts = [macros, " ".join(_FLAGS).encode(), *(path.read_bytes() for path in sources)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _functions() -> list[str]:
    """The names of the functions in the sources."""
    sources = "".join(path.read_text() for path in _SOURCES.glob("*.[ch]"))
    return re.findall(r"^int (rhn_\w+)\(", sources, re.MULTILINE)


@contextlib.contextmanager
def _compiled(compiler: str, parent: Path | None = None) -> Iterator[Path]:
    """A new library, in a temporary folder within `parent`.

    Another process loads it first: what a compiler leaves where the disk is full kills the process that loads it.
    """
    with temporary_folder(parent) as folder:
        path = folder / "kernels.so"
        _run(compiler, *_FLAGS, str(_SOURCES / "kernels.c"), "-o", str(path))
        try:
            _run(sys.executable, "-I", "-S", "-c", _TRIAL, str(path), *_functions())
        except CompileError as error:
            raise CompileError(f"{compiler} made a library that cannot be used: {error}") from error
        yield path


def _run(compiler: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run([compiler, *arguments], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{compiler} cannot be run ({error})") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CompileError(f"{compiler} failed: {last}")
    return done.stdout
