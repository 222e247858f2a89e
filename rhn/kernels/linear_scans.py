"""Recurrences that are linear in their state, the minGRU's and the LRU's: the references, and the fused versions for K models.

Gated, W (2n, m) and b (2n,) in the order z, g:

    z, g = sigma(W_z x + b_z), W_g x + b_g        s' = (1 - z) s + z g

Complex diagonal: the state holds the real parts of p = n - q complex numbers, then the imaginary parts of the first q = n // 2 of them,
so that with odd n one number is real. Each is multiplied by lambda = a + i b, a (p,) and b (q,); W (n, m):

    re' = a re - b im + W_re x        im' = b re + a im + W_im x

Backward, with A[t] = ds[t]/ds[t-1] and u[t] what the input adds: the gradients D[t] of a loss by s[t] are the same recurrence
backwards,

    s[t] = A[t] s[t-1] + u[t]        D[t] = grad[t] + A[t+1]' D[t+1]

and all others are products of D with earlier results, over all time steps at once: d/du[t] = D[t], d/dA[t] = D[t] s[t-1]'.
Buffers are (K, T, B, .), see `matmul.workspace`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import dispatch, validation
from rhn.kernels.autograd import batched_function, stack_size
from rhn.kernels.dispatch import Implementation, Operation
from rhn.kernels.matmul import input_gradient, input_product, weight_gradient, workspace


def gated_step(u: Tensor, s: Tensor) -> Tensor:
    """s' (..., n) from u = W x + b (..., 2n) and s (..., n)."""
    z, g = u.chunk(2, -1)
    z = torch.sigmoid(z)
    return (1 - z) * s + z * g


def complex_diagonal_step(u: Tensor, s: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """s' (..., n) from u = W x (..., n) and s (..., n)."""
    p, q = len(a), len(b)
    real, imaginary = s[..., :p], s[..., p:]
    return torch.cat((a * real - F.pad(b * imaginary, (0, p - q)), b * real[..., :q] + a[:q] * imaginary), -1) + u


def gated_scan_reference(x: Tensor, s0: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """States (T, B, n) from x (T, B, m) and s0 (B, n)."""
    x, s, W, b = validation.GATED_SCAN.validate(x, s0, W, b)
    states = []
    for x_t in x:
        s = gated_step(F.linear(x_t, W, b), s)
        states.append(s)
    return torch.stack(states)


def complex_diagonal_scan_reference(x: Tensor, s0: Tensor, W: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """States (T, B, n) from x (T, B, m) and s0 (B, n)."""
    x, s, W, a, b = validation.COMPLEX_DIAGONAL_SCAN.validate(x, s0, W, a, b)
    states = []
    for x_t in x:
        s = complex_diagonal_step(F.linear(x_t, W), s, a, b)
        states.append(s)
    return torch.stack(states)


def gated_scan(x: Tensor, s0: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """States (T, B, n); same arguments and values as `gated_scan_reference`."""
    tensors = validation.GATED_SCAN.validate(x, s0, W, b)
    return gated_scan_reference(*tensors) if validation.is_traced(*tensors) else batched_function(GATED_SCAN, *tensors)


def complex_diagonal_scan(x: Tensor, s0: Tensor, W: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """States (T, B, n); same arguments and values as `complex_diagonal_scan_reference`."""
    tensors = validation.COMPLEX_DIAGONAL_SCAN.validate(x, s0, W, a, b)
    return (
        complex_diagonal_scan_reference(*tensors)
        if validation.is_traced(*tensors)
        else batched_function(COMPLEX_DIAGONAL_SCAN, *tensors)
    )


def gated_forward(x, s0, W, b):
    """(states (K, T, B, n), all states S (K, T + 1, B, n), the gates z and candidates g (K, T, B, 2n))."""
    K, (T, B), n = stack_size(x, s0, W, b), x.shape[1:3], s0.shape[-1]
    A = workspace(W, K, T, B, 2 * n).copy_(input_product(x, W, b, K))
    z, g = A[..., :n].sigmoid_(), A[..., n:]
    S = workspace(W, K, T + 1, B, n)
    S[:, 0] = s0
    torch.mul(z, g, out=S[:, 1:])
    states = S.unbind(1)
    for t, kept in enumerate((1 - z).unbind(1)):
        states[t + 1].addcmul_(kept, states[t])
    return S[:, 1:].clone(), S, A


def gated_backward(grad, needs, inputs, residuals):
    """Gradients of (x, s0, W, b), each with a leading axis of K."""
    (x, _, W, _), (S, A) = inputs, residuals
    z, g = A.chunk(2, -1)
    kept = (1 - z).unbind(1)
    D = workspace(A, *grad.shape).copy_(grad)
    steps = D.unbind(1)
    for t in range(len(steps) - 1, 0, -1):
        steps[t - 1].addcmul_(kept[t], steps[t])
    rows = torch.cat((D * (g - S[:, :-1]) * z * (1 - z), D * z), -1).flatten(1, 2)
    dx = input_gradient(rows, W, x) if needs[0] else None
    return dx, kept[0] * steps[0], weight_gradient(rows, x.flatten(1, 2)), rows.sum(1)


def complex_diagonal_forward(x, s0, W, a, b):
    """(states (K, T, B, n), all states S (K, T + 1, B, n))."""
    K, (T, B), n = stack_size(x, s0, W, a, b), x.shape[1:3], s0.shape[-1]
    scale, turn, partner = _turn(a, b)
    S = workspace(W, K, T + 1, B, n)
    S[:, 0] = s0
    S[:, 1:] = input_product(x, W, W.new_zeros(1, n), K)
    states = S.unbind(1)
    for t in range(T):
        states[t + 1].addcmul_(scale, states[t]).addcmul_(turn, states[t][..., partner])
    return S[:, 1:].clone(), S


def complex_diagonal_backward(grad, needs, inputs, residuals):
    """Gradients of (x, s0, W, a, b), each with a leading axis of K."""
    (x, _, W, a, b), (S,) = inputs, residuals
    (p, q), (scale, turn, partner) = (a.shape[-1], b.shape[-1]), _turn(a, b)
    D = workspace(S, *grad.shape).copy_(grad)
    steps = D.unbind(1)
    for t in range(len(steps) - 1, 0, -1):  # the transposed turn is the other way round
        steps[t - 1].addcmul_(scale, steps[t]).addcmul_(turn, steps[t][..., partner], value=-1)
    ds0 = scale * steps[0] - turn * steps[0][..., partner]
    before = S[:, :-1]
    da, db = ((D * s).flatten(1, 2).sum(1) for s in (before, before[..., partner]))
    da[:, :q] += da[:, p:]
    rows = D.flatten(1, 2)
    dx = input_gradient(rows, W, x) if needs[0] else None
    return dx, ds0, weight_gradient(rows, x.flatten(1, 2)), da[:, :p], db[:, p:] - db[:, :q]


def _turn(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """scale and turn (K or 1, 1, n) and partner (n,) with A s = scale s + turn s[partner]."""
    p, q = a.shape[-1], b.shape[-1]
    places = torch.arange(p + q, device=a.device)
    partner = torch.cat((places[p:], places[q:p], places[:q]))  # a real number is its own, by which nothing is turned
    turn = torch.cat((-b, b.new_zeros(len(b), p - q), b), -1)
    return torch.cat((a, a[:, :q]), -1).unsqueeze(1), turn.unsqueeze(1), partner


GATED_SCAN = Operation("gated scan", Implementation(dispatch.FUSED, gated_forward, gated_backward))
COMPLEX_DIAGONAL_SCAN = Operation(
    "complex diagonal scan", Implementation(dispatch.FUSED, complex_diagonal_forward, complex_diagonal_backward)
)
