"""Fit the forecast of iterations, and judge it on cells left out."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from rhn.kernels.newton import MAX_ITERATIONS
from rhn.kernels.newton_forecast import ShortRun

RIDGE = 0.01
ROUNDS = 20  # of the fit, for rows that have not converged: only a lower bound is known
FACTOR = 1.5
WITHOUT_REHEARSALS = [0, 3, 4, 5, 6, 7, 10, 11, 12, 13]  # predictors


def short_run(row) -> ShortRun:
    """The measures of a row."""
    rehearsals = int(row.rehearsal_16), int(row.rehearsal_32)
    return ShortRun(row.exponent, row.log_response, row.log_remainder, rehearsals)


def predictors(rows: pd.DataFrame) -> np.ndarray:
    """(rows, 14)."""
    return np.array([short_run(row).predictors(row.T_) for row in rows.rename(columns={"T": "T_"}).itertuples()])


def fitted(rows: pd.DataFrame, P: np.ndarray) -> np.ndarray:
    """Coefficients by least squares of log iterations; a row that has not converged counts if its forecast is too low."""
    known, longest = np.log(np.maximum(rows.iterations, 1).to_numpy(float)), np.log(rows["T"].to_numpy(float))
    targets, open_end = known.copy(), ~rows.converged.to_numpy(bool)
    for _ in range(ROUNDS):
        c = np.linalg.solve(P.T @ P + RIDGE * np.eye(P.shape[1]), P.T @ targets)
        targets = np.where(open_end, np.maximum(known, np.minimum(P @ c, longest)), known)
    return c


def area_under_curve(score: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a true row has a higher score than a false one."""
    true, false = truth.sum(), (~truth).sum()
    return float((rankdata(score)[truth].sum() - true * (true + 1) / 2) / (true * false)) if true * false else np.nan


def left_out(rows: pd.DataFrame, P: np.ndarray) -> np.ndarray:
    """Forecasts of each cell from the coefficients of all others."""
    found = np.zeros(len(rows))
    for cell in rows.name.unique():
        out = (rows.name == cell).to_numpy()
        found[out] = np.clip(np.exp(P[out] @ fitted(rows[~out], P[~out])), 1, rows["T"][out])
    return found


def judged(forecast: np.ndarray, rows: pd.DataFrame) -> dict[str, float]:
    """Rank correlation, share within a factor of 1.5 (100 stands for all that have not converged), AUC of "within 3 / 10"."""
    converged = rows.converged.to_numpy(bool)
    seen = np.where(converged, np.maximum(rows.iterations, 1), MAX_ITERATIONS).astype(float)
    near = np.abs(np.log(np.minimum(forecast, MAX_ITERATIONS) / seen)) <= np.log(FACTOR) + 1e-9
    return {
        "networks and lengths": len(rows),
        "rank correlation": float(spearmanr(forecast, seen)[0]),
        "within 1.5": float(near.mean()),
        "within 1.5 of those that converge": float(near[converged].mean()),
        "AUC 3": area_under_curve(-forecast, converged & (seen <= 3)),
        "AUC 10": area_under_curve(-forecast, converged & (seen <= 10)),
    }


def judge(paths: list[Path]) -> pd.DataFrame:
    """The table of forecasts; prints the coefficients that are fitted to all rows."""
    rows = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    rows = rows[rows.method == "full"].reset_index(drop=True)
    P, exponent = predictors(rows), rows.exponent.to_numpy()
    forecasts = {
        "all measures": left_out(rows, P),
        "without rehearsals": left_out(rows, P[:, WITHOUT_REHEARSALS]),
        "exponent": np.exp(exponent),
        "sign of the exponent": np.where(exponent < 0, 1.0, 2.0),
    }
    table = {}
    for name, forecast in forecasts.items():
        parts = {"": np.full(len(rows), True), ", trained": rows.trained.to_numpy(bool)}
        parts |= {f", T = {T}": (rows["T"] == T).to_numpy() for T in sorted(rows["T"].unique())}
        for part, chosen in parts.items() if name == "all measures" else [("", parts[""])]:
            if chosen.any():
                table[name + part] = judged(forecast[chosen], rows[chosen])
    print("COEFFICIENTS =", tuple(float(f"{c:.4g}") for c in fitted(rows, P)))
    return pd.DataFrame(table).T


def main(paths: list[str]) -> None:
    """Print the table."""
    print(in_markdown(judge([Path(path) for path in paths])))


def in_markdown(table: pd.DataFrame) -> str:
    """A table with its index as the first column."""
    rows = [["", *table.columns], ["---"] * (1 + len(table.columns))]
    rows += [
        [str(name), *(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row)]
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
