"""The small table that `gersgorin-plot` prints."""

import math

import numpy as np

from gersgorin.record import DISC_WORDS, MEASURES, SpectrumRecord, shown_steps
from rhn.wording import counted


def summary_table(record: SpectrumRecord) -> str:
    """A few steps of the run and the mean over all of them, quantity by quantity, in plain text."""
    T, steps = len(record.norm), shown_steps(len(record.norm))
    lines = [f"{record.title}, {record.along}, {counted(T, 'step')}, {DISC_WORDS[record.discs]}"]
    if record.leading:
        lines[0] += f"; {record.which_eigenvalues} of {record.row_centers.shape[1]}"
    lines.append(f"{'':<26}" + "".join(f"{f'step {t}':>11}" for t in steps) + f"{'mean':>11}")
    for name, label in MEASURES.items():
        values = getattr(record, name)
        if np.isnan(values).all():  # not measured: see `SpectrumRecord.leading`
            continue
        mean = [] if name == "finite_time_exponent" else [np.nanmean(values)]
        lines.append(f"{label:<26}" + "".join(map(_cell, [*values[steps], *mean])))
    kreiss = record.kreiss_constant[steps]
    if not np.isnan(kreiss).all():
        shown = "".join(f"{'' if math.isnan(k) else f'{k:.4g}':>11}" for k in kreiss)
        lines.append(f"{'Kreiss constant, at least':<26}{shown}")
    bound, about = float(record.norm_bound), "for any input and any state within this run's range"
    if math.isnan(bound):
        bound, about = "none", "the cell has no norm_bound"
    else:
        bound = f"{bound:.4g}"
    if not record.leading:
        lines.append(f"{'bound on the 2-norm':<26}{bound:>11}  {about}")
    life = "gradient's half-life" if record.half_life >= 0 else "gradient's doubling time"
    lines.append(f"{life:<26}{abs(record.half_life):>11.4g}  steps, by the exponent at the last step")
    return "\n".join(lines)


def _cell(value: float) -> str:
    """What was not found, as eigenvalues may, is a dash."""
    return f"{'-':>11}" if math.isnan(value) else f"{value:>11.4g}"
