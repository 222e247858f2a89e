"""What of a network `gersgorin-plot` measures: all of it, or where it is asked or nothing else fits the memory, the leading part."""

import math
from dataclasses import dataclass

import torch

from gersgorin.large.limits import SHARE
from gersgorin.measuring import check_memory, memory_kept, memory_there
from gersgorin.subject import Subject
from rhn.errors import InvalidInputError
from rhn.options import given_flags

GIB = 1 << 30
COUNT = 32  # eigenvalues, where nothing is said
LEAST = 1000  # vectors to work in
WHOLE = ("norm_bounds", "verified", "pseudospectra")  # what is made of whole Jacobians


@dataclass(frozen=True)
class Leading:
    """How the leading part of a network is looked for."""

    count: int
    """Eigenvalues."""
    memory: float
    """Bytes to work in, beside the weights and the record."""
    seed: int


def leading_part(options, subject: Subject, steps: int, dtype: torch.dtype, device: str) -> Leading | None:
    """None: whole spectra. Raises InvalidInputError where neither way is open; steps: of which a record is kept, 0 for many runs."""
    limit, cell = options.memory_limit, subject.cell
    if limit is not None and not 0 < limit < math.inf:
        raise InvalidInputError(f"--memory-limit is {limit}: expected a number of GiB above 0")
    limit = None if limit is None else limit * GIB
    room = (SHARE if limit is None else 1) * memory_there(device, limit) - memory_kept(cell, steps, dtype)
    if options.leading is None:
        try:
            check_memory(cell, steps, dtype, device, limit)
            return None
        except InvalidInputError:
            if steps == 0 or room < LEAST * cell.state_size * dtype.itemsize:
                raise
    if given := given_flags(options, WHOLE):
        why = "--leading leaves out" if options.leading is not None else f"{subject.title} has too little memory for"
        raise InvalidInputError(f"{given[0]} needs whole Jacobians, which {why}: leave it out")
    N = cell.state_size
    count = min(COUNT, N) if options.leading is None else options.leading
    if not 1 <= count <= N:
        raise InvalidInputError(f"--leading {count}: the state of {subject.title} has {N} entries, expected 1 to {N}")
    return Leading(count, max(1, room), options.seed)
