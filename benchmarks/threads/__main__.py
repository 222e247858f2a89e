"""Judge the causes that `gersgorin.check` names.

    python -m benchmarks.threads development OUT.csv
    python -m benchmarks.threads set_aside OUT.csv
    python -m benchmarks.threads healthy OUT.csv
    python -m benchmarks.threads report OUT.csv ...
    python -m benchmarks.threads healthy --plain

`development` runs the threads with odd numbers, by which the causes were written, `set_aside` 19
others, rebuilt by somebody else and run once, `healthy` 59 healthy trainings, for which no cause is
right. `report` prints the tables. With `--plain` a plain loop prints the errors of the threads,
broken and repaired.

The first three go on where they stopped. A thread counts if a plain loop shows its symptom and the
repair takes it away: the error of the repaired training is at most `REPAIRED` of that of the broken
one.
"""

import argparse
import csv
import importlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import gersgorin
from benchmarks.rows import fill
from benchmarks.threads.trainings import Training, error, fit
from rhn.errors import RhnError
from rhn.plotting.figure import Block, compose
from rhn.utils.figures import BLUE, SKY, save_figure

HERE = Path(__file__).parent
REPAIRED = 0.7


def checked(make: Callable[[], Training], seconds: float) -> dict:
    """What check says of a training; its cost in trainings, by the processor's time."""
    given, training = make(), make()
    began = time.process_time()
    losses = fit(given)
    took = time.process_time() - began
    own = {"losses": losses} if training.fit is not None or "scheduler" in training.options else {}
    parts = (training.model, training.x, training.y, training.loss_fn, training.optimizer)
    began = time.process_time()
    try:
        found = gersgorin.check(
            *parts,
            steps=training.steps,
            batch_size=training.batch_size,
            seconds=seconds,
            **own,
            **training.options,
        )
    except RhnError as refused:
        return {
            "error": error(given),
            "outcome": f"refused: {refused}",
            "causes": "",
            "sure": "",
            "cost": 0.0,
        }
    return {
        "error": error(given),
        "outcome": found.outcome,
        "causes": " | ".join(cause.name for cause in found.causes),
        "sure": " | ".join(cause.name for cause in found.causes if cause.sure),
        "why": found.why or "",
        "cost": (time.process_time() - began) / max(took, 1e-9),
    }


def runs_of(kind: str, seconds: float, plain: bool) -> dict[str, Callable[[], dict]]:
    """Of every training of a set by its key: the function that runs it."""
    module, judged = (
        importlib.import_module(f"benchmarks.threads.{kind}"),
        partial(checked, seconds=seconds),
    )
    judged = trained if plain else judged
    if kind == "healthy":
        return {name: partial(judged, make) for name, make in module.HEALTHY.items()}
    table = {
        int(row["number"]): row["cause"] for row in csv.DictReader((HERE / "threads.csv").open())
    }

    def run(number: int, make: Callable[[bool], Training]) -> dict:
        repaired = trained(partial(make, True))["error"]
        return {"truth": table[number], "repaired": repaired} | judged(partial(make, False))

    return {
        str(number): partial(run, number, make)
        for number, make in getattr(module, kind.upper()).items()
    }


def trained(make: Callable[[], Training]) -> dict:
    """The error after a plain loop."""
    training = make()
    fit(training)
    return {"error": error(training)}


def counted(rows: list[dict]) -> list[dict]:
    """The threads that count, each with the names of its true causes and of those that were
    found.
    """
    names = lambda text: [name.strip() for name in text.split("|") if name.strip()]  # noqa: E731
    return [
        {"key": row["key"], "outcome": row["outcome"]}
        | {part: names(row[part]) for part in ("truth", "causes", "sure")}
        for row in rows
        if float(row["repaired"]) <= REPAIRED * float(row["error"])
    ]


def shares(rows: list[dict]) -> dict[str, tuple[int, int]]:
    """(Right, of how many) threads with the true cause first, among three; causes called sure,
    among the first three.
    """
    found = counted(rows)
    first = sum(row["causes"][:1] != [] and row["causes"][0] in row["truth"] for row in found)
    three = sum(any(name in row["truth"] for name in row["causes"][:3]) for row in found)
    sure = [name in row["truth"] for row in found for name in row["sure"]]
    named = [name in row["truth"] for row in found for name in row["causes"][:3]]
    return {
        "the true cause first": (first, len(found)),
        "among three": (three, len(found)),
        "right of those called sure": (sum(sure), len(sure)),
        "right of all named": (sum(named), len(named)),
    }


def report(rows: list[dict]) -> str:
    """Shares of causes that are right, and what was named wrongly; of healthy trainings what is
    named at all.
    """
    if "truth" not in rows[0]:
        sure, named = (sum(bool(row[key]) for row in rows) for key in ("sure", "causes"))
        lines = [
            f"{len(rows)} healthy trainings: {sure} with a cause called sure, {named} with any"
        ]
        return "\n".join(
            lines + [f"  {row['key']}: {row['causes']}" for row in rows if row["causes"]]
        )
    lines = [f"{len(counted(rows))} of {len(rows)} threads count"]
    lines += [
        f"  {words}: {right} of {all_}, {right / max(1, all_):.0%}"
        for words, (right, all_) in shares(rows).items()
    ]
    for row in counted(rows):
        if row["causes"][:1] == [] or row["causes"][0] not in row["truth"]:
            named = " | ".join(row["causes"]) or "nothing"
            lines.append(
                f"  thread {row['key']}: {' | '.join(row['truth'])}; named: {named} "
                f"({row['outcome']})"
            )
    return "\n".join(lines)


def picture(files: list[Path], path: Path) -> None:
    """Draw the shares of both halves of the threads."""
    titles = {
        "development": "threads by which the causes were written",
        "run": "threads set aside, first run",
    }
    named = [(titles[word], f) for f in files if (word := f.stem.split("-")[-1]) in titles]
    every = {title: shares([*csv.DictReader(f.open())]) for title, f in named}
    words = {
        "the true cause first": "the true cause is first",
        "among three": "the true cause is among three",
    }
    words |= {"right of all named": "of all causes named, right"}

    def bars(ax) -> None:
        for k, (title, found) in enumerate(every.items()):
            found = [found[word] for word in words]
            at = [i + 0.36 * k for i in range(len(words))]
            ax.barh(
                at, [right / all_ for right, all_ in found], 0.34, label=title, color=(SKY, BLUE)[k]
            )
            for i, (right, all_) in zip(at, found, strict=True):
                ax.text(right / all_ + 0.01, i, f"{right} of {all_}", va="center")
        ax.set(xlim=(0, 1.1), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel="share")
        ax.set_yticks([i + 0.18 for i in range(len(words))], words.values())
        ax.invert_yaxis()

    right, all_ = every[titles["run"]]["the true cause first"]
    title = (
        f"check names first why a recurrent network does not learn in {right} of {all_} "
        "public threads that it had not seen"
    )
    save_figure(path, lambda: compose(title, "", Block([bars], 1.8, legend=True), width=7))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["development", "set_aside", "healthy", "report"])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--plain", action="store_true", help="train only, and print errors")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", nargs="*", help="keys of the rows to run")
    parser.add_argument("--figure", type=Path, help="with report: draw the shares of both halves")
    options = parser.parse_args()
    if options.kind == "report":
        for path in options.files:
            print(f"{path.name}: {report([*csv.DictReader(path.open())])}")
        if options.figure:
            picture(options.files, options.figure)
        return
    torch.set_num_threads(1)
    path = Path(os.devnull) if options.plain else options.files[0]
    columns = ["key", "truth", "repaired"] * (options.kind != "healthy") or ["key"]
    columns += ["error", "outcome", "causes", "sure", "why", "cost"]
    runs = runs_of(options.kind, options.seconds, options.plain)
    rows = [{"key": key} for key in runs if not options.only or key in options.only]
    fill(path, ["key"], rows, lambda row: runs[row["key"]](), columns)


if __name__ == "__main__":
    main()
