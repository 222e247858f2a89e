"""Try `trainability` on sets of threads, and its rule on recorded rows.

    python -m benchmarks.swaps facts FOLDER set_aside            # the facts of each thread
    python -m benchmarks.swaps check FOLDER set_aside OUT.jsonl  # of each; resumed
    python -m benchmarks.swaps rule PARTS.csv ROWS.jsonl ...     # the rule on rows of a prototype

FOLDER is a checkout that has the set: `git worktree add FOLDER COMMIT`, with the commits of
docs/results/2026-11-24-causes.md. `healthy` in place of `set_aside`: trainings without a fault.
"""

import argparse
import csv
import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

from rhn.errors import RhnError
from trainability.check import HELPS, MOST_OF_IT, check
from trainability.facts import facts
from trainability.probe import Probe
from trainability.swaps import PARTS
from trainability.training import Training

OPTIONS = ("clip_norm", "scheduler", "batch_axis")
SWAPS = {  # of the rows: the part that each changes
    "x": "inputs",
    "y": "targets",
    "loss": "loss",
    "reset": "initial weights",
    "opt1e-3": "optimizer",
    "opt1e-2": "optimizer",
    "opt1e-4": "optimizer",
    "dropout": "regularization",
    "steps": "length",
    "net": "network",
}


def threads(folder: Path, name: str) -> Iterator[tuple[str, str, Callable]]:
    """(Number, true cause, function that makes the training) of each thread of a set."""
    sys.path.insert(0, str(folder))
    sys.modules.pop("benchmarks", None)  # this package: the set imports that of its own commit
    module = importlib.import_module(f"benchmarks.threads.{name}")
    table = folder / "benchmarks" / "threads" / "threads.csv"
    truth = {row["number"]: row["cause"] for row in csv.DictReader(table.open())}
    for number, make in getattr(module, name.upper()).items():
        made = make if name == "healthy" else lambda make=make: make(False)
        yield str(number), truth.get(str(number), ""), made


def parts_of(training) -> tuple[tuple, dict]:
    """(Arguments in order, keywords) of a training of a set."""
    given = training.model, training.x, training.y, training.loss_fn, training.optimizer
    options = {name: training.options[name] for name in OPTIONS if name in training.options}
    return given, {"steps": training.steps, "batch_size": training.batch_size} | options


def print_facts(folder: Path, name: str) -> None:
    """Print the facts of each thread beside its true cause."""
    for number, truth, make in threads(folder, name):
        given, options = parts_of(make())
        try:
            found, missing = facts(Probe(Training(*given, **options)))
        except RhnError as error:
            print(number, truth, f"| refused: {error}", sep=" | ", flush=True)
            continue
        words = [f"{cause.name} ({cause.part}{', sure' if cause.sure else ''})" for cause in found]
        print(number, truth, ", ".join(words), "; ".join(missing), sep=" | ", flush=True)


def write_checks(folder: Path, name: str, out: Path, seconds: float) -> None:
    """Append a line for each thread that the file lacks: outcome, part, causes, rows, seconds.

    Seconds are of the processor, so that a busy machine finds the same.
    """
    for module in ("check", "race"):
        sys.modules[f"trainability.{module}"].time = SimpleNamespace(monotonic=time.process_time)
    done = {json.loads(line)["number"] for line in out.open()} if out.exists() else set()
    for number, truth, make in threads(folder, name):
        if number in done:
            continue
        given, options = parts_of(make())
        began, row = time.process_time(), {"number": number, "truth": truth}
        try:
            found = check(*given, seconds=seconds, **options)
            row |= found.to_dict()
        except RhnError as error:
            row |= {"outcome": f"refused: {error}"}
        row["seconds"] = time.process_time() - began
        print(number, truth, row["outcome"], row.get("part"), sep=" | ", flush=True)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def part_of_row(row: dict) -> str:
    """The part that the rule names for a recorded row."""
    given = row["base"].get("err")
    if given is None or math.isnan(given):
        return "not measured"
    errors: dict[str, float] = {}
    for name, part in SWAPS.items():
        error = row.get(name, {}).get("err")
        if error is not None and math.isfinite(error):
            errors[part] = min(error, errors.get(part, math.inf))
    gains = {part: given - error for part, error in errors.items() if error <= HELPS * given}
    if not gains:
        return "data"
    enough = MOST_OF_IT * max(gains.values())
    return next(part for part in PARTS if gains.get(part, 0.0) >= enough)


def print_rule(parts: Path, files: list[Path]) -> None:
    """Print in how many recorded threads the rule names an acceptable part."""
    accepted = {
        row["cause"]: {part.strip() for part in row["parts"].split("|")}
        for row in csv.DictReader(parts.open())
    }
    rows = [json.loads(line) for path in files for line in path.open()]
    rows = [row for row in rows if row.get("truth") and "fail" not in row.get("base", {"fail": 1})]
    right = 0
    for row in rows:
        causes = [cause.strip() for cause in row["truth"].split("|")]
        known = [
            parts for name, parts in accepted.items() if any(c.startswith(name) for c in causes)
        ]
        right += part_of_row(row) in set().union(*known)
    print(f"the part is right in {right} of {len(rows)}")


def main() -> None:
    """Run one of the three subcommands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("facts", "check", "rule"))
    parser.add_argument("arguments", nargs="+")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    first, *rest = given.arguments
    if given.what == "rule":
        print_rule(Path(first), [Path(path) for path in rest])
    elif given.what == "facts":
        print_facts(Path(first).resolve(), rest[0])
    else:
        write_checks(Path(first).resolve(), rest[0], Path(rest[1]), given.seconds)


if __name__ == "__main__":
    main()
