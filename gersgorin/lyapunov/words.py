"""A Lyapunov spectrum in plain text."""

import math

from gersgorin.lyapunov.record import LyapunovSpectrum

LISTED = 8  # of more the first so many, and the last one


def lyapunov_table(spectrum: LyapunovSpectrum) -> str:
    """The first exponents with their errors, what they come to, and from how many steps they are."""
    counted = f"{spectrum.steps} step{'s' * (spectrum.steps > 1)}"
    warmup = f" after {spectrum.warmup} that are not counted" if spectrum.warmup else ""
    errors = "+- standard error (two of them: 95 %)" if spectrum.tells_errors else "too short a run for standard errors"
    lines = [f"Lyapunov exponents a step, from {counted}{warmup}; {errors}"]
    pairs = list(zip(spectrum.exponents, spectrum.standard_errors, strict=True))
    left_out = range(LISTED, len(pairs) - 1)
    for i, (value, error) in enumerate(pairs):
        if i not in left_out:
            told = "" if math.isnan(error) else f"  +- {error:.2g}"
            lines.append(f"{f'exponent {i + 1}':<26}{value:>11.4g}{told}")
        elif i == LISTED:
            lines.append("...")
    which = "all" if spectrum.complete else f"these {len(pairs)} of {spectrum.state_size}"
    lines.append(f"{'sum':<26}{spectrum.sum:>11.4g}  of {which}")
    dimension = spectrum.kaplan_yorke
    told = f"{'':>4}needs more exponents: their sum is not negative" if math.isnan(dimension) else f"{dimension:>11.4g}"
    lines.append(f"{'Kaplan-Yorke dimension':<26}{told}")
    return "\n".join(lines)
