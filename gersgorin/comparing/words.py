"""What an ensemble's numbers say: a table and a sentence or two of medians and of what four of five runs keep to."""

import numpy as np

from gersgorin.comparing.record import BAND, Ensemble, quantile
from gersgorin.record import DISC_WORDS, MEASURES
from rhn.wording import counted

COLUMNS = {"median": 0.5, "10 %": BAND[0], "90 %": BAND[1], "least": 0.0, "largest": 1.0}


def ensemble_table(found: Ensemble) -> str:
    """Quantity by quantity, the median, band and extremes over the runs: of each run its mean, of exponents that of its last step."""
    lines = [f"{found.title}, {found.along}, {_runs(found)}, {DISC_WORDS[found.discs]}"]
    lines.append(f"{'of each run the mean':<26}" + "".join(f"{name:>11}" for name in COLUMNS))
    rows = {MEASURES[name]: np.nanmean(getattr(found, name), 1) for name in ("spectral_radius", "norm", "reach")}
    rows["exponent at its last step"] = found.last_exponent
    for label, values in rows.items():
        lines.append(f"{label:<26}" + "".join(f"{quantile(values, share):>11.4g}" for share in COLUMNS.values()))
    return "\n".join(lines)


def ensemble_reading(found: Ensemble) -> str:
    """Plain sentences: what the products do, what the discs would have allowed, and whether weights or sequences matter more."""
    exponents, R = found.last_exponent, len(found.seed)
    low, median, high = (quantile(exponents, share) for share in (BAND[0], 0.5, BAND[1]))
    reach, radius = (int((np.nanmax(values, 1) > 1).sum()) for values in (found.reach, found.spectral_radius))
    words = [
        f"The gradient's norm {_does(exponents)}: its exponent is {median:.3g} a step in the median{_half_life(median)}, "
        f"{low:.3g} to {high:.3g} in four of five runs.",
        f"The {DISC_WORDS[found.discs]} would allow growth in {reach} of {R} runs, an eigenvalue leaves the unit circle in {radius}.",
    ]
    seeds, sequences = _spread(exponents, found.seed), _spread(exponents, found.sequence)
    if seeds is not None and sequences is not None:
        words.append(
            f"The exponent's standard deviation is {seeds:.2g} between seeds and {sequences:.2g} between sequences "
            "(of the means over the others)."
        )
    return " ".join(words)


def _does(exponents: np.ndarray) -> str:
    growing, R = int((exponents > 0).sum()), len(exponents)
    if 0 < growing < R:
        return f"grows in {growing} of {R} runs and shrinks in the others"
    return f"{'grows' if growing else 'shrinks'}{' in every run' if R > 1 else ''}"


def seeds_of(found: Ensemble) -> str:
    """How many networks there are: "5 seeds"."""
    return counted(len(set(found.seed.tolist())), "seed")


def _runs(found: Ensemble) -> str:
    steps = sorted(found.steps.tolist())
    lasting = f"{steps[0]} to {steps[-1]} steps" if steps[0] < steps[-1] else counted(steps[0], "step")
    return f"{seeds_of(found)}, {counted(len(steps), 'run')} of {lasting}"


def _half_life(exponent: float) -> str:
    if not np.isfinite(exponent) or abs(exponent) < 1e-6:
        return ""
    return f" (it {'halves' if exponent < 0 else 'doubles'} every {np.log(2) / abs(exponent):.3g} steps)"


def _spread(values: np.ndarray, groups: np.ndarray) -> float | None:
    """Standard deviation of the groups' means; None where there is one group, or a mean is not finite."""
    means = [values[groups == group].mean() for group in dict.fromkeys(groups.tolist())]
    return float(np.std(means, ddof=1)) if len(means) > 1 and np.isfinite(means).all() else None
