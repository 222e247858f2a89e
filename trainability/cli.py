"""The commands `trainability check` and `trainability cure`: why does a training run not learn, and
what helps?

The training run is your own, FILE.py:NAME. Without FILE.py:NAME, a network is trained to predict
the next frames of sequences: the chorales, or a file of numbers.
"""

import inspect
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from gersgorin.cli.options import NETWORK, NewOrTrained
from rhn.cli.entry import own_cell, print_json, run_command
from rhn.errors import InvalidInputError
from rhn.utils.command_line import command_line, run_read
from rhn.utils.figures import Outputs
from rhn.utils.io import check_file, check_output, real_path
from rhn.utils.progress import progress_bars
from rhn.utils.ranges import Count, Fraction, Positive
from rhn.utils.result import fitted
from rhn.utils.shared_options import OUTPUT_GROUP, Drawing, flag, given_flags
from rhn.utils.wording import first_line, kind_of, nearest, printable

FRAMES = Parameter(group=Group("training on next frames", sort_key=3))
LIMITS = Parameter(group=Group("limits", sort_key=4))
MODULE = "__training__"  # `__name__` of FILE.py
NEEDED = ("model", "x", "loss", "optimizer")  # of a training run in FILE.py
OF_COMMAND = ("parts", "progress", "loading_seconds")  # arguments that no training in FILE.py has
WITH_MOMENTUM = ("sgd", "rmsprop")
NUMBERS = (".json", ".csv")
STEPS = 3000  # with --optimizer
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.1,
    "momentum": 0.9,
    "epochs": 300,
    "batch_size": 32,
}
"""Default settings of a training run on next frames."""
EXCLUSIVE = {  # an option, and those that cannot be given with it
    "input": ("data",),
    "epochs": ("steps",),
}
OWN = ("training", "steps", "seconds", "seed", "output", "figure", "json")
"""The options that may be given together with FILE.py:NAME."""


@dataclass(frozen=True, kw_only=True)
class Network(NewOrTrained):
    """Your own training run, or the network of a training run that predicts next frames."""

    training: Annotated[str | None, NETWORK] = field(default=None, kw_only=False)
    """Your training run as FILE.py:NAME."""
    module: Annotated[str | None, NETWORK] = None
    """Your torch module, package.module:factory. It takes numbers (T, B, m) and returns outputs (T,
    B, m), for T time steps, B sequences and m numbers. With an nn.Embedding it takes ids (T, B) and
    returns (T, B, K) for K classes. With batch_first=True B comes first.
    """
    submodule: Annotated[str | None, NETWORK] = None
    """Name of a part of --module, such as encoder.rnn: train only this part (default: the whole
    module).
    """
    seed: Annotated[int, NETWORK] = 0
    """Seed of the initial weights of a new cell, and of the minibatch order."""


@dataclass(frozen=True, kw_only=True)
class NextFrames:
    """Options of a training run on next frames."""

    learning_rate: Annotated[Positive | None, FRAMES] = None
    """Learning rate (default: that of the checkpoint, or else 0.1; with --optimizer: torch's
    default).
    """
    momentum: Annotated[Fraction | None, FRAMES] = None
    """Momentum of SGD or RMSprop (default: that of the checkpoint, or else 0.9; with
    --optimizer: torch's default).
    """
    epochs: Annotated[Count | None, FRAMES] = None
    """Number of epochs (default: that of the checkpoint, or else 300)."""
    batch_size: Annotated[Count | None, FRAMES] = None
    """Number of sequences in a minibatch (default: 32)."""
    batches: Annotated[Count | None, FRAMES] = None
    """Number of optimiser steps per epoch (default: as many as one pass over all data takes)."""
    optimizer: Annotated[Literal["sgd", "adam", "adamw", "rmsprop"] | None, FRAMES] = None
    """Optimiser, with the default settings of torch (default: SGD with momentum)."""
    clip_norm: Annotated[Positive | None, FRAMES] = None
    """Clip the gradient at this norm (default: no clipping)."""
    input: Annotated[Path | None, FRAMES] = None
    """File with your own data (.npy, .npz or .csv) of shape (T,), (T, m) or (S, T, m), for S
    sequences, T time steps and m numbers (default: the chorales).
    """
    data: Annotated[Path | None, FRAMES] = None
    """File with the original chorales (.json, .pickle). Default: the file of the checkpoint,
    or else the chorales rebuilt from music21's scores.
    """


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The length of the training run, and the time limit of the command."""

    steps: Annotated[Count | None, LIMITS] = None
    """Number of optimiser steps of the training run. Default for FILE.py:NAME: its own number, or
    else 3000. Default for next frames: the steps of all epochs, or 3000 if --optimizer is given
    without --epochs.
    """
    seconds: Annotated[Positive | None, LIMITS] = None
    """Time limit of the command, in seconds. Default: the limit in FILE.py:NAME, if it has one.
    Otherwise `cure` has 60 seconds. `check` has the time of ten of your training runs and two known
    good runs, but at least 20 and at most 600 seconds.
    """


@dataclass(frozen=True, kw_only=True)
class Printed:
    """How the result is printed."""

    json: Annotated[bool, OUTPUT_GROUP] = False
    """Print one JSON object instead of text."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Printed, Drawing, Limits, NextFrames, Network):
    """Find the part of a training run that keeps it from learning.

    First, facts about one minibatch are measured, such as weights that no gradient reaches. Then
    copies of your training run and two known good runs are trained on the same data. A known good
    run has standardised inputs, the usual loss and Adam; its network is a GRU in one run, and your
    network in the other. Each known good part is put into a copy of your run, to see if this change
    is enough for your run to learn. Each of your parts is put into the better known good run, to
    see if your part keeps that run from learning. The exit code is 0 for every outcome.

    NAME in FILE.py is a trainability.Training, a dictionary, an object, or a function without
    arguments that returns one of these. The dictionary or object has model, x, y, loss and
    optimizer. It may have further arguments of trainability.check, such as batch_axis or scheduler.
    FILE.py runs as with `python FILE.py`, except for the code below `if __name__ == "__main__":`.

    Without FILE.py:NAME, the options of NETWORK choose a network, which is trained to predict the
    next frames of sequences.

    examples:
      trainability check train.py:training
      trainability check train.py:make --steps 2000 --seconds 120 --output check.png
      trainability check --cell dt-rnn --depth 6 --init gaussian:1e-4
      trainability check --cell rhn --depth 4 --optimizer adam --steps 1000 --json
      trainability check --module my_models:make --checkpoint my.pt --input x.csv
      trainability check --checkpoint runs/mine
    """

    question = "check"
    output: Annotated[tuple[Path, ...], OUTPUT_GROUP] = ()
    """Files to write: a figure (.png, .svg, .pdf), and its numbers (.csv, .json)."""


@dataclass(frozen=True, kw_only=True)
class CureOptions(Printed, Limits, NextFrames, Network):
    """Search for initial weights and a learning rate with which a training run learns. For a run
    with SGD, the search also tries Adam.

    Pass the training run as for `trainability check`. If a change helps, the output contains lines
    of Python to paste. The exit code is 0 for every outcome.

    examples:
      trainability cure train.py:training
      trainability cure train.py:training --seconds 300 --output cure.csv
      trainability cure --cell dt-rnn --depth 6 --init gaussian:1e-4
    """

    question = "cure"
    output: Annotated[tuple[Path, ...], OUTPUT_GROUP] = ()
    """Files to write: the table (.csv), or all numbers (.json)."""


COMMANDS = command_line("trainability", "Why does a network not learn, and what makes it learn?")
COMMANDS.command(CheckOptions, name="check")
COMMANDS.command(CureOptions, name="cure")
Options = CheckOptions | CureOptions


def main(args: list[str] | None = None) -> int:
    """Run a subcommand; return its exit code."""
    return run_command(lambda: run_read(COMMANDS, args, run))


def run(options: Options) -> None:
    """Validate the options, check or cure the training run, and print and write the result."""
    own = file_and_name(options.training)
    if own:
        check_own(options)
    else:
        check_exclusive(options)
    outputs = outputs_of(options)
    with (
        progress_bars() as report,
        own_cell(":".join(own) if own else options.module or options.cell),
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),  # what the user's code prints at each call
        as_script(own[0]) if own else nullcontext(),
    ):
        say = partial(report("data and network"), 0, None)
        parts = own_training(options, *own) if own else of_next_frames(options)
        answer = getattr(import_module(f"trainability.{options.question}"), options.question)
        found = answer(**parts, progress=say)
    show(found, outputs, options)


def outputs_of(options: Options) -> Outputs:
    """Return the files that the options name. Raises InvalidInputError or OutputError."""
    if isinstance(options, CheckOptions):
        return Outputs.of(options, None, NUMBERS)
    for path in options.output:
        check_output(path, NUMBERS)
    return Outputs([], [*options.output], None)


def show(found: Any, outputs: Outputs, options: Options) -> None:
    """Print a result, then write its files. If the disk is full, the result has then been printed
    already.
    """
    if options.json:
        print_json(found.to_dict() | {"figure": next(map(str, outputs.figures), None)})
    else:
        text = printable(found.summary())
        print(fitted(text) if sys.stdout.isatty() else text, flush=True)
    outputs.write(found.figure, found.save)
    if not options.json and (outputs.figures or outputs.others):
        print(f"\n{outputs}")


def check_own(options: Options) -> None:
    """Raise InvalidInputError for options that would change the training run of FILE.py."""
    if given := given_flags(options, [name for name in vars(options) if name not in OWN]):
        raise InvalidInputError(
            f"{', '.join(given)} cannot be given with FILE.py:NAME, which has the whole training: "
            "leave one out"
        )


def check_exclusive(options: Options) -> None:
    """Raise InvalidInputError for options on next frames that cannot be given together."""
    for name, others in EXCLUSIVE.items():
        given = given_flags(options, others)
        if given and given_flags(options, (name,)):
            raise InvalidInputError(
                f"{', '.join(given)} cannot be given with {flag(name)}: leave one out"
            )


# Your own training run, FILE.py:NAME


def file_and_name(word: str | None) -> tuple[str, str] | None:
    """Return (FILE.py, NAME) of FILE.py:NAME, or None for None. Raises InvalidInputError for any
    other word.
    """
    if word is None:
        return None
    file, _, name = word.rpartition(":")
    if file.endswith(".py") and name.isidentifier():
        return file, name
    raise InvalidInputError(
        f"{word}: expected FILE.py:NAME, where NAME in FILE.py gives model, x, y, loss and "
        "optimizer"
    )


@contextmanager
def as_script(file: str) -> Iterator[None]:
    """Context manager: the import path and sys.argv of `python FILE.py`."""
    path, arguments = sys.path[:], sys.argv
    sys.path.insert(0, str(real_path(Path(file)).parent))
    sys.argv = [file]
    try:
        yield
    finally:
        sys.path[:], sys.argv = path, arguments


def own_training(options: Options, file: str, name: str) -> dict[str, Any]:
    """Return the arguments of `trainability.check` from NAME in a file. Raises RhnError."""
    module = module_of(Path(file))
    if not hasattr(module, name):
        near = nearest(name, vars(module))
        hint = f"did you mean {near[0]}?" if near else "expected the name of a training in it"
        raise InvalidInputError(f"the file has no such name: {hint}")
    given = arguments_of(getattr(module, name))
    limits = {"steps": options.steps, "seconds": options.seconds}
    if given_flags(options, ("seed",)):
        limits["seed"] = options.seed
    return given | {name: value for name, value in limits.items() if value is not None}


def module_of(path: Path) -> ModuleType:
    """Run a Python file under a name other than "__main__"; return it as a module. Raises
    InvalidInputError.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} is not there: expected a file of Python")
    check_file(path)
    module = ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # where dataclasses and pickle look for its names
    exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    return module


def arguments_of(value: Any) -> dict[str, Any]:
    """Return the arguments of `trainability.check` that a training run in a file holds.

    value: a `Training`, a dictionary, an object, or a function that returns one of these. Raises
    InvalidInputError for any other value, for a required argument that is missing, and for an
    unknown one.
    """
    from trainability.training import Training

    if inspect.isroutine(value) or isinstance(value, partial):
        value = returned_by(value)
    if isinstance(value, Training):
        return {"model": value}
    given = entries_of(value) if isinstance(value, Mapping) else attributes_of(value)
    if "loss" in given and "loss_fn" in given:
        raise InvalidInputError("loss and loss_fn are both given: leave one out")
    parts = {"loss" if name == "loss_fn" else name: part for name, part in given.items()}
    if missing := [name for name in NEEDED if name not in parts]:
        kind = "a dictionary" if isinstance(value, Mapping) else kind_of(value)
        raise InvalidInputError(
            f"it is {kind} without {', '.join(missing)}: expected a dictionary or an object with "
            "model, x, y, loss and optimizer"
        )
    parts["loss_fn"] = parts.pop("loss")
    return parts


def entries_of(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the parts in a dictionary. Raises InvalidInputError for an unknown key."""
    known = known_arguments()
    for name in value:
        if name not in known:
            near = nearest(str(name), known)
            hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(sorted(known))}"
            raise InvalidInputError(f"{name!r} is no part of a training run: {hint}")
    return dict(value)


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that are parts of a training run."""
    return {name: getattr(value, name) for name in known_arguments() if hasattr(value, name)}


def returned_by(function: Any) -> Any:
    """Call a function without arguments. Raises InvalidInputError if it needs some."""
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InvalidInputError(
            f"it cannot be called without arguments ({error}): expected a function without them"
        ) from None
    return function()


def known_arguments() -> set[str]:
    """Return the names of all arguments of `trainability.check` that a file may give."""
    from trainability.check import check
    from trainability.training import Training

    names = {*inspect.signature(check).parameters, *inspect.signature(Training).parameters, "loss"}
    return names.difference(OF_COMMAND)


# A network that predicts the next frames of sequences


def of_next_frames(options: Options) -> dict[str, Any]:
    """Return the arguments of `trainability.check` for a network and sequences. Raises RhnError."""
    from gersgorin.cli.load import chorales_file
    from gersgorin.cli.new import check_network_options
    from gersgorin.data.files import chorale_excerpts, read_numbers
    from gersgorin.data.inputs import reads_ids
    from gersgorin.data.layout import declared_axis
    from gersgorin.losses import mean_of_frames

    check_network_options(options)
    data = read_numbers(options.input) if options.input else None
    if data is None:
        frames = chorale_excerpts(chorales_file(options, options.data))
    else:
        frames = data.frames().numpy()
    name, model, loss, stored = network_of(options, frames.shape[-1])
    if data is not None and reads_ids(model, ids := data.ids()):
        frames, loss = ids.long().numpy(), "categorical"
    if len(frames) < 2:
        raise InvalidInputError(
            f"{options.input} has one step: expected at least two, since a step is predicted from "
            "those before it"
        )
    axis = 0 if declared_axis(model) == 0 else 1
    settings = SETTINGS | stored
    batch_size = options.batch_size or settings["batch_size"]
    batches = options.batches or math.ceil(frames.shape[1] / batch_size)
    parts = {
        "model": model,
        "x": frames[:-1].swapaxes(0, 1 - axis),
        "y": frames[1:].swapaxes(0, 1 - axis),
        "loss_fn": mean_of_frames(loss),
        "optimizer": optimizer_of_options(options, model, settings),
        "name": name,
        "batch_axis": axis,
        "batch_size": batch_size,
        "steps": steps_of(options, settings["epochs"] * batches, batches),
        "clip_norm": options.clip_norm,
        "seed": options.seed,
    }
    return parts if options.seconds is None else parts | {"seconds": options.seconds}


def steps_of(options: Options, usual: int, batches: int) -> int:
    """Return the number of optimiser steps: --steps, --epochs of `batches` steps each, or the usual
    number.
    """
    if options.steps is not None:
        return options.steps
    if options.epochs is not None:
        return options.epochs * batches
    return STEPS if options.optimizer else usual


def optimizer_of_options(options: Options, model: Any, settings: Mapping[str, Any]) -> Any:
    """Return the optimiser: --optimizer with torch's defaults, otherwise that of the settings."""
    from trainability.optimizers import TORCH_OPTIMIZERS

    given = {"lr": options.learning_rate, "momentum": options.momentum}
    name, usual = options.optimizer or "sgd", dict[str, Any]()
    if options.momentum is not None and name not in WITH_MOMENTUM:
        raise InvalidInputError(f"--momentum is for {' and '.join(WITH_MOMENTUM)}, not for {name}")
    if options.optimizer is None:
        usual = {"lr": settings["learning_rate"], "momentum": settings["momentum"]}
    chosen = usual | {key: value for key, value in given.items() if value is not None}
    try:
        return TORCH_OPTIMIZERS[name](model.parameters(), **chosen)
    except ValueError as error:  # of torch, for a model without parameters
        raise InvalidInputError(f"cannot make {name}: {first_line(error)}") from error


def network_of(options: Options, width: int) -> tuple[str, Any, str, dict[str, Any]]:
    """Return (name, network, loss, settings) of the training run of the options, for frames of
    `width` numbers.
    """
    from gersgorin.cli.with_output import model_of_file
    from rhn.models import LanguageModel

    model, label, loss = model_of_file(options, width)
    name = label.name
    if loss is not None:
        return name, model, loss, {}
    if isinstance(model, LanguageModel):
        raise no_frames(options.checkpoint)
    return name, model, "bernoulli", stored_settings(Path(str(options.checkpoint)))


def stored_settings(checkpoint: Path) -> dict[str, Any]:
    """Return the settings of the training run that wrote a checkpoint."""
    from rhn.checkpoints import entry_of, read_metadata

    about = read_metadata(checkpoint)["metadata"]
    # a trial has the last two
    stored = entry_of(about, "train") | entry_of(about, "study") | entry_of(about, "settings")
    names = ("learning_rate", "momentum", "epochs")
    return {key: value for key in names if isinstance(value := stored.get(key), int | float)}


def no_frames(given: Any) -> InvalidInputError:
    """Return the error for a file that is a language model."""
    return InvalidInputError(
        f"{given} is a language model: expected a network that predicts frames; for a text give "
        "FILE.py:NAME with windows of its tokens"
    )
