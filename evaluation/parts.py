"""Find the right parts of a training run by experiment: which part repairs it, if only that part is
replaced?

    nice python -m evaluation.parts run evaluation/right_parts.jsonl   # goes on where it stopped
    python -m evaluation.parts table evaluation/right_parts.jsonl      # right_parts.csv, threads.md

Every thread is trained as written, repaired, and with one part replaced (`replacements`), in plain
loops from three seeds that nothing else uses. A seed determines data, weights and minibatch order.
The error is the relative error on fresh examples (1: the constant predictor). An error above 1, or
not finite, counts as 1. A part *closes* the gap if it lowers the error by at least 80 % as much as
the repair does. If the repair lowers the error by less than 0.1, no part is judged. If there are
several ways to replace a part, the best one from the first seed is tried again with the other
seeds.

A row has as many optimiser steps as the training run as written, unless it takes more processor
seconds than `--cap`, and more than five times those of the training run as written. If a row was
cut off and does not close the gap, it is not judged.
"""

import argparse
import csv
import json
import math
import random
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from evaluation.clock import count_steps, until_cut_off
from evaluation.replacements import OF_THE_REPAIRED, PARTS, Change, changed_parts, replacements
from evaluation.sets import SETS, THREADS, trainings
from evaluation.threads.trainings import Training, error, fit

HERE = Path(__file__).parent
TABLE, PAGE = HERE / "right_parts.csv", HERE / "threads.md"
SEEDS = (1, 2, 3)
WRITTEN, REPAIRED = "as written", "repaired"
CLOSES, GAP = 0.8, 0.1
NO_CHANGE = "does not apply"
PATIENCE = 60.0  # seconds of the processor for a training as written or repaired
LONGER = 5  # times the training as written, for one with a part replaced
COLUMNS = ("set", "number", "part", "replacement", "errors", "share", "closes", "note")

Make = Callable[..., Training]


def seed_of(number: str, seed: int) -> int:
    """A seed of data and weights that no set uses."""
    return 1_000_000 * seed + (int(number) if number.isdigit() else 0)


def measured(make: Callable[[], Training | None], seed: int, cap: float) -> dict[str, Any]:
    """Train in a plain loop: error on fresh examples, steps, processor seconds, what went wrong."""
    row: dict[str, Any] = {"error": None, "steps": 0}
    began, count = time.process_time(), [0]
    try:
        torch.manual_seed(seed)
        training = make()
        if training is None:
            return row | {"problem": NO_CHANGE}
        count = count_steps(training)
        row["of"] = training.steps
        if until_cut_off(lambda: fit(training, seed), cap):
            row["cut off"] = True
        value = error(training)
        row |= {"error": round(value, 4) if math.isfinite(value) else None}
        if row["error"] is None:
            row["problem"] = "not finite"
    except Exception as problem:  # whatever a training of mixed parts raises
        row["problem"] = f"{type(problem).__name__}: {problem}"[:120]
    return row | {"steps": count[0], "seconds": round(time.process_time() - began, 2)}


def run(out: Path, names: list[str], seeds: tuple[int, ...], cap: float) -> None:
    """Append the rows that the file lacks: all threads from the first seed, then from the next;
    four times the steps, which take long, and healthy trainings at the end.
    """
    rows = read(out)
    threads = [name for name in names if not name.endswith("healthy")]
    for long, seed, name in product((False, True), seeds, threads):
        for number, make in shuffled_trainings(name):
            Thread(out, rows, name, number, make, seed, cap).run(long=long)
    for name in names:
        for number, make in shuffled_trainings(name) if name not in threads else ():
            run_healthy(out, rows, name, number, make)


def shuffled_trainings(name: str) -> Iterator[tuple[str, Make]]:
    """The trainings of a set in an order drawn at random, so that a part of them is a sample."""
    every = trainings(name)
    return iter(random.Random(0).sample(every, len(every)))


def run_healthy(out: Path, rows: list[dict], name: str, number: str, make: Make) -> None:
    """The training as it is."""
    if not any((row["set"], row["number"]) == (name, number) for row in rows):
        row = measured(make, SEEDS[0], PATIENCE)
        own = {"set": name, "number": number, "seed": SEEDS[0], "part": WRITTEN, "replacement": ""}
        append(out, rows, own | row)


class Thread:
    """The rows of one thread from one seed."""

    def __init__(
        self, out: Path, rows: list[dict], name: str, number: str, make: Make, seed: int, cap: float
    ):
        self.out, self.rows, self.make, self.seed, self.cap = out, rows, make, seed, cap
        self.key = {"set": name, "number": number}
        self.drawn = seed_of(number, seed)

    def run(self, *, long: bool) -> None:
        """Append what is missing; long: also the trainings of more steps."""
        written = self.row(WRITTEN, "", lambda: self.make(False, self.drawn), PATIENCE)
        self.row(REPAIRED, "", lambda: self.make(True, self.drawn), PATIENCE)
        cap = max(self.cap, LONGER * written["seconds"])
        for part, name, change in self.replacements():
            if long or part != "length":
                self.row(part, name, partial(self.changed, change), cap)

    def changed(self, change: Change) -> Training | None:
        """The training with one part replaced."""
        return change(self.make(False, self.drawn), self.make(True, self.drawn))

    def replacements(self) -> Iterator[tuple]:
        """Every replacement from the first seed, afterwards the best of each part."""
        torch.manual_seed(self.drawn)
        every = replacements(self.make(False, self.drawn), self.make(True, self.drawn))
        own = [row for row in self.rows if row.items() >= self.key.items()]
        best = best_replacements(own)
        for part, name, change in every:
            if self.seed == SEEDS[0] or best.get(part) == name:
                yield part, name, change

    def row(self, part: str, name: str, make: Callable[[], Training | None], cap: float) -> dict:
        """The row of the file, or a new one."""
        key = self.key | {"seed": self.seed, "part": part, "replacement": name}
        known = next((row for row in self.rows if row.items() >= key.items()), None)
        if known is None:
            found = measured(make, self.drawn, cap)
            if part == REPAIRED:
                pair = self.make(False, self.drawn), self.make(True, self.drawn)
                found["changes"] = changed_parts(*pair)
            known = append(self.out, self.rows, key | found)
        return known


def best_replacements(rows: list[dict]) -> dict[str, str]:
    """By part: the replacement with the least error from the first seed."""
    first = [row for row in rows if row["seed"] == SEEDS[0] and "problem" not in row]
    first.sort(key=lambda row: -row["error"])
    return {row["part"]: row["replacement"] for row in first}


def append(out: Path, rows: list[dict], row: dict) -> dict:
    """Add a row to the file and print it."""
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)
    rows.append(row)
    return row


def read(path: Path) -> list[dict]:
    """The rows of a file, none if it is not there."""
    return [json.loads(line) for line in path.open()] if path.exists() else []


# The table


def table_of(rows: list[dict]) -> list[dict]:
    """One row for each thread and part: errors by seed, the share of the gap that it closes."""
    threads: dict[tuple, list[dict]] = defaultdict(list)
    for row in rows:
        threads[row["set"], row["number"]].append(row)
    return [row for key in sorted(threads, key=by_set) for row in rows_of_thread(threads[key])]


def by_set(key: tuple[str, str]) -> tuple:
    """Sort by set, then by number or name."""
    name, number = key
    return list(SETS).index(name), int(number) if number.isdigit() else 0, number


def rows_of_thread(rows: list[dict]) -> list[dict]:
    """As written, repaired, and the best replacement of each part."""
    best = best_replacements(rows) | {WRITTEN: "", REPAIRED: ""}
    chosen = [rows_of_part(rows, part, best.get(part)) for part in (WRITTEN, REPAIRED, *PARTS)]
    return [summary(own, rows) for own in chosen if own] + repaired_part(rows)


def rows_of_part(rows: list[dict], part: str, best: str | None) -> list[dict]:
    """The rows of the best replacement of a part, or one that failed."""
    own = [row for row in rows if row["part"] == part]
    if best is not None:
        return [row for row in own if row["replacement"] == best]
    return [row for row in own if row.get("problem") != NO_CHANGE][:1]


def repaired_part(rows: list[dict]) -> list[dict]:
    """The row of the part that the repair changes, if it is one: that of the repaired training."""
    own = [row for row in rows if row["part"] == REPAIRED]
    changes = own[0]["changes"] if own else []
    row = summary(own, rows) if len(changes) == 1 else {}
    if not row or not row["share"]:
        return []
    return [row | {"part": changes[0], "replacement": OF_THE_REPAIRED}]


def summary(own: list[dict], rows: list[dict]) -> dict:
    """The table's row of a replacement."""
    errors = {row["seed"]: clipped(row) for row in own}
    share = share_of(rows, errors)
    cut = [row for row in own if row.get("cut off")]
    verdict = "" if share is None else "yes" if share >= CLOSES else "no"
    notes = [f"stopped at step {row['steps']} of {row['of']}" for row in cut]
    notes += sorted({row["problem"] for row in own if "problem" in row})
    return {
        "set": own[0]["set"],
        "number": own[0]["number"],
        "part": own[0]["part"],
        "replacement": own[0]["replacement"],
        "errors": " ".join(f"{value:.3f}" for value in errors.values()),
        "share": "" if share is None else f"{share:.2f}",
        "closes": "" if cut and verdict == "no" else verdict,
        "note": "; ".join(notes),
    }


def clipped(row: dict) -> float:
    """The error, at most 1; 1 if it is not finite."""
    return 1.0 if row["error"] is None else min(1.0, max(0.0, row["error"]))


def share_of(rows: list[dict], errors: dict[int, float]) -> float | None:
    """How much of the repair's gain is reached by errors, by seed; None if that gain is too small,
    or not measured from these seeds.
    """
    ends = []
    for part in (WRITTEN, REPAIRED):
        values = {row["seed"]: clipped(row) for row in rows if row["part"] == part}
        if not values.keys() >= errors.keys():
            return None
        ends.append(statistics.fmean(values[seed] for seed in errors))
    gap = ends[0] - ends[1]
    return (ends[0] - statistics.fmean(errors.values())) / gap if gap >= GAP else None


def write_table(rows: list[dict]) -> None:
    """Write right_parts.csv and threads.md, and print how far the rows came."""
    table = table_of(rows)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    PAGE.write_text(page_of(table))
    for name in SETS:
        own = {row["number"] for row in table if row["set"] == name}
        print(f"{name}: {len(own)} of {len(trainings(name))}")


def page_of(table: list[dict]) -> str:
    """A table of threads in Markdown: address, cause, owner's part, right parts by experiment."""
    lines = [
        "# Threads, their causes, and the parts that are right",
        "",
        "`python -m evaluation.parts table` writes this page. *Error, repaired* has two",
        "relative errors (1: the constant predictor): the error of the training run as its",
        "owner wrote it, and the error with the owner's repair. Both are means over seeds. The",
        "gap is the difference of these two errors. The last column has the parts that close at",
        "least 80 % of the gap if only this part is replaced; `-`: the gap is below 0.1.",
        "",
        "| thread | set | cause | repaired by its owner | error, repaired | closes the gap |",
        "|---|---|---|---|---|---|",
    ]
    for thread in csv.DictReader(THREADS.open()):
        own = [row for row in table if row["number"] == thread["number"]]
        ends = [mean_of(own, part) for part in (WRITTEN, REPAIRED)]
        closing = [part for part in PARTS if any(closes(row, part) for row in own)]
        told = any(row["share"] for row in own)
        lines.append(
            f"| [{thread['number']}]({thread['address']}) | {thread['set']} "
            f"| {thread['cause'].replace('|', 'or')} | {thread['part'].replace('|', 'or')} "
            f"| {', '.join(ends)} | {', '.join(closing) if told else '-' if own else ''} |"
        )
    return "\n".join(lines) + "\n"


def closes(row: dict, part: str) -> bool:
    """True if this is a row of the part, and it mends the training."""
    return row["part"] == part and row["closes"] == "yes"


def mean_of(rows: list[dict], part: str) -> str:
    """The mean error of a part's row."""
    for row in rows:
        if row["part"] == part:
            return f"{statistics.fmean(map(float, row['errors'].split())):.2f}"
    return ""


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("rows", type=Path)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--cap", type=float, default=10.0, help="processor seconds of a row")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if asked.what == "run":
        run(asked.rows, asked.sets, SEEDS, asked.cap)
    else:
        write_table(read(asked.rows))


if __name__ == "__main__":
    main()
