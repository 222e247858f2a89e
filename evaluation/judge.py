"""Judge the answers of a tool: `python -m evaluation.judge ANSWERS.jsonl ...`

A part is *right* if the owner's repair changes the part (threads.csv), or if a replacement of only
this part closes at least 80 % of the gap in error between the training run as written and the
repaired one, in plain loops from fresh seeds (right_parts.csv). A part is *wrong* if it closes less
than half of the gap. Otherwise, or without a measurement, it is *open*. A fault in a healthy
training run is wrong.

`--list` prints the threads in which the tool is wrong or not right. `--csv` writes a row for each
answer.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.parts import CLOSES, TABLE
from evaluation.sets import SETS, THREADS

RIGHT, WRONG, OPEN = "right", "wrong", "open"
HALF = 0.5  # of the gap
TWICE, TENFOLD = 0.5, 0.1  # of the error of a healthy training, in a row that does better
DEAD = "does not learn", "diverges"
OTHER_NAMES = {"loop": "order", "weights": "initial weights", "regularisation": "regularization"}
OF_DATA = {"data": {"data", "inputs", "targets"}}  # parts that a coarser name takes in

Answer = dict[str, Any]


class RightParts:
    """What is right for a thread: the owner's parts, and those that mend it by experiment."""

    def __init__(self, threads: Path = THREADS, table: Path = TABLE):
        self.owners = {
            (row["set"], row["number"]): {part.strip() for part in row["part"].split("|")}
            for row in csv.DictReader(threads.open())
        }
        self.rows: dict[tuple[str, str, str], list[dict]] = {}
        for row in csv.DictReader(table.open()) if table.exists() else ():
            self.rows.setdefault((row["set"], row["number"], row["part"]), []).append(row)

    def is_owners(self, answer: Answer, part: str) -> bool:
        """True if the owner's repair changes this part."""
        part = OTHER_NAMES.get(part, part)
        owners = self.owners.get((answer["set"], answer["number"]), set())
        return bool(owners & OF_DATA.get(part, {part}))

    def shares(self, answer: Answer, part: str) -> list[float]:
        """The shares of the gap that the replacements of a part close, as far as they are known."""
        key = answer["set"], answer["number"], OTHER_NAMES.get(part, part)
        rows = self.rows.get(key, [])
        return [float(row["share"]) for row in rows if row["closes"]]

    def experiment(self, answer: Answer, part: str) -> str:
        """`RIGHT`, `WRONG` or `OPEN` by these shares."""
        best = max(self.shares(answer, part), default=HALF)
        return RIGHT if best >= CLOSES else WRONG if best < HALF else OPEN

    def verdict(self, answer: Answer, part: str) -> str:
        """The same with the owner's repair; every part of a healthy training is wrong."""
        if is_healthy(answer):
            return WRONG
        return RIGHT if self.is_owners(answer, part) else self.experiment(answer, part)


@dataclass(frozen=True)
class Measure:
    """A line of the table: how many of which answers or parts, or a median."""

    name: str
    hits: Callable[[list[Answer], RightParts], list[float]]
    """0 or 1 for each answer or part that counts, or numbers."""
    median: bool = False

    def text(self, answers: list[Answer], right: RightParts) -> str:
        """What stands in the table."""
        values = self.hits(answers, right)
        if self.median:
            return f"{statistics.median(values):.1f}" if values else ""
        return f"{sum(values):.0f} of {len(values)}" if values else "0"


def is_healthy(answer: Answer) -> bool:
    return answer["set"].endswith("healthy")


def certain_parts(answer: Answer) -> list[str]:
    """The parts of proofs, and the faults that are confirmed."""
    return [fact["part"] for fact in answer.get("proven", ())] + answer.get("confirmed", [])


def certain_and_wrong(answer: Answer, right: RightParts) -> list[str]:
    """Proven or confirmed parts that are wrong."""
    return [part for part in certain_parts(answer) if right.verdict(answer, part) == WRONG]


def called_dead(answer: Answer) -> bool:
    """True if a healthy training is called one that does not learn."""
    return is_healthy(answer) and answer.get("outcome") in DEAD


def little_without_reason(answer: Answer) -> bool:
    """True if a healthy training is called "learns little" and no row does twice as well, or has a
    fault and no row does ten times as well.
    """
    share = TENFOLD if answer.get("faults") else TWICE
    if not is_healthy(answer) or not (answer.get("faults") or answer["outcome"] == "learns little"):
        return False
    error, best = answer.get("error"), answer.get("best")
    return error is None or best is None or best > share * error


def unfinished(answer: Answer) -> bool:
    """True if not all steps were run, and yet it "does not learn" or has a fault.

    A training run that diverges has no further steps.
    """
    run, of = answer.get("steps") or (0, 0)
    stopped = run < of and answer.get("outcome") != DEAD[1]
    return stopped and (answer.get("outcome") == DEAD[0] or bool(answer.get("faults")))


def helps(answer: Answer, right: RightParts) -> bool:
    """True if a fault is right, or what is called enough holds, or a fact names a right part."""
    facts = [fact["part"] for fact in (*answer.get("proven", ()), *answer.get("facts", ()))]
    named = [*answer.get("faults", ()), *facts]
    return any(right.verdict(answer, part) == RIGHT for part in named) or any(
        right.experiment(answer, part) == RIGHT for part in answer.get("enough", ())
    )


def of_faults(answers: list[Answer], right: RightParts) -> list[float]:
    """For each fault in a thread whether it is right."""
    return [
        right.verdict(answer, part) == RIGHT
        for answer in threads(answers)
        for part in answer.get("faults", ())
    ]


def of_enough(answers: list[Answer], right: RightParts) -> list[float]:
    """For each part that is called enough, and was measured, whether it closes the gap."""
    shares = [
        right.shares(answer, part)
        for answer in threads(answers)
        for part in answer.get("enough", ())
    ]
    return [max(known) >= CLOSES for known in shares if known]


def of_cleared(answers: list[Answer], right: RightParts) -> list[float]:
    """For each part that is cleared whether it is the owner's, and so not to be cleared."""
    return [
        right.is_owners(answer, part)
        for answer in threads(answers)
        for part in answer.get("cleared", ())
    ]


def threads(answers: list[Answer]) -> list[Answer]:
    return [answer for answer in answers if not is_healthy(answer)]


def healthy(answers: list[Answer]) -> list[Answer]:
    return [answer for answer in answers if is_healthy(answer)]


def costs(answers: list[Answer], learns: bool) -> list[float]:
    """In trainings, of answers with this outcome or another one."""
    return [a["cost"] for a in answers if (a.get("outcome") == "learns") == learns]


MEASURES = (
    Measure(
        "proven or confirmed, and wrong",
        lambda answers, right: [bool(certain_and_wrong(a, right)) for a in answers],
    ),
    Measure(
        "unfinished, and called at fault or dead",
        lambda answers, right: [unfinished(a) for a in answers],
    ),
    Measure(
        'healthy, called "does not learn" or "diverges"',
        lambda answers, right: [called_dead(a) for a in healthy(answers)],
    ),
    Measure(
        'healthy, called "learns little" or at fault, and no row shows it',
        lambda answers, right: [little_without_reason(a) for a in healthy(answers)],
    ),
    Measure("fault right, of the faults", of_faults),
    Measure(
        "threads with a fault",
        lambda answers, right: [bool(a.get("faults")) for a in threads(answers)],
    ),
    Measure(
        "threads with true help (fault, enough or fact)",
        lambda answers, right: [helps(a, right) for a in threads(answers)],
    ),
    Measure("enough, and it holds", of_enough),
    Measure("cleared, though the owner repaired it", of_cleared),
    Measure("cost in trainings, learns", lambda answers, right: costs(answers, True), median=True),
    Measure("cost in trainings, others", lambda answers, right: costs(answers, False), median=True),
)


def report(answers: list[Answer], right: RightParts) -> str:
    """The table: a line for each measure, a column for each set and one for all."""
    present = [name for name in SETS if any(a["set"] == name for a in answers)]
    columns = {name: [a for a in answers if a["set"] == name] for name in present}
    columns["all"] = answers
    lines = [["", *(f"{name} ({len(own)})" for name, own in columns.items())]]
    lines += [[m.name, *(m.text(own, right) for own in columns.values())] for m in MEASURES]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def misses(answers: list[Answer], right: RightParts) -> list[str]:
    """A line for each answer that is wrong, or whose fault is not right."""
    lines = []
    for answer in answers:
        name = f"{answer['set']} {answer['number']} ({answer.get('outcome')})"
        certain = certain_and_wrong(answer, right)
        faults = [p for p in answer.get("faults", ()) if right.verdict(answer, p) != RIGHT]
        if certain:
            lines.append(f"{name}: certain and wrong: {', '.join(certain)}")
        elif faults:
            lines.append(f"{name}: fault not right: {', '.join(faults)}")
        elif called_dead(answer) or little_without_reason(answer):
            lines.append(f"{name}: healthy")
    return lines


def row_of(answer: Answer, right: RightParts) -> dict[str, Any]:
    """An answer with what is right and wrong in it, for a table."""

    def judged(parts: list[str]) -> str:
        return ", ".join(f"{part} ({right.verdict(answer, part)})" for part in parts)

    steps, of = answer.get("steps") or ("", "")
    facts = [fact["part"] for fact in answer.get("facts", ())]
    return {
        "set": answer["set"],
        "number": answer["number"],
        "outcome": answer.get("outcome", ""),
        "error": answer.get("error"),
        "best": answer.get("best"),
        "steps": steps,
        "of": of,
        "fault": judged(answer.get("faults", [])),
        "confirmed": ", ".join(answer.get("confirmed", ())),
        "enough": judged(answer.get("enough", [])),
        "cleared": ", ".join(answer.get("cleared", ())),
        "proven": judged([fact["part"] for fact in answer.get("proven", ())]),
        "facts": judged(facts),
        "cost": answer["cost"],
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A CSV file of rows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(words: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("answers", type=Path, nargs="+")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args(words)
    answers = [json.loads(line) for path in asked.answers for line in path.open()]
    right = RightParts()
    if asked.csv:
        write_rows(asked.csv, [row_of(answer, right) for answer in answers])
    print(report(answers, right))
    if asked.list:
        print("", *misses(answers, right), sep="\n")


if __name__ == "__main__":
    main()
