"""Try `trainability` on sets of threads, and its rule on recorded rows.

    python -m benchmarks.swaps facts FOLDER set_aside            # the facts of each thread
    python -m benchmarks.swaps check FOLDER set_aside OUT.jsonl  # of each; resumed
    python -m benchmarks.swaps rule PARTS.csv ROWS.jsonl ...     # the rule on rows of a prototype
    python -m benchmarks.swaps report PARTS.csv OUT.jsonl ...    # how many checks are right
    python -m benchmarks.swaps peer FOLDER set_aside OUT.jsonl   # facts beside those of torchtest2

FOLDER is a checkout that has the set: `git worktree add FOLDER COMMIT`, with the commits of
docs/results/swaps.md. `healthy` in place of `set_aside`: trainings without a fault.
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
from trainability.check import check
from trainability.facts import facts
from trainability.probe import Probe
from trainability.race import GOOD
from trainability.swaps import PARTS
from trainability.training import Training
from trainability.verdict import HELPS, MOST_OF_IT

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
    sys.modules.pop("benchmarks", None)  # this package: a set imports the package of its commit
    module = importlib.import_module(f"benchmarks.threads.{name}")
    own = folder / "benchmarks" / "threads" / f"{name}.csv"
    table = own if own.exists() else own.with_name("threads.csv")
    truth = {row["number"]: row["cause"] for row in csv.DictReader(table.open())}
    for number, make in getattr(module, name.upper()).items():
        made = make if name.endswith("healthy") else lambda make=make: make(False)
        yield str(number), truth.get(str(number), ""), made


def parts_in_table(folder: Path, name: str) -> dict[str, str]:
    """The parts that are right, "a | b", by number; empty for a set that names causes only."""
    table = folder / "benchmarks" / "threads" / f"{name}.csv"
    rows = csv.DictReader(table.open()) if table.exists() else ()
    return {row["number"]: row["part"] for row in rows}


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


def use_processor_time(package: str) -> None:
    """Replace the clock of every loaded module of a package that imports `time`."""
    clock = SimpleNamespace(**vars(time) | {"monotonic": time.process_time})
    for name, module in list(sys.modules.items()):
        if f"{name}.".startswith(f"{package}.") and getattr(module, "time", None) is time:
            module.time = clock  # type: ignore[attr-defined]


def write_checks(folder: Path, name: str, out: Path, seconds: float) -> None:
    """Append a line for each thread that the file lacks: outcome, part, causes, rows, seconds.

    Seconds are of the processor, so that a busy machine finds the same.
    """
    use_processor_time("trainability")
    right = parts_in_table(folder, name)
    done = {json.loads(line)["number"] for line in out.open()} if out.exists() else set()
    for number, truth, make in threads(folder, name):
        if number in done:
            continue
        given, options = parts_of(training := make())
        if training.fit is not None:  # the owner's own loop
            again = make()
            options["losses"] = again.fit(again)
        began, row = time.process_time(), {"number": number, "truth": truth}
        row |= {"parts": right[number]} if number in right else {}
        try:
            found = check(*given, seconds=seconds, **options)
            row |= found.to_dict()
        except RhnError as error:
            row |= {"outcome": f"refused: {error}"}
        row["seconds"] = time.process_time() - began
        print(number, truth, row["outcome"], row.get("part"), sep=" | ", flush=True)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def write_peer(folder: Path, name: str, out: Path) -> None:
    """Append a line for each thread: the facts, what torchtest2 fails, and seconds of both.

    torchtest2 (0.1.0, MIT) checks a model on one batch; it is given the first minibatch.
    """
    import torchtest2

    for number, truth, make in threads(folder, name):
        given, options = parts_of(make())
        row: dict = {"number": number, "truth": truth}
        began = time.process_time()
        try:
            training = Training(*given, **options)
            probe = Probe(training)
            found, _ = facts(probe)
            row |= {"facts": [cause.name for cause in found]}
        except RhnError as error:
            row |= {"facts": [f"refused: {error}"]}
            training = None
        row["seconds"] = time.process_time() - began
        if training is not None:
            began = time.process_time()
            try:
                report = torchtest2.check_model(
                    training.model,
                    probe.x,
                    probe.y,
                    loss_fn=training.loss,
                    optimizer=training.optimizer,
                )
                row["peer"] = [result.name for result in report.failures]
            except Exception as error:  # whatever it raises on a stranger's model
                row["peer"] = [f"{type(error).__name__}: {error}"[:200]]
            row["peer_seconds"] = time.process_time() - began
        print(number, truth, row["facts"], row.get("peer"), sep=" | ", flush=True)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def accepted_parts(parts: Path) -> dict[str, set[str]]:
    """The parts that are right for the name of a cause, by its beginning."""
    return {
        row["cause"]: {part.strip() for part in row["parts"].split("|")}
        for row in csv.DictReader(parts.open())
    }


def right_parts(truth: str, accepted: dict[str, set[str]]) -> set[str]:
    """The parts that are right for the causes of a thread, "a | b"."""
    causes = [cause.strip() for cause in truth.split("|")]
    known = [parts for name, parts in accepted.items() if any(c.startswith(name) for c in causes)]
    return set().union(*known)


def print_report(parts: Path, files: list[Path]) -> None:
    """Print how often part and first cause are right, and those of threads where they are not.

    A thread shows its symptom if its error is above 0.1, or it explodes, or a fact ends the check.
    """
    accepted = accepted_parts(parts)
    rows = [json.loads(line) for path in files for line in path.open()]
    counts = dict.fromkeys(("shown", "part", "all", "first", "sure", "sure right"), 0)
    for row in rows:
        right = {part.strip() for part in row.get("parts", "").split("|")}
        right = right if "parts" in row else right_parts(row["truth"], accepted)
        right |= {"order"} if "loop" in right else set()
        names = [cause["name"] for cause in row.get("causes", ())]
        known = {cause.strip() for cause in row["truth"].split("|")}
        part = row.get("part") or (None if row["outcome"] == "undecided" else "data")
        error = row.get("error")
        shown = error is None or math.isnan(error) or error > GOOD or row["outcome"] != "learns"
        said = part in right or (any("learns" in word for word in right) and bool(row.get("facts")))
        first = bool(names) and names[0] in known
        sure = bool(row.get("causes")) and row["causes"][0]["sure"]
        for name, hit in (
            ("all", True),
            ("shown", shown),
            ("part", shown and said),
            ("first", first),
            ("sure", sure),
            ("sure right", sure and (first or said)),
        ):
            counts[name] += hit
        if not (shown and said):
            print(row["number"], row["truth"], row["outcome"], row.get("part"), names, sep=" | ")
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


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
    accepted = accepted_parts(parts)
    rows = [json.loads(line) for path in files for line in path.open()]
    rows = [row for row in rows if row.get("truth") and "fail" not in row.get("base", {"fail": 1})]
    right = sum(part_of_row(row) in right_parts(row["truth"], accepted) for row in rows)
    print(f"the part is right in {right} of {len(rows)}")


def main() -> None:
    """Run one of the subcommands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("facts", "check", "rule", "report", "peer"))
    parser.add_argument("arguments", nargs="+")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    first, *rest = given.arguments
    if given.what == "rule":
        print_rule(Path(first), [Path(path) for path in rest])
    elif given.what == "report":
        print_report(Path(first), [Path(path) for path in rest])
    elif given.what == "peer":
        write_peer(Path(first).resolve(), rest[0], Path(rest[1]))
    elif given.what == "facts":
        print_facts(Path(first).resolve(), rest[0])
    else:
        write_checks(Path(first).resolve(), rest[0], Path(rest[1]), given.seconds)


if __name__ == "__main__":
    main()
