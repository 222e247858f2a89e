"""`gersgorin check` and `gersgorin cure`: why a network will not train, and what makes it train."""

import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from gersgorin.loading.options import NewOrTrained, ResultOptions
from rhn.cli.entry import own_cell, print_json, run_command
from rhn.errors import InvalidInputError
from rhn.utils.figures import Outputs
from rhn.utils.io import check_output, made_with, write_json
from rhn.utils.options import flag, given_flags, option, parse
from rhn.utils.progress import progress_bars
from rhn.utils.result import fitted

LONGER = 3  # times the seconds of a check, for a cure
EXCLUSIVE = {  # an option, and those that cannot be given with it
    "module": ("preset",),
    "checkpoint": ("preset",),
    "preset": ("input", "depth", "hidden_size", "init", "transform_bias"),
    "input": ("data",),
    "epochs": ("steps",),
}


@dataclass(frozen=True, kw_only=True)
class CheckedNetwork(NewOrTrained):
    """The network."""

    group = "network"

    preset: str | None = option(
        None,
        "A preset of `rhn train` for chorales: its network and its training.",
        metavar="PRESET",
        positional=True,
    )
    module: str | None = option(
        None,
        "Your module, package.module:factory: outputs (T, B, m) for inputs (T, B, m); with "
        "--target as your loop calls it.",
    )


@dataclass(frozen=True, kw_only=True)
class TrainingArguments:
    """The training: with --optimizer by that, else by SGD with momentum on the next frames."""

    group = "training"

    learning_rate: float | None = option(
        None, "Default: that of the preset or file, else 0.1; with --optimizer torch's.", above=0
    )
    momentum: float | None = option(
        None, "Default: as above, else 0.9; with --optimizer torch's.", least=0, below=1
    )
    epochs: int | None = option(None, "Default: as above, else 300.", least=1)
    batch_size: int | None = option(None, "Sequences in a batch (default 32).", least=1)
    batches: int | None = option(
        None, "Steps in an epoch (default: from the data and the batch size).", least=1
    )
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] | None = option(
        None, "The optimiser, with torch's defaults."
    )
    steps: int | None = option(
        None, "Length of the training (default: of all epochs; with --optimizer 3000).", least=1
    )
    clip_norm: float | None = option(None, "Largest gradient norm.", above=0)
    target: Path | None = option(
        None,
        "Targets for --input, both .npy as in your loop: one for each sequence or frame.",
        metavar="FILE",
    )
    loss: str | None = option(
        None,
        "With --target: mse, cross-entropy, bernoulli, or your function of (output, target), "
        "package.module:function. The first three read targets (S,) as (S, 1) for outputs (S, 1).",
    )
    batch_axis: int | None = option(
        None, "Axis of the sequences in --input: 0 or 1 (default: detected)."
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer and its time."""

    group = "answer"

    seconds: float = option(20.0, "Time limit of the check, in seconds.", above=0)
    cure: Path | None = option(
        None,
        "Also search, for three times --seconds, for initial weights and a learning rate that "
        "work, and write the weights to this "
        ".safetensors file (gersgorin cure: cured.safetensors).",
        metavar="FILE",
    )


@dataclass(frozen=True, kw_only=True)
class CheckedData:
    """The data."""

    group = "data"

    input: Path | None = option(
        None,
        "Your data: .npy, .npz or .csv, (T,), (T, m) or (S, T, m); the next frames are predicted.",
        metavar="FILE",
    )
    data: Path | None = option(
        None,
        "Original chorales (.json, .pickle) instead of those rebuilt from music21.",
        metavar="FILE",
    )


@dataclass(frozen=True, kw_only=True)
class CheckOptions(ResultOptions, CheckedData, Answer, TrainingArguments, CheckedNetwork):
    """Say why a network will not train, or when its loss falls below that of the best constant
    output. Copies take real steps of the optimiser.

    The best constant output is the same for every input. The loss counts as below it when its mean
    over 32 steps stays below 98 % of the constant's on the same minibatches. The interval of that
    step is from one or two orders of minibatches; others may differ more.

    examples:
      gersgorin check --cell dt-rnn --depth 6 --init gaussian:1e-4 --learning-rate 0.1
      gersgorin check jsb-depth-6 --cell dt-rnn
      gersgorin check --module my_package.models:make --checkpoint weights.pt --input x.csv
      gersgorin check --checkpoint runs/mine --json
      gersgorin check --cell rhn --depth 4 --optimizer adam --steps 1000
      gersgorin check --module my_package.models:make --input x.npy --target y.npy --loss mse
      --optimizer adam --learning-rate 1e-3
    """

    group = "output"

    all: bool = option(False, "Print all attempts of a cure (default: the first six).")


def main(args: list[str] | None = None, prog: str = "gersgorin check") -> int:
    """Run the command; returns its exit code, 1 if there is no cure although --cure is given. prog:
    as it was typed.
    """
    return run_command(lambda: run(parse(CheckOptions, args, prog=prog)))


def run(options: CheckOptions) -> int:
    """Check the options, then the training, and print the result; returns the exit code. Errors
    name the options of the command.
    """
    try:
        return _check_training(options)
    except InvalidInputError as error:
        raise InvalidInputError(_in_flags(str(error))) from error


def _in_flags(text: str) -> str:
    """Arguments of `gersgorin.check` as options of this command."""
    for name in ("seconds", "batch_axis", "learning_rate"):
        text = text.replace(f"{name}=", f"{flag(name)} ")
    return text


def _check_training(options: CheckOptions) -> int:
    for name, others in EXCLUSIVE.items():
        if given_flags(options, (name,)) and (given := given_flags(options, others)):
            chosen = "a preset" if name == "preset" else flag(name)
            raise InvalidInputError(
                f"{', '.join(given)} cannot be given with {chosen}: leave one out"
            )
    outputs = Outputs.of(options, None, (".json", ".csv"))
    if options.cure is not None:
        check_output(options.cure, (".safetensors",))
    from gersgorin.checking.checking import check
    from gersgorin.checking.cure import cure
    from gersgorin.cli.arguments import training_of
    from gersgorin.loading.network import save_weights
    from gersgorin.loading.open import check_network_options

    check_network_options(options)
    with (
        progress_bars() as report,
        own_cell(options.module or options.cell),
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
    ):
        # what the module prints at each of its calls is lost
        say = partial(report("data and network"), 0, None)
        training = training_of(options)
        found = check(**training, progress=say)
        longer = {"seconds": LONGER * options.seconds}
        cured = None if options.cure is None else cure(**training | longer, progress=say)
    answer = found.to_json() | ({} if cured is None else {"cure": cured.to_json()})
    numbers = {"made_with": made_with()} | found.to_dict() | answer
    outputs.write(
        found.figure,
        lambda path: found.save(path) if path.suffix == ".csv" else write_json(path, numbers),
    )
    if cured is not None and options.cure:
        save_weights(cured.model, options.cure)
    if options.json:
        print_json(answer)
    else:
        text = _in_flags(found.summary())
        print(fitted(text) if sys.stdout.isatty() else text)
        if cured is not None:
            print(f"\ncure, written to {options.cure}\n{cured.summary(whole=options.all)}")
    return 0 if cured is None or cured.outcome in ("healthy", "cured") else 1
