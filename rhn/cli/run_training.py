"""Train as a configuration says, for `rhn train` and `rhn resume`, and print the result."""

import contextlib
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.cli.entry import print_json, resolve_device
from rhn.presets import ChoraleConfig, LanguageConfig
from rhn.utils.options import check_least
from rhn.utils.user_code import own_cell
from rhn.utils.wording import counted

if TYPE_CHECKING:
    from rhn.data import Corpus
    from rhn.data.text import TextCorpus
    from rhn.training.run import TrainingResult

ONE_THREAD = 500  # hidden units below which a second thread costs more than it saves


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options that `rhn train` and `rhn resume` share."""

    out: Path
    data: Path | None
    max_minutes: float | None
    threads: int | None
    device: str
    json: bool
    record: int | None


def run_training(config: LanguageConfig | ChoraleConfig, seeds: Sequence[int], options: RunOptions) -> None:
    """Train or go on, print the result."""
    from rhn.training.progress import training_progress
    from rhn.training.reproducibility import tune_malloc
    from rhn.training.run import train

    check_least(options, max_minutes=0)
    device = resolve_device(options.device)
    tune_malloc()
    with own_cell(config.cell):
        corpus = load_corpus(config, options.data)
        threads = _threads(config, options)
        with contextlib.ExitStack() as stack:
            callbacks = [stack.enter_context(training_progress())]
            if options.record is not None:
                from rhn.cli.recording import recorders

                recorder = stack.enter_context(recorders(options.record, config, options.out, corpus, seeds))
                callbacks.insert(0, recorder)
            results = train(
                config,
                corpus,
                options.out,
                seeds=seeds,
                device=device,
                threads=threads,
                max_minutes=math.inf if options.max_minutes is None else options.max_minutes,
                about={"path": None if options.data is None else str(options.data.absolute())},
                callbacks=callbacks,
            )
    _print_results(config, results, corpus, options)


def load_corpus(config: LanguageConfig | ChoraleConfig, data: Path | None) -> "Corpus | TextCorpus":
    """The data of a configuration; raises DataError."""
    if isinstance(config, ChoraleConfig):
        from rhn.data import chorales

        return chorales(data)
    from rhn.data.text import read_text

    unit = {"unit": config.unit} if config.corpus == "text" else {}  # published texts have their own
    sizes = {"max_tokens": config.max_tokens, "vocabulary_size": config.vocabulary_size}
    return read_text(config.corpus, data, **unit, **sizes)


def _threads(config: LanguageConfig | ChoraleConfig, options: RunOptions) -> int:
    import torch

    if options.threads is not None:
        return options.threads
    return 1 if isinstance(config, ChoraleConfig) or config.hidden_size < ONE_THREAD else torch.get_num_threads()


def _print_results(config, results: "Sequence[TrainingResult]", corpus, options: RunOptions) -> None:
    finished = all(result.finished for result in results)
    chorales = isinstance(config, ChoraleConfig)
    if chorales:
        row = asdict(results[0])
        rows = [{name: value for name, value in row.items() if name not in ("seed", "steps")}]
    else:
        rows = [_text_row(result, corpus) for result in results]
    if options.json:
        print_json(rows[0] if len(rows) == 1 else {"seeds": rows})
        return
    if chorales:
        _print_chorales(rows[0])
    else:
        _print_texts(rows)
    if not finished:
        print(f"time ran out; rhn resume {shlex.quote(str(options.out))} goes on")
    elif all(_exploded(result, corpus) for result in results):
        sentence = (
            f"the losses have exploded at a learning rate of {config.learning_rate:g}: try a lower one in another --out"
        )
        print(sentence, file=sys.stderr)


def _exploded(result: "TrainingResult", corpus) -> bool:
    """Whether training has led nowhere: to no better chorales than the first weights, or to texts far below a guess of each token."""
    if result.test_nll is not None:
        return result.best_epoch == 0 < result.epochs
    return result.valid_nll > 2 * math.log(len(corpus.vocabulary))


def _print_chorales(row: dict) -> None:
    state = "done" if row["finished"] else "stopped"
    print(f"{state} after {counted(row['epochs'], 'epoch')}; the best is epoch {row['best_epoch']}, in nats a frame:")
    print(f"train {row['train_nll']:.4f}   valid {row['valid_nll']:.4f}   test {row['test_nll']:.4f}")
    print(f"checkpoint: {row['checkpoint']}")


def _text_row(result: "TrainingResult", corpus: "TextCorpus") -> dict:
    from rhn.training.losses import measure, measure_name

    name = measure_name(corpus.vocabulary)
    return {
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


def _print_texts(rows: list[dict]) -> None:
    name = next(key for key in rows[0] if key.startswith("train_")).removeprefix("train_")
    words = name.replace("_", " ").replace("bits per", "bits a")
    if any(row["best_epoch"] for row in rows):
        print(f"{'seed':>4} {'epochs':>7} {'best':>5} {'train':>10} {'valid':>10}   {words} at the best epoch")
    for row in rows:
        reason = f"   diverged: {row['diverged']}" if row["diverged"] else ""
        if row["best_epoch"]:
            losses = " ".join(
                f"{x:>10.4f}" if x < 1e5 else f"{x:>10.4g}" for x in (row[f"train_{name}"], row[f"valid_{name}"])
            )
            print(f"{row['seed']:>4} {row['epochs']:>7} {row['best_epoch']:>5} {losses}{reason}")
        else:
            done, steps = row["steps"]
            weights = f"{row['checkpoint']} holds the present weights, not validated"
            kept = weights if row["checkpoint"] else "there is no checkpoint"
            print(
                f"seed {row['seed']}: no epoch has ended, {done} of {steps} steps of the first are done; {kept}{reason}"
            )
    for row in rows:
        if row["checkpoint"]:
            print(f"next: rhn evaluate {shlex.quote(str(Path(row['checkpoint']).parent))} --split test")
