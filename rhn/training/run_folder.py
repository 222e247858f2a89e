"""A training's folder: one process writes to it, it holds one configuration, and a file of one line an epoch."""

import contextlib
import fcntl
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path

from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.io import atomic_path, finite_json, read_json, remove_leftovers, write_json, writing
from rhn.utils.wording import first_line


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made where it was missing, for this process alone; what killed ones left half written is removed.

    Raises OutputError where it cannot be made or written to, or another process has it.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")  # a file of the user's keeps what is in it
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another process is training in {folder}: wait for it, or give another --out") from None
        for place in (folder, *folder.glob("seed-*")):  # not all below: other trainings may be writing there
            remove_leftovers(place)
        yield


def require_own_folder(folder: Path) -> None:
    """Raise InvalidInputError where a training would work in the folder of a study, or overwrite what is not a training's, such as the
    best network of one."""
    trained = (folder / "config.json").exists()
    if not trained and ((folder / "journal.log").exists() or any(folder.glob("*-depth*/trials"))):
        raise InvalidInputError(f"{folder} holds a study: give another --out, the folder of a training or a new one")
    names = ("best.safetensors", "last.safetensors", "state.safetensors", "metrics.jsonl")
    if found := [name for name in names if (folder / name).exists() and not trained]:
        raise InvalidInputError(
            f"{folder} holds {' and '.join(found)} but no config.json of a training: expected a new folder, "
            "or one that a training has made; give another --out"
        )


def homes(folder: Path, seeds: Sequence[int]) -> dict[int, Path]:
    """Where the files of each seed are: the folder itself for one seed, seed-N/ in it for several."""
    return {seed: folder if len(seeds) == 1 else folder / f"seed-{seed}" for seed in seeds}


def require_same_training(path: Path, config, wanted: dict, free: Collection[str]) -> dict | None:
    """See that config.json says this, and write it where it does not; returns what it said before, None where it is new.

    config:  a dataclass; its defaults stand for entries that an older version did not write
    free:    names of entries that may differ
    Raises InvalidInputError, naming what differs, or DataError for a damaged file.
    """
    found = _read(path)
    if found is not None:
        there = {f.name: f.default for f in fields(config) if f.default is not MISSING}
        there |= {f.name: f.default_factory() for f in fields(config) if f.default_factory is not MISSING} | found
        differences = [
            f"{name} is {json.dumps(value)} here and {json.dumps(there.get(name))} there"
            for name, value in wanted.items()
            if there.get(name) != value and name not in free
        ]
        if differences:
            more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise InvalidInputError(
                f"{path.parent} holds another training: {', '.join(differences[:3])}{more}; give the same values or another --out"
            )
    if found != wanted:
        write_json(path, wanted, indent=2)
    return found


def data_path(path: Path) -> Path | None:
    """Where the data of a training is, by the config.json in its folder; None where that does not say.

    path: the folder, or a checkpoint in it, or in one of its seed-N/.

    Raises DataError for a damaged config.json.
    """
    folder = path if path.is_dir() else path.parent
    config = folder / "config.json"
    if not config.exists() and folder.name.startswith("seed-"):
        config = folder.parent / "config.json"
    found = (_read(config) or {}).get("path")
    if not isinstance(found, str | None):
        raise DataError(f"{config} does not say where the data is: give --data")
    return None if found is None else Path(found)


def write_lines(path: Path, lines: Sequence[dict]) -> None:
    """Write a file of a JSON object a line, atomically; what is not finite becomes null. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(map(_line, lines)))


def add_line(path: Path, values: dict) -> None:
    """Add a line to such a file, or begin it. Raises OutputError."""
    with writing(path), path.open("a") as file:
        file.write(_line(values))


def _line(values: dict) -> str:
    return json.dumps(finite_json(values)) + "\n"


def _read(path: Path) -> dict | None:
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}): give another --out") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged (expected an object, found {content!r:.60}): give another --out")
    return content
