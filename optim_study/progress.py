"""Show the progress of a run on stderr: a bar for each study, or without a terminal lines now and then."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from optim_study.driver import Study
from rhn.utils.progress import lines_of, progress_bars

POLL_SECONDS = 3.0  # interval of reading the saved states


@contextmanager
def displayed(studies: Sequence[Study], *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show the progress of these studies unless `quiet`. Yields a function to call often."""
    if quiet:
        yield lambda: None
        return
    with progress_bars() as report:
        left = [(study, report(study.config.name)) for study in studies if not study.is_complete]
        looked = 0.0

        def watch() -> None:
            nonlocal looked
            if late := time.monotonic() - looked >= POLL_SECONDS:
                looked = time.monotonic()
            for study, advance in [*left]:
                if study.is_complete or (study.running and late):
                    advance(*epochs_done(study))
                if study.is_complete:
                    left.remove((study, advance))
                    print(lines_of(study_line(study)), file=sys.stderr, flush=True)

        yield watch


def epochs_done(study: Study) -> tuple[int, int]:
    """(Epochs done, epochs in all) of a study, in which finished trials count as if none had stopped early."""
    epochs, saved = study.config.epochs, study.folder.epochs(study.left)
    return len(study.rows) * epochs + sum(saved.values()), study.config.trials * epochs


def study_line(study: Study) -> str:
    """`rhn-depth4: 60 of 60 done, 1 diverged, best 7.132, recurrence in C`."""
    rows = study.rows.values()
    words = [f"{len(rows)} of {study.config.trials} done", f"{sum(row.diverged for row in rows)} diverged"]
    words += [f"best {min(row.loss(study.config.objective) for row in rows):.3f}"]
    words += [f"recurrence {study.recurrence}"] if study.recurrence else []
    return f"{study.config.name}: {', '.join(words)}"
