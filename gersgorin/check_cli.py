"""`gersgorin-check`: will this network train? Asked before its first step."""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.entry import enter

    sys.exit(enter("gersgorin.check_cli"))

import shutil
import sys
import textwrap
from dataclasses import dataclass
from typing import Annotated

from rhn.command import own_cell, print_json, run_command, status_line
from rhn.errors import InvalidInputError
from rhn.fields import check_seed
from rhn.options import Arg, File, check_least, given_flags
from rhn.parsing import parse

OF_NEW_NETWORKS = ("depth", "hidden_size", "init", "transform_bias")
MOST_SEEDS = 100
VALUES = 15  # characters before a summary's values


@dataclass(frozen=True, kw_only=True)
class Options:
    """Will it train? What a network does before its first step of training, how long it will sit on the plateau of a network that
    ignores its input, how often networks like it learned, and what to change. The answer is text, or with --json one object; the exit
    code says nothing of it.

    examples:
      gersgorin-check --cell rhn --depth 6 --hidden-size 262 --init gaussian:1e-4 --learning-rate 0.1
      gersgorin-check --cell dt-rnn --depth 6 --init gaussian:1e-4 --learning-rate 0.1 --epochs 400 --json
      gersgorin-check jsb-depth-6 --cell dt-rnn
      gersgorin-check ptb-sota --text ptb.train.txt
      gersgorin-check --cell lstm --input x.npy --epochs 50
      gersgorin-check --cell my_package.cells:MyCell --hidden-size 32
      gersgorin-check --module my_package.models:make --checkpoint weights.pt --input x.csv
      gersgorin-check --checkpoint runs/mine/best.safetensors
    """

    preset: Annotated[str | None, Arg("PRESET", positional=True)] = None
    """A preset of `rhn train`, with its network and its training."""
    cell: str | None = None
    """{cells}, torch.nn:LSTM and the like, or your own as package.module:factory (default rhn)."""
    depth: int | None = None
    """Recurrence depth, layers within a step (default 1)."""
    hidden_size: int | None = None
    """Hidden units (default 64)."""
    init: str | None = None
    """How new weights start: gaussian:STD, uniform:A, identity[:STD], scaled[:GAIN] or orthogonal[:GAIN] (default: as each cell starts
    by itself: uniform:0.04; irnn: identity; torch.nn's cells as in torch, uniform within 1/sqrt(units))."""
    transform_bias: float | None = None
    """Start of an RHN's transform-gate bias (default -2)."""
    checkpoint: File = None
    """A network from a file instead of a new one. With --module: its weights, .safetensors or a state_dict that torch.save wrote."""
    module: str | None = None
    """A torch module of your own, package.module:factory, that predicts the next frames: outputs (T, B, m) for inputs (T, B, m)."""
    submodule: str | None = None
    """With --module: the part of it that does so, by name, such as decoder."""
    learning_rate: float | None = None
    """Of SGD, for a mean loss a frame (default: the preset's or the file's, else 0.1)."""
    momentum: float | None = None
    """Of SGD (default: likewise, else 0.9)."""
    epochs: int | None = None
    """How long it is to be trained (default: likewise, else 300)."""
    batch_size: int | None = None
    """Sequences a batch (default 32; rows of a text: 20)."""
    batches: int | None = None
    """Steps of SGD an epoch (default: from the data and the batch size)."""
    text: File = None
    """A text to read, as a language model of words."""
    input: File = None
    """Numbers, .npy, .npz or .csv, (T,), (T, m) or (S, T, m), whose next frames are to be predicted with squared error."""
    data: File = None
    """The original chorales (.json or .pickle) instead of those rebuilt from music21's scores."""
    seed: int = 0
    """Seed of the initial weights."""
    seeds: int = 1
    """Gains and exponents of so many networks, of this seed and those after it."""
    json: bool = False
    """Print one JSON object."""


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run(parse(Options, args, prog="gersgorin-check")))


def run(options: Options) -> None:
    """Check the options, then the network, and print what was found."""
    _check(options)
    from gersgorin.preflight.checking import check
    from gersgorin.preflight.subject import subject_of

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


def _check(options: Options) -> None:
    if options.submodule and not options.module:
        raise InvalidInputError("--submodule names a part of --module package.module:factory: add that")
    if options.module and (
        given := given_flags(options, ("preset", "cell", "depth", "init", "transform_bias", "text"))
    ):
        raise InvalidInputError(f"{given[0]} does not go with --module, whose code says what it is: leave one out")
    for chosen, words in ((options.preset, "a preset"), (options.checkpoint, "--checkpoint")):
        if chosen and not options.module and (given := given_flags(options, OF_NEW_NETWORKS)):
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
