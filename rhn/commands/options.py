"""Options that several commands have, with the words that stand for their values in `--help`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Number = Annotated[float, tyro.conf.arg(metavar="X")]
Whole = Annotated[int, tyro.conf.arg(metavar="N")]
MaybeWhole = Annotated[int | None, tyro.conf.arg(metavar="N")]
Minutes = Annotated[float | None, tyro.conf.arg(metavar="X")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
Place = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
Checkpoint = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="CHECKPOINT")]]
Device = Literal["auto", "cpu", "cuda"]
