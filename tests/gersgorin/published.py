"""Published procedures for fixed points and Lyapunov exponents, written plainly.

Shapes: n units, m inputs, T steps, B starts.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian


def fixed_points_by_adam(
    rnn: nn.RNN | nn.GRU, x: Tensor, starts: Tensor, *, rate: float = 1.0, most: int = 5000
) -> tuple[Tensor, Tensor, np.ndarray]:
    """FixedPointFinder's (M. Golub, D. Sussillo, Journal of Open Source Software 3(31), 2018), with
    its defaults.

    Adam on the mean of q = |F(s) - s|^2 / 2 over all starts (B, n) at once, its rate times 0.95
    after three steps without gain, until every q is below 1e-12 or has stopped changing; ends
    nearer than 1e-3 are one; then the Jacobians by autograd and their eigenvalues.

    Returns:
        The distinct ends (P, n), their q (P,), the eigenvalues (P, n).
    """
    for p in rnn.parameters():
        p.requires_grad_(False)
    inputs = x.expand(1, len(starts), -1).contiguous()
    s = starts.clone().unsqueeze(0).requires_grad_()
    optimizer = torch.optim.Adam([s], lr=rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.95, patience=2)
    before = torch.full((len(starts),), torch.nan, dtype=s.dtype)
    for _ in range(most):
        q = (s - rnn(inputs, s)[1]).square().sum(-1).squeeze(0) / 2
        optimizer.zero_grad()
        q.mean().backward()
        optimizer.step()
        scheduler.step(float(q.detach().mean()))
        q = q.detach()
        if (((q - before).abs() < 1e-20 * optimizer.param_groups[0]["lr"]) | (q < 1e-12)).all():
            break
        before = q
    ends, kept = s.detach().squeeze(0), []
    for row in range(len(ends)):
        if not kept or (ends[kept] - ends[row]).abs().amax(-1).min() >= 1e-3:
            kept.append(row)
    points = ends[kept]

    def summed(s):
        return rnn(x.expand(1, len(s), -1).contiguous(), s.unsqueeze(0))[1].squeeze(0).sum(0)

    A = jacobian(summed, points).movedim(1, 0)
    return points, q[kept], np.linalg.eigvals(A.numpy())


def exponents_by_autograd(rnn: nn.RNN | nn.GRU, x: Tensor, k: int | None = None) -> Tensor:
    """lyapunov-hyperopt's (R. Vogt et al., Frontiers in Applied Mathematics and Statistics 8,
    2022), any module.

    x is (T, m); the k leading ones (k,), all where None.

    At every step the dense Jacobian, row by row through autograd, its product with Q, a QR
    decomposition, log |R_ii|.
    """
    return _exponents(
        lambda x_t, h: jacobian(lambda h: rnn(x_t, h)[1], h).reshape(h.shape[-1], -1), rnn, x, k
    )


def exponents_by_diagonals(rnn: nn.RNN, x: Tensor) -> Tensor:
    """The same with its closed form of a tanh RNN: the slopes as a diagonal matrix times the
    recurrent weights.
    """

    def closed_form(x_t: Tensor, h: Tensor) -> Tensor:
        y = x_t @ rnn.weight_ih_l0.T + h @ rnn.weight_hh_l0.T + rnn.bias_ih_l0 + rnn.bias_hh_l0
        return torch.diag_embed(1 / torch.cosh(y[0])) ** 2 @ rnn.weight_hh_l0

    return _exponents(closed_form, rnn, x, None)


def _exponents(jacobian_at, rnn, x: Tensor, k: int | None) -> Tensor:
    h, total = x.new_zeros(1, rnn.hidden_size), 0
    Q = torch.eye(rnn.hidden_size, dtype=x.dtype)[:, :k]
    for x_t in x.split(1):
        J = jacobian_at(x_t, h).detach()
        with torch.no_grad():
            h = rnn(x_t, h)[1]
        Q, R = torch.linalg.qr(J @ Q)
        total = total + R.diagonal().abs().log()
    return (total / len(x)).sort(descending=True).values


def three_bits(units: int, starts: int, gain: float = 1.5) -> tuple[nn.RNN, Tensor]:
    """(a tanh RNN without training that holds three bits, states (starts, units) with its bits
    anywhere).

    Each of three groups of units pulls itself to +s or -s, s = tanh(gain s), with random signs
    within the group: without input its fixed points are 27, near the combinations of -s, 0 and s. A
    little noise on the weights keeps eigenvalues apart.
    """
    rnn, g = nn.RNN(3, units, dtype=torch.float64), torch.Generator().manual_seed(0)
    signs = torch.randint(2, (units,), generator=g).double() * 2 - 1
    # (units, 3)
    groups = nn.functional.one_hot(torch.arange(units).remainder(3)).double() * signs[:, None]
    with torch.no_grad():
        for p in rnn.parameters():
            p.zero_()
        noise = torch.randn(units, units, dtype=torch.float64, generator=g) / units**0.5
        rnn.weight_hh_l0.copy_(gain * groups @ groups.T * 3 / units + 0.1 * noise)
    bits = torch.rand(starts, 3, dtype=torch.float64, generator=g) * 2 - 1
    return rnn, bits @ groups.T + 0.05 * torch.randn(
        starts, units, dtype=torch.float64, generator=g
    )
