"""The outputs that a network can give: bounds of each unit, and units that are probabilities.

    found = range_of(training, x, output, units=1)   # from copies with other weights
    found.outputs(z)                                 # free numbers -> outputs of this range
    found.numbers(output)                            # outputs -> free numbers

The network is evaluated with its own weights and with random ones. A bound of a unit is a value at
which several copies end, such as 0 and 1 of a sigmoid. Units are probabilities if they always sum
to 1, and logarithms of probabilities if their exponentials do.

Legend: N outputs, K units of an output.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gersgorin.validate import random_numbers_kept
from rhn.errors import USERS_FAULT
from trainability.data import Inputs

SIZES = (1.0,) * 3 + (8.0,) * 3 + (64.0,) * 5 + (512.0,) * 5  # of the noise, times the weights
LEAST_WEIGHT = 0.1  # scale of the noise for weights that are smaller, such as biases of 0
ENDS = 2  # copies that end at a bound
NEAR = 1e-3  # of the spread of a unit: so near to a bound it has ended there
SUM = 1e-4  # by which a sum of probabilities may differ from 1
ROWS = 64  # outputs of a copy that are looked at
MOST_UNITS = 64  # among which groups of probabilities are searched; of more only all together
FLOOR, LEAST_FLOOR = 0.1, 1e-3  # of a positive unit: at most, and if it has none
EDGE = 1e-3  # share of a range that free numbers keep away from its bounds
LEAST_SHARE = 1e-7  # whose logarithm is finite, also that of 1 less it in single precision


@dataclass(frozen=True)
class Shares:
    """Units next to each other that are probabilities with the sum 1, or their logarithms."""

    first: int
    end: int
    logs: bool


@dataclass(frozen=True)
class OutputRange:
    """The range of outputs. Without arguments, outputs may be any numbers.

    >>> OutputRange().is_free
    True
    >>> both = OutputRange(torch.zeros(2), torch.tensor([1.0, torch.inf]), units=1)
    >>> both.outputs(torch.zeros(1, 2))
    tensor([[0.5000, 0.6931]])
    """

    low: Tensor | None = None
    """(K,) least value of each unit, -inf without a bound; one number if there are no units."""
    high: Tensor | None = None
    """(K,) greatest value of each unit, inf without a bound."""
    shares: tuple[Shares, ...] = ()
    """The units that are probabilities, or their logarithms."""
    units: int | None = None
    """Axis of the units in outputs."""
    wrong_axis: int | None = None
    """The axis along which outputs sum to 1, if it is that of the examples or the frames. The
    range is then that of probabilities along the units.
    """

    @property
    def is_free(self) -> bool:
        """True if outputs may be any numbers."""
        return self.low is None

    @property
    def is_share(self) -> bool:
        """True if all outputs lie between 0 and 1."""
        if self.low is None or self.high is None or self.shares:
            return False
        return bool((self.low >= -NEAR).all() and (self.high <= 1 + NEAR).all())

    @property
    def is_positive(self) -> bool:
        """True if each unit that has a least or a greatest value is never below 0."""
        if self.low is None or self.high is None:
            return False
        bound = self.low.isfinite() | self.high.isfinite()
        return bool((self.low[bound] >= -NEAR).all())

    @property
    def _floors(self) -> Tensor:
        """True for each unit that is never below 0 or a little more, and without an upper bound."""
        assert self.low is not None and self.high is not None
        return (self.low >= -NEAR) & (self.low <= FLOOR) & self.high.isinf()

    @property
    def has_floor(self) -> bool:
        """True if a unit is positive and without an upper bound, such as a standard deviation."""
        return self.low is not None and bool(self._floors.any())

    def above(self, size: float) -> "OutputRange":
        """Return this range with a floor for positive units: `size` times that of the network, or
        times 0.001 if it has none.
        """
        assert self.low is not None
        floors = size * self.low.clamp_min(LEAST_FLOOR)
        return replace(self, low=torch.where(self._floors, floors, self.low))

    def holds(self, output: Tensor) -> bool:
        """True if outputs lie between the bounds of their units."""
        if self.low is None or self.high is None:
            return True
        v = output if self.units is None else output.movedim(self.units, -1)
        return bool(((v >= self.low.to(v) - NEAR) & (v <= self.high.to(v) + NEAR)).all())

    def outputs(self, z: Tensor) -> Tensor:
        """Return outputs in this range, made from numbers without bounds."""
        if self.low is None or self.high is None:
            return z.clone()
        z = z if self.units is None else z.movedim(self.units, -1)
        low, high = self.low.to(z), self.high.to(z)
        parts, start = list[Tensor](), 0
        for group in self.shares:
            place = slice(start, group.first)
            parts.append(_bounded(z[..., place], low[place], high[place]))
            own = z[..., group.first : group.end]
            parts.append(own.log_softmax(-1) if group.logs else own.softmax(-1))
            start = group.end
        if self.units is None:
            return _bounded(z, low, high)
        parts.append(_bounded(z[..., start:], low[start:], high[start:]))
        return torch.cat(parts, -1).movedim(-1, self.units)

    def numbers(self, output: Tensor) -> Tensor:
        """Return numbers z without bounds for which `outputs` gives these outputs, or outputs close
        to them if they lie at or beyond a bound.
        """
        output = output.detach()
        if self.low is None or self.high is None:
            return output.clone()
        v = output if self.units is None else output.movedim(self.units, -1)
        z = _unbounded(v, self.low.to(v), self.high.to(v))
        for group in self.shares:
            own = v[..., group.first : group.end]
            z[..., group.first : group.end] = own if group.logs else own.clamp_min(EDGE).log()
        return z if self.units is None else z.movedim(-1, self.units)

    def beside(self, output: Tensor, noise: Tensor) -> Tensor:
        """Return outputs in this range that differ from the given ones by noise."""
        return self.outputs(self.numbers(output) + noise)


FREE = OutputRange()


def _bounded(z: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Map numbers (..., K) into bounds (K,)."""
    both = low.isfinite() & high.isfinite()
    width = torch.where(both, high - low, 1.0)
    share = z.sigmoid().clamp(LEAST_SHARE, 1 - LEAST_SHARE)
    one_sided = torch.where(low.isfinite(), low + F.softplus(z), high - F.softplus(z))
    inside = torch.where(both, low.nan_to_num(neginf=0.0) + width * share, one_sided)
    return torch.where(low.isfinite() | high.isfinite(), inside, z)


def _unbounded(v: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The inverse of `_bounded`."""
    both = low.isfinite() & high.isfinite()
    width = torch.where(both, high - low, 1.0)
    share = ((v - low) / width).nan_to_num(nan=0.5).clamp(EDGE, 1 - EDGE)
    beyond = torch.where(low.isfinite(), v - low, high - v).clamp_min(EDGE)
    one_sided = beyond + (-torch.expm1(-beyond)).log()
    inside = torch.where(both, share.logit(), one_sided)
    return torch.where(low.isfinite() | high.isfinite(), inside, v)


def range_of(training: Any, x: Inputs, output: Tensor, units: int | None) -> OutputRange:
    """Return the range of the outputs of a network, from copies with random weights.

    Without weights, or if no copy runs, the range is that of the given outputs alone.

    Args:
        training: the training run with this network.
        x, output: some inputs, and the outputs for these inputs in evaluation mode.
        units: axis of the units in outputs; None: there are none.
    """
    return range_of_samples([output, *_samples(training, x)], units)


def range_of_samples(samples: list[Tensor], units: int | None) -> OutputRange:
    """Return the range of some outputs of the same shape; the first are those of the network."""
    samples = [sample.detach() for sample in samples if bool(sample.isfinite().all())]
    samples = [sample for sample in samples if sample.shape == samples[0].shape]
    if not samples or not samples[0].is_floating_point():
        return FREE
    rows = [_rows(sample, units) for sample in samples]
    low, high = _bounds(rows)
    shares, wrong = tuple[Shares, ...](), None
    if units is not None:
        shares = tuple(_shares(torch.cat(rows)))
        shares, wrong = (shares, None) if shares else _shares_elsewhere(samples, units)
    bounded = low.isfinite().any() or high.isfinite().any()
    return OutputRange(low, high, shares, units, wrong) if bounded or shares else FREE


def _shares_elsewhere(samples: list[Tensor], units: int) -> tuple[tuple[Shares, ...], int | None]:
    """Return (all units as probabilities, the axis along which outputs sum to 1 instead)."""
    K = samples[0].shape[units]
    others = [axis for axis in range(samples[0].dim()) if axis != units and K > 1]
    found = [(axis, _along(samples, axis)) for axis in others]
    for axis, logs in found:
        if logs is not None:
            return (Shares(0, K, logs),), axis
    return (), None


def _samples(training: Any, x: Inputs) -> Iterator[Tensor]:
    """Yield outputs of copies of a network with random weights."""
    try:
        other = training.copy()
    except USERS_FAULT:  # of a model that cannot be copied
        return
    model = other.model.eval()
    weights = [p for p in model.parameters() if p.is_floating_point()]
    own = [p.detach().clone() for p in weights]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), random_numbers_kept(model):
        for size in SIZES if weights else ():
            for p, given in zip(weights, own, strict=True):
                noise = torch.randn(p.shape, generator=generator).to(p)
                scale = float(given.double().square().mean().sqrt()) if given.numel() else 0.0
                p.copy_(given + size * max(scale, LEAST_WEIGHT) * noise)
            try:
                yield other.output(x)
            except USERS_FAULT:  # of a model that checks its own numbers
                continue


def _rows(sample: Tensor, units: int | None) -> Tensor:
    """(N, K) some of the outputs of a copy."""
    values = sample.reshape(-1, 1) if units is None else sample.movedim(units, -1)
    values = values.flatten(0, -2) if values.dim() > 1 else values.reshape(1, -1)
    return values[:: max(1, len(values) // ROWS)].double()


def _bounds(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(K,) bounds of each unit at which several copies end; infinite if there are none."""
    lows = torch.stack([values.amin(0) for values in rows])
    highs = torch.stack([values.amax(0) for values in rows])
    widths = highs - lows
    spread = torch.maximum(widths[: 1 + SIZES.count(1.0)].amax(0), widths.median(0).values)
    low, high = lows.amin(0), highs.amax(0)
    ends = (lows - low <= NEAR * spread).sum(0), (high - highs <= NEAR * spread).sum(0)
    low, high = (
        torch.where(number >= ENDS, bound, sign * torch.inf)
        for number, bound, sign in zip(ends, (low, high), (-1, 1), strict=True)
    )
    unknown = (low == high) | (len(rows) == 1)  # no copy differs
    share = ((lows >= 0) & (highs <= 1)).all(0)
    return (
        torch.where(unknown, torch.where(share, 0.0, -torch.inf), low),
        torch.where(unknown, torch.where(share, 1.0, torch.inf), high),
    )


def _shares(values: Tensor) -> Iterator[Shares]:
    """Yield the units of (N, K) that always sum to 1, themselves or their exponentials."""
    K = values.shape[1]
    first, starts = 0, K - 1 if K <= MOST_UNITS else 1
    while first < starts:
        found = None
        for logs in (False, True):
            own = values[:, first:].exp() if logs else values[:, first:]
            sums = ((own.cumsum(1) - 1).abs() <= SUM).all(0) & (own >= -SUM).all(0).cumprod(
                0
            ).bool()
            ends = sums[1:].nonzero().flatten() + 2
            if len(ends):
                found = Shares(first, first + int(ends[-1]), logs)
                break
        if found is not None:
            yield found
        first = first + 1 if found is None else found.end


def _along(samples: list[Tensor], axis: int) -> bool | None:
    """False if outputs are not negative and always sum to 1 along an axis, True if their
    exponentials do, else None.
    """
    if samples[0].shape[axis] < 2:
        return None
    for logs in (False, True):
        values = [(sample.exp() if logs else sample).double() for sample in samples]
        if all((v >= 0).all() and ((v.sum(axis) - 1).abs() <= SUM).all() for v in values):
            return logs
    return None
