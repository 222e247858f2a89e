"""The largest eigenvalue of symmetric tridiagonal matrices that grow by a row and a column a step, as Lanczos' method makes them.

Many matrices at once, (p,). The pivots of x - T in Gaussian elimination are

    d_1 = x - alpha_1,    d_i = x - alpha_i - beta_{i-1}^2 / d_{i-1},

all positive exactly if x is above every eigenvalue, and their product is the characteristic polynomial. Newton's method on
it falls from any such x to the largest eigenvalue. There 1 / d_k' is the square of the last entry of its eigenvector
(B. Parlett, "The Symmetric Eigenvalue Problem", 1998, section 7.9), and so tells Lanczos' residual.
"""

import torch
from torch import Tensor

ITERATIONS = 16


class Tridiagonal:
    """`p` matrices, empty at first; matrices[index] are some of them."""

    def __init__(self, p: int) -> None:
        self.alphas: list[Tensor] = []
        self.betas: list[Tensor] = []
        self.largest = torch.zeros(p, dtype=torch.float64, device="cpu")

    def __getitem__(self, index: Tensor) -> "Tridiagonal":
        some = Tridiagonal(0)
        some.alphas, some.betas = [a[index] for a in self.alphas], [b[index] for b in self.betas]
        some.largest = self.largest[index]
        return some

    def grow(self, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """Add a diagonal entry alpha (p,) and, for the step to come, the entry beta (p,) beside it.

        Returns:
            The largest eigenvalue (p,), and beta times the last entry of its unit eigenvector, (p,): the residual. It is
            inf where Newton's method has not come to its end: the eigenvalue is then one from above.
        """
        if self.alphas:  # at most that of [[largest so far, beta], [beta, alpha]]
            middle, half = (self.largest + alpha) / 2, (self.largest - alpha) / 2
            x = middle + torch.hypot(half, self.betas[-1])
        else:
            x = alpha.clone()
        self.alphas.append(alpha)
        for _ in range(ITERATIONS):
            pivot, slope, sum_of_ratios = x - self.alphas[0], torch.ones_like(x), torch.zeros_like(x)
            for a, b in zip(self.alphas[1:], self.betas, strict=True):
                sum_of_ratios += slope / pivot
                square = b**2 / pivot
                slope = 1 + square / pivot * slope
                pivot = x - a - square
            pivot = pivot.clamp(min=0)
            slope += pivot * sum_of_ratios
            step = pivot / slope
            x = x - step
            if not (step > 1e-9 * x).any():
                break
        self.betas.append(beta)
        self.largest = x
        return x, torch.where(step > 1e-9 * x, torch.inf, beta * slope.rsqrt())
