"""Judge `trainability.check`: a row for each training, by steps only; a stopped run goes on.

    nice python -m evaluation.judge run ROWS.csv --set later
    python -m evaluation.judge table ROWS.csv

The *first star* is the first starred row of a table. It is right if the owner's repair changes its
part, or if its change closes at least 0.7 of the gap (`right_parts.csv`), else wrong; it is open if
the table lacks the change. A row *helps* if the part of any of its stars is right in this way, or
if a fact names a part that the owner's repair changes. A star in a healthy training is counted by
itself.

`run` takes `--only NUMBER ...`.
"""

import argparse
import csv
import json
import random
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from evaluation.threads import SETS, THREADS, load_set
from evaluation.threads.trainings import Training
from rhn.errors import InvalidInputError, UsersCodeError
from trainability import facts
from trainability.check_table import Check
from trainability.checks import check
from trainability.training import model_output

TABLE = Path(__file__).with_name("right_parts.csv")
RIGHT, WRONG, OPEN = "right", "wrong", "open"
CLOSES = 0.7  # of the gap
GRU = "a GRU of 64 units"
COLUMNS = (
    *("set", "number", "refused", "steps", "first", "verdict", "share", "stars", "seeds", "facts"),
    *("helps", "line", "errors"),
)
LONG = "seeds", "errors"
Row = dict[str, str]

PARTS: dict[str, tuple[set[str], str]] = {
    GRU: ({"network"}, "GRU of 64 units"),
    "Adam 0.003, clip 1": ({"optimizer"}, "Adam 0.003"),
    "the usual loss": ({"loss"}, "the usual one"),
    "inputs standardised": ({"inputs"}, "standardised"),
    "targets standardised": ({"targets"}, "standardised"),
    "targets to the range of the outputs": ({"targets"}, "from 0 to 1"),
    "shuffled": ({"order"}, "shuffled"),
    "no dropout, no decay": ({"regularization"}, "none"),
    "plain optimiser: your rate, no schedule, no clipping": ({"optimizer"}, "plain"),
    "a tenth of the rate": ({"optimizer"}, "a tenth of the rate"),
    "ten times the rate": ({"optimizer"}, "ten times the rate"),
    "torch's initial weights": ({"initial weights"}, "of torch"),
    "examples along the other axis": ({"network", "inputs"}, "other axis"),
}
"""By the label of a row: its parts, and the replacement of `right_parts.csv` that is the same
change.
"""

PARTS_OF_FACTS = {
    facts.OTHERS: {"network"},
    facts.SECOND: {"network"},
    facts.WEIGHTS: {"network", "optimizer"},
    facts.REACHED: {"network"},
    facts.RANGE: {"network", "targets"},
    facts.NEXT: {"network"},
    facts.TO_ONE: {"network", "loss"},
    facts.PROPORTIONAL: {"network", "loss"},
    facts.FINITE: {"network", "loss"},
    facts.LOOP: {"order"},
}
"""By the name of a fact: the parts that it names. `RANGE` names them if y lies outside it, `LOOP`
if the own loop ends with a loss a quarter above that of this one, all others if they are starred.
"""


def shown(found: Check) -> list[str]:
    """The names of the facts of a check with a star, and of those that name a part without one."""
    numbers = {fact.name: fact.numbers for fact in found.facts}
    names = [fact.name for fact in found.facts if fact.starred]
    range_, of_y, losses = numbers[facts.RANGE], numbers[facts.OF_Y], numbers[facts.LOOP]
    if range_ and of_y and found.kind == "numbers":
        names += [facts.RANGE] * (of_y[0] < range_[0] or of_y[1] > range_[1])
    if losses and losses[0] > 1.25 * losses[1]:
        names.append(facts.LOOP)
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

    def share(self, key: tuple[str, str], label: str) -> float | None:
        """The share of the gap that the change of a row closes; None if it was not measured."""
        parts, name = PARTS[label]
        known = [self.shares[k] for part in parts if (k := (*key, part, name)) in self.shares]
        return known[0] if known else None

    def judged(self, key: tuple[str, str], label: str) -> tuple[str, str]:
        """(`RIGHT`, `WRONG` or `OPEN`, share) of a starred row of a thread."""
        share, owners = self.share(key, label), self.is_owners(key, PARTS[label][0])
        if share is None:
            return RIGHT if owners else OPEN, ""
        return RIGHT if owners or share >= CLOSES else WRONG, f"{share:.2f}"


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
    named = shown(found)
    row |= {
        "steps": str(found.steps),
        "stars": " | ".join(found.starred_rows),
        "seeds": json.dumps({r.label: r.seeds for r in found.rows if r.seeds}),
        "facts": " | ".join(named),
        "line": found.line,
        "errors": json.dumps({r.label: round(r.error, 4) for r in found.rows}),
    }
    if healthy:
        return row
    judged = {label: judge.judged(key, label) for label in found.starred_rows}
    if judged:
        row["first"] = found.starred_rows[0]
        row["verdict"], row["share"] = judged[found.starred_rows[0]]
    helps = any(verdict == RIGHT for verdict, _ in judged.values())
    by_fact = any(judge.is_owners(key, PARTS_OF_FACTS.get(fact, set())) for fact in named)
    return row | {"helps": "yes" if helps or by_fact else "no"}


def run(out: Path, name: str, chosen: list[str]) -> None:
    """Append the rows that the file lacks, in an order drawn at random."""
    known = {(row["set"], row["number"]) for row in read(out)}
    judge, every = Judge(), load_set(name)
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


def counts(rows: list[Row], judge: Judge) -> dict[str, int]:
    """What is counted of the rows of a set."""
    done = [row for row in rows if not row["refused"]]
    found = {
        "trainings": len(rows),
        "refused": len(rows) - len(done),
        "with a star": sum(bool(row["stars"]) for row in done),
        "with a fact with a star": sum(has_starred_fact(row) for row in done),
    }
    if rows[0]["set"].endswith("healthy"):
        return found
    gru = [judge.judged((row["set"], row["number"]), GRU)[0] for row in rows]
    return found | {
        **{f"first star {v}": sum(row["verdict"] == v for row in rows) for v in (RIGHT, WRONG)},
        "fact or star of a right part": sum(row["helps"] == "yes" for row in rows),
        "always the GRU: right": gru.count(RIGHT),
        "always the GRU: wrong": len(gru) - gru.count(RIGHT),
    }


def has_starred_fact(row: Row) -> bool:
    """Return whether a fact of a row has a star; `RANGE` and `LOOP` never have one."""
    return bool({*filter(None, row["facts"].split(" | "))} - {facts.RANGE, facts.LOOP})


def table(rows: list[Row]) -> str:
    """A line for each set, and one for each healthy training with a star."""
    judge, lines = Judge(), []
    for name in SETS:
        own = [row for row in rows if row["set"] == name]
        if own:
            found = counts(own, judge).items()
            lines.append(f"{name}: {', '.join(f'{what}: {count}' for what, count in found)}")
    starred = [row for row in rows if row["set"].endswith("healthy") and row["stars"]]
    return "\n".join([*lines, *map(stars_of, starred)])


def stars_of(row: Row) -> str:
    """The errors of three seeds of the starred rows, and of none."""
    seeds = json.loads(row["seeds"])
    each = [f"{label} {seeds[label]}" for label in ("none", *row["stars"].split(" | "))]
    return f"{row['set']} {row['number']}: {', '.join(each)}"


def main(words: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m evaluation.judge",
    )
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("rows", type=Path)
    parser.add_argument("--set", choices=SETS, default="later")
    parser.add_argument("--only", nargs="*", metavar="NUMBER")
    asked = parser.parse_args(words)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if asked.what == "run":
        run(asked.rows, asked.set, asked.only or [number for number, _ in load_set(asked.set)])
    else:
        print(table(read(asked.rows)))


if __name__ == "__main__":
    main()
