"""LSTM and GRU over time in the conventions of torch.nn: the reference of each, and its fused
version for K models. R (4n, n) or (3n, n) and b (4n,) or (3n,) have no depth axis.

LSTM, state cat(h, c) (.., 2n), blocks in the order i, f, g, o:

    i, f, o = sigma(W x + R h + b)    g = tanh(W x + R h + b)    c' = f c + i g    h' = o tanh(c')

GRU, blocks in the order r, z, n, with a bias q of its own inside the reset product:

    r, z = sigma(W x + R h + b)    n = tanh(W_n x + b_n + r (R_n h + q))    h' = (1 - z) n + z h

With dropout masks m (1, B, n) and m' (B, n), R h becomes R (h * m), and the candidates g and n
become g * m' and n * m'. The cell state c and the carried h are never masked, nor are the
candidates in the buffers (K, T, B, .) of the fused versions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import matmul
from rhn.kernels.kernel import Kernel
from rhn.kernels.matmul import Mask, masked, masked_linear, workspace

Tensors = tuple[Tensor, ...]


def lstm_step(z: Tensor, c: Tensor, candidate_mask: Mask = None) -> tuple[Tensor, Tensor, Tensors]:
    """Compute (h', c', (i, f, g, o)), each (..., n), from the pre-activations z (..., 4n) and the
    cell state c (..., n).
    """
    z_i, z_f, z_g, z_o = z.chunk(4, -1)
    i, f = torch.sigmoid(z_i), torch.sigmoid(z_f)
    g, o = masked(torch.tanh(z_g), candidate_mask), torch.sigmoid(z_o)
    c = f * c + i * g
    return o * torch.tanh(c), c, (i, f, g, o)


def gru_step(
    u: Tensor, v: Tensor, h: Tensor, candidate_mask: Mask = None
) -> tuple[Tensor, Tensors]:
    """Compute (h', (r, z, n)), each (..., n), from u = W x + b, v = R h + (0, 0, q) (..., 3n)."""
    (u_r, u_z, u_n), (v_r, v_z, v_n) = u.chunk(3, -1), v.chunk(3, -1)
    r, z = torch.sigmoid(u_r + v_r), torch.sigmoid(u_z + v_z)
    n = masked(torch.tanh(u_n + r * v_n), candidate_mask)
    return (1 - z) * n + z * h, (r, z, n)


def gru_recurrent_bias(q: Tensor) -> Tensor:
    """Return (0, 0, q) (3n,), the bias of the recurrent product, from q (n,)."""
    return F.pad(q, (2 * q.shape[-1], 0))


def lstm_reference(x, s0, W, R, b, state_mask, candidate_mask) -> Tensor:
    """Compute the LSTM's states cat(h, c) (T, B, 2n) from x (T, B, m) and s0 (B, 2n)."""
    (h, c), states = s0.chunk(2, -1), []
    for x_t in x:
        z = F.linear(x_t, W, b) + masked_linear(h, R, None, state_mask)
        h, c, _ = lstm_step(z, c, candidate_mask)
        states.append(torch.cat((h, c), -1))
    return torch.stack(states)


def gru_reference(x, s0, W, R, b, q, state_mask, candidate_mask) -> Tensor:
    """Compute the GRU's states (T, B, n) from x (T, B, m) and s0 (B, n)."""
    h, states = s0, []
    for x_t in x:
        v = masked_linear(h, R, gru_recurrent_bias(q), state_mask)
        h, _ = gru_step(F.linear(x_t, W, b), v, h, candidate_mask)
        states.append(h)
    return torch.stack(states)


def lstm_forward(x, s0, W, R, b, state_mask, candidate_mask, *, K: int, keep: bool):
    """Return (states (K, T, B, 2n), states with s0 S (K, T + 1, B, 2n), gates A (K, T, B, 4n))."""
    (T, B), n, m = x.shape[1:3], R.shape[-1], _only(state_mask)
    S = workspace(R, K, T + 1, B, 2 * n)
    S[:, 0] = s0
    A = workspace(R, K, T, B, 4 * n).copy_(matmul.input_product(x, W, b, K))
    Rt = R.transpose(1, 2).expand(K, -1, -1)
    H, C, As = (v.unbind(1) for v in (S[..., :n], S[..., n:], A))
    blocks = A[..., : 2 * n], A[..., 2 * n : 3 * n], A[..., 3 * n :]
    IFs, Gs, Os = (block.unbind(1) for block in blocks)
    for t in range(T):
        As[t].baddbmm_(masked(H[t], m), Rt)
        gates, g, o = IFs[t].sigmoid_(), Gs[t].tanh_(), Os[t].sigmoid_()
        i, f = gates[..., :n], gates[..., n:]
        c = torch.mul(f, C[t], out=C[t + 1]).addcmul_(i, masked(g, candidate_mask))
        torch.mul(torch.tanh(c), o, out=H[t + 1])
    return S[:, 1:].clone(), S, A


def lstm_backward(grad, needs, residuals, *, x, W, R, state_mask, candidate_mask, **others):
    """Return the gradients for x, s0, W, R and b by name, each with a leading axis of K."""
    S, A = residuals
    (K, T, B, _), n, m = A.shape, R.shape[-1], _only(state_mask)
    i, f, g, o = A.chunk(4, -1)
    tanh_c = torch.tanh(S[:, 1:, :, n:])
    D = torch.empty_like(A)  # d c' / dz for the blocks i, f, g and d h' / dz for o
    Di, Df, Dg, Do = D.chunk(4, -1)
    of_all_steps = None if candidate_mask is None else candidate_mask.unsqueeze(1)
    torch.mul(masked(g, of_all_steps), i * (1 - i), out=Di)
    torch.mul(S[:, :-1, :, n:], f * (1 - f), out=Df)
    torch.mul(masked(i, of_all_steps), 1 - g * g, out=Dg)
    torch.mul(tanh_c, o * (1 - o), out=Do)
    through = (o * (1 - tanh_c * tanh_c)).unbind(1)  # d h' / d c'
    fs, grads, Ds = f.unbind(1), grad.unbind(1), D.unbind(1)
    Dcs, Dos = D[..., : 3 * n].unflatten(-1, (3, n)).unbind(1), Do.unbind(1)
    Rk = R.expand(K, -1, -1)
    dh, dc = grad.new_zeros(K, B, n), grad.new_zeros(K, B, n)
    for t in range(T - 1, -1, -1):
        dh = dh + grads[t][..., :n]
        dc = (dc + grads[t][..., n:]).addcmul_(dh, through[t])
        Dcs[t].mul_(dc.unsqueeze(2))
        Dos[t].mul_(dh)
        dh = masked(torch.bmm(Ds[t], Rk), m)
        dc = dc * fs[t]
    rows = D.flatten(1, 2)
    return {
        "x": matmul.input_gradient(rows, W, x) if needs["x"] else None,
        "s0": torch.cat((dh, dc), -1),
        "W": matmul.weight_gradient(rows, x.flatten(1, 2)),
        "R": matmul.weight_gradient(rows, masked(S[:, :-1, :, :n], state_mask).flatten(1, 2)),
        "b": rows.sum(1),
    }


def gru_forward(x, s0, W, R, b, q, state_mask, candidate_mask, *, K: int, keep: bool):
    """Return (states (K, T, B, n), states with s0 S (K, T + 1, B, n), gates A (K, T, B, 3n), inner
    product R_n h + q (K, T, B, n)).
    """
    (T, B), n, m = x.shape[1:3], R.shape[-1], _only(state_mask)
    S = workspace(R, K, T + 1, B, n)
    S[:, 0] = s0
    A = workspace(R, K, T, B, 3 * n).copy_(matmul.input_product(x, W, b, K))
    V = workspace(R, K, T, B, n)
    V[:] = q[:, None, None]
    R_gates, R_n = (M.transpose(1, 2).expand(K, -1, -1) for M in R.split((2 * n, n), 1))
    Hs, Vs, Gs, Ns = (v.unbind(1) for v in (S, V, A[..., : 2 * n], A[..., 2 * n :]))
    for t in range(T):
        h = masked(Hs[t], m)
        gates = Gs[t].baddbmm_(h, R_gates).sigmoid_()
        v = Vs[t].baddbmm_(h, R_n)
        candidate = masked(Ns[t].addcmul_(gates[..., :n], v).tanh_(), candidate_mask)
        torch.lerp(candidate, Hs[t], gates[..., n:], out=Hs[t + 1])
    return S[:, 1:].clone(), S, A, V


def gru_backward(grad, needs, residuals, *, x, W, R, state_mask, candidate_mask, **others):
    """Return the gradients for x, s0, W, R, b and q by name, each with a leading axis of K."""
    S, A, V = residuals
    (K, T, B, _), n, m = A.shape, R.shape[-1], _only(state_mask)
    r, z, c = A.chunk(3, -1)
    D = torch.empty_like(A)  # d h' / dz for the blocks r, z, n, as the input product sees them
    Dr, Dz, Dn = D.chunk(3, -1)
    of_all_steps = None if candidate_mask is None else candidate_mask.unsqueeze(1)
    torch.mul(masked(1 - z, of_all_steps), 1 - c * c, out=Dn)
    torch.mul(S[:, :-1] - masked(c, of_all_steps), z * (1 - z), out=Dz)
    torch.mul(Dn * V, r * (1 - r), out=Dr)
    inner = Dn * r  # d h' / d V_n
    E = torch.empty_like(D)  # as the recurrent product sees them
    E[..., : 2 * n], E[..., 2 * n :] = D[..., : 2 * n], inner
    Es, zs, grads = E.unbind(1), z.unbind(1), grad.unbind(1)
    Eg, Dns = E.unflatten(-1, (3, n)).unbind(1), Dn.unbind(1)
    Rk = R.expand(K, -1, -1)
    dh = grad.new_zeros(K, B, n)
    for t in range(T - 1, -1, -1):
        dh = dh + grads[t]
        Eg[t].mul_(dh.unsqueeze(2))
        Dns[t].mul_(dh)
        dh = dh * zs[t]
        dh = dh.baddbmm_(Es[t], Rk) if m is None else dh.addcmul_(torch.bmm(Es[t], Rk), m)
    D[..., : 2 * n] = E[..., : 2 * n]
    rows, recurrent = D.flatten(1, 2), E.flatten(1, 2)
    return {
        "x": matmul.input_gradient(rows, W, x) if needs["x"] else None,
        "s0": dh,
        "W": matmul.weight_gradient(rows, x.flatten(1, 2)),
        "R": matmul.weight_gradient(recurrent, masked(S[:, :-1], state_mask).flatten(1, 2)),
        "b": rows.sum(1),
        "q": recurrent[..., 2 * n :].sum(1),
    }


def _only(state_mask: Mask) -> Mask:
    """Return the mask (K or 1, B, n) of all blocks."""
    return None if state_mask is None else state_mask.squeeze(1)


_MASKS = {"state_mask?": "1 B n", "candidate_mask?": "B n"}
LSTM = Kernel(
    name="LSTM",
    arguments={"x": "T B m", "s0": "B 2*n", "W": "4*n m", "R": "4*n n", "b": "4*n"} | _MASKS,
    reference=lstm_reference,
    fused=(lstm_forward, lstm_backward),
)
GRU = Kernel(
    name="GRU",
    arguments={"x": "T B m", "s0": "B n", "W": "3*n m", "R": "3*n n", "b": "3*n", "q": "n"}
    | _MASKS,
    reference=gru_reference,
    fused=(gru_forward, gru_backward),
)
