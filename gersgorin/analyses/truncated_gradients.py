"""Gradients of a loss in the weights of a recurrent layer by truncated backpropagation.

    chunks             states are carried, and detached every K steps
    sliding windows    each loss looks K steps back

The gradient is a sum over lags, G_0 + G_1 + ...: G_k is what the losses say about the step k steps
before the state that they read. A sliding window of K steps has the first K terms.

Legend: T time steps; B sequences; m inputs, N entries of a state, P weights of the layer; K steps
of a window.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin import checks
from gersgorin.double_precision import copied, module_runs
from gersgorin.model_map import outputs_in
from gersgorin.run import Run
from gersgorin.step import Step
from rhn.utils.progress import Progress, reported
from rhn.utils.torch_private import tree_leaves, tree_map

OFFSETS = 4  # of the chunks of a window, at most
LossOfOutputs = Callable[[list[Tensor]], Tensor]
"""The outputs of the model for each sequence -> the loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LossSlopes:
    """The derivatives of a loss in the states that it reads, along B runs of one step."""

    step: Step
    weights: list[nn.Parameter]
    x: Tensor
    """(T, B, m), or ids (T, B)."""
    s: Tensor
    """(T + 1, B, N)."""
    before: Tensor
    """Derivatives in s[t] of the output of step t, (T, B, N)."""
    after: Tensor
    """Derivatives in s[t+1] of the state that step t returns, (T, B, N)."""
    direct: Tensor
    """Derivatives in the weights that the output of a step reads itself, (B, P)."""

    def alone(self, b: int) -> "LossSlopes":
        """One of the sequences."""
        now = slice(b, b + 1)
        own = {name: getattr(self, name)[:, now] for name in ("x", "s", "before", "after")}
        return replace(self, **own, direct=self.direct[now])

    def of_chunks(self, K: int, offset: int = 0) -> Tensor:
        """The gradient of chunks of K steps whose first one ends at `offset`, or at K, (P,)."""
        starts = chunks(len(self.x), K, offset)
        longest = max(starts)
        steps = torch.empty(0, dtype=torch.long, device="cpu")
        s, total = self.s[steps], self.s.new_zeros(())
        for left in range(longest, 0, -1):  # all chunks end together; shorter ones join later
            joining = torch.tensor(starts.get(left, []), dtype=torch.long, device="cpu")
            steps, s = torch.cat((steps, joining)), torch.cat((s, self.s[joining]))
            after = self.step.rows(self.x[steps].flatten(0, 1), s.flatten(0, 1))
            s = after.unflatten(0, s.shape[:2])
            w = self.after[steps]
            if left > 1:  # the next step of the chunk reads this state
                w = w + self.before[steps + 1]
            total = total + (w * s).sum()
            steps = steps + 1
        return slopes_of(total, [], self.weights)[1] + self.direct.sum(0)

    def by_lag(self) -> Iterator[Tensor]:
        """Yield G_0, ..., G_{T-1}, (P,) each."""
        T = len(self.x)
        s = self.s[:-1].clone().requires_grad_()
        next_s = self.step.rows(self.x.flatten(0, 1), s.flatten(0, 1)).unflatten(0, s.shape[:2])
        w = self.after
        for k in range(T):
            (slopes,), of_weights = slopes_of((next_s * w).sum(), [s], self.weights)
            yield of_weights + self.direct.sum(0) if k == 0 else of_weights
            earlier = slopes + self.before if k == 0 else slopes
            w = torch.cat((earlier[1:], torch.zeros_like(earlier[:1])))


def slopes_of(
    total: Tensor, leaves: list[Tensor], weights: list[nn.Parameter]
) -> tuple[list[Tensor], Tensor]:
    """The derivatives of a number in leaves, and in the weights as one vector. The graph is
    kept.
    """
    given = [*leaves, *weights]
    how: Any = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    with checks.users_code("the layer cannot be differentiated"):
        found = (
            torch.autograd.grad(total, given, **how)
            if total.requires_grad
            else [torch.zeros_like(leaf) for leaf in given]
        )
    split = len(leaves)
    return [*found[:split]], torch.cat([slope.flatten() for slope in found[split:]])


def chunks(T: int, K: int, offset: int) -> dict[int, list[int]]:
    """The first steps of the chunks of T steps by the lengths of the chunks.

    >>> chunks(10, 4, 1)
    {1: [0, 9], 4: [1, 5]}
    """
    starts = [0, *range(offset or K, T, K)]
    found = dict[int, list[int]]()
    for start, end in zip(starts, [*starts[1:], T], strict=True):
        found.setdefault(end - start, []).append(start)
    return found


def offsets(K: int, T: int) -> list[int]:
    """The offsets of the chunks of K steps: 0, K/4, K/2, 3K/4, or all; 0 for the whole sequence.

    >>> offsets(3, 20), offsets(6, 20), offsets(20, 20)
    ([0, 1, 2], [0, 1, 3, 4], [0])
    """
    if K >= T:
        return [0]
    count = min(K, OFFSETS)
    return [K * k // count for k in range(count)]


class TruncationErrors(NamedTuple):
    """The arrays of a `Truncation`."""

    error: np.ndarray
    cosine: np.ndarray
    sliding_error: np.ndarray
    sliding_cosine: np.ndarray
    by_lag: np.ndarray


def truncation_errors(of: LossSlopes, windows: list[int], progress: Progress) -> TruncationErrors:
    """The errors of chunks and of sliding windows, and the norms by lag."""
    T = len(of.x)
    whole = of.of_chunks(T)
    is_finite = bool(whole.isfinite().all())
    checks.require(is_finite, "gradient of the loss", "NaN or infinite", "numbers")
    found, sliding, norms = list[np.ndarray](), list[np.ndarray](), list[float]()
    with reported(progress, "truncation", total=len(windows)) as advance:
        total = torch.zeros_like(whole)
        for k, part in enumerate(of.by_lag(), 1):
            norms.append(float(part.norm()))
            total = total + part
            if k in windows:
                sliding.append(error_and_cosine(total, whole))
        for done, K in enumerate(windows, 1):
            each = [error_and_cosine(of.of_chunks(K, start), whole) for start in offsets(K, T)]
            found.append(np.mean(each, 0))
            advance(done, len(windows))
    (error, cosine), (sliding_error, sliding_cosine) = np.transpose(found), np.transpose(sliding)
    return TruncationErrors(
        error=error,
        cosine=cosine,
        sliding_error=sliding_error,
        sliding_cosine=sliding_cosine,
        by_lag=np.array(norms),
    )


def error_and_cosine(g: Tensor, whole: Tensor) -> np.ndarray:
    """|g - G| / |G|, and the cosine between g and G; NaN for 0 / 0.

    >>> error_and_cosine(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])).round(3).tolist()
    [0.8, 0.6]
    """
    size = whole.norm()
    error, cosine = (g - whole).norm() / size, (g / g.norm()) @ (whole / size)
    return np.array([float(error), float(cosine.clamp(-1, 1))])


def listed_windows(T: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... below T, and T.

    >>> listed_windows(20)
    [1, 2, 3, 4, 6, 8, 12, 16, 20]
    """
    powers = [2**k for k in range(T.bit_length())]
    each = {1, *powers, *(3 * power for power in powers)}
    return [*sorted(K for K in each if K < T), T]


def shortest(windows: Sequence[int] | np.ndarray, error: np.ndarray, most: float) -> float:
    """The first listed window below T whose error, and that of all longer ones, is at most `most`;
    NaN if there is none.

    >>> shortest([1, 2, 3, 4], np.array([0.05, 0.2, 0.1, 0.0]), 0.1)
    3.0
    """
    holds = np.logical_and.accumulate((error <= most)[::-1])[::-1]
    found = [float(K) for K, all_hold in zip(windows[:-1], holds[:-1], strict=True) if all_hold]
    return found[0] if found else float("nan")


def loss_slopes(
    model: nn.Module, name: str, xs: list[Any], runs: list[Run], loss: LossOfOutputs
) -> LossSlopes:
    """Differentiate a loss of the outputs of a model in what its layer `name` returns.

    xs, runs: what the model reads of each sequence, and the run of the layer along it. Raises
    InvalidInputError for a loss that does not depend on the layer.
    """
    model = copied(model)
    part, step = model.get_submodule(name), runs[0].step
    weights = _step_weights(step, part)
    outputs, calls = list[Tensor](), list[list[_Call]]()
    for x in xs:
        output, found = _read(model, part, x)
        outputs.append(output)
        calls.append(found)
    total = loss(outputs)
    wanted = f"a function of what the layer {step.name} returns"
    checks.require(total.requires_grad, "loss", "no function of it", wanted)
    parts = [
        _of_states(each, replace(run, step=step), weights, total)
        for each, run in zip(calls, runs, strict=True)
    ]
    return LossSlopes(
        step=step,
        weights=weights,
        x=torch.stack([run.inputs for run in runs], 1),
        s=torch.stack([run.states for run in runs], 1),
        before=torch.stack([part.before for part in parts], 1),
        after=torch.stack([part.after for part in parts], 1),
        direct=torch.stack([part.direct for part in parts]),
    )


def _step_weights(step: Step, part: nn.Module) -> list[nn.Parameter]:
    """The weights of the step of a layer, which then have gradients, without biases that the layer
    does not have.
    """
    owner = step.cell if step.module is None else step.module
    is_without_bias = isinstance(part, nn.RNNBase | nn.RNNCellBase) and not part.bias
    found = list[nn.Parameter]()
    for name, weight in owner.requires_grad_(True).named_parameters():
        is_bias = "bias" in name
        if not (is_bias and is_without_bias):
            found.append(weight)
    checks.require(len(found) > 0, f"number of weights of {step.name}", 0, "at least 1")
    return found


@dataclass
class _Call:
    """One call of a layer: the numbers that it reads, and the leaves that it returns."""

    size: int
    returned: list[Tensor]


@dataclass
class _StateSlopes:
    """`LossSlopes` of one sequence."""

    before: Tensor
    after: Tensor
    direct: Tensor


def _read(model: nn.Module, part: nn.Module, x: Any) -> tuple[Tensor, list[_Call]]:
    """The output of a model for x, as a function of what each call of its layer returns."""
    found = list[_Call]()

    def leaf(value: Any) -> Any:
        is_number = isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
        return value.detach().clone().requires_grad_() if is_number else value

    def after(_: nn.Module, args: tuple, kwargs: dict, returned: Any) -> Any:
        read = tree_leaves(args[0] if args else next(iter(kwargs.values())))[0]
        returned = tree_map(leaf, returned)
        leaves = [t for t in tree_leaves(returned) if isinstance(t, Tensor) and t.requires_grad]
        found.append(_Call(read.numel(), leaves))
        return returned

    hook = part.register_forward_hook(after, with_kwargs=True)
    said = f"{type(model).__name__} cannot read x"
    with hook, checks.users_code(said), module_runs():
        returned = model(x)
    return outputs_in(returned)[0], found


def _of_states(
    calls: list[_Call], run: Run, weights: list[nn.Parameter], loss: Tensor
) -> _StateSlopes:
    """The derivatives of a loss in the states of one run, through what each call returns."""
    step, states = run.step, run.states[:-1].clone().requires_grad_()
    after = torch.zeros_like(states, requires_grad=False)
    of_outputs, t = loss.new_zeros(()), 0
    inputs_of_step = run.inputs[0].numel()
    for call in calls:
        steps = call.size // inputs_of_step
        how: Any = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        slopes = torch.autograd.grad(loss, call.returned, **how)
        last = run.states[t + steps].clone().requires_grad_()
        state = tree_leaves(step.unpack(last)) if step.unpack else [last]
        has_output = len(slopes) > len(state)
        of_state = [g.reshape_as(p) for g, p in zip(slopes[-len(state) :], state, strict=True)]
        after[t + steps - 1] = torch.autograd.grad(state, last, of_state)[0]
        if has_output:
            rows = slopes[0].reshape(steps, -1)
            for k, slope in enumerate(rows, t):
                o = step.output(run.inputs[k : k + 1], states[k : k + 1])[0]
                of_outputs = of_outputs + (o * slope).sum()
        t += steps
    (before,), direct = slopes_of(of_outputs, [states], weights)
    return _StateSlopes(before, after, direct)
