"""`trainability.check` as a tool of `python -m evaluation`."""

import math
from typing import Any

from evaluation.clock import use_processor_time
from evaluation.threads.trainings import Training
from trainability.cause import Cause
from trainability.check import check
from trainability.diagnosis import Diagnosis
from trainability.facts import NOTES

YOURS = "yours"  # of rows of the user's training with a part replaced
OPTIONS = ("clip_norm", "scheduler", "batch_axis")


def answer(training: Training, losses: list[float], **limits: Any) -> dict[str, Any]:
    """The answer of `check`, in processor time; limits: seconds, if not its own."""
    use_processor_time("trainability")
    options = {name: training.options[name] for name in OPTIONS if name in training.options}
    found = check(
        training.model,
        training.x,
        training.y,
        training.loss_fn,
        training.optimizer,
        steps=training.steps,
        batch_size=training.batch_size,
        losses=losses,
        progress=lambda _: None,
        **limits,
        **options,
    )
    return said(found)


def said(found: Diagnosis) -> dict[str, Any]:
    """What a diagnosis says, in the words of the judge."""
    table = found.table()
    own = [row for row in table if row["part"] and row["training"] == YOURS]
    sure = [cause.part for cause in found.causes if cause.sure and cause not in found.facts]
    facts = [named(cause) for cause in found.facts if cause.name not in NOTES and not cause.sure]
    return {
        "outcome": found.outcome,
        "faults": [found.part] if found.part else [],
        "confirmed": sorted({found.part} & {*sure}),
        "enough": with_word(own, "enough", "at fault"),
        "cleared": with_word(table, "cleared"),
        "proven": [named(cause) for cause in found.facts if cause.sure],
        "facts": facts,
        "error": number(next((row["error"] for row in table), math.nan)),
        "best": number(min((row["error"] for row in own), default=math.nan)),
        "steps": [found.steps, found.of_steps],
        "text": found.summary(),
    }


def with_word(rows: list[dict[str, Any]], *words: str) -> list[str]:
    """The parts of rows with one of these words, each once."""
    return list(dict.fromkeys(row["part"] for row in rows if row["word"] in words))


def named(cause: Cause) -> dict[str, str]:
    """A fact by its name and part."""
    return {"name": cause.name, "part": cause.part}


def number(value: float) -> float | None:
    """A number for JSON; None if it is not finite."""
    return round(value, 4) if math.isfinite(value) else None
