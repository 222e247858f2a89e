"""Train a block that is applied many times, as in looped language models. Such a block is a
recurrent network: its loops are the time steps, and its input is constant.

    python examples/looped.py

The task is to follow pointers. The input is a permutation of five places, the first state encodes
one place, and each loop moves to the place to which the permutation points. So the right answer
after k loops is known for every k, and the cycles of the trained block should be those of the
permutation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gersgorin import fixed_points, lyapunov, spectra

PLACES, WIDTH, HIDDEN = 5, 16, 64


class Block(nn.Module):
    """One loop: s' = norm(s + MLP(x, s)), where x is the same in every loop (input injection).

    x (..., 25): the permutation, as a one-hot row for each place. s: (..., 16).
    """

    def __init__(self, *, norm: bool = True):
        super().__init__()
        self.state_size, self.norm = WIDTH, norm
        self.first = nn.Linear(PLACES, WIDTH)
        self.mix = nn.Linear(PLACES**2 + WIDTH, HIDDEN)
        self.out = nn.Linear(HIDDEN, WIDTH)
        self.head = nn.Linear(WIDTH, PLACES)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        x = x.expand(*s.shape[:-1], -1)
        s = s + self.out(F.gelu(self.mix(torch.cat((x, s), -1))))
        return F.rms_norm(s, s.shape[-1:]) if self.norm else s


def task(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw questions: permutations (count, 5) and first places (count,)."""
    order = torch.rand(count, PLACES, generator=generator).argsort(-1)
    return order, torch.randint(PLACES, (count,), generator=generator)


def places(order: Tensor, first: Tensor, loops: int) -> Tensor:
    """Return the right place after each loop, (loops, count)."""
    found = [first]
    for _ in range(loops):
        found.append(order.gather(1, found[-1][:, None])[:, 0])
    return torch.stack(found[1:])


def inputs(block: Block, order: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inputs x (count, 25) and the first states (count, 16) of a block."""
    x = F.one_hot(order, PLACES).to(block.out.weight).flatten(1)
    return x, block.first(F.one_hot(first, PLACES).to(x))


def states(block: Block, x: Tensor, s: Tensor, loops: int) -> Tensor:
    """Return the state after each loop, (loops, count, 16)."""
    found = []
    for _ in range(loops):
        s = block(x, s)
        found.append(s)
    return torch.stack(found)


def trained(seed: int, *, loops: int = 6, norm: bool = True, steps: int = 1500) -> Block:
    """Train a block to give the right place after each of the first `loops` loops, and return it in
    float64.
    """
    torch.manual_seed(seed)
    block, generator = Block(norm=norm), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(block.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        order, first = task(128, generator)
        logits = block.head(states(block, *inputs(block, order, first), loops))
        loss = F.cross_entropy(logits.flatten(0, 1), places(order, first, loops).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(block.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return block.double().requires_grad_(False)


def right(block: Block, order: Tensor, first: Tensor, loops: int) -> Tensor:
    """Return whether the answer after each loop is right, (loops, count)."""
    after = states(block, *inputs(block, order, first), loops)
    return block.head(after).argmax(-1) == places(order, first, loops)


def stable_cycles(block: Block, order: Tensor, period: int) -> list[list[int]]:
    """Return the places to which the stable cycles of this period belong, for the block with one
    permutation.
    """
    x, s = inputs(block, order.expand(PLACES, -1), torch.arange(PLACES))
    starts = states(block, x, s, 20)[-2:].flatten(0, 1)
    found = fixed_points(block, x[0], starts=starts, period=period)
    answers = block.head(torch.as_tensor(found.states)).argmax(-1).tolist()
    numbers = range(len(answers)) if found.cycle is None else found.cycle.tolist()
    stable = (found.unstable + found.neutral == 0) & ~found.is_slow
    cycles: dict[int, list[int]] = {}
    for k in stable.nonzero()[0]:
        cycles.setdefault(numbers[k], []).append(answers[k])
    return sorted(sorted(cycle) for cycle in cycles.values())


if __name__ == "__main__":
    torch.set_num_threads(1)  # for small matrices
    block = trained(0)
    share = right(block, *task(500, torch.Generator().manual_seed(1)), 300).double().mean(1)
    print("right after loop", {k: round(float(share[k - 1]), 3) for k in (6, 12, 50, 300)})
    for order in (torch.tensor([1, 0, 2, 4, 3]), torch.tensor([1, 0, 3, 4, 2])):
        print(f"\nplaces 0 to 4 point to {order.tolist()}")
        x, s0 = (t[0] for t in inputs(block, order[None], torch.tensor([0])))
        by_loop = spectra(block, x.expand(6, -1), s0=s0)
        print("spectral radius by loop:", by_loop.spectral_radius.round(3))
        over = lyapunov(block, x.expand(300, -1), s0=s0, count=2, warmup=50)
        print("exponents of 300 loops:", over.exponents.round(3))
        for period in (1, 2, 3):
            print(f"stable cycles of period {period}: {stable_cycles(block, order, period)}")
