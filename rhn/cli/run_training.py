"""What `rhn train` and `rhn resume` do: train as a configuration says, and print what it came to."""

import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.cli.common import own_cell, print_json, resolve_device
from rhn.cli.recording import chorale_recorders, text_recorders
from rhn.presets import ChoraleConfig, LanguageConfig
from rhn.utils.options import check_least
from rhn.utils.wording import counted

if TYPE_CHECKING:
    from rhn.cli.recording import Recorders
    from rhn.cli.resume import Resume
    from rhn.cli.train import Train
    from rhn.data.text import TextCorpus

WORTH_SAYING = 60.0  # seconds: a training that takes less needs no estimate from its size
ONE_THREAD = 500  # hidden units below which a second thread costs more than it brings


def train(config: LanguageConfig | ChoraleConfig, seeds: Sequence[int], options: "Train | Resume") -> None:
    """Train or go on; `seeds` are those of a language model."""
    from rhn.training.numerics import tune_malloc

    check_least(options, max_minutes=0)
    shared = {
        "device": resolve_device(options.device),
        "max_minutes": math.inf if options.max_minutes is None else options.max_minutes,
        "about": {"path": None if options.data is None else str(options.data.absolute())},
    }
    tune_malloc()
    with own_cell(config.cell):
        if isinstance(config, LanguageConfig):
            finished = _train_text(config, seeds, options, shared)
        else:
            finished = _train_chorales(config, options, shared)
    if not finished and not options.json:
        print(f"time ran out; rhn resume {shlex.quote(str(options.out))} goes on")


def text_corpus(config: LanguageConfig, data: Path | None) -> "TextCorpus":
    """The text of a configuration; raises DataError."""
    from rhn.data.text import read_text

    unit = {"unit": config.unit} if config.corpus == "text" else {}  # the others have their own
    sizes = {"max_tokens": config.max_tokens, "vocabulary_size": config.vocabulary_size}
    return read_text(config.corpus, data, **unit, **sizes)


def _train_chorales(config: ChoraleConfig, options: "Train | Resume", shared: dict) -> bool:
    from rhn.data import chorales
    from rhn.training.chorale_progress import training_progress
    from rhn.training.chorale_runs import train

    corpus = chorales(options.data)
    say = _how_long(config, options, shared["device"], threads=1)
    with (
        chorale_recorders(options.record, config, options.out, corpus) as recorders,
        training_progress(config) as show,
    ):
        result = train(config, corpus, options.out, **shared, **_told(show, recorders, say))
    if options.json:
        print_json(asdict(result))
        return result.finished
    stopped = "diverged" if result.diverged else "done" if result.finished else "stopped"
    epochs = counted(result.epochs, "epoch")
    print(f"{stopped} after {epochs}; the best is epoch {result.best_epoch}, in nats a frame:")
    print(f"train {result.train_nll:.4f}   valid {result.valid_nll:.4f}   test {result.test_nll:.4f}")
    print(f"checkpoint: {result.checkpoint}")
    return result.finished


def _train_text(config: LanguageConfig, seeds: Sequence[int], options: "Train | Resume", shared: dict) -> bool:
    import torch

    from rhn.training.language_progress import tensorboard_writer, training_progress
    from rhn.training.language_runs import train
    from rhn.training.losses import measure, measure_name

    threads, out = options.threads, options.out
    if threads is None:
        threads = 1 if config.hidden_size < ONE_THREAD else torch.get_num_threads()
    corpus = text_corpus(config, options.data)
    say = _how_long(config, options, shared["device"], threads, len(seeds), corpus)
    name = measure_name(corpus.vocabulary)
    board = out / "tensorboard" if options.tensorboard else None
    with (
        text_recorders(options.record, config, out, corpus, seeds, board) as recorders,
        tensorboard_writer(out if options.tensorboard else None) as write,
        training_progress(config, seeds, name) as show,
    ):

        def on_epoch(seed: int, line: dict) -> None:
            write(seed, line)
            show.epoch(seed, line)

        shared |= {"seeds": seeds, "threads": threads, "on_epoch": on_epoch, **_told(show.unit, recorders, say)}
        results = train(config, corpus, out, **shared)
    found = [
        {
            "seed": result.seed,
            "checkpoint": result.checkpoint if Path(result.checkpoint).exists() else None,
            "best_epoch": result.best_epoch,
            f"train_{name}": measure(result.train_nll, name),
            f"valid_{name}": measure(result.valid_nll, name),
            "epochs": result.epochs,
            "steps": list(result.steps),
            "finished": result.finished,
            "diverged": result.diverged,
        }
        for result in results
    ]
    if options.json:
        print_json(found[0] if len(found) == 1 else {"seeds": found})
    else:
        _print_texts(found, name)
    return all(result.finished for result in results)


def _how_long(
    config: LanguageConfig | ChoraleConfig,
    options: "Train | Resume",
    device: str,
    threads: int,
    seeds: int = 1,
    text: "TextCorpus | None" = None,
) -> Callable[[], None]:
    """What says, before the first step of a new training on the CPU, which may itself take minutes, about how long all will take."""
    if device != "cpu" or (options.out / "state.safetensors").exists():
        return lambda: None

    def say() -> None:
        from rhn.cli.estimate import measured_rate, seconds_here
        from rhn.training.numerics import deterministic
        from rhn.utils.progress import duration, lines_of

        with deterministic(threads):
            seconds = seeds * seconds_here(config, measured_rate(), text)
        if seconds >= WORTH_SAYING:
            told = f"all {config.epochs} epochs take about {duration(seconds)} on this CPU, judged by their size"
            print(lines_of(told), file=sys.stderr, flush=True)

    return say


def _told(show: Callable, recorders: "Recorders | None", begin: Callable[[], None]) -> dict[str, Callable]:
    """What the driver calls after every unit, and before every save; `begin` before all, when nothing more is refused."""
    begun = False

    def on_unit(training) -> None:
        nonlocal begun
        if not begun:
            begun = True
            begin()
        if recorders is not None:
            recorders.unit(training)
        show(training)

    return {"on_unit": on_unit} | ({} if recorders is None else {"on_save": recorders.save})


def _print_texts(found: list[dict], name: str) -> None:
    words = name.replace("_", " ").replace("bits per", "bits a")
    if any(row["best_epoch"] for row in found):
        print(f"{'seed':>4} {'epochs':>7} {'best':>5} {'train':>10} {'valid':>10}   {words} at the best epoch")
    for row in found:
        diverged = f"   diverged: {row['diverged']}" if row["diverged"] else ""
        if row["best_epoch"]:
            losses = f"{row[f'train_{name}']:>10.4f} {row[f'valid_{name}']:>10.4f}"
            print(f"{row['seed']:>4} {row['epochs']:>7} {row['best_epoch']:>5} {losses}{diverged}")
        else:
            print(f"seed {row['seed']}: no epoch has ended, {_unfinished(row)}{diverged}")
    for row in found:
        if row["checkpoint"]:
            print(f"next: rhn evaluate {shlex.quote(str(Path(row['checkpoint']).parent))} --split test")


def _unfinished(row: dict) -> str:
    """How far a training is that has ended no epoch."""
    done, steps = row["steps"]
    kept = (
        f"{row['checkpoint']} holds the weights of now, not validated"
        if row["checkpoint"]
        else "there is no checkpoint"
    )
    return f"{done} of {steps} steps of the first are done; {kept}"
