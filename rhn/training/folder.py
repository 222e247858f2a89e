"""A training's folder: held by one process, sworn to one configuration, with a file of one line an epoch."""

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rhn.command import finite_json
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.files import atomic_path


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made where it was missing, for this process alone; what killed ones left half written is removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another process is training in {folder}: wait for it, or give another --out") from None
        for left in folder.glob(".*.*.safetensors"):
            left.unlink(missing_ok=True)
        yield


def require_same_training(path: Path, wanted: dict, *, free: tuple[str, ...] = ()) -> None:
    """See that config.json says this, and write it where it is missing; entries named `free` may differ.

    Raises InvalidInputError, naming what differs, or DataError for a damaged file.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        _write(path, wanted)
        return
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): give another --out") from error
    differences = [
        f"{name} is {json.dumps(value)} here and {json.dumps(found.get(name))} there"
        for name, value in wanted.items()
        if found.get(name) != value and name not in free
    ]
    if differences:
        raise InvalidInputError(
            f"{path.parent} holds another training: {', '.join(differences)}; give the same values or another --out"
        )
    if found != wanted:
        _write(path, wanted)


@contextlib.contextmanager
def metrics_file(path: Path, lines: Sequence[dict]) -> Iterator[Callable[[dict], None]]:
    """The file of an epoch a line, holding these; yields what adds one more. What is not finite becomes null."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(_line(values) for values in lines))
    with path.open("a") as file:

        def add(values: dict) -> None:
            try:
                file.write(_line(values))
                file.flush()
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

        yield add


def _line(values: dict) -> str:
    return json.dumps(finite_json(values)) + "\n"


def _write(path: Path, config: dict) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")
