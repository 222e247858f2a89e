"""The free memory of a device, and sizes in words."""

import math
import os
from pathlib import Path

from rhn.errors import InvalidInputError


def free_memory(device: str = "cpu") -> int:
    """Bytes free on a device ("cpu", "cuda", "cuda:1") now; on a CPU also within the limit of its control group, if it has one."""
    if device.startswith("cuda"):
        import torch  # here, because most callers ask about the CPU

        return torch.cuda.mem_get_info(device)[0]
    return int(min(_available(), _left_in_group(Path("/sys/fs/cgroup"))))


def check_room(need: float, what: str, advice: str, device: str = "cpu") -> None:
    """Raise InvalidInputError if something needs more bytes than are free on a device."""
    if need > (have := free_memory(device)):
        raise InvalidInputError(
            f"{what} needs about {in_words(need)} of memory, {in_words(have)} are available: {advice}"
        )


def in_words(size: float) -> str:
    """A size in bytes for people.

    >>> in_words(1.5 * 2**30), in_words(300 * 2**20), in_words(5000), in_words(99)
    ('1.5 GiB', '300 MiB', '5 KiB', '99 bytes')
    """
    if size < 2**10:
        return f"{size:.0f} bytes"
    if size < 2**20:
        return f"{size / 2**10:.0f} KiB"
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _available() -> int:
    """Bytes that new processes may take; all memory if the system does not report it."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_in_group(group: Path) -> float:
    """Bytes left in a container (control groups, version 2), cached files counted as free."""
    try:
        limit = int((group / "memory.max").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        return max(0, limit - int((group / "memory.current").read_text()) + int(cached))
    except (OSError, KeyError, ValueError):
        return math.inf
