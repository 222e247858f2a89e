"""Report errors in a user's code (a cell, a module, a loss) with its name, method and line."""

import contextlib
import functools
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
LIBRARIES = {"site-packages", "dist-packages"}
SHOWN = 10  # frames of a traceback; an endless recursion has a thousand


@contextlib.contextmanager
def own_cell(name: str | None) -> Iterator[None]:
    """Turn what a user's code raises into a UsersCodeError with the name of the cell and the method.

    name: package.module:factory. Nothing changes for None and for the name of one of our cells.
    """
    try:
        yield
    except USERS_FAULT as error:
        if name is None or ":" not in name or (isinstance(error, InvalidInputError) and name in str(error)):
            raise
        if isinstance(error, RhnError):
            if not isinstance(error, InvalidInputError):
                raise
            message = str(error).removeprefix(f"{name.partition(':')[2]}: ")
            raise UsersCodeError(f"{name}: {message}") from error
        frames = frames_of(error)
        if isinstance(error, OSError) and not frames:
            raise  # an error of the machine
        method = f" in {frames[-1].name}" if frames else ""
        raise UsersCodeError(f"{name} does not run: {type(error).__name__}{method}: {error}") from error


def users_frames(error: BaseException) -> list[str]:
    """The lines of a traceback that belong to the user's code, outermost call first."""
    if hasattr(error, "frames"):  # sent by another process
        return error.frames
    frames = []
    while error is not None and not frames:
        frames, error = frames_of(error), error.__cause__
    left_out = [f"  ({len(frames) - SHOWN} more between)"] * (len(frames) > SHOWN)
    lines = [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}' for frame in frames]
    return lines if not left_out else [lines[0], *left_out, *lines[1 - SHOWN :]]


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of a traceback outside our packages, Python and installed libraries."""
    found = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    return [frame for frame in found if _is_users(frame.filename)]


@functools.cache
def _ours() -> tuple[Path, ...]:
    """The folders of the packages that are installed beside this one; in site-packages all are libraries anyway."""
    return tuple(marker.parent for marker in ROOT.glob("*/py.typed"))


def _is_users(file: str) -> bool:
    if file.startswith("<"):  # without a file, as <frozen importlib._bootstrap>
        return False
    path = Path(file).resolve()
    return not (LIBRARIES & set(path.parts) or any(path.is_relative_to(folder) for folder in (*_ours(), *PYTHONS)))
