"""Find the fixed points of a network that stores one bit, and its time constants there.

One unit with a strong weight on itself, s' = tanh(2 s + x), has three without input: two stable ones, and an unstable one at 0. For a
trained network search from states of its runs (`gersgorin.trajectory`).
"""

import torch

import gersgorin

starts = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
found = gersgorin.fixed_points(lambda x, s: torch.tanh(2 * s + x), torch.zeros(1, dtype=torch.float64), starts)

for row, state in zip(found.table(), found.states, strict=True):
    print(
        f"{row['kind']:<9} at {state[0]:+.4f}, found from {row['found_from']:>2} of 21 starts, "
        f"eigenvalue {row['spectral_radius']:.3f}, time constant {row['slowest_time_constant']:.2f} steps"
    )

free = gersgorin.lyapunov(
    lambda s: torch.tanh(2 * s), None, s0=torch.tensor([0.1], dtype=torch.float64), steps=2000, warmup=100
)
print(f"Lyapunov exponent of a run: {free.exponents[0]:.4f}, log of the eigenvalue at its end")
