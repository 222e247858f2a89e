"""Build the training of `gersgorin check` from its options: a network, and its targets or next
frames.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gersgorin.checking.checking import MOMENTUM
from gersgorin.loading.open import model_of_options, module_of_options
from gersgorin.loading.sources import chorale_excerpts, read_array, read_numbers
from gersgorin.training.losses import LOSSES, mean_of_frames
from gersgorin.training.minibatches import BATCH_SIZE
from gersgorin.training.optimizer import OPTIMIZERS
from rhn.cells.registry import import_named
from rhn.checkpoints import read_metadata
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel
from rhn.training.config import LanguageConfig
from rhn.utils.options import flag
from rhn.utils.wording import first_line

WITH_MOMENTUM = ("sgd", "rmsprop")
STEPS = 3000  # with --optimizer
SETTINGS = {"learning_rate": 0.1, "momentum": MOMENTUM, "epochs": 300, "batch_size": BATCH_SIZE}
"""Of SGD on next frames."""


def training_of(options: Any) -> dict[str, Any]:
    """The arguments of `gersgorin.check`. Raises RhnError."""
    parts, settings = (
        _with_targets(options) if options.target or options.loss else _of_next_frames(options)
    )
    rate, momentum = options.learning_rate, options.momentum
    if options.optimizer is None:
        rate = settings["learning_rate"] if rate is None else rate
        momentum = settings["momentum"] if momentum is None else momentum
    elif momentum is not None and options.optimizer not in WITH_MOMENTUM:
        raise InvalidInputError(
            f"--momentum is for {' and '.join(WITH_MOMENTUM)}, not for {options.optimizer}"
        )
    given = {
        name: value
        for name, value in {"lr": rate, "momentum": momentum}.items()
        if value is not None
    }
    try:
        optimizer = OPTIMIZERS[options.optimizer or "sgd"](parts["model"].parameters(), **given)
    except ValueError as error:  # of torch, for a model without parameters
        raise InvalidInputError(
            f"cannot make {options.optimizer or 'sgd'}: {first_line(error)}"
        ) from error
    batch_size = settings["batch_size"] if options.batch_size is None else options.batch_size
    return parts | {
        "optimizer": optimizer,
        "batch_size": batch_size,
        "steps": _steps(
            options, settings["epochs"], lambda: math.ceil(_count(parts) / max(1, batch_size))
        ),
        "clip_norm": options.clip_norm,
        "seed": options.seed,
        "seconds": options.seconds,
    }


def _count(parts: dict[str, Any]) -> int:
    """Number of sequences."""
    (x, y), axis = (parts[name].shape for name in ("x", "y")), parts["batch_axis"]
    if axis is None and x[:2] == y[:2]:
        raise InvalidInputError(
            "--epochs needs --batch-axis 0 or 1, that of the sequences in --input; or give --steps"
        )
    return x[x[0] != y[0] if axis is None else axis]


def _steps(options: Any, epochs: int, batches: Callable[[], int]) -> int:
    """Length of the training: --steps, or epochs of minibatches, or with --optimizer 3,000."""
    if options.steps is not None:
        return options.steps
    if options.optimizer and options.epochs is None:
        return STEPS
    return (options.epochs or epochs) * (options.batches or batches())


def _with_targets(options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    needed = ("module", "input", "target", "loss", "optimizer")
    if missing := [flag(name) for name in needed if getattr(options, name) is None]:
        raise InvalidInputError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: a "
            "training on your targets needs "
            "--module, --input, --target, --loss and --optimizer"
        )
    x, y = (torch.from_numpy(read_array(path)) for path in (options.input, options.target))
    if options.loss not in LOSSES and ":" not in options.loss:
        raise InvalidInputError(
            f"--loss {options.loss}: {options.loss!r} is not a loss, expected "
            f"{', '.join(LOSSES)}, or your function of "
            "(output, target) as package.module:function"
        )
    loss_fn = options.loss if options.loss in LOSSES else import_named(options.loss, "loss")
    model = module_of_options(options, x.shape[-1] if x.is_floating_point() else None)
    like = next(model.parameters(), torch.zeros(0))
    x, y = (t.to(like.dtype) if t.is_floating_point() else t for t in (x, y))
    parts = {"model": model, "x": x, "y": y, "loss_fn": loss_fn, "name": options.module}
    return parts | {"batch_axis": options.batch_axis}, SETTINGS


def _of_next_frames(options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if options.input is None:
        frames = chorale_excerpts(options.data)
    else:
        frames = read_numbers(options.input).values.swapaxes(0, 1)
    name, model, loss, settings = _network(options, frames.shape[-1])
    x, y, loss_fn = frames[:-1], frames[1:], mean_of_frames(loss)
    parts = {"model": model, "x": x, "y": y, "loss_fn": loss_fn, "name": name, "batch_axis": 1}
    return parts, SETTINGS | settings


def _network(options: Any, width: int) -> tuple[str, nn.Module, str, dict[str, Any]]:
    """(Name, network, loss, settings of its training) of the options, for frames of some width."""
    if options.preset:
        return options.preset, *_preset(options)
    name, model, loss, _ = model_of_options(options, width)
    if loss is not None:
        return name, model, loss, {}
    if isinstance(model, LanguageModel):
        raise _no_frames(options.checkpoint)
    about = read_metadata(options.checkpoint).get("metadata") or {}
    stored = about.get("train") or {}
    for part in (about.get("study"), about.get("settings")):  # of a trial
        stored |= part if isinstance(part, dict) else {}
    names = ("learning_rate", "momentum", "epochs")
    return (
        name,
        model,
        "bernoulli",
        {key: value for key in names if isinstance(value := stored.get(key), int | float)},
    )


def _preset(options: Any) -> tuple[nn.Module, str, dict[str, Any]]:
    from rhn.presets import preset
    from rhn.training.ensemble import build_model

    config = preset(options.preset, options.cell, options.cell_options)
    if isinstance(config, LanguageConfig):
        raise _no_frames(options.preset)
    return (
        build_model(config, None, seed=options.seed),
        "bernoulli",
        {name: getattr(config, name) for name in SETTINGS},
    )


def _no_frames(given: Any) -> InvalidInputError:
    """The error for a language model, a preset or a file."""
    return InvalidInputError(
        f"{given} is a language model: expected a network that predicts frames; for a text "
        "call in Python "
        "gersgorin.check(model, x, y, loss_fn, optimizer) with windows of its tokens"
    )
