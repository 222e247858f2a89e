"""`rhn data`: download the published data sets, and show what a data set contains."""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from rhn.cli.entry import print_json
from rhn.data.datasets import CHORALES, TEXT_SETS, Unit, data_set, get
from rhn.errors import InvalidInputError
from rhn.utils.old import table
from rhn.utils.progress import progress_bars

BEGINNING = {"words": 16, "characters": 72, "bytes": 72}  # tokens in the line with the beginning


def _check_name(others: tuple[str, ...], hint: Any, name: str) -> None:
    """Raise ValueError unless `name` is a published text or in `others`. Texts that are added later
    to the table count too. Called by cyclopts.
    """
    if name not in (known := (*TEXT_SETS, *others)):
        raise ValueError(f"expected one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class Get:
    """Download a published data set, and verify its checksums. Complete files that exist already
    are kept.
    """

    name: Annotated[str, Parameter(validator=partial(_check_name, ("jsb",)))] = field(kw_only=False)
    """A published text (ptb, enwik8, text8), or jsb for the chorales."""
    out: Path | None = None
    """Folder to write to. Default: your data folder, where the other commands look for data."""

    def run(self) -> None:
        with progress_bars() as progress:
            place = get(self.name, self.out, progress=progress)
        print(f"{self.name}: checksums as published")
        print(f"--data {place}")


@dataclass(frozen=True, kw_only=True)
class Show:
    """Print the sizes of the splits and the vocabulary of a data set, compare them with the
    published numbers, and print the beginning of the data.
    """

    name: Annotated[str, Parameter(validator=partial(_check_name, ("text", "jsb")))] = field(
        kw_only=False
    )
    """A published text (ptb, enwik8, text8), "text" for your own text, or jsb for the chorales."""
    data: Path | None = None
    """The file or folder of the data. Default: the folder of `rhn data get`; for jsb, the chorales
    rebuilt from music21.
    """
    unit: Literal["words", "characters"] | None = None
    """Unit of the tokens of your own text: words (the default) or characters."""
    json: bool = False
    """Print one JSON object (name, source, checksum, unit, counts, beginning) instead of text."""

    def run(self) -> None:
        if self.unit and self.name != "text":
            raise InvalidInputError(
                "--unit is for a text of your own, rhn data show text; "
                f"{self.name} has its own unit"
            )
        shown = _described(self.name, self.data, self.unit or "words")
        if self.json:
            print_json(shown)
        else:
            _print(shown)
        if differing := [row["what"] for row in shown["counts"] if not row["same"]]:
            print(
                f"warning: not the published {self.name}: {', '.join(differing)}", file=sys.stderr
            )


def _described(name: str, data: Path | None, unit: Unit) -> dict:
    """Return the facts about a data set for JSON. unit: that of the user's own text."""
    from rhn.data import chorales, read_text
    from rhn.data.corpus import SPLITS

    corpus: Any = chorales(data) if name == CHORALES.name else read_text(name, data, unit=unit)
    found = {split: len(getattr(corpus, split)) for split in SPLITS}
    published = {} if name == "text" else data_set(name).counts
    if name == CHORALES.name:
        kind, beginning = "pieces", " ".join(piece.name for piece in corpus.train[:8])
    else:
        kind, found["vocabulary"] = corpus.vocabulary.unit, len(corpus.vocabulary)
        beginning = corpus.vocabulary.decode(corpus.train[: BEGINNING[kind]])

    def row(what: str, count: int) -> dict:
        usual = published.get(what)
        same = usual is None or usual == count
        return {"what": what, "found": count, "published": usual, "same": same}

    about = {"name": name, "source": corpus.source, "checksum": corpus.checksum, "unit": kind}
    return about | {"counts": [row(*each) for each in found.items()], "beginning": beginning}


def _print(shown: dict) -> None:
    print(f"{shown['source']}\nchecksum {shown['checksum']}")
    rows = [_line(row) for row in shown["counts"]]
    print(table((shown["unit"], "found", "published", ""), rows))
    print(f"begins {shown['beginning']!r}")


def _line(row: dict) -> list[str]:
    """Return a line of the table of counts."""
    published = f"{row['published']:,}" if row["published"] else ""
    return [row["what"], f"{row['found']:,}", published, "" if row["same"] else "differs"]
