"""How much memory work on large states may take: a bound that is stated, or a share of what is free."""

import math

from rhn.engine.memory import free_memory, in_words
from rhn.errors import InvalidInputError

SHARE = 0.5  # of the free memory, where nothing is said


def memory_bound(limit: float | None, device: str = "cpu") -> int:
    """Bytes: the limit, or half of what is free; raises InvalidInputError for a limit that is no number above 0."""
    if limit is None:
        return int(SHARE * free_memory(device))
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise InvalidInputError(f"memory_limit is {limit!r}: expected a number of bytes above 0")
    return int(limit)


def check_room(need: float, bound: int, what: str, advice: str) -> None:
    """Raise InvalidInputError where something needs more bytes than the bound."""
    if need > bound:
        raise InvalidInputError(
            f"{what} needs about {in_words(need)} of memory, the bound is {in_words(bound)}: {advice}"
        )
