"""`rhn train ptb-...`: a language model on a text."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.command import print_json, resolve_device
from rhn.commands.starting import about_data, minutes
from rhn.presets import LanguageConfig

if TYPE_CHECKING:
    from rhn.commands.resume import Resume
    from rhn.commands.train import Train
    from rhn.data.text import TextCorpus

ONE_THREAD = 500  # hidden units below which a second thread costs more than it brings


def train_text(config: LanguageConfig, seeds: Sequence[int], options: "Train | Resume") -> None:
    """Train or go on, and print what it came to."""
    device, limit = resolve_device(options.device), minutes(options)
    from rhn.engine.numerics import keep_memory
    from rhn.language.evaluation import measure_name
    from rhn.language.progress import tensorboard_writer, training_progress
    from rhn.language.runs import train

    out, corpus = options.out, text_corpus(config, options.data)
    threads, name = _threads(options.threads, config), measure_name(corpus.vocabulary)
    keep_memory()
    with (
        tensorboard_writer(out if options.tensorboard else None) as write,
        training_progress(config, seeds, name) as show,
    ):

        def on_epoch(seed: int, line: dict) -> None:
            write(seed, line)
            show.epoch(seed, line)

        shared = {"seeds": seeds, "device": device, "threads": threads, "max_minutes": limit}
        shared |= {"about": about_data(options.data), "on_unit": show.unit, "on_epoch": on_epoch}
        results = train(config, corpus, out, **shared)
    found = [_summary(result, name) for result in results]
    if options.json:
        print_json(found[0] if len(found) == 1 else {"seeds": found})
    else:
        _print(found, name, out)


def text_corpus(config: LanguageConfig, data: Path | None) -> "TextCorpus":
    """The text of a configuration; raises DataError."""
    from rhn.data.text import read_text

    unit = {"unit": config.unit} if config.corpus == "text" else {}  # the others have their own
    sizes = {"max_tokens": config.max_tokens, "vocabulary_size": config.vocabulary_size}
    return read_text(config.corpus, data, **unit, **sizes)


def _threads(threads: int | None, config: LanguageConfig) -> int:
    import torch

    if threads is not None:
        return threads
    return 1 if config.hidden_size < ONE_THREAD else torch.get_num_threads()


def _summary(result, name: str) -> dict:
    from rhn.language.evaluation import measure

    return {
        "seed": result.seed,
        "checkpoint": result.checkpoint if result.best_epoch else None,
        "best_epoch": result.best_epoch,
        f"train_{name}": measure(result.train_nll, name),
        f"valid_{name}": measure(result.valid_nll, name),
        "epochs": result.epochs,
        "finished": result.finished,
        "diverged": result.diverged,
    }


def _print(found: list[dict], name: str, out: Path) -> None:
    words = name.replace("_", " ").replace("bits per", "bits a")
    print(f"{'seed':>4} {'epochs':>7} {'best':>5} {'train':>10} {'valid':>10}   {words} at the best epoch")
    for row in found:
        losses = [f"{row[f'{split}_{name}']:.4f}" if row["best_epoch"] else "-" for split in ("train", "valid")]
        diverged = f"   diverged: {row['diverged']}" if row["diverged"] else ""
        print(
            f"{row['seed']:>4} {row['epochs']:>7} {row['best_epoch'] or '-':>5} {losses[0]:>10} {losses[1]:>10}{diverged}"
        )
    if not all(row["finished"] for row in found):
        print(f"time ran out; rhn resume {shlex.quote(str(out))} goes on")
    for row in found:
        if row["checkpoint"]:
            print(f"next: rhn evaluate {shlex.quote(str(Path(row['checkpoint']).parent))} --split test")
