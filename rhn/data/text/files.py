"""Which files a text consists of: those of a well-known set, or the plain text in a folder of one's own."""

import re
from pathlib import Path

from rhn.data.corpus import SPLITS
from rhn.data.download import data_folder
from rhn.data.sets import TEXT_SETS, TextSet
from rhn.data.text.unpack import unpacked
from rhn.errors import DataError, InvalidInputError

WHOLE = "whole"  # the key of a text that comes without splits
ARCHIVES = (".zip", ".gz")  # that a set of one file may come in


def find_files(name: str, path: str | Path | None) -> dict[str, list[Path]]:
    """The files of each split, under "train", "valid" and "test"; or those of a text without splits, under "whole".

    path: a file or a folder; None, where `rhn data get` puts the set called `name`.
    Raises DataError for a file that is missing, with where it was looked for.
    """
    if path is None and name == "text":
        raise InvalidInputError("a text of your own needs its path: a file or a folder of plain text")
    place = Path(path) if path is not None else data_folder(name)
    if not place.exists():
        expected = "expected plain text" if name == "text" else f"expected {name}; {_get(name)}"
        raise DataError(f"{place}: no such file or folder, {expected}")
    if name == "text":
        return _plain_text(place)
    text_set = TEXT_SETS[name]
    if place.is_file() and not belongs_to(name, place):
        raise DataError(f"{place} is none of {', '.join(_file_names(text_set))}; {_get(name)}")
    return _split_files(text_set, place) if text_set.splits else _one_file(text_set, place)


def plain_file(file: Path, name: str) -> Path:
    """A file of a set, or what it holds where the set comes in an archive; raises DataError where that is nothing."""
    plain = unpacked(file, name) if name != "text" and file.suffix in ARCHIVES else file
    if plain.stat().st_size == 0:
        raise DataError(f"{file} is empty, expected a text")
    return plain


def belongs_to(name: str, place: Path) -> bool:
    """Whether a place is a well-known set's: by its name one of the set's files, or a folder with one of them; raises OSError."""
    if name == "text":
        return False
    names = _file_names(TEXT_SETS[name])
    if place.is_dir():
        return any((place / file).is_file() for file in names)
    if TEXT_SETS[name].splits:
        return place.name in names
    return place.name.startswith(name) or place.suffix in ARCHIVES


def _file_names(text_set: TextSet) -> list[str]:
    return list(text_set.splits.values()) if text_set.splits else [text_set.name + end for end in ("", *ARCHIVES)]


def _split_files(text_set: TextSet, place: Path) -> dict[str, list[Path]]:
    folder = place.parent if place.is_file() else place
    files = {split: folder / text_set.splits[split] for split in SPLITS}
    for file in files.values():
        if not file.is_file():
            raise DataError(f"{folder} holds no file {file.name}; {_get(text_set.name)}")
    return {split: [file] for split, file in files.items()}


def _one_file(text_set: TextSet, place: Path) -> dict[str, list[Path]]:
    names = _file_names(text_set)
    candidates = [place / file for file in names] if place.is_dir() else [place]
    file = next((file for file in candidates if file.is_file()), None)
    if file is None:
        raise DataError(f"{place} holds no file {' or '.join(names)}; {_get(text_set.name)}")
    return {WHOLE: [file]}


def _get(name: str) -> str:
    return (
        f"`rhn data get {name}` fetches it, --data says where else it is, "
        "and for a text of your own add --words or --characters"
    )


def _plain_text(place: Path) -> dict[str, list[Path]]:
    if place.is_file():
        return {WHOLE: [place]}
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
