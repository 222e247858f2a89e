"""Distribute a recurrence over a GPU: supported shapes, number of blocks, units of a block.

Measured on an H200 (132 multiprocessors, torch 2.11, Triton 3.6) with a prototype of these kernels, milliseconds, float16 operands:

    models  n    L   T   B   forward                          backward                        present path, all
    1       830  10  35  20  104 blocks of 8 units, 4 warps  1.52    52 of 16, 4 warps  2.8   14.4
    20      262  6   60  32  3 blocks a model, 6 x 16, 4     3.9     the same           3.5   26.2
    60      262  6   60  32  2 blocks a model, 5 x 32, 8     6.3     the same           7.4   45.9

so: as many blocks as multiprocessors allow, each with the fewest units (8 forward, 16 backward at least) that make one chunk of them;
chunks of 32 units and 8 warps where the blocks do not suffice. A block takes 16 or 32 rows: a larger batch is cut into groups, each a
recurrence of its own. Compiled for sm_90 these settings spill no or few registers; the backward and the uncoupled network need 8 warps
for that (`python -m benchmarks.persistent_resources`, which also holds `shared` against what the compiler asks for).
"""

import functools
from dataclasses import dataclass, replace

import torch

ROWS = (32, 16)  # batch rows of a group; tensor cores take 16 at least
ONE_CHUNK = {
    "forward": (8, 16),
    "backward": (16,),
}  # units of a block: their weights fit into registers while others are awaited
CHUNKS = (32, 16, 8)
LARGEST = 1536  # units: three tiles of 512


@dataclass(frozen=True)
class Work:
    """One pass: "forward" or "backward", K models of n units and G gates, B batch rows."""

    direction: str
    models: int
    n: int
    gates: int
    batch: int
    operand: int = 2
    """Bytes of an operand: float16 or float32."""


@dataclass(frozen=True)
class Spread:
    """The distribution of a pass over a device.

    rows, groups: batch rows of a group, groups;  blocks: of each model and group;  chunks, units: each block owns chunks x units
    tiles: three powers of two whose sum is n or a little more: the padded row of an operand;  warps: of a block
    ahead: whether a block loads its weights before it waits for the others
    """

    rows: int
    groups: int
    blocks: int
    chunks: int
    units: int
    tiles: tuple[int, int, int]
    warps: int
    ahead: bool

    @property
    def padded_rows(self) -> int:
        """R, rows of all groups."""
        return self.rows * self.groups

    @property
    def padded_units(self) -> int:
        """KP."""
        return sum(self.tiles)


@functools.cache
def spread(work: Work, processors: int, memory: int) -> Spread | None:
    """Distribute a pass over a number of multiprocessors, with `memory` bytes of shared memory for each block; None if it does not fit.

    >>> spread(Work("forward", 1, 830, 2, 20), 132, 232448)
    Spread(rows=32, groups=1, blocks=104, chunks=1, units=8, tiles=(512, 256, 64), warps=4, ahead=True)
    >>> spread(Work("backward", 60, 262, 2, 32), 132, 232448)
    Spread(rows=32, groups=1, blocks=2, chunks=5, units=32, tiles=(128, 128, 16), warps=8, ahead=False)
    """
    if work.n > LARGEST:
        return None
    padded = tiles(work.n)
    for rows in ROWS if work.batch > ROWS[-1] else ROWS[-1:]:
        groups = padded_batch(work.batch) // rows
        most = max(1, processors // (work.models * groups))
        for units in ONE_CHUNK[work.direction]:
            blocks = -(-sum(padded) // units)
            if blocks <= most and shared(work, rows, units, ahead=True) <= memory:
                warps = 4 if work.direction == "forward" and work.gates < 3 else 8
                return Spread(rows, groups, blocks, 1, units, padded, warps, True)
        for units in CHUNKS:
            every = -(-sum(padded) // units)
            chunks = -(-every // most)
            if shared(work, rows, units, ahead=False) <= memory:
                return Spread(rows, groups, -(-every // chunks), chunks, units, padded, 8, False)
    return None


def padded_batch(batch: int) -> int:
    """R, the rows of all groups, whatever the size of one: 16, or a multiple of 32.

    >>> padded_batch(1), padded_batch(16), padded_batch(17), padded_batch(128)
    (16, 16, 32, 128)
    """
    return ROWS[-1] if batch <= ROWS[-1] else -(-batch // ROWS[0]) * ROWS[0]


def shared(work: Work, rows: int, units: int, *, ahead: bool) -> int:
    """Bytes of shared memory that a block needs at most."""
    row, G = sum(tiles(work.n)) * work.operand, work.gates
    if work.direction == "forward":
        need = (rows + min(G, 2) * units) * row
    else:
        held = 0 if ahead else G * units
        need = (G * rows + held) * row
    return need + 4096


@functools.cache
def tiles(n: int) -> tuple[int, int, int]:
    """Three powers of two, 16 or more, not rising, with the smallest sum that is n or more.

    >>> tiles(7), tiles(262), tiles(1000)
    ((16, 16, 16), (128, 128, 16), (512, 256, 256))
    """
    powers = [16, 32, 64, 128, 256, 512]
    every = ((a, b, c) for a in powers for b in powers if b <= a for c in powers if c <= b)
    return min((t for t in every if sum(t) >= n), key=sum)


def fits(device: torch.device, work: Work, *, steps: int, layers: int) -> bool:
    """Check that both passes fit the shared memory of a device and 32-bit indices within a model."""
    numbers = (
        layers * (steps + 1) * padded_batch(work.batch) * sum(tiles(work.n)) * work.gates
        if work.n <= LARGEST
        else 1 << 31
    )
    passes = (replace(work, direction=direction) for direction in ("forward", "backward"))
    return numbers < 1 << 31 and all(spread_on(device, one) is not None for one in passes)


def spread_on(device: torch.device, work: Work) -> Spread | None:
    """`spread` over a device; away from CUDA, which is the interpreter, over one multiprocessor."""
    if device.type != "cuda":
        return spread(work, 1, 1 << 30)
    properties = torch.cuda.get_device_properties(device)
    return spread(work, properties.multi_processor_count, properties.shared_memory_per_block_optin)
