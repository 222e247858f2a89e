"""Code of a user's own (a cell, a module, a loss) may fail anywhere: whose it was, in which method, and on which of its lines."""

import contextlib
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(ROOT / name for name in ("rhn", "gersgorin", "analysis", "optim_study"))
PYTHONS = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
LIBRARIES = {"site-packages", "dist-packages"}
SHOWN = 10  # frames of a traceback, which an endless recursion makes a thousand of


@contextlib.contextmanager
def own_cell(name: str | None) -> Iterator[None]:
    """Within, what code of the user's own raises is bad input, told with the name it was given by and the method that raised.

    `name` is None, or that of a cell of ours, where there is none of the user's: then nothing is changed.
    """
    try:
        yield
    except USERS_FAULT as error:
        if name is None or ":" not in name or (isinstance(error, InvalidInputError) and name in str(error)):
            raise
        if isinstance(error, RhnError):
            if not isinstance(error, InvalidInputError):
                raise
            said = str(error).removeprefix(f"{name.partition(':')[2]}: ")
            raise UsersCodeError(f"{name}: {said}") from error
        frames = frames_of(error)
        if isinstance(error, OSError) and not frames:
            raise  # the machine's
        method = f" in {frames[-1].name}" if frames else ""
        raise UsersCodeError(f"{name} does not run: {type(error).__name__}{method}: {error}") from error


def users_frames(error: BaseException) -> list[str]:
    """Where code of the user's own raised what this error tells of, outermost call first, as Python's tracebacks say it."""
    if hasattr(error, "frames"):  # told by another process
        return error.frames
    frames = []
    while error is not None and not frames:
        frames, error = frames_of(error), error.__cause__
    left_out = [f"  ({len(frames) - SHOWN} more between)"] * (len(frames) > SHOWN)
    lines = [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}' for frame in frames]
    return lines if not left_out else [lines[0], *left_out, *lines[1 - SHOWN :]]


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of an error's traceback that are neither ours nor Python's nor an installed library's."""
    found = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    return [frame for frame in found if _is_users(frame.filename)]


def _is_users(file: str) -> bool:
    if file.startswith("<"):  # made by no file, as <frozen importlib._bootstrap>
        return False
    path = Path(file).resolve()
    return not (LIBRARIES & set(path.parts) or any(path.is_relative_to(folder) for folder in (*OURS, *PYTHONS)))
