"""The output of the commands: options, default names of figures, and printing.

The name of a figure contains the network, the given options and the data, each once, joined by
dashes: lesion-depth6-carry-pairs.png
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from rhn.cli.entry import print_json
from rhn.utils.old import OUTPUT_GROUP, Drawing, Outputs, Result, default_of, place
from rhn.utils.progress import progress_bars
from rhn.utils.tables import printable

# they change no numbers
SILENT = {"output", "json", "all", "title", "footer", "device"}
UNNAMED = ("cell", "checkpoint", "data")  # options that a name shows without their names
USUAL = (".safetensors", ".npy", ".txt")  # suffixes that a name leaves out
BEST = "best.safetensors"  # weights in the folder of a training run, which has the better name


@dataclass(frozen=True, kw_only=True)
class ResultOptions(Drawing):
    """Options of the files of a result, and of its printed form."""

    json: Annotated[bool, OUTPUT_GROUP] = False
    """Print one JSON object instead of text."""
    all: Annotated[bool, OUTPUT_GROUP] = False
    """Print all rows of the table of numbers (default: only the first six)."""


def show_result(outputs: Outputs, options: ResultOptions, result: Result) -> None:
    """Print the summary of a result, or one JSON object, then write the files: if the disk is full,
    the answer has already been printed. Before that, raises InvalidInputError if there is nothing
    to draw.
    """
    result.check_drawable()
    if options.json:
        print_json(result.to_dict() | {"figure": next(map(str, outputs.figures), None)})
    else:
        print(f"{printable(result.summary(whole=options.all))}\n", flush=True)
    with progress_bars() as report:
        report("drawing")
        outputs.write(result.figure, result.save)
    if not options.json:
        print(outputs)


def given_words(options: Any) -> dict[str, str]:
    """Return the options that do not have their default, each as a word of a file name."""
    values = {f.name: (vars(options)[f.name], default_of(f)) for f in fields(options)}
    return {
        name: _word("" if name in UNNAMED else name.replace("_", "-"), value)
        for name, (value, default) in values.items()
        if name not in SILENT and value != default
    }


def _word(name: str, value: Any) -> str:
    """Return an option as a word of a file name: "length5". For a file: its name, and the name of
    its folder if that is not the current one or runs/: "lorenz-csv", "depth6-runs2".
    """
    if isinstance(value, tuple):
        parts = [re.sub("[:,=/]+", "-", str(part)) for part in value]
        return "-".join([name, *parts]).strip("-")
    if isinstance(value, Path):
        path = value.parent if value.name == BEST and value.parent.name else value
        stem = path.stem if path.suffix in USUAL else re.sub(r"\.(?=[A-Za-z]+$)", "-", path.name)
        return "-".join(filter(None, (stem, place(path))))
    if isinstance(value, bool):
        return name
    return f"{name}{value}" if isinstance(value, int) else re.sub("[:,=/]+", "-", str(value))
