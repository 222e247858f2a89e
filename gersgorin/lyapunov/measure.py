"""`gersgorin.lyapunov_spectrum`: from a cell, or any step, and its inputs to its leading Lyapunov exponents.

Nothing grows with the length of the run but the inputs that were given: Jacobians are multiplied and forgotten
(`gersgorin.lyapunov.tangents`), growth is added up in at most 240 blocks.
"""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import real_tensor
from gersgorin.lyapunov.errors import standard_errors
from gersgorin.lyapunov.frames import growth, random_frame
from gersgorin.lyapunov.record import LyapunovSpectrum
from gersgorin.lyapunov.tangents import tangent_maps
from gersgorin.own_loop import OwnLoop
from gersgorin.spectrum import one_thread
from gersgorin.stepping import Step, converted, in_a_module, state_size_of, step_of
from rhn.errors import InvalidInputError
from rhn.fields import check_seed

PIECES = 240  # of the run, whose growth is kept: the points of the convergence curve, and what blocks are made of


@torch.no_grad()
@one_thread()
def lyapunov_spectrum(
    cell: nn.Module | Step | Callable[[Tensor], Tensor] | OwnLoop,
    x: Tensor | None,
    k: int | None = None,
    *,
    s0: Tensor | None = None,
    steps: int | None = None,
    warmup: int = 0,
    every: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LyapunovSpectrum:
    """The k largest mean growth rates of small changes along a run, by QR (G. Benettin et al. 1980), natural logarithms per step.

    Args:
        cell: as for `temporal_jacobian`; an LSTM's state is its joint (h, c). With x = None a map f(s) -> s' that has no input.
            Or a module's own loop along one sequence (see `gersgorin.recurrent_part`).
        x: inputs (T, m).
        k: how many, at most the N entries of a state; all where None. For k = N the sum is the mean of log |det A[t]|, exactly.
        s0: the state to begin with, (N,); zero where None, for what tells its state_size.
        steps: of a map without input: how many to run.
        warmup: steps at the start of the run that turn the frame and are not counted.
        every: steps between two QR decompositions. More is faster; directions whose growth differs by more than 1e15 within them
            cannot be told apart.
        seed: of the directions to begin with.
        progress: called with (steps done, steps in all).

    The `standard_errors` of the record count what scatters between blocks of the run, with its memory: see `gersgorin.lyapunov.errors`.

    Raises:
        InvalidInputError: k, warmup or every out of range, shapes that do not fit, a state that is no tensor, NaN or infinite.

    >>> A = torch.tensor([[0.5, 1.0], [0.0, 2.0]], dtype=torch.float64)
    >>> spectrum = lyapunov_spectrum(lambda s: A @ s, None, s0=torch.zeros(2, dtype=torch.float64), steps=1000)
    >>> np.exp(spectrum.exponents).round(2), round(spectrum.sum, 9)
    (array([2. , 0.5]), 0.0)
    """
    own = isinstance(cell, OwnLoop)
    x, s = (cell.inputs, cell.states[0]) if own else (x, s0)
    if not own:
        cell, x, s = _run_of(cell, x, s0, steps)
    T, N = len(x), len(s)
    k = _count("k", N if k is None else k, 1, N, f"the state has {N} entries")
    every = _count("every", every, 1, T, f"the run has {T} steps")
    check_seed(seed)
    warmup = _count("warmup", warmup, 0, T - 1, f"the run has {T} steps, and at least one is to be counted")
    Q = random_frame(N, k, torch.Generator().manual_seed(seed), s)
    maps = cell.tangent_maps() if own else tangent_maps(cell, x, s)
    for _, _, turned in growth(itertools.islice(maps, warmup), Q, every):
        Q = turned
    lengths, sums, done, reported = [0], [torch.zeros(k, dtype=torch.float64, device=s.device)], warmup, 0
    ends = _ends(T - warmup, every)
    for count, logs, _ in growth(maps, Q, every):
        lengths[-1] += count
        sums[-1] = sums[-1] + logs
        done += count
        if done - warmup >= ends[len(lengths) - 1] and done < T:
            lengths.append(0)
            sums.append(torch.zeros_like(sums[0]))
        if done - reported >= 100 or done == T:
            progress(done, T)
            reported = done
    return _record(np.array(lengths), torch.stack(sums).cpu().numpy(), N, warmup, every)


def _record(lengths: np.ndarray, sums: np.ndarray, N: int, warmup: int, every: int) -> LyapunovSpectrum:
    """From the steps (C,) and the growth (C, k) of consecutive pieces of the run."""
    steps = lengths.cumsum()
    curve = sums.cumsum(0) / steps[:, None]
    order = np.argsort(-curve[-1], kind="stable")
    return LyapunovSpectrum(
        exponents=curve[-1, order],
        standard_errors=standard_errors(lengths, sums)[order],
        curve_steps=steps,
        curve=curve[:, order],
        state_size=N,
        warmup=warmup,
        every=every,
    )


def _ends(T: int, every: int) -> list[int]:
    """The steps at which the pieces of a run end."""
    pieces = max(1, min(PIECES, T // every))
    return [round(T * (piece + 1) / pieces) for piece in range(pieces)]


def _run_of(cell, x: Tensor | None, s0: Tensor | None, steps: int | None) -> tuple[nn.Module | Step, Tensor, Tensor]:
    """(step of an input and a state, inputs (T, m), first state (N,)), checked."""
    s0 = None if s0 is None else real_tensor("s0", s0)
    if s0 is not None and not (s0.dim() == 1 and s0.is_floating_point() and len(s0)):
        raise InvalidInputError(
            f"s0 is {s0.dtype} of shape {tuple(s0.shape)}: expected a floating-point tensor (N,), one state"
        )
    if x is None:
        if s0 is None or not callable(cell):
            raise InvalidInputError("without x, expected a callable f(s) and s0 (N,), the state it begins with")
        steps = _count("steps", steps, 1, 1 << 40, "x is None")
        return (lambda x, s: cell(s)), s0.new_zeros(1, 1).expand(steps, 1), s0
    if steps is not None:
        raise InvalidInputError("steps is for a map without input: x says how many there are")
    x = real_tensor("x", x)
    if x.dim() != 2 or len(x) == 0:
        raise InvalidInputError(f"x: expected a tensor (T, m) with at least one step, got shape {tuple(x.shape)}")
    if bad := int((~torch.isfinite(x)).sum()):
        raise InvalidInputError(f"x: {bad} of {x.numel()} numbers are NaN or infinite, expected finite ones")
    cell = converted(cell)
    if s0 is None:
        if not hasattr(cell, "state_size"):
            step_of(cell)  # a whole network is no step, whatever the state
            raise InvalidInputError(f"the step does not tell its state_size: pass s0, (N,){in_a_module(cell)}")
        s0 = x.new_zeros(state_size_of(cell))
    if s0.dtype not in (torch.float32, torch.float64):
        raise InvalidInputError(f"the state is {s0.dtype}, as x or s0: expected torch.float32 or torch.float64")
    return cell, x, s0


def _count(name: str, value, least: int, most: int, why: str) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidInputError(f"{name} is {value!r}: {why}; expected a whole number, {least} to {most}")
    return value
