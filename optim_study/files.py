"""The output folder: one clear sentence when it cannot be written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rhn.errors import OutputError


@contextmanager
def clear_write_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals (full disk, no permission) into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; mend that and run the same command again, "
            "everything saved so far is kept"
        ) from error


def make_folder(folder: Path) -> Path:
    """The folder, made with its parents where it was missing.

    Raises:
        OutputError: it cannot be made.
    """
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
