"""A training's part of a report: what its folder says and its curves."""

from pathlib import Path

from analysis.report.charts import curves_chart
from analysis.report.page import Section, Table
from rhn.report import Curves, read_curves, require_one_measure

LABELS = {"perplexity": "perplexity", "bits_per_character": "bits a character", "nll": "nats a frame"}


def training_section(run: Path) -> Section:
    """The curves of every seed; raises DataError for a folder that holds none."""
    curves = read_curves(run)
    measure = LABELS[require_one_measure(curves)]
    rows = [[c.name, int(c.epochs[-1]), *_best(c)] for c in curves]
    columns = ["training", "epochs", "best epoch", "training there", "validation there"]
    words = [
        f"{c.name}: {c.best[1]:.5g} {measure} on validation, its best, at epoch {c.best[0]} of {c.epochs[-1]}."
        for c in curves
    ]
    best = min(curves, key=lambda c: c.best[1])
    verdict = f"Validation: {best.best[1]:.4g} {measure} at epoch {best.best[0]} of {best.epochs[-1]}."
    table = Table(caption=f"In {measure}", columns=columns, rows=rows)
    return Section(
        title="Training", verdict=verdict, words=words, charts=[curves_chart(curves, measure)], tables=[table]
    )


def best_seed(run: Path) -> Path:
    """The folder of the seed with the best validation; of a training of one seed the folder itself."""
    curves = read_curves(run)
    if (run / "metrics.jsonl").is_file():
        return run
    best = min(curves, key=lambda c: c.best[1])
    return run / best.name.rpartition(", ")[2]


def _best(curves: Curves) -> list:
    epoch, valid = curves.best
    return [epoch, float(curves.train[list(curves.epochs).index(epoch)]), valid]
