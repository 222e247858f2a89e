"""The folder of a training run with several seeds has a folder seed-N for each. A command that
reads a trained network takes all of them in turn, or one by --seed.

    runs/two/config.json, state.safetensors     of all seeds
    runs/two/seed-0/best.safetensors, ...       of one, which can be read by itself
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rhn.utils.validation import unexpected

START = "seed-"
SEED_HELP = "Of a folder with several seeds: the one to read (default: all)."


def seed_folders(folder: Path) -> dict[int, Path]:
    """Return the folders of the seeds in the folder of a training run by seed; of a training run
    with one seed none.
    """
    found = {path.name.removeprefix(START): path for path in folder.glob(f"{START}*")}
    numbers = sorted(int(name) for name in found if name.isdecimal())
    return {number: folder / f"{START}{number}" for number in numbers}


def seed_of(folder: Path) -> int:
    """Return the seed of a folder seed-N."""
    return int(folder.name.removeprefix(START))


def home_of(folder: Path) -> Path:
    """Return the folder with config.json: that of all seeds for the folder of one."""
    is_of_one = folder.name.startswith(START) and not (folder / "config.json").exists()
    return folder.parent if is_of_one else folder


def trained_paths(path: Path, seed: int | None = None) -> list[Path]:
    """Return the paths of the trained networks that a path names: of several seeds the folder of
    each, or of one. Raises InvalidInputError for a seed that it does not have.
    """
    folders = seed_folders(path)
    if not folders:
        return [path]
    if seed is None:
        return [*folders.values()]
    if seed not in folders:
        raise unexpected("seed", seed, f"{', '.join(map(str, folders))}, the seeds in {path}")
    return [folders[seed]]


def require_seeds(path: Path, seed: int | None) -> None:
    """Refuse a seed beside a path without several seeds, for a command that uses no other."""
    if seed is not None and not seed_folders(path):
        raise unexpected("seed", seed, f"none, {path} has no folders seed-N")


def each_seed(command: Any, path: Path) -> Iterator[Any]:
    """Yield a command for each trained network in its `path`: its `checkpoint` is then a folder of
    one seed, and its files have the seed in their names.
    """
    paths = trained_paths(path, command.seed)
    for one in paths:
        if one == path:
            yield command
        elif len(paths) == 1:
            yield replace(command, checkpoint=one, seed=None)
        else:
            yield replace(command.of_seed(one.name), checkpoint=one, seed=None)


def print_seed(path: Path | None, given: Path | None) -> None:
    """Print the folder of a seed, if it is in the folder that was given."""
    if path != given:
        print(f"checkpoint: {path}", flush=True)


def with_seed(path: Path, name: str) -> Path:
    """Return the path of a file of one seed.

    >>> print(with_seed(Path("out/gates.png"), "seed-1"))
    out/gates-seed-1.png
    """
    return path.with_stem(f"{path.stem}-{name}")
