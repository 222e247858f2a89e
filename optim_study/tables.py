"""The tables that `optim-study` prints, in plain text."""

from collections.abc import Iterable, Mapping, Sequence

from rhn.engine.memory import in_words

from .reading import Reading


def plan_table(rows: Sequence[Mapping]) -> str:
    """What a run is going to do (`plan.Planned.row`)."""
    header = ("study", "units", "parameters", "budget", "trials", "complete", "fused", "memory/worker")
    return table(
        header,
        [
            (
                r["study"],
                r["hidden_size"],
                f"{r['parameters']:,}",
                f"{r['budget']:,}",
                r["trials"],
                r["complete"],
                r["fuse"],
                in_words(r["memory_bytes"]),
            )
            for r in rows
        ],
    )


def reading_table(readings: Iterable[Reading]) -> str:
    """What the studies came to."""
    header = ("study", "units", "trials", "diverged", "best", "median", "within 10 %", "95 % interval")
    return table(
        header,
        [
            (
                r.study,
                r.hidden_size,
                r.trials,
                r.diverged,
                f"{r.best:.3f}",
                f"{r.median:.3f}",
                f"{r.share:.0%}",
                "{:.0%} to {:.0%}".format(*r.share_interval),
            )
            for r in readings
        ],
    )


def status_table(rows: Sequence[Mapping]) -> str:
    """How far studies are."""
    header = ("study", "complete", "running", "diverged", "best")
    return table(
        header,
        [
            (
                r["study"],
                f"{r['complete']} of {r['trials']}",
                r["running"],
                r["diverged"],
                "" if r["best"] is None else f"{r['best']:.3f}",
            )
            for r in rows
        ],
    )


def best_table(rows: Sequence[Mapping]) -> str:
    """The best trial of each study."""
    header = (
        "study",
        "trial",
        "learning rate",
        "initial std",
        "transform bias",
        "train",
        "valid",
        "test",
        "checkpoint",
    )
    return table(
        header,
        [
            (
                r["study"],
                r["trial"],
                f"{r['learning_rate']:.2g}",
                f"{r['init_std']:.1g}",
                f"{r['transform_bias']:g}",
                f"{r['best_train_nll']:.3f}",
                f"{r['best_valid_nll']:.3f}",
                f"{r['test_nll']:.3f}",
                r["checkpoint"] or "missing",
            )
            for r in rows
        ],
    )


def table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Columns as wide as they need to be: the first to the left, numbers to the right, the last column of words to the left.

    >>> print(table(("study", "best"), [("rhn-depth1", 8.4)]))
    study       best
    rhn-depth1   8.4
    """
    cells = [list(map(str, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = [k == 0 or header[k] == "checkpoint" for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if lft else cell.rjust(w) for cell, w, lft in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in cells
    )
