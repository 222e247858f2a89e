"""`gersgorin check`, `gersgorin-check`: predict before the first step whether a network will train."""

if __name__ == "__main__":  # before the other imports, so that Ctrl-C during them ends in one word
    import sys

    from rhn.cli.entry import enter

    sys.exit(enter("gersgorin.cli.check"))

import shutil
import sys
import textwrap
from dataclasses import dataclass
from typing import Annotated

from gersgorin.options import NewOrTrained
from rhn.cli.common import own_cell, print_json, run_command, status_line
from rhn.cli.parsing import parse
from rhn.errors import InvalidInputError
from rhn.utils.options import Arg, File, check_least, given_flags
from rhn.utils.validation import check_seed

OF_NEW_NETWORKS = ("depth", "hidden_size", "init", "transform_bias", "cell_options")
MOST_SEEDS = 100
VALUES = 15  # characters before a summary's values


@dataclass(frozen=True, kw_only=True)
class CheckedNetwork(NewOrTrained):
    """Which network."""

    group = "network"

    preset: Annotated[str | None, Arg("PRESET", positional=True)] = None
    """A preset of `rhn train`: its network and its training."""
    module: str | None = None
    """Your module, package.module:factory: outputs (T, B, m) for inputs (T, B, m)."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How it is trained: SGD with momentum, on a mean loss a frame."""

    group = "training"

    learning_rate: float | None = None
    """Default: the preset's or the file's, else 0.1."""
    momentum: float | None = None
    """Default: likewise, else 0.9."""
    epochs: int | None = None
    """Default: likewise, else 300."""
    batch_size: int | None = None
    """Sequences in a batch (default 32; rows of a text: 20)."""
    batches: int | None = None
    """Steps in an epoch (default: from the data and the batch size)."""


@dataclass(frozen=True, kw_only=True)
class CheckedData:
    """Which data."""

    group = "data"

    text: File = None
    """A text for a language model of words."""
    input: File = None
    """Your data: .npy, .npz or .csv, (T,), (T, m) or (S, T, m); the next frames are predicted."""
    data: File = None
    """Original chorales (.json, .pickle) instead of those rebuilt from music21."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions(CheckedData, Training, CheckedNetwork):
    """Predict whether a network will train: when it leaves the plateau of a constant output, how often networks like it learned, and
    which changes help.

    examples:
      gersgorin-check --cell dt-rnn --depth 6 --init gaussian:1e-4 --learning-rate 0.1
      gersgorin-check jsb-depth-6 --cell dt-rnn
      gersgorin-check ptb-sota --text ptb.train.txt
      gersgorin-check --module my_package.models:make --checkpoint weights.pt --input x.csv
      gersgorin-check --checkpoint runs/mine --json
    """

    group = "output"

    seeds: int = 1
    """Measure gains and exponents of so many seeds, from --seed on."""
    json: bool = False
    """Print one JSON object."""


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run(parse(CheckOptions, args, prog="gersgorin-check")))


def run(options: CheckOptions) -> None:
    """Check the options, then the network, and print what was found."""
    _check(options)
    from gersgorin.checking.checking import check
    from gersgorin.checking.subject import subject_of

    own = options.module or (options.cell if options.cell and ":" in options.cell else None)
    with status_line() as say, own_cell(own):
        say("data and network")
        subject = subject_of(options)
        if options.seeds > 1 and not subject.many:
            raise InvalidInputError("--seeds is for new networks: a checkpoint holds one")
        training = subject.training | {
            name: value
            for name in ("learning_rate", "momentum", "epochs", "batches")
            if (value := getattr(options, name)) is not None
        }
        found = check(
            subject.build,
            subject.sequences,
            **training,
            seeds=options.seeds,
            loss=subject.loss,
            name=subject.name,
            progress=say,
        )
    print_json(found.to_json()) if options.json else print(_fitted(found.summary()))


def _check(options: CheckOptions) -> None:
    if options.submodule and not options.module:
        raise InvalidInputError("--submodule names a part of --module package.module:factory: add that")
    if options.module and (
        given := given_flags(options, ("preset", "cell", "depth", "init", "transform_bias", "cell_options", "text"))
    ):
        raise InvalidInputError(f"{given[0]} does not go with --module, whose code says what it is: leave one out")
    for chosen, words in ((options.preset, "a preset"), (options.checkpoint, "--checkpoint")):
        refused = [name for name in OF_NEW_NETWORKS if not (options.preset and name == "cell_options")]
        if chosen and not options.module and (given := given_flags(options, refused)):
            raise InvalidInputError(f"{', '.join(given)} cannot be given with {words}, which says what the network is")
    if options.preset and options.checkpoint:
        raise InvalidInputError("a preset and --checkpoint are two networks: give one")
    if len(read := given_flags(options, ("text", "input", "data"))) > 1:
        raise InvalidInputError(f"{' and '.join(read)} are several things to read: give one")
    if options.preset and options.input:
        raise InvalidInputError("--input is for a new network or --checkpoint: a preset has its own data")
    check_seed(options.seed)
    check_least(options, depth=1, hidden_size=1, batch_size=1, seeds=1)
    if options.seeds > MOST_SEEDS:
        raise InvalidInputError(f"--seeds is {options.seeds}, expected at most {MOST_SEEDS}")


def _fitted(text: str) -> str:
    """The summary, on a terminal in lines that fit it: what goes on stands below the values."""
    if not sys.stdout.isatty():
        return text
    columns = max(40, shutil.get_terminal_size().columns)
    head, *lines = text.splitlines()
    below = [textwrap.fill(line, columns, subsequent_indent=" " * VALUES, drop_whitespace=True) for line in lines]
    return "\n".join([textwrap.fill(head, columns), *below])
