"""The tables and the figure of the note, from the counted iterations and the seconds."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.newton.judge import in_markdown, left_out, predictors
from rhn.kernels.newton import MAX_ITERATIONS
from rhn.plotting.figures import RED, SKY, our_style, titled

MANY = f"over {MAX_ITERATIONS}"


def before_and_after(rows: pd.DataFrame, T: int = 1024) -> pd.DataFrame:
    """Iterations over T steps and the exponent, before and after training, a row for each network."""
    rows = rows[rows["T"] == T]
    table: dict[str, dict] = {}
    for row in rows.itertuples():
        name = row.name + (f", depth {row.depth}" if row.name == "rhn" else "")
        when = "after" if row.trained else "before"
        entry = table.setdefault(name, {})
        entry[f"{row.kind} {when}: {row.method}"] = str(row.iterations) if row.converged else MANY
        entry[f"{row.kind} {when}: exponent"] = f"{row.exponent:.2f}"
    columns = [
        f"{task} {when}: {what}"
        for task in ("chorales", "characters")
        for when in ("before", "after")
        for what in ("full", "diagonal", "exponent")
    ]
    return pd.DataFrame(table).T.reindex(columns=columns).fillna("-")


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds of the loop / of Newton's method, and of torch.nn / of Newton's method in brackets; a column for each T."""
    table: dict[str, dict] = {}
    for row in rows.itertuples():
        entry = table.setdefault(f"{row.cell}, {row.units} units, {row.method}", {})
        theirs = "" if np.isnan(row.torch) else f" ({row.torch / row.newton:.2g})"
        entry[f"T = {row.T}"] = f"{row.loop / row.newton:.2g}{theirs}"
    return pd.DataFrame(table).T.fillna("-")


@our_style()
def draw(rows: pd.DataFrame, path: Path) -> None:
    """Counted iterations over their forecast from the other cells."""
    rows = rows[rows.method == "full"].reset_index(drop=True)
    forecast = np.minimum(left_out(rows, predictors(rows)), MAX_ITERATIONS)
    seen = np.where(rows.converged, np.maximum(rows.iterations, 1), MAX_ITERATIONS * 1.15)
    shift = np.exp(np.random.default_rng(0).normal(0, 0.02, len(rows)))
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    ax = figure.add_subplot()
    kinds = ((~rows.trained, SKY, ".", 0.6, "new networks"), (rows.trained, RED, "x", 1, "trained networks"))
    for chosen, colour, marker, alpha, label in kinds:
        style = {"color": colour, "markersize": 4, "alpha": alpha, "label": label}
        ax.plot(forecast[chosen], (seen * shift)[chosen], marker, **style)
    line = np.array([1, MAX_ITERATIONS])
    ax.plot(line, line, color="black", linewidth=0.8)
    ax.fill_between(line, line / 1.5, line * 1.5, color="black", alpha=0.08, label="within a factor of 1.5")
    ax.set(xscale="log", yscale="log", xlabel="predicted iterations", ylabel="counted iterations (top: more than 100)")
    ax.legend()
    titled(
        figure, "Iterations of Newton's method: predicted and counted", "each cell's prediction is from the other cells"
    )
    figure.savefig(path, dpi=130)


def main(paths: list[str]) -> None:
    """Print the tables and draw the figure: OUT.png NEW.csv TASKS.csv COSTS.csv."""
    figure, new, tasks, costs = map(Path, paths)
    print(in_markdown(before_and_after(pd.read_csv(tasks))), in_markdown(ratios(pd.read_csv(costs))), sep="\n\n")
    draw(pd.concat([pd.read_csv(new), pd.read_csv(tasks)], ignore_index=True), figure)
