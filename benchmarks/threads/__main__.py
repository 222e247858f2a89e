"""Judge the causes that `gersgorin.check` names.

    python -m benchmarks.threads development OUT.csv     # threads with odd numbers, by which the causes were written
    python -m benchmarks.threads set_aside OUT.csv       # those with even numbers, rebuilt by somebody else and run once
    python -m benchmarks.threads healthy OUT.csv         # 60 healthy trainings: no cause is right
    python -m benchmarks.threads report OUT.csv ...      # the tables

The first three go on where they stopped. A thread counts if a plain loop shows its symptom and the repair takes it away: the error of
the repaired training is at most `REPAIRED` of that of the broken one.
"""

import argparse
import csv
import importlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import gersgorin
from benchmarks.threads.trainings import Training, error, fit
from rhn.errors import RhnError

HERE = Path(__file__).parent
REPAIRED = 0.7


def names_of(cause: str) -> list[str]:
    """The names of a cause of the table, each of which is right."""
    return [name.strip() for name in cause.split("|")]


def checked(make: Callable[[], Training], seconds: float) -> dict:
    """What check says of a training; its cost in trainings, by the processor's time."""
    given, training = make(), make()
    began = time.process_time()
    losses = fit(given)
    took = time.process_time() - began
    own = {"losses": losses} if training.fit is not None else {}
    parts = (training.model, training.x, training.y, training.loss_fn, training.optimizer)
    began = time.process_time()
    try:
        found = gersgorin.check(
            *parts, steps=training.steps, batch_size=training.batch_size, seconds=seconds, **own, **training.options
        )
    except RhnError as refused:
        return {"error": error(given), "outcome": f"refused: {refused}", "causes": "", "sure": "", "cost": 0.0}
    return {
        "error": error(given),
        "outcome": found.outcome,
        "causes": " | ".join(cause.name for cause in found.causes),
        "sure": " | ".join(cause.name for cause in found.causes if cause.sure),
        "why": found.why or "",
        "cost": (time.process_time() - began) / max(took, 1e-9),
    }


def rows_of(kind: str, seconds: float):
    """Yield (key, function that runs it) of a set."""
    module = importlib.import_module(f"benchmarks.threads.{kind}")
    if kind == "healthy":
        for name, make in module.HEALTHY.items():
            yield name, lambda make=make: checked(make, seconds)
        return
    table = {int(row["number"]): row for row in csv.DictReader((HERE / "threads.csv").open())}
    for number, make in getattr(module, kind.upper()).items():

        def run(number=number, make=make) -> dict:
            mended = make(True)
            fit(mended)
            found = checked(partial(make, False), seconds)
            return {"truth": table[number]["cause"], "repaired": error(mended)} | found

        yield str(number), run


def report(rows: list[dict]) -> str:
    """Shares of causes that are right, first and among three; of healthy trainings what is named."""
    if "truth" not in rows[0]:
        sure = [row for row in rows if row["sure"]]
        named = [row for row in rows if row["causes"]]
        lines = [f"{len(rows)} healthy trainings: {len(sure)} with a cause called sure, {len(named)} with any"]
        return "\n".join(lines + [f"  {row['key']}: {row['causes']}" for row in named])
    counted = [row for row in rows if float(row["repaired"]) <= REPAIRED * float(row["error"])]
    first = three = named = right = sure = surely = 0
    wrong = []
    for row in counted:
        truth, found = names_of(row["truth"]), [name for name in row["causes"].split(" | ") if name]
        first += bool(found) and found[0] in truth
        three += any(name in truth for name in found[:3])
        named, right = named + len(found[:3]), right + sum(name in truth for name in found[:3])
        certain = [name for name in row["sure"].split(" | ") if name]
        sure, surely = sure + len(certain), surely + sum(name in truth for name in certain)
        if not found or found[0] not in truth:
            wrong.append(f"  {row['key']}: {row['truth']}; named: {row['causes'] or 'nothing'} ({row['outcome']})")
    n = max(1, len(counted))
    return "\n".join(
        [
            f"{len(counted)} of {len(rows)} threads count: the true cause first {first / n:.0%}, among three {three / n:.0%}; right of those called sure "
            f"{surely} of {sure}, of the first three {right} of {named}",
            *wrong,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["development", "set_aside", "healthy", "report"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", nargs="*", help="keys of the rows to run")
    options = parser.parse_args()
    if options.kind == "report":
        for path in options.files:
            print(f"{path.name}: {report([*csv.DictReader(path.open())])}")
        return
    torch.set_num_threads(1)
    (path,) = options.files
    done = {row["key"] for row in csv.DictReader(path.open())} if path.exists() else set()
    columns = ["key", "truth", "repaired"] * (options.kind != "healthy") or ["key"]
    columns += ["error", "outcome", "causes", "sure", "why", "cost"]
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if not done:
            writer.writeheader()
        for key, run in rows_of(options.kind, options.seconds):
            if key not in done and (not options.only or key in options.only):
                row = {"key": key} | run()
                print(
                    ", ".join(f"{name} {v:.3g}" if isinstance(v, float) else f"{name} {v}" for name, v in row.items()),
                    flush=True,
                )
                writer.writerow(row)
                file.flush()


if __name__ == "__main__":
    main()
