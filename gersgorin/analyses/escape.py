"""Simulate SGD with momentum until it leaves the plateau; there, many steps are taken at once as one block.

Single steps are taken as they are while a step changes the gradient. On the plateau the gradient stays nearly the same for N steps, N
up to 10^12 and more, which are taken at once as a block.

**N steps in closed form.** For a gradient g[0], ..., g[N-1] that is known in advance, SGD with learning rate eta and momentum mu is

    v[j+1] = mu v[j] + g[j]        theta[j+1] = theta[j] - eta v[j+1]

The response of a block is the sum of v[1..N], by which -eta theta moves, and v[N]. `block` has it in closed form for an initial
velocity, V; for a constant gradient, C; and for one that grows linearly, g[j] = j/N, R (sums of geometric series). `relax` has it for
the error of an output bias, which its own steps reduce.

**The error of a block** (Heun's method). With g the gradient at the start, h at the end of the block that g alone would give, and for
each parameter p

    w_p = V v_p + C g_p            d_p = R (h_p - g_p)            theta_p <- theta_p - eta (w_p + d_p)

    r_p = eta ||w_p|| / (||theta_p|| + eta ||w_p||)               its relative move
    c_p = 2 ||d_p|| / ||w_p|| min(1, r_p / SMALL_MOVE)            the relative change of its gradient (R/C is about 1/2)
    c   = max of c_p over all p with r_p >= DECISIVE_MOVE max r

A block with c <= LARGEST_CHANGE that does not raise the loss is accepted, and the next one has the length N TARGET_CHANGE / c.
Otherwise the block is tried again with fewer steps.

**The error of the output bias.** One part of the gradient falls within a block whatever the weights do, the mean error of each output,

    delta_k = sum over frames of dL/dz_k                          z (T, B, K) the outputs

The output bias brings it to zero at the rate eta a_k, a_k = d delta_k / d b_k. The sum of delta_k over the N steps has a closed form;
divided by C it is the mean error of the block, which replaces the error at its start in the backward pass. If other weights share the
work of the bias, the error falls faster by a factor `share`, the quotient of the measured and the expected change of the mean output.

**Rounding.** Over 10^13 steps rounding errors of a gradient would move the weights. In a block of ROUNDING_STEPS or more a gradient not
larger than the one of random errors of relative size ROUNDING counts as zero.

**Matrices and scale.** A parameter of three dimensions is a stack of matrices, one a layer: `weight_hh[2]` is the third. The gates
in one matrix stay together, which changes a relative rate by at most the square root of their number. Biases are not matrices and are
not scaled, nor is a weight of one dimension such as the recurrent weight of an IndRNN. Matrices are scaled about zero. Square blocks
nearer to the identity, ||M - I|| < ||M|| (the mean of the diagonal is above 1/2), are scaled about the identity.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin.objective import Objective
from rhn.training.state import LEFT
from rhn.utils.result import OneScreen

MOST_STEPS = 10**60  # far beyond any training, and within float64
TARGET_CHANGE, LARGEST_CHANGE = 0.4, 0.8  # relative change of the gradient over a block: wanted, and accepted
SHORTEST_BLOCK = 4  # steps; fewer are taken one by one, because a block costs two gradients
LARGEST_GROWTH = 4.0  # length of a block / length of the last one
DECISIVE_MOVE = 0.1  # relative move / the largest one; parameters below do not decide on the length of a block
SMALL_MOVE = 5e-3  # relative move below which a larger change of the gradient is accepted, in proportion
SPEEDUP = 1000  # longest block / present one from which the network counts as leaving
ROUNDING_STEPS = 10**6  # length of a block from which rounding errors matter
ROUNDING = 100 * 2.0**-52  # relative, of the error of each frame
LOSS_INCREASE = 1e-3  # largest relative increase of the loss over a block


def matrices(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Views of the matrices among these parameters, by name, the layers of a stack apart.

    >>> list(matrices({"R": torch.zeros(2, 3, 3), "b": torch.zeros(3)}))
    ['R[0]', 'R[1]']
    """
    found = {}
    for name, p in parameters.items():
        if is_weight(name, p):
            M = p.detach()
            found |= {name: M} if p.dim() == 2 else {f"{name}[{k}]": layer.flatten(1) for k, layer in enumerate(M)}
    return found


@contextmanager
def restored(parameters: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Context manager: the values of parameters at its beginning, which they have again at its end."""
    before = {name: p.detach().clone() for name, p in parameters.items()}
    try:
        yield before
    finally:
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(before[name])


def identities(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """The centre of scaling of each parameter that has matrices: the identity for square blocks near to it, zero elsewhere."""
    centres = {name: torch.zeros_like(p) for name, p in parameters.items() if is_weight(name, p)}
    for name, M in matrices(centres).items():
        values, (rows, columns) = matrices(parameters)[name], M.shape
        for start in range(0, rows - columns + 1, columns):
            if values[start : start + columns].diagonal().mean() > 0.5:
                M[start : start + columns].fill_diagonal_(1)
    return centres


def is_weight(name: str, p: Tensor) -> bool:
    """True for a parameter of two or more dimensions whose name is not that of a bias (some cells stack a bias a layer)."""
    return p.dim() >= 2 and "bias" not in name


class Response(NamedTuple):
    """The response of N steps to a part of the gradient: the sum of v[1..N], and v[N]."""

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
    """N steps of a bias whose gradient is `error` and falls by `rate` (eta times a second derivative) times v at every step.

    Returns:
        The response, from a velocity of zero, to the errors of these steps; the error and the bias's velocity after them.
    """
    row = torch.stack(
        (torch.stack((1 - rate, -rate * mu), -1), torch.stack((torch.ones_like(rate), mu + 0 * rate), -1)), -2
    )
    after = _power(row, N) @ torch.stack((error, velocity), -1).unsqueeze(-1)
    error_after, velocity_after = after[..., 0, 0], after[..., 1, 0]
    steps = block(N, mu)
    slow = rate * float(N) < 1e-7  # a constant gradient, for which the quotient below would be dominated by rounding
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


@dataclass(frozen=True, repr=False)
class Trajectory(OneScreen):
    """The course of SGD on the probe, one entry for each gradient computed; the first is the start."""

    steps: np.ndarray
    """Steps of SGD done."""
    loss: np.ndarray
    """As `Plateau.loss`."""
    norms: dict[str, np.ndarray]
    """Frobenius norm of every matrix."""
    goal: float
    """The loss below which the plateau is left."""
    ended: Literal["left", "leaving", "waiting", "never", "diverged", "unsettled"]
    """The reason for the end:

    left         the loss is below the goal
    leaving      the budget of gradients ran out during the escape; its time is accurate to about 0.1 %
    waiting      the steps, or the gradients with the loss at rest, ran out: the escape takes more than `steps[-1]`
    never        only the output bias moves, or 10^60 steps were not enough
    diverged     the loss is not finite
    unsettled    the gradients ran out while the loss neither fell nor came to rest, as for a learning rate that is too high
    """

    @property
    def leaves_after(self) -> float:
        """Steps until the loss is below the goal, by linear interpolation; infinity if it never is."""
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
    until: float = MOST_STEPS,
    most: int = 800,
) -> Trajectory:
    """Follow SGD on the whole probe, from the present weights of an objective's network until it has left the plateau.

    until: steps at most; most: gradients at most. The network is left as it was.
    """
    best = objective.best_constant()[1]
    goal = min(LEFT * best, (2 - LEFT) * best)  # below it for negative losses too
    with restored(objective.parameters):
        run = _Run(objective, learning_rate, momentum)
        rows, moving = [run.row()], True
        while goal <= rows[-1][1] < np.inf and run.looks < most and run.steps < until and moving:
            moving = run.advance()
            rows.append(run.row())
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
    """`Trajectory.ended` of a run that did not reach the goal; `late`: the latter half of its losses."""
    if not moving or run.steps >= MOST_STEPS:
        return "never"
    if run.steps >= until:
        return "waiting"
    if SPEEDUP * run.length < run.longest:
        return "leaving"
    return "waiting" if np.ptp(late) <= LOSS_INCREASE * abs(late[-1]) else "unsettled"


@dataclass(frozen=True)
class _Point:
    """The network at one moment: loss, outputs with their graph, dL/dz of every frame without the mean error, the mean error (K,)."""

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
        self.longest = SHORTEST_BLOCK
        self.length, self.singles, self.patience = SHORTEST_BLOCK, 0, SHORTEST_BLOCK
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
        """Take a step or a block of steps; False if only the output bias moves."""
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
        """Take N steps at once, or fewer; False, without any step, if they would be fewer than SHORTEST_BLOCK."""
        start, values = self.point, self.values()
        rate = (self.eta * self.share * self._curvature(start)).clamp_max(1)
        drift = torch.zeros_like(rate) if self.bias is None else self.velocity[self.bias]
        while N >= SHORTEST_BLOCK:
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
            if change <= LARGEST_CHANGE and self._falls(start, end):
                self.put([p - self.eta * (w + d) for p, w, d in zip(values, went, grown, strict=True)])
                self.velocity = [
                    steps.velocity.last * v + steps.constant.last * g + steps.ramp.last * (h - g)
                    for v, g, h in zip(self.velocity, first, second, strict=True)
                ]
                if self.bias is not None:
                    self.velocity[self.bias] = drift_after
                self.steps, self.longest = self.steps + N, max(N, self.longest)
                self.length = min(
                    MOST_STEPS, max(SHORTEST_BLOCK, int(N * min(LARGEST_GROWTH, TARGET_CHANGE / max(change, 1e-9))))
                )
                self.patience = SHORTEST_BLOCK
                self.point = self._look()
                return any(bool(w.any()) for k, w in enumerate(went) if k != self.bias)
            N = int(N * min(0.5, max(0.1, 0.7 * TARGET_CHANGE / max(change, 1e-9))))
            self.put(values)
            start = self._look()
        self.point, self.length = start, SHORTEST_BLOCK
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
        """The gradient in every parameter, with this mean error instead of the one of the point; rounding errors count as zero."""
        cotangent = point.errors + self.mask * mean_error / self.frames
        gradient = self._backward(point, cotangent)
        if N >= ROUNDING_STEPS:
            noise = self._backward(point, ROUNDING * cotangent.abs() * self.signs)
            gradient = [g if g.norm() > n.norm() else torch.zeros_like(g) for g, n in zip(gradient, noise, strict=True)]
        if self.bias is not None:
            gradient[self.bias] = mean_error  # exactly: the sum over the frames is that but for rounding
        return gradient

    def _backward(self, point: _Point, cotangent: Tensor) -> list[Tensor]:
        weights = list(self.parameters.values())
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        # the same bits as grad(outputs, weights, cotangent), for which torch would import its compiler
        return list(torch.autograd.grad((point.outputs * cotangent).sum(), weights, **options))

    def _curvature(self, point: _Point) -> Tensor:
        """a (K,), see above; zero without an output bias."""
        if self.bias is None:
            return torch.zeros_like(point.mean_error)
        return self.objective.curvature_in_outputs(point.outputs.detach())

    def _change(self, values: list[Tensor], went: list[Tensor], grown: list[Tensor]) -> float:
        """The relative change c of the gradient over the block, see above."""
        moved = [self.eta * float(w.norm()) for w in went]
        relative = [m / (float(p.norm()) + m) if m else 0.0 for m, p in zip(moved, values, strict=True)]
        changes = [
            2 * float(d.norm() / w.norm()) * min(1.0, r / SMALL_MOVE)
            for d, w, r in zip(grown, went, relative, strict=True)
            if r and r >= DECISIVE_MOVE * max(relative)
        ]
        return max(changes, default=0.0)

    def _falls(self, start: _Point, end: _Point) -> bool:
        """True if the loss does not grow over a block, as with steps too long for the curvature of the loss."""
        return end.loss <= start.loss + LOSS_INCREASE * abs(start.loss)

    def _update_share(self, start: _Point, end: _Point, went: Tensor) -> None:
        expected = self.eta * float(went.norm())
        if expected > 1e-12:
            factor = float((end.mean_output - start.mean_output).norm()) / expected
            self.share = max(1.0, 0.8 * self.share, min(factor, 1e3))
