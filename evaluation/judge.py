"""Judge `trainability.check`: a row for each training, by steps only; a stopped run goes on.

    nice python -m evaluation.judge run ROWS.csv --set later
    python -m evaluation.judge table ROWS.csv
    python -m evaluation.judge again ROWS.csv       # ten rows once more, in plain loops

The *first star* is the first starred row of a table. It is right if the owner's repair changes its
part, or if its change closes at least 0.7 of the gap in plain loops (`right_parts.csv`, or trained
here), else wrong. A row *helps* if the part of any of its stars is right in this way, or if a fact
names a part that the owner's repair changes. A star in a healthy training is counted by itself.

`run` takes `--only NUMBER ...`. `table` also counts the faults that earlier rules named in the same
trainings (`docs/results/check-earlier.csv`).
"""

import argparse
import csv
import json
import random
import statistics
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from evaluation import replacements as plain
from evaluation.parts import SEEDS, TABLE, clipped, measured, seed_of
from evaluation.replacements import Change, data_of, with_optimizer
from evaluation.sets import SETS, THREADS, trainings
from evaluation.threads.trainings import Training, error, fit
from rhn.errors import InvalidInputError, UsersCodeError
from trainability.checks import Check, check
from trainability.facts import (
    FINITE,
    LOOP,
    OF_Y,
    OTHERS,
    RANGE,
    REACHED,
    TO_ONE,
    WEIGHTS,
)
from trainability.training import model_output

EARLIER = THREADS.parents[1] / "docs/results/check-earlier.csv"
RIGHT, WRONG = "right", "wrong"
CLOSES = 0.7  # of the gap
CAP = 120.0  # processor seconds of a plain loop
AGAIN, ALLOWED = 10, 0.1  # rows that are trained again, and the difference of their errors
GRU = "a GRU of 64 units"
COLUMNS = (
    *("set", "number", "refused", "steps", "first", "verdict", "share", "stars", "seeds", "facts"),
    *("helps", "line", "errors"),
)
LONG = "seeds", "errors"
Row = dict[str, str]


def times_rate(factor: float, written: Training, _: Training) -> Training:
    """All learning rates times a factor, those of a schedule too."""
    for group in written.optimizer.param_groups:
        group["lr"] *= factor
        if "initial_lr" in group:
            group["initial_lr"] *= factor
    schedule = written.options.get("scheduler")
    if schedule is not None and hasattr(schedule, "base_lrs"):
        schedule.base_lrs = [factor * rate for rate in schedule.base_lrs]
    return written


def without_schedule(written: Training, _: Training) -> Training:
    """The optimiser at its first rate, without schedule and clipping."""
    for group in written.optimizer.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])
    bare = replace(written, options={})
    return with_optimizer(written, written.optimizer, bare)


def other_axis(written: Training, _: Training) -> Training:
    """Layers that read the examples along the other axis."""
    for module in written.model.modules():
        if isinstance(getattr(module, "batch_first", None), bool):
            module.batch_first = not module.batch_first  # type: ignore[assignment]
    return written


def targets_from_0_to_1(written: Training, _: Training) -> Training | None:
    """Targets moved to 0 to 1, if all outputs lie there."""
    if plain.output_kind(written) not in ("probability", "classes"):
        return None
    y = data_of(written)[1]
    return plain.scaled_targets(written, y.min(), y.max() - y.min())


PARTS: dict[str, tuple[set[str], str, Change]] = {
    GRU: ({"network"}, "GRU of 64 units", plain.gru),
    "Adam 0.003, clip 1": ({"optimizer"}, "Adam 0.003", partial(plain.with_adam, 0.003)),
    "the usual loss": ({"loss"}, "the usual one", plain.usual_loss),
    "inputs standardised": ({"inputs"}, "standardised", plain.inputs_standardised),
    "targets standardised": ({"targets"}, "standardised", plain.targets_standardised),
    "targets to the range of the outputs": ({"targets"}, "from 0 to 1", targets_from_0_to_1),
    "shuffled": ({"order"}, "shuffled", plain.shuffled),
    "no dropout, no decay": ({"regularization"}, "none", plain.no_regularization),
    "plain optimiser: your rate, no schedule, no clipping": (
        {"optimizer"},
        "",
        without_schedule,
    ),
    "a tenth of the rate": ({"optimizer"}, "", partial(times_rate, 0.1)),
    "ten times the rate": ({"optimizer"}, "", partial(times_rate, 10.0)),
    "torch's initial weights": ({"initial weights"}, "of torch", plain.default_weights),
    "examples along the other axis": ({"network", "inputs"}, "", other_axis),
}
"""By the label of a row: its parts, the replacement of `right_parts.csv` that is the same change
("" for none), and that change in a plain loop.
"""

PARTS_OF_FACTS = {
    OTHERS: {"network"},
    WEIGHTS: {"network", "optimizer"},
    REACHED: {"network"},
    RANGE: {"network", "targets"},
    TO_ONE: {"network", "loss"},
    FINITE: {"network", "loss"},
    LOOP: {"order"},
}
"""By the name of a fact: the parts that it names. `RANGE` names them if y lies outside it, `LOOP`
if the own loop ends with a loss a quarter above that of this one, all others if they are starred.
"""


def shown(found: Check) -> list[str]:
    """The names of the facts of a check that name a part."""
    numbers = {fact.name: fact.numbers for fact in found.facts}
    names = [fact.name for fact in found.facts if fact.starred]
    range_, of_y, losses = numbers[RANGE], numbers[OF_Y], numbers[LOOP]
    if range_ and of_y and found.kind == "numbers":
        names += [RANGE] * (of_y[0] < range_[0] or of_y[1] > range_[1])
    if losses and losses[0] > 1.25 * losses[1]:
        names.append(LOOP)
    return names


class Judge:
    """What is right for a thread, by its owner and by plain loops."""

    def __init__(self, threads: Path = THREADS, table: Path = TABLE):
        self.owners = {
            (row["set"], row["number"]): {part.strip() for part in row["part"].split("|")}
            for row in csv.DictReader(threads.open())
        }
        self.shares = {
            (row["set"], row["number"], row["part"], row["replacement"]): float(row["share"])
            for row in csv.DictReader(table.open())
            if row["share"]
        }

    def is_owners(self, key: tuple[str, str], parts: set[str]) -> bool:
        """True if the owner's repair changes one of the parts."""
        own = self.owners.get(key, set())
        return bool(own & parts) or ("data" in own and bool({"inputs", "targets"} & parts))

    def share(self, key: tuple[str, str], label: str, make: Callable[..., Training]) -> float:
        """The share of the gap that the change of a row closes; 0 if it does not apply."""
        parts, name, change = PARTS[label]
        known = [self.shares[k] for part in parts if (k := (*key, part, name)) in self.shares]
        return known[0] if known else trained_share(key[1], change, make)

    def judged(
        self, key: tuple[str, str], label: str, make: Callable[..., Training]
    ) -> tuple[str, str]:
        """(`RIGHT` or `WRONG`, share) of a starred row of a thread."""
        share = self.share(key, label, make)
        right = self.is_owners(key, PARTS[label][0]) or share >= CLOSES
        return RIGHT if right else WRONG, f"{share:.2f}"


def trained_share(number: str, change: Change, make: Callable[..., Training]) -> float:
    """The share of the gap that a change closes in plain loops from two seeds."""
    errors = [
        [
            clipped(measured(one, drawn, CAP))
            for one in (
                partial(make, False, drawn),
                partial(make, True, drawn),
                lambda drawn=drawn: change(make(False, drawn), make(True, drawn)),
            )
        ]
        for drawn in (seed_of(number, seed) for seed in SEEDS[:2])
    ]
    written, repaired, changed = map(statistics.fmean, zip(*errors, strict=True))
    return (written - changed) / (written - repaired) if written > repaired else 0.0


def checked(make: Callable[[], Training]) -> Check:
    """The check of a training, with the losses of its own loop if it has one."""
    training, other = make(), make()
    losses = training.fit(other) if training.fit is not None else []

    def loss_of_first(output: Any, y: Any) -> Any:
        return training.loss_fn(output[0], y)

    x = training.x if training.y is not None else tuple(next(iter(training.x))[:-1])
    if training.y is None and len(x) == 1:
        x = tuple(x[0]) if isinstance(x[0], list) else x[0]
    with torch.no_grad():
        several = isinstance(model_output(make().model, x), tuple)
    return check(
        training.model, training.x, training.y, loss_of_first if several else training.loss_fn,
        training.optimizer, steps=training.steps, batch_size=training.batch_size, losses=losses,
        **training.options,
    )  # fmt: skip


def row_of(judge: Judge, name: str, number: str, make: Callable[..., Training]) -> Row:
    """The row of a training."""
    healthy, key = name.endswith("healthy"), (name, number)
    row = dict.fromkeys(COLUMNS, "") | {"set": name, "number": number}
    try:
        found = checked(make if healthy else partial(make, False))
    except (InvalidInputError, UsersCodeError) as refused:
        return row | {"refused": str(refused).splitlines()[0][:200]}
    facts = shown(found)
    row |= {
        "steps": str(found.steps),
        "stars": " | ".join(found.starred),
        "seeds": json.dumps({r.label: r.seeds for r in found.rows if r.seeds}),
        "facts": " | ".join(facts),
        "line": found.line,
        "errors": json.dumps({r.label: round(r.error, 4) for r in found.rows}),
    }
    if healthy:
        return row
    judged = {label: judge.judged(key, label, make) for label in found.starred}
    if judged:
        row["first"] = found.starred[0]
        row["verdict"], row["share"] = judged[found.starred[0]]
    helps = any(verdict == RIGHT for verdict, _ in judged.values())
    by_fact = any(judge.is_owners(key, PARTS_OF_FACTS[fact]) for fact in facts)
    return row | {"helps": "yes" if helps or by_fact else "no"}


def run(out: Path, name: str, chosen: list[str]) -> None:
    """Append the rows that the file lacks, in an order drawn at random."""
    known = {(row["set"], row["number"]) for row in read(out)}
    judge, every = Judge(), trainings(name)
    for number, make in random.Random(0).sample(every, len(every)):
        if number not in chosen or (name, number) in known:
            continue
        row = row_of(judge, name, number, make)
        begins = not out.exists()
        with out.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if begins:
                writer.writeheader()
            writer.writerow(row)
        print(*(row[k] for k in COLUMNS if k not in LONG), sep=" ; ", flush=True)


def read(path: Path) -> list[Row]:
    """The rows of a file, none if it is not there."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def counts(rows: list[Row], judge: Judge) -> dict[str, str]:
    """What is counted of the rows of a set."""
    done = [row for row in rows if not row["refused"]]
    starred = [row for row in done if row["stars"]]
    found = {
        "trainings": str(len(rows)),
        "refused": str(len(rows) - len(done)),
        "with a star": str(len(starred)),
    }
    before = earlier_faults(rows)
    if before:
        named = [fault for fault in before if fault]
        found |= {
            "earlier answers": str(len(before)),
            "earlier faults": str(len(named)),
            "of them right": str(sum("(right)" in fault for fault in named)),
        }
    if rows[0]["set"].endswith("healthy"):
        return found
    gru = [judge_of_gru(judge, row) for row in rows]
    return found | {
        "first star right": str(sum(row["verdict"] == RIGHT for row in rows)),
        "first star wrong": str(sum(row["verdict"] == WRONG for row in rows)),
        "fact or star of a right part": str(sum(row["helps"] == "yes" for row in rows)),
        "always the GRU: right": str(sum(gru)),
        "always the GRU: wrong": str(len(gru) - sum(gru)),
    }


def earlier_faults(rows: list[Row]) -> list[str]:
    """Faults that earlier rules named in the same trainings, if they were asked; "" for none."""
    keys = {(row["set"], row["number"]) for row in rows}
    return [row["fault"] for row in read(EARLIER) if (row["set"], row["number"]) in keys]


def judge_of_gru(judge: Judge, row: Row) -> bool:
    """True if a tool that stars the GRU of every training would be right here."""
    key = row["set"], row["number"]
    share = judge.shares.get((*key, "network", PARTS[GRU][1]), 0.0)
    return judge.is_owners(key, {"network"}) or share >= CLOSES


def table(rows: list[Row]) -> str:
    """A line for each set, and one for each healthy training with a star."""
    judge, lines = Judge(), []
    for name in SETS:
        own = [row for row in rows if row["set"] == name]
        if own:
            found = counts(own, judge).items()
            lines.append(f"{name}: {', '.join(f'{what}: {count}' for what, count in found)}")
    return "\n".join([*lines, *map(stars_of, filter(is_healthy_with_star, rows))])


def is_healthy_with_star(row: Row) -> bool:
    """True if a healthy training has a star."""
    return row["set"].endswith("healthy") and bool(row["stars"])


def stars_of(row: Row) -> str:
    """The errors of three seeds of the starred rows, and of none."""
    seeds = json.loads(row["seeds"])
    each = [f"{label} {seeds[label]}" for label in ("none", *row["stars"].split(" | "))]
    return f"{row['set']} {row['number']}: {', '.join(each)}"


def again(rows: list[Row]) -> None:
    """Train ten rows that are drawn at random in plain loops, and print both errors."""
    makes = {(name, number): make for name in SETS for number, make in trainings(name)}
    pairs = [
        (row["set"], row["number"], label, value)
        for row in rows
        if not row["refused"]
        for label, value in json.loads(row["errors"]).items()
        if label in PARTS or label == "none"
    ]
    agreed = done = 0
    for name, number, label, value in random.Random(0).sample(pairs, len(pairs)):
        errors = plain_errors(makes[name, number], name, label)
        if errors is None:
            continue
        mean, spread = statistics.fmean(errors), max(errors) - min(errors)
        same = abs(mean - min(value, 1.0)) <= max(ALLOWED, spread)
        done, agreed = done + 1, agreed + same
        print(f"{name} {number}, {label}: {value}; plain loops {errors}; {same}", flush=True)
        if done == AGAIN:
            break
    print(f"{agreed} of {done} agree")


def plain_errors(make: Callable[..., Training], name: str, label: str) -> list[float] | None:
    """Errors of a changed training in plain loops from three seeds, at most 1; None if its owner
    has another measure, or if the change does not apply.
    """
    errors = []
    for seed in SEEDS:
        pair = [make() if name.endswith("healthy") else make(side) for side in (False, True)]
        changed = pair[0] if label == "none" else PARTS[label][2](*pair)
        if changed is None or changed.error is not None:
            return None
        fit(changed, seed)
        errors.append(round(min(error(changed), 1.0), 4))
    return errors


def main(words: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m evaluation.judge",
    )
    parser.add_argument("what", choices=("run", "table", "again"))
    parser.add_argument("rows", type=Path)
    parser.add_argument("--set", choices=SETS, default="later")
    parser.add_argument("--only", nargs="*", metavar="NUMBER")
    asked = parser.parse_args(words)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if asked.what == "run":
        run(asked.rows, asked.set, asked.only or [number for number, _ in trainings(asked.set)])
    elif asked.what == "table":
        print(table(read(asked.rows)))
    else:
        again(read(asked.rows))


if __name__ == "__main__":
    main()
