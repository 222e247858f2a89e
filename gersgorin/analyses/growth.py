"""Growth in words: one rule decides whether a size grows, shrinks or is kept, and whether a point
lies on the unit circle. Gradients are described by the number of steps in which they halve or
double.

A rate is a natural logarithm per time step. The argument log_norm (T,) contains the natural
logarithms of the norms of the Jacobian products over the first 1, 2, ..., T steps. The argument
near is the largest rate that counts as zero, because rounding may cause it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gersgorin.linalg.products import doubling_time, half_life
from rhn.cells.registry import TOOLKIT_CELLS, spoken_name
from rhn.utils.old import counted, sentence

# Rounding moves a double eigenvalue by the square root of the precision, 1.5e-8 in float64. A rate
# of 1e-7 changes a gradient by a thousandth in 10,000 steps.
SAME, PLACES = 1e-7, 100  # the second in units of the last place, for other precisions
ZERO = "zero up to rounding"  # also of a slope 1 - s^2 whose s is rounded to 1
TWICE = math.log(2)  # an extreme that is reported lies one doubling beyond both ends
EVEN = 10  # a change is uneven if half of it falls on a tenth of the steps
ALIKE = 1.1  # ratio of half-lives, or of norms, up to which they are not ranked


def tolerance(dtype: np.dtype, least: float = SAME) -> float:
    """Return the largest rate of growth that counts as zero, for a precision. A point also counts
    as on the unit circle if its distance from the circle is at most this rate. least: the smallest
    value to return.
    """
    return max(least, PLACES * float(np.finfo(dtype).eps))


def direction(values: np.ndarray | float, near: float) -> np.ndarray:
    """Return 1 for a rate of growth, -1 for a rate of decay, and 0 for NaN or a rate that keeps the
    size. For a value |z| - 1: 1 outside, -1 inside and 0 on the unit circle.

    >>> direction(np.array([0.1, -0.1, 1e-9]), 1e-7).tolist()
    [1, -1, 0]
    """
    values = np.nan_to_num(values, posinf=np.inf, neginf=-np.inf)
    return np.where(np.abs(values) <= near, 0, np.sign(values)).astype(int)


def side_of_circle(distance: float, near: float) -> str:
    """The side of the unit circle on which a point at this distance from 0 lies, in words.

    >>> side_of_circle(0.5, 1e-7), side_of_circle(1.0, 1e-7)
    ('inside the unit circle', 'on the unit circle')
    """
    which = ("on", "outside", "inside")[direction(distance - 1, near)]
    return f"{which} the unit circle"


def beside_one(value: float, near: float) -> str:
    """Write a number with three digits, or with as many as are needed to distinguish it from 1. A
    number that differs from 1 by at most `near`, the error by rounding, is "1".

    >>> beside_one(1.2345, 1e-7), beside_one(1.00061, 1e-7), beside_one(1 + 1e-15, 1e-7)
    ('1.23', '1.0006', '1')
    """
    if not math.isfinite(value):
        return f"{value:g}"
    if abs(value - 1) <= near:
        return "1"
    digits = 1 - math.floor(math.log10(abs(value - 1)))
    return f"{value:.{max(3, digits)}g}"


def number_of_log(log: float) -> str:
    """Write the number that has this natural logarithm.

    >>> number_of_log(math.log(0.25)), number_of_log(-3796.8)
    ('0.25', '10^-1649')
    """
    return f"{math.exp(log):.4g}" if abs(log) < 600 else f"10^{log / math.log(10):.4g}"


def rate_of(log_norm: np.ndarray) -> float:
    """The mean rate over all steps; NaN without a step."""
    return float(log_norm[-1]) / len(log_norm) if len(log_norm) else math.nan


def lives(rate: float, near: float) -> tuple[float, float]:
    """Return (half-life, doubling time) in steps for a rate; both are inf if the size is kept.

    >>> lives(-math.log(2) / 10, 1e-7), lives(1e-12, 1e-7)
    ((10.0, inf), (inf, inf))
    """
    rate = rate if direction(rate, near) or math.isnan(rate) else 0.0
    known = torch.tensor(rate, dtype=torch.float64, device="cpu")
    return float(half_life(known)), float(doubling_time(known))


def rate_words(rate: float, near: float, *, steady: bool = True) -> str:
    """The predicate of a sentence about a gradient with this mean rate, such as "halves every 3
    steps". steady: whether a gradient of rate 0 keeps its norm at every step.

    >>> rate_words(-math.log(2) / 10, 1e-7), rate_words(math.log(2), 1e-7)
    ('halves every 10 steps', 'doubles every step')
    >>> rate_words(-1.6, 1e-7), rate_words(1e-9, 1e-7)
    ('halves every 0.433 steps', 'keeps its norm')
    """
    if math.isnan(rate):
        return "has no known size"
    if rate == -math.inf:
        return f"is {ZERO} at the end"
    if not direction(rate, near):
        return "keeps its norm" if steady else "ends with the norm that it starts with"
    return f"{'halves' if rate < 0 else 'doubles'} {_every(rate)}"


def gradient_words(log_norm: np.ndarray, of: str = "") -> str:
    """One clause about the growth of the gradient, from the log norms of the products. of: words
    for the network, such as " of this RHN".

    >>> print(gradient_words(np.array([-0.5, -1.0, -1.5])))
    the gradient halves every 1.39 steps
    >>> print(gradient_words(np.array([0.5, 1.0, 1.5]), " of this RNN"))
    the gradient of this RNN doubles every 1.39 steps
    >>> print(gradient_words(np.array([-1.0, -np.inf, -np.inf])))
    the gradient is zero up to rounding after 2 steps
    >>> print(gradient_words(np.r_[2.0, np.linspace(5, 1, 39)]))
    the gradient ends 2.72 times as large as it starts (largest after 2 steps)
    """
    found = Growth.of(log_norm)
    if found.rate == -math.inf:
        first = int(np.isneginf(log_norm).argmax()) + 1
        return f"the gradient{of} is {ZERO} after {counted(first, 'step')}"
    near = tolerance(log_norm.dtype)
    words = found.end or rate_words(found.rate, near, steady=is_steady(log_norm, near))
    return f"the gradient{of} {words}{f' ({found.turn})' if found.turn else ''}"


@dataclass(frozen=True)
class Growth:
    """The growth of a gradient along a run, or in the median of several runs."""

    rate: float
    """The mean rate; NaN if it is not known."""
    even: bool = False
    """True if the gradient ends within a factor of 2 of its start (for several runs: in more than
    half of them).
    """
    end: str = ""
    """The predicate in place of a half-life or doubling time, if the norm turns round towards its
    start: "ends 19.7 times as large as it starts".
    """
    turn: str = ""
    """Words about the step at which the norm turns round: "largest after 9 steps"."""
    median: bool = False
    """True for several runs."""
    disagree: str = ""
    """Words for runs that differ: in how many the gradient grows, or, if it grows in none, in how
    many it shrinks: "grows in 1 of 5".
    """

    @classmethod
    def of(cls, log_norm: np.ndarray) -> "Growth":
        """The growth along one run."""
        rate = math.nan if np.isnan(log_norm).any() else rate_of(log_norm)
        if not math.isfinite(rate):
            return cls(rate)
        whole = float(log_norm[-1])
        sign, t = max(_extremes(log_norm), key=lambda one: _excess(one[0] * log_norm, one[1]))
        if not _turns_far(sign * log_norm, t):
            return cls(rate, abs(whole) <= TWICE)
        turn = f"{WORDS[sign]} after {counted(t + 1, 'step')}"
        end = f"ends {_short_number(whole)} times as large as it starts" if sign * whole > 0 else ""
        return cls(rate, abs(whole) <= TWICE, end, turn)

    @property
    def ranked(self) -> float:
        """The rate in a ranking: 0 for a change of less than a factor of 2."""
        return 0.0 if self.even else self.rate

    def grows(self, near: float) -> bool:
        """True if the gradient grows, in the median or in any run."""
        return bool(direction(self.rate, near) > 0) or self.disagree.startswith("grows")

    @property
    def note(self) -> str:
        """Words in brackets after the name of the network."""
        return "; ".join(filter(None, ("median" if self.median else "", self.disagree, self.turn)))


def is_steady(log_norm: np.ndarray, near: float) -> bool:
    """Return True if the norms with these logarithms (..., T) are 1 after every step, up to
    rounding; NaN is left out.
    """
    rates = log_norm / np.arange(1, log_norm.shape[-1] + 1)
    return not direction(rates, near).any()


def growth_over_all(log_norm: np.ndarray, unit: str) -> list[str]:
    """A sentence about the norm of the product after all steps. The sentence has a clause about an
    uneven change, and one about extremes before the last step. There is no sentence if a norm is 0
    or not known.

    >>> print(*growth_over_all(np.array([-0.5, -1.0, -1.5]), "steps"))
    Over 3 steps the 2-norm of the product of all Jacobians is 0.2231.
    >>> print(*growth_over_all(np.array([-0.5, -1.0, -1.5]), "0.1 s"))
    Over 3 steps of 0.1 s the 2-norm of the product of all Jacobians is 0.2231.
    >>> print(*growth_over_all(np.array([1.0, 0.5, -0.5]), "steps"), sep="\\n")
    Over 3 steps the 2-norm of the product of all Jacobians is 0.6065.
    The norm is largest after 1 step: 2.718.
    >>> print(growth_over_all(np.full(20, 2.5), "steps")[0].rpartition("; ")[2])
    at least half of this change falls on the first of 20 steps.
    """
    T = len(log_norm)
    if not T or not np.isfinite(log_norm).all():
        return []
    whole = float(log_norm[-1])
    over = counted(T, unit.removesuffix("s"))
    if unit[:1].isdigit():  # a length of time
        over = f"{counted(T, 'step')} of {unit}"
    end = f"over {over} the 2-norm of the product of all Jacobians is {number_of_log(whole)}"
    return [*filter(None, (sentence(end, _uneven(log_norm)), extremes_on_the_way(log_norm)))]


def extremes_on_the_way(log_norm: np.ndarray) -> str:
    """A sentence about the largest and smallest norm before the last step; "" if a steady change
    has them at the same steps, or if a norm is 0 or not known.
    """
    if not len(log_norm) or not np.isfinite(log_norm).all():
        return ""
    return sentence(
        *(
            f"the norm is {WORDS[sign]} after {counted(t + 1, 'step')}: "
            f"{number_of_log(log_norm[t])}"
            for sign, t in _extremes(log_norm)
            if _turns(sign * log_norm, t)
        )
    )


WORDS = {1: "largest", -1: "smallest"}


def _extremes(log_norm: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (sign, index) of the largest norm, with sign 1, and of the smallest, with sign -1."""
    return [(sign, int((sign * log_norm).argmax())) for sign in WORDS]


def _excess(log_norm: np.ndarray, t: int) -> float:
    """The ratio of the norm at index t to the larger end, 1 or the last norm, as a logarithm."""
    return float(log_norm[t]) - max(0.0, float(log_norm[-1]))


def _near_usual(log_norm: np.ndarray, t: int) -> bool:
    """True if index t is near the end at which a steady change is largest."""
    T = len(log_norm)
    return abs(t + 1 - (T if log_norm[-1] > 0 else 0)) <= max(1, T / EVEN)


def _turns(log_norm: np.ndarray, t: int) -> bool:
    """True if the largest norm, at index t, is above both ends by a factor of 2. A tenth is enough
    if t is not near the end at which a steady change is largest.
    """
    least = TWICE if _near_usual(log_norm, t) else math.log(ALIKE)
    return _excess(log_norm, t) > least


def _turns_far(log_norm: np.ndarray, t: int) -> bool:
    """True if the largest norm, at index t, is above both ends by a factor of 2, and t is not near
    the end at which a steady change is largest. The mean rate then hides the change.
    """
    return _excess(log_norm, t) > TWICE and not _near_usual(log_norm, t)


def _uneven(log_norm: np.ndarray) -> str:
    """A clause about the few steps that have half of the change of the logarithm; "" if the change
    is less than one doubling, or evenly spread.

    The steps from a to b - 1 have half of the change if each share of it that is reached after b
    steps or more exceeds each share that is reached after a steps or fewer by a half. If the norm
    turns, other steps may have half of the change too: then there is no clause.

    >>> _uneven(np.r_[np.zeros(15), 30.0, np.full(15, 0.9)])
    ''

    >>> _uneven(np.r_[np.zeros(15), np.full(15, 9.0)])
    'at least half of this change falls on step 15'
    """
    T, whole = len(log_norm), float(log_norm[-1])
    if abs(whole) <= TWICE:
        return ""
    share = np.r_[0, log_norm / whole]
    if share.max() > 1.5 or share.min() < -0.5:  # changes that undo each other hide the whole one
        return ""
    before, after = np.maximum.accumulate(share), np.minimum.accumulate(share[::-1])[::-1]
    ends = np.searchsorted(after, before + 0.5 - SAME)  # T + 1: at no step
    few = np.where(ends <= T, ends - np.arange(T + 1), T)
    first = int(few.argmin())
    end = first + int(few[first])
    if EVEN * few[first] > T or _elsewhere(share, first, end):
        return ""
    return f"at least half of this change falls on {_places(first, end, T)}"


def _elsewhere(share: np.ndarray, first: int, end: int) -> bool:
    """True if half of the change also falls on fewer steps than those from first to end - 1, or on
    as many other steps.
    """
    few = end - first
    for count in range(1, few + 1):
        starts = np.flatnonzero(share[count:] - share[:-count] >= 0.5 - SAME)
        if count == few:
            starts = starts[(starts + few <= first) | (starts >= end)]
        if len(starts):
            return True
    return False


def _places(first: int, end: int, T: int) -> str:
    """Words for the steps from first to end - 1 of T steps, counted from 0."""
    if first == 0 or end == T:
        few = "" if end - first == 1 else f" {end - first}"
        return f"the {'last' if first else 'first'}{few} of {T} steps"
    return f"step {first}" if end == first + 1 else f"steps {first} to {end - 1}"


def _short_number(log: float) -> str:
    """Write the number that has this natural logarithm with at most three digits.

    >>> _short_number(math.log(19.71)), _short_number(60.0)
    ('19.7', '10^26.1')
    """
    return f"{math.exp(log):.3g}" if abs(log) < math.log(1000) else f"10^{log / math.log(10):.3g}"


def _steps(rate: float) -> str:
    """The number of steps in which a gradient of this rate halves or doubles, with three digits."""
    steps = math.log(2) / abs(rate)
    return f"{steps:.3g}" if steps < 999.5 else f"{float(f'{steps:.3g}'):,.0f}"


def _every(rate: float) -> str:
    return "every step" if (steps := _steps(rate)) == "1" else f"every {steps} steps"


def compared_words(growths: Sequence[Growth], names: Sequence[str], near: float) -> str:
    """A title about the gradients of several networks. For two networks the title describes each
    gradient. For more networks it names the gradient that shrinks least, or grows most, if its
    half-life or doubling time differs by more than a tenth from all others. Changes of less than a
    factor of 2 over all steps are not ranked.

    >>> def said(rates, names, **even):
    ...     print(compared_words([Growth(rate, **even) for rate in rates], names, 1e-7))
    >>> said([-0.5, -1.0], ["rhn", "rnn"])
    The gradient halves every 1.39 steps in the RHN and every 0.693 steps in the RNN
    >>> said([0.0, -0.5], ["irnn", "rnn"])
    The gradient keeps its norm in the IRNN and halves every 1.39 steps in the RNN
    >>> said([0.0, -0.5, 1e-12], ["rhn", "rnn", "mine"])
    The gradient lasts longest in the RHN and in mine, where it keeps its norm
    >>> said([0.8, 0.4, -0.6], ["irnn", "rnn", "gru"])
    The gradient grows most in the IRNN, where it doubles every 0.866 steps
    >>> said([0.004, 0.003], ["irnn", "rnn"], even=True)
    The gradient ends within a factor of 2 of its start in the IRNN and in the RNN
    >>> runs = [Growth(0.0, median=True), Growth(0.2, median=True, disagree="grows in 3 of 5")]
    >>> print(compared_words(runs, ["a", "b"], 1e-7))
    The gradient keeps its norm in a (median) and grows in 3 of 5 runs in b
    """
    known = [k for k, growth in enumerate(growths) if not math.isnan(growth.rate)]
    if not known:
        return "No gradient of these networks is known"
    alike = {growth.note for growth in growths} == {"median"}
    notes = [""] * len(names) if alike else [growth.note for growth in growths]
    describe = _each_words if len(known) < 3 else _ranked_words
    words = describe(growths, known, _short(names), notes, near)
    return f"The gradient {words}{' (median)' if alike else ''}"


def _each_words(
    growths: Sequence[Growth],
    known: Sequence[int],
    names: Sequence[str],
    notes: Sequence[str],
    near: float,
) -> str:
    """The predicates of one or two gradients."""
    each = [_alone_words(growths[k], near) for k in known]
    where = [_within(names[k], "" if growths[k].disagree else notes[k]) for k in known]
    return _joined(each, where)


def _alone_words(growth: Growth, near: float) -> str:
    """The predicate of a gradient that is described by itself."""
    if growth.disagree:
        return f"{growth.disagree} runs"
    return growth.end if growth.end and not growth.even else _range_words([growth], near)


def _ranked_words(
    growths: Sequence[Growth],
    known: Sequence[int],
    names: Sequence[str],
    notes: Sequence[str],
    near: float,
) -> str:
    """The predicate of the gradients with the largest rate."""
    top = _best([growth.ranked for growth in growths], known, near)
    best = [growths[k] for k in top]
    words = _alone_words(best[0], near) if len(best) == 1 else _range_words(best, near)
    mixed = _mixed(best) if any(notes) else ""
    if len(known) == len(top):
        return f"{words} in all {len(top)} networks{mixed}"
    behind = [growths[k] for k in known if k not in top]
    others_grow = any(growth.grows(near) for growth in behind)
    most = _most(bool(direction(best[0].ranked, near) > 0), others_grow)
    alone = len(best) == 1 and best[0].disagree  # which the words say already
    places = " and ".join(_within(names[k], "" if alone else notes[k]) for k in top)
    places = places if len(top) < 3 else f"in {len(top)} of {len(names)} networks{mixed}"
    return f"{most} {places}, where it {words}"


def _mixed(growths: Sequence[Growth]) -> str:
    """Words about several networks as one: "" for single runs.

    >>> _mixed([Growth(0.1, median=True, disagree="grows in 1 of 5"), Growth(0.1, median=True)])
    ' (medians; runs disagree in 1 of them)'
    """
    count = sum(bool(growth.disagree) for growth in growths)
    disagree = f"; runs disagree in {count} of them" if count else ""
    return f" (medians{disagree})" if any(growth.median for growth in growths) else ""


def _joined(predicates: Sequence[str], where: Sequence[str]) -> str:
    """Join the predicates of one or two gradients, each with its network. A common verb is written
    once.

    >>> _joined(["halves every step", "halves every 2 steps"], ["here", "there"])
    'halves every step here and every 2 steps there'
    """
    first, *others = predicates
    shared = f"{first.partition(' every ')[0]} "
    rest = ["" if words == first else words.removeprefix(shared) for words in others]
    each = [f"{words} {place}".strip() for words, place in zip([first, *rest], where, strict=True)]
    return " and ".join(each)


def _most(grows: bool, others_grow: bool) -> str:
    """The predicate of the gradient with the largest rate, compared with the others. others_grow:
    whether another gradient grows at all, in any run.
    """
    if not grows:
        return "lasts longest"
    return "grows most" if others_grow else "grows only"


def _best(rates: Sequence[float], known: Sequence[int], near: float) -> list[int]:
    """The network with the largest rate, and those that follow without a gap: the half-life or
    doubling time of each differs by less than a tenth from that of the one before.
    """
    least = max(rates[k] for k in known)
    sign = int(direction(least, near))
    for rate in sorted((rates[k] for k in known), reverse=True):
        if rate >= {1: least / ALIKE, 0: -near, -1: least * ALIKE}[sign]:
            least = rate
    return [k for k in known if rates[k] >= least]


def _range_words(growths: Sequence[Growth], near: float) -> str:
    """The predicate of gradients with similar rates: "halves every 1.1 to 1.2 steps"."""
    shown = sorted((growth.rate for growth in growths), key=abs, reverse=True)
    if math.isinf(shown[0]) or not direction(shown[0], near):
        return rate_words(shown[0], near)
    if all(growth.even for growth in growths):
        return "ends within a factor of 2 of its start"
    verb = "halves" if shown[0] < 0 else "doubles"
    ends = [_steps(shown[0]), _steps(shown[-1])]
    every = _every(shown[0]) if ends[0] == ends[1] else f"every {ends[0]} to {ends[1]} steps"
    return f"{verb} {every}{' on average' if any(growth.end for growth in growths) else ''}"


def _short(names: Sequence[str]) -> list[str]:
    """The first part of each name if all of these differ, also in more than case; else the whole
    names.
    """
    firsts = [_first_part(name)[0] for name in names]
    return firsts if len({first.casefold() for first in firsts}) == len(firsts) else [*names]


def _first_part(name: str) -> tuple[str, str]:
    """Split a name at its first comma that is not in brackets."""
    first, *rest = re.split(r", (?![^(]*\))", name, maxsplit=1)
    return first, "".join(rest)


def _within(name: str, note: str = "") -> str:
    """The words for a network in a sentence, with a note in brackets.

    >>> _within("rhn"), _within("depth 5"), _within("identity weights"), _within("8 units")
    ('in the RHN', 'at depth 5', 'with identity weights', 'with 8 units')
    >>> _within("rhn, depth 5", "median"), _within("trained runs/rhn"), _within("new rhn")
    ('in the RHN (depth 5; median)', 'in the trained runs/rhn', 'in the new RHN')
    """
    name, rest = _first_part(name)
    brackets = "; ".join(filter(None, (rest, note)))
    return f"{_place(name)} ({brackets})" if brackets else _place(name)


def _place(name: str) -> str:
    state, _, of = name.partition(" ")
    if name in TOOLKIT_CELLS:
        return f"in the {spoken_name(name)}"
    if state in ("new", "trained") and of:
        return f"in the {state} {spoken_name(of) if of in TOOLKIT_CELLS else of}"
    if state in ("before", "after"):  # training, epoch 34
        return name
    if "weights" in name.split() or re.fullmatch(r"\d+ units?", name):
        return f"with {name}"
    return f"at {name}" if re.fullmatch(r"[a-z ]+ [-+\d.]+", name) else f"in {name}"
