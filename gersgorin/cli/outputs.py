"""Print results, and name their figures. A name contains the networks, the given options and the
data, each once, joined by dashes.

gersgorin-rhn-depth5-bwv269.png
gersgorin-lstm-seed3-steps20-bwv66.6-lyapunov.png
gersgorin-lstm-vs-gru-vs-rhn-lorenz-csv.png
gersgorin-rhn-set-depth-1-depth-5-bwv269.png
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

from gersgorin.analyses import Analysis
from rhn.cli.entry import print_json
from rhn.errors import InvalidInputError
from rhn.utils.figures import figure_name
from rhn.utils.old import Outputs, Result, default_of, place
from rhn.utils.progress import progress_bars
from rhn.utils.tables import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORK, DATA = ("cell", "module", "checkpoint"), ("chorale", "input", "data")
# they change no numbers, or name the command
SILENT = {"output", "json", "all", "title", "footer", "device", "analysis"}
USUAL = (".safetensors", ".npy", ".txt")  # suffixes that a name leaves out
BEST = "best.safetensors"  # weights in the folder of a training run, which has the better name


def show_result(
    outputs: Outputs,
    options,
    result: Result,
    draw: Callable[[], "Figure"] | None = None,
    name: str = "",
) -> None:
    """Print the summary of a result, or one JSON object with its numbers under this name. Then
    write the files: if the disk is full, the answer has already been printed.

    draw: function that draws the figure; None: `result.figure`. Before printing, raises
    InvalidInputError if there is nothing to draw.
    """
    result.check_drawable()
    if options.json:
        numbers = result.to_dict()
        values = {"title": result.title, "about": result.about, name: numbers} if name else numbers
        print_json(values | {"figure": next(map(str, outputs.figures), None)})
    else:
        print(f"{printable(result.summary(whole=options.all))}\n", flush=True)
    with progress_bars() as report:
        report("drawing")
        outputs.write(draw or result.figure, result.save)
    if not options.json:
        print(outputs)


def check_step(step: int | None, steps: int | None, row: Analysis) -> None:
    """Raise InvalidInputError for a step that the figure of this analysis cannot draw. steps: the
    number of steps; None: not known.
    """
    kind = get_type_hints(row.load()).get("return")
    if step is None or not (isinstance(kind, type) and issubclass(kind, Result)):
        return
    if kind.step_count is Result.step_count:
        raise InvalidInputError(f"--draw-step {step}: {row.command} has no steps; leave it out")
    known = [*getattr(kind, "steps_of", range)(steps)] if steps else [step]
    if step not in known:
        few = len(known) < (steps or 0)
        words = f"one of {', '.join(map(str, known))}" if few else f"0 to {known[-1]}"
        raise InvalidInputError(f"--draw-step {step}: expected {words}")


def default_figure(command: str, options) -> Path:
    """The file name of the figure of a command. Options that have their default are left out.

    command: the last word of the name; "" for none. A name ends in a checksum if it would be too
    long, or if it would contain characters that file names cannot have.
    """
    from gersgorin.data.files import CHORALE  # here, because `--help` should not wait for torch

    words = given_words(options, SILENT)
    first = _first(options, words)
    data = [words.pop(name) for name in DATA if name in words]
    many = "sequences" in getattr(options, "samples", ())
    data = data or ["test" if many else options.chorale or CHORALE]
    return figure_name("gersgorin", first, *words.values(), *data, command)


def _first(options, words: dict[str, str]) -> str:
    """The networks in the name of a figure, which are removed from `words`: "lstm-vs-gru"."""
    if "networks" not in words:
        return "-".join(words.pop(name) for name in NETWORK if name in words) or "rhn"
    del words["networks"]
    return "-vs-".join(_word("", word if ":" in word else Path(word)) for word in options.words)


def given_words(options, without: Iterable[str]) -> dict[str, str]:
    """The options that do not have their default, each as a word of a file name."""
    given = (
        (f.name, vars(options)[f.name], default_of(f))
        for f in fields(options)
        if f.name not in without
    )
    return {
        name: _word("" if name in (*NETWORK, *DATA) else name.replace("_", "-"), value)
        for name, value, default in given
        if value != default
    }


def _word(name: str, value) -> str:
    """An option as a word of a file name: "depth5", "uniform-0.1". For a file: its name, and the
    name of its folder if that is not the current one or runs/: "lorenz-csv", "depth6-runs2".
    """
    if isinstance(value, dict):
        return "-".join(f"{option}-{given}" for option, given in value.items())
    if isinstance(value, tuple):
        parts = [re.sub("[:,=/]+", "-", str(part)) for part in value]
        return "-".join([name, *parts]).strip("-")
    if isinstance(value, Path):
        path = value.parent if value.name == BEST and value.parent.name else value
        name = path.stem if path.suffix in USUAL else re.sub(r"\.(?=[A-Za-z]+$)", "-", path.name)
        return "-".join(filter(None, (name, place(path))))
    if isinstance(value, bool):
        return name
    if isinstance(value, int | float):
        return name + str(value).removesuffix(".0")
    return re.sub("[:,=/]+", "-", str(value))
