"""Fixed points as numbers, without torch.

Legend: P points, fixed ones first, those that most starts led to before others; N entries of a state; B starts.
"""

from dataclasses import dataclass

import numpy as np

from rhn.result import Result

NEUTRAL = 1e-6  # how near the unit circle an eigenvalue is called neither stable nor unstable


@dataclass(frozen=True, kw_only=True, repr=False)
class FixedPoints(Result):
    """Where a step under constant input stands still, where it is slow, and its spectrum there; P may be 0."""

    states: np.ndarray
    """(P, N)"""
    residuals: np.ndarray
    """|F(s) - s|_2, (P,)."""
    is_slow: np.ndarray
    """(P,) bool: no fixed point, but a minimum of |F(s) - s| at most a hundredth of what it is at the median start."""
    eigenvalues: np.ndarray
    """Of dF/ds at each point, (P, N) complex, the largest modulus first."""
    found_from: np.ndarray
    """How many starts led to each point, (P,)."""
    starts: np.ndarray
    """(B, N)"""
    least_residual: float
    """The least |F(s) - s|_2 that any start led to."""
    tolerance: float
    """Largest residual of a fixed point."""
    margin: float = 0.5
    """Points were searched for in the box of the starts, wider all around by this share of its largest side (at least of 1)."""
    input: np.ndarray | None = None
    """The constant input (m,)."""
    title: str = ""
    """What a figure calls the cell and its input."""
    about: str = ""
    """How network and sequence came to be, under a figure's title."""

    @property
    def wider(self) -> float:
        """By how much the box that was searched is wider than that of the starts, all around."""
        return self.margin * max(1.0, float(np.ptp(self.starts, axis=0).max()))

    @property
    def lost(self) -> int:
        """How many starts led to no point."""
        return len(self.starts) - int(self.found_from.sum())

    @property
    def unstable(self) -> np.ndarray:
        """How many eigenvalues lie outside the unit circle, (P,)."""
        return (np.abs(self.eigenvalues) > 1 + NEUTRAL).sum(1)

    @property
    def neutral(self) -> np.ndarray:
        """How many lie on it, up to 1e-6, (P,): along those directions the linear part does not decide."""
        return (np.abs(np.abs(self.eigenvalues) - 1) <= NEUTRAL).sum(1)

    @property
    def time_constants(self) -> np.ndarray:
        """-1 / log |eigenvalue| in steps, (P, N): a deviation falls to 1/e in so many; negative where it grows, inf on the circle."""
        with np.errstate(divide="ignore"):
            logs = np.log(np.abs(self.eigenvalues))
            return np.where(logs == 0, np.inf, -1 / logs)

    @property
    def kinds(self) -> list[str]:
        """A word for each point: "stable", "saddle", "unstable" (in all directions), "neutral" (undecided), with "slow, " before."""
        words = []
        for slow, unstable, neutral in zip(self.is_slow, self.unstable, self.neutral, strict=True):
            if unstable:
                word = "unstable" if unstable == self.states.shape[1] else "saddle"
            else:
                word = "neutral" if neutral else "stable"
            words.append("slow, " + word if slow else word)
        return words

    def points(self) -> list[dict]:
        """One row of numbers a point."""
        return [
            {
                "kind": kind,
                "slow": bool(self.is_slow[p]),
                "residual": float(self.residuals[p]),
                "found_from": int(self.found_from[p]),
                "unstable": int(self.unstable[p]),
                "neutral": int(self.neutral[p]),
                "spectral_radius": float(np.abs(self.eigenvalues[p, 0])),
                "slowest_time_constant": float(self.time_constants[p, 0]),
                "state": self.states[p].tolist(),
                "eigenvalues": np.stack((self.eigenvalues[p].real, self.eigenvalues[p].imag), -1).tolist(),
            }
            for p, kind in enumerate(self.kinds)
        ]

    def summary(self) -> dict:
        """JSON-ready."""
        about = {"title": self.title, "starts": len(self.starts), "lost": self.lost}
        about |= {"least_residual": self.least_residual, "tolerance": self.tolerance, "margin": self.margin}
        return about | {"input": None if self.input is None else self.input.tolist(), "points": self.points()}
