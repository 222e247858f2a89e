"""Which files a text consists of: those of a well-known set, or the plain text in a folder of one's own."""

import re
from pathlib import Path

from rhn.data.corpus import SPLITS
from rhn.data.download import data_folder
from rhn.data.text.unpack import unpacked
from rhn.errors import DataError, InvalidInputError

WHOLE = "whole"  # the key of a text that comes without splits


def find_files(name: str, path: str | Path | None) -> dict[str, list[Path]]:
    """The files of each split, under "train", "valid" and "test"; or those of a text without splits, under "whole".

    path: a file or a folder; None, where `rhn data get` puts the set called `name`.
    Raises DataError for a file that is missing or empty, with where it was looked for.
    """
    if path is None and name == "text":
        raise InvalidInputError("a text of your own needs its path: a file or a folder of plain text")
    place = Path(path) if path is not None else data_folder(name)
    find = {"ptb": _penn_treebank, "text": _plain_text}.get(name, _one_file)
    groups = find(name, place)
    for file in (file for group in groups.values() for file in group):
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty, expected a text")
    return groups


def _penn_treebank(name: str, place: Path) -> dict[str, list[Path]]:
    folder = place.parent if place.is_file() else place
    files = {split: folder / f"ptb.{split}.txt" for split in SPLITS}
    for file in files.values():
        if not file.is_file():
            raise DataError(f"{folder} holds no file {file.name}; {_get(name)}")
    return {split: [file] for split, file in files.items()}


def _one_file(name: str, place: Path) -> dict[str, list[Path]]:
    candidates = [place / f"{name}{suffix}" for suffix in ("", ".zip", ".gz")] if place.is_dir() else [place]
    file = next((file for file in candidates if file.is_file()), None)
    if file is None:
        found = f"{place} holds no file {name}, {name}.zip or {name}.gz" if place.is_dir() else f"{place}: no such file"
        raise DataError(f"{found}; {_get(name)}")
    return {WHOLE: [unpacked(file, name) if file.suffix in (".zip", ".gz") else file]}


def _get(name: str) -> str:
    return f"`rhn data get {name}` fetches it, and --data says where else to look"


def _plain_text(name: str, place: Path) -> dict[str, list[Path]]:
    if place.is_file():
        return {WHOLE: [place]}
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder, expected plain text")
    files = sorted(file for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
    groups = {split: [file for file in files if split in _parts(file)] for split in SPLITS}
    found = [split for split in SPLITS if groups[split]]
    if not found:
        texts = [file for file in files if file.suffix == ".txt"]
        if not texts:
            raise DataError(f"{place} holds no text: neither files named train, valid and test nor any *.txt")
        return {WHOLE: texts}
    for split in SPLITS:
        if len(groups[split]) != 1:
            names = " and ".join(file.name for file in groups[split][:2]) or "none"
            raise DataError(
                f"{place} has files for {' and '.join(found)}, so it needs one file whose name says {split}: found {names}"
            )
    return groups


def _parts(file: Path) -> list[str]:
    """The words of a file's name: "latest.txt" is no test split, "wiki.test.tokens" is one."""
    return re.split("[^a-z]+", file.name.lower())
