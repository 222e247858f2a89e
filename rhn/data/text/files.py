"""Which files a text consists of: those of a well-known set, or the plain text in a folder of one's own."""

import re
from pathlib import Path

from rhn.data.corpus import SPLITS
from rhn.data.download import data_folder
from rhn.data.sets import TEXT_SETS, TextSet
from rhn.data.text.unpack import unpacked
from rhn.errors import DataError, InvalidInputError
from rhn.utils.io import require_file

ARCHIVES = (".zip", ".gz")  # that a set of one file may come in


def find_files(name: str, path: str | Path | None) -> list[list[Path]]:
    """The files of the training, validation and test text; or one list, those of a text without splits.

    path: a file or a folder; None, where `rhn data get` puts the set called `name`.
    Raises DataError for a file that is missing, with where it was looked for.
    """
    if path is None and name == "text":
        raise InvalidInputError("a text of your own needs its path: a file or a folder of plain text")
    place = Path(path) if path is not None else data_folder(name)
    remedy = (
        f"`rhn data get {name}` fetches it, --data says where else it is, "
        "and for a text of your own add --words or --characters"
    )
    if not place.exists():
        expected = "plain text" if name == "text" else f"{name}; {remedy}"
        raise DataError(f"{place}: no such file or folder, expected {expected}")
    if not place.is_dir():
        require_file(place)
    if name == "text":
        return _plain_text(place)
    names = _file_names(TEXT_SETS[name])
    if place.is_file() and not belongs_to(name, place):
        raise DataError(f"{place} is none of {', '.join(names)}; {remedy}")
    if splits := TEXT_SETS[name].splits:
        folder = place.parent if place.is_file() else place
        for file in names:
            if not (folder / file).is_file():
                raise DataError(f"{folder} holds no file {file}; {remedy}")
        return [[folder / splits[split]] for split in SPLITS]
    files = [place] if place.is_file() else [place / file for file in names if (place / file).is_file()]
    if not files:
        raise DataError(f"{place} holds no file {' or '.join(names)}; {remedy}")
    return [files[:1]]


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


def _plain_text(place: Path) -> list[list[Path]]:
    if place.is_file():
        return [[place]]
    files = sorted(file for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
    # by the words of their names: "latest.txt" is no test split, "wiki.test.tokens" is one
    groups = {split: [file for file in files if split in re.split("[^a-z]+", file.name.lower())] for split in SPLITS}
    found = [split for split in SPLITS if groups[split]]
    if not found:
        texts = [file for file in files if file.suffix == ".txt"]
        if not texts:
            raise DataError(f"{place} holds no text: neither files named train, valid and test nor any *.txt")
        return [texts]
    for split in SPLITS:
        if len(groups[split]) != 1:
            names = " and ".join(file.name for file in groups[split][:2]) or "none"
            raise DataError(
                f"{place} has files for {' and '.join(found)}, so it needs one file whose name says {split}: found {names}"
            )
    return list(groups.values())
