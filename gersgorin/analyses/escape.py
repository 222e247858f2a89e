"""The matrices of a network, a layer apart, and the network with all of them made smaller.

A parameter of three dimensions is a stack of matrices, one a layer: `weight_hh[2]` is the third. The gate blocks that a matrix stacks
stay together: a step moves all of them, the fastest is what leaves the plateau, and taking them apart would change a relative rate by
at most the square root of their number. Biases are no matrices, and are not made smaller: a gate's bias is part of what the gate is,
and so is a weight of one dimension, what a unit keeps of its own state (an IndRNN's).

"Smaller" is nearer to zero, but for a square block that starts at the identity: it is what is added to the identity that is small.
Which one a block is nearer to says its trace: ||M - I||^2 < ||M||^2 where the mean of the diagonal is above 1/2.

N steps of SGD with momentum as one, for a gradient that is known in advance.

    v[j+1] = mu v[j] + g[j]        theta[j+1] = theta[j] - eta v[j+1]

Everything here is exact for its g: constant, growing linearly (g[j] = j / N), or the error of an output bias, which its own steps bring
to zero. So N may be 1 or 10^40. For each, how far theta has gone (the sum of v, to be multiplied by -eta) and v after the N steps.

The way off the plateau: SGD with momentum from the network's real start, in few gradients however many steps it takes.

While a step changes the gradient it is taken as it is. On the plateau the gradient stays nearly the same for N steps, which may be 10
or 10^12: then they are taken as one (`gersgorin.analyses.escape`), by Heun's method: the gradient at the end is looked at too, grows
linearly in between, and where it differs too much from that at the start the block is made shorter.

One part of the gradient falls within a block, whatever the weights do: the mean error of each output,

    delta_k = sum over frames of dL/dz_k                 z (T, B, K) the outputs

which the output bias brings to zero at the rate eta a_k, a_k = d delta_k / d b_k. What the bias sees of it over the N steps has a
closed form; divided by what a constant error would do it is the mean error of the block, which is sent backwards through the network
in the place of the error at its start. A part of the gradient that is no more than rounding counts as zero: over 10^13 steps it would
move the weights. Where other weights do a part of the bias's work the error falls faster, by a factor `share` that is read off
from how far the mean output really went.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin.objective import Objective
from rhn.engine.curves import LEFT
from rhn.result import OneScreen


def matrices(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Views of the matrices among these parameters, by name, the layers of a stack apart.

    >>> list(matrices({"R": torch.zeros(2, 3, 3), "b": torch.zeros(3)}))
    ['R[0]', 'R[1]']
    """
    return dict(_parts(parameters.items()))


def identities(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each parameter that has matrices, what these are scaled about: the identity at square blocks near to it, zero elsewhere."""
    centres = {name: torch.zeros_like(p) for name, p in parameters.items() if is_weight(name, p)}
    for name, M in matrices(centres).items():
        values, (rows, columns) = matrices(parameters)[name], M.shape
        for start in range(0, rows - columns + 1, columns):
            if values[start : start + columns].diagonal().mean() > 0.5:
                M[start : start + columns].fill_diagonal_(1)
    return centres


def is_weight(name: str, p: Tensor) -> bool:
    """Whether a parameter is of matrices: of two dimensions or more, and not called a bias (some stack a bias a layer)."""
    return p.dim() >= 2 and "bias" not in name


def _parts(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for name, p in named:
        if not is_weight(name, p):
            continue
        if p.dim() == 2:
            yield name, p.detach()
        else:
            stack = p.detach().flatten(2) if p.dim() > 3 else p.detach()
            yield from ((f"{name}[{k}]", M) for k, M in enumerate(stack))


class Response(NamedTuple):
    """What N steps make of a part of the gradient: the sum of v[1..N], and v[N]."""

    sum: float | Tensor
    last: float | Tensor


class Block(NamedTuple):
    """The responses of N steps to a velocity before them, to a constant gradient of 1, and to one that grows from 0 towards 1."""

    velocity: Response
    constant: Response
    ramp: Response


def block(N: int, mu: float) -> Block:
    """The three responses, by summing geometric series.

    >>> block(2, 0.5).constant        # v[1] = 1, v[2] = 1.5
    Response(sum=2.5, last=1.5)
    """
    power, rest = mu**N, 1 - mu
    S0 = mu * (1 - power) / rest  # sum of mu^m, m = 1..N
    late = (N - 1 - S0 + power) / rest  # sum of (N - m) mu^(m-1), m = 1..N
    return Block(
        Response(S0, power),
        Response((N - S0) / rest, (1 - power) / rest),
        Response(((N - 1) / 2 - mu * late / N) / rest, late / N),
    )


def relax(error: Tensor, velocity: Tensor, rate: Tensor, N: int, mu: float) -> tuple[Response, Tensor, Tensor]:
    """N steps of a bias b whose gradient is `error` and falls by `rate` (eta times a second derivative) times each step's v.

    Returns:
        The response, from a velocity of zero, to the errors of these steps; the error and the bias's velocity after them.
    """
    row = torch.stack(
        (torch.stack((1 - rate, -rate * mu), -1), torch.stack((torch.ones_like(rate), mu + 0 * rate), -1)), -2
    )
    after = _power(row, N) @ torch.stack((error, velocity), -1).unsqueeze(-1)
    error_after, velocity_after = after[..., 0, 0], after[..., 1, 0]
    steps = block(N, mu)
    slow = (
        rate * float(N) < 1e-7
    )  # the error hardly falls: it is a constant gradient, and the quotient below would be rounding
    total = (error - error_after) / rate.clamp_min(1e-300) - steps.velocity.sum * velocity
    last = velocity_after - steps.velocity.last * velocity
    response = Response(
        torch.where(slow, steps.constant.sum * error, total), torch.where(slow, steps.constant.last * error, last)
    )
    return response, error_after, velocity_after


def _power(A: Tensor, N: int) -> Tensor:
    """A^N of square matrices, N of any size, by squaring."""
    result = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    while N:
        if N % 2:
            result = result @ A
        A, N = A @ A, N // 2
    return result


FOREVER = 10**60  # steps: far beyond what any training takes, and within float64
AIM, WORST = 0.4, 0.8  # by which part the gradient may change over a block: aimed at, and accepted
SHORTEST = 4  # steps that a block is worth its two gradients for
LONGER = 4.0  # a block is at most so many times as long as the last one
IMPORTANT = 0.1  # parameters that move, relative to their size, by less than this part of the fastest do not decide
# a parameter that moves by less than this part of its size may see its gradient change by more, in proportion
STILL = 5e-3
SUDDEN = 1000  # a block so many times shorter than the longest says that the network is leaving
LONG = 10**6  # steps, in which rounding may add up to something
ROUNDING = 100 * 2.0**-52  # of each frame's error, with random signs: a gradient below what this gives is none
GROWS = 1e-3  # part of itself by which the loss may be higher at a block's end than at its start


@dataclass(frozen=True, repr=False)
class Trajectory(OneScreen):
    """What SGD on the probe goes through, a row each time that it was looked at; the first is the start."""

    steps: np.ndarray
    """Steps of SGD done."""
    loss: np.ndarray
    """As `Plateau.loss`."""
    norms: dict[str, np.ndarray]
    """Frobenius norm of every matrix."""
    goal: float
    """The loss below which the plateau is left."""
    ended: Literal["left", "leaving", "waiting", "never", "diverged", "unsettled"]
    """leaving: the gradients that were allowed ran out while everything changed within a thousandth of the time that it had stood
    still, so that the time to leave is known but for that; waiting: not within the steps that were asked about, or that were done when
    the gradients ran out with the loss at rest: it takes more than `steps[-1]`; never: nothing but the output bias moves any more, or
    not in 10^60 steps; diverged: the loss is no longer finite; unsettled: the loss neither fell nor came to rest in as many gradients
    as were allowed, as where the learning rate is too high."""

    @property
    def leaves_after(self) -> float:
        """Steps until the loss is below the goal, linear between two looks; infinity where it is not."""
        if self.ended == "leaving":
            return float(self.steps[-1])
        if self.ended != "left":
            return math.inf
        if len(self.steps) == 1:
            return 0.0
        (before, after), (high, low) = self.steps[-2:], self.loss[-2:]
        return float(before + (after - before) * (high - self.goal) / (high - low))


def follow(
    objective: Objective,
    learning_rate: float,
    momentum: float,
    *,
    until: float = FOREVER,
    most: int = 800,
) -> Trajectory:
    """SGD on the whole probe at every step, from where an objective's network stands until it has left the plateau.

    `Trajectory.ended` says how it ended. The objective's network is left as it was.
    """
    best = objective.best_constant()[1]
    goal = min(LEFT * best, (2 - LEFT) * best)  # below it also where a loss of the user's is negative
    run = _Run(objective, learning_rate, momentum)
    before, rows, moving = run.values(), [run.row()], True
    try:
        while goal <= rows[-1][1] < np.inf and run.looks < most and run.steps < until and moving:
            moving = run.advance()
            rows.append(run.row())
    finally:
        run.put(before)
    steps, losses, norms = zip(*rows, strict=True)
    by_name = {name: np.array([norm[name] for norm in norms]) for name in norms[0]}
    if losses[-1] < goal:
        ended = "left"
    elif not losses[-1] < np.inf:
        ended = "diverged"
    else:
        ended = _unfinished(run, moving, until, np.array(losses[len(losses) // 2 :]))
    return Trajectory(np.array(steps, dtype=float), np.array(losses), by_name, goal, ended)


def _unfinished(run: "_Run", moving: bool, until: float, late: np.ndarray) -> str:
    """Why it ended before the loss was below the goal, see `Trajectory.ended`; `late`: losses of the latter half of the looks."""
    if not moving or run.steps >= FOREVER:
        return "never"
    if run.steps >= until:
        return "waiting"
    if SUDDEN * run.length < run.longest:
        return "leaving"
    return "waiting" if np.ptp(late) <= GROWS * abs(late[-1]) else "unsettled"


@dataclass(frozen=True)
class _Point:
    """The network at one moment: outputs with their graph, dL/dz of every frame less the mean error's part, and the mean error (K,)."""

    loss: float
    outputs: Tensor
    errors: Tensor
    mean_error: Tensor
    mean_output: Tensor


class _Run:
    """A network under SGD with momentum; parameters, velocities and gradients are lists in one order."""

    def __init__(self, objective: Objective, learning_rate: float, momentum: float):
        self.objective, self.eta, self.mu = objective, learning_rate, momentum
        self.parameters = objective.parameters
        self.bias = None if objective.output_bias is None else list(self.parameters).index(objective.output_bias)
        self.mask, self.frames = objective.mask.unsqueeze(-1), int(objective.mask.sum())
        self.velocity = [torch.zeros_like(p) for p in self.parameters.values()]
        self.steps, self.looks, self.share = 0, 0, 1.0
        self.longest = SHORTEST
        self.length, self.singles, self.patience = SHORTEST, 0, SHORTEST
        self.point = self._look()
        signs = torch.randn(
            self.point.errors.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu"
        )
        self.signs = signs.to(self.point.errors.device)

    def values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters.values()]

    @torch.no_grad()
    def put(self, values: list[Tensor]) -> None:
        for p, value in zip(self.parameters.values(), values, strict=True):
            p.copy_(value)

    def row(self) -> tuple[int, float, dict[str, float]]:
        return self.steps, self.point.loss, {name: float(M.norm()) for name, M in matrices(self.parameters).items()}

    def advance(self) -> bool:
        """A step, or a block of them; False where nothing but the output bias moves."""
        if self.singles > 0 or not self._block(self.length):
            self.singles -= 1
            return self._single()
        return True

    def _single(self) -> bool:
        gradient, weights = self._gradients(self.point, self.point.mean_error), list(self.parameters.values())
        torch._foreach_mul_(self.velocity, self.mu)
        torch._foreach_add_(self.velocity, gradient)
        with torch.no_grad():
            torch._foreach_sub_(weights, torch._foreach_mul(self.velocity, self.eta))
        self.steps += 1
        self.point = self._look()
        return any(bool(v.any()) for k, v in enumerate(self.velocity) if k != self.bias)

    def _block(self, N: int) -> bool:
        """N steps at once, or fewer; False, with nothing done, where fewer than SHORTEST would be."""
        start, values = self.point, self.values()
        rate = (self.eta * self.share * self._curvature(start)).clamp_max(1)
        drift = torch.zeros_like(rate) if self.bias is None else self.velocity[self.bias]
        while N >= SHORTEST:
            steps = block(N, self.mu)
            seen, left, drift_after = relax(start.mean_error, drift, rate, N, self.mu)
            mean_error = seen.sum / steps.constant.sum
            first = self._gradients(start, mean_error, N)
            went = [steps.velocity.sum * v + steps.constant.sum * g for v, g in zip(self.velocity, first, strict=True)]
            self.put([p - self.eta * w for p, w in zip(values, went, strict=True)])
            end = self._look()
            error_after = mean_error + (end.mean_error - left) / (1 + rate * float(N) / (1 - self.mu))
            second = self._gradients(end, error_after, N)
            grown = [steps.ramp.sum * (h - g) for g, h in zip(first, second, strict=True)]
            self._update_share(start, end, seen.sum)
            change = self._change(values, went, grown)
            if change <= WORST and self._falls(start, end):
                self.put([p - self.eta * (w + d) for p, w, d in zip(values, went, grown, strict=True)])
                self.velocity = [
                    steps.velocity.last * v + steps.constant.last * g + steps.ramp.last * (h - g)
                    for v, g, h in zip(self.velocity, first, second, strict=True)
                ]
                if self.bias is not None:
                    self.velocity[self.bias] = drift_after
                self.steps, self.longest = self.steps + N, max(N, self.longest)
                self.length = min(FOREVER, max(SHORTEST, int(N * min(LONGER, AIM / max(change, 1e-9)))))
                self.patience = SHORTEST
                self.point = self._look()
                return any(bool(w.any()) for k, w in enumerate(went) if k != self.bias)
            N = int(N * min(0.5, max(0.1, 0.7 * AIM / max(change, 1e-9))))
            self.put(values)
            start = self._look()
        self.point, self.length = start, SHORTEST
        self.singles = self.patience = min(2 * self.patience, 32)
        return False

    def _look(self) -> _Point:
        self.looks += 1
        outputs = self.objective.outputs()
        z = outputs.detach().requires_grad_()
        loss = self.objective.mean_loss(z)
        (errors,) = torch.autograd.grad(loss, z)
        mean_error = errors.sum((0, 1))
        mean_output = (z.detach() * self.mask).sum((0, 1)) / self.frames
        return _Point(loss.item(), outputs, errors - self.mask * mean_error / self.frames, mean_error, mean_output)

    def _gradients(self, point: _Point, mean_error: Tensor, N: int = 1) -> list[Tensor]:
        """The gradient in every parameter with another mean error in the place of the point's own.

        Over a long block rounding would move weights: a parameter's gradient that is no more than rounding is zero.
        """
        cotangent = point.errors + self.mask * mean_error / self.frames
        gradient = self._backward(point, cotangent)
        if N >= LONG:
            noise = self._backward(point, ROUNDING * cotangent.abs() * self.signs)
            gradient = [g if g.norm() > n.norm() else torch.zeros_like(g) for g, n in zip(gradient, noise, strict=True)]
        if self.bias is not None:
            gradient[self.bias] = mean_error  # exactly: the sum over the frames is that but for rounding
        return gradient

    def _backward(self, point: _Point, cotangent: Tensor) -> list[Tensor]:
        weights = list(self.parameters.values())
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        # not grad(outputs, weights, cotangent), for which torch imports its compiler, half a second; to the bit the same
        return list(torch.autograd.grad((point.outputs * cotangent).sum(), weights, **options))

    def _curvature(self, point: _Point) -> Tensor:
        """a (K,), see above; zero where there is no output bias."""
        if self.bias is None:
            return torch.zeros_like(point.mean_error)
        return self.objective.curvature_in_outputs(point.outputs.detach())

    def _change(self, values: list[Tensor], went: list[Tensor], grown: list[Tensor]) -> float:
        """By which part the gradient changed over the block, the largest among the parameters that move."""
        moved = [self.eta * float(w.norm()) for w in went]
        relative = [m / (float(p.norm()) + m) if m else 0.0 for m, p in zip(moved, values, strict=True)]
        changes = [
            2 * float(d.norm() / w.norm()) * min(1.0, r / STILL)
            for d, w, r in zip(grown, went, relative, strict=True)
            if r and r >= IMPORTANT * max(relative)
        ]
        return max(changes, default=0.0)

    def _falls(self, start: _Point, end: _Point) -> bool:
        """Whether the loss does not grow over a block, as it does where steps are too long for the loss's curvature."""
        return end.loss <= start.loss + GROWS * abs(start.loss)

    def _update_share(self, start: _Point, end: _Point, went: Tensor) -> None:
        expected = self.eta * float(went.norm())
        if expected > 1e-12:
            factor = float((end.mean_output - start.mean_output).norm()) / expected
            self.share = max(1.0, 0.8 * self.share, min(factor, 1e3))
