"""Devices and memory: which device a command uses, and whether what a user asks for fits."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhn.errors import InvalidInputError
from rhn.utils.validation import unexpected

if TYPE_CHECKING:
    from torch import nn

# mallopt's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, and bytes
MALLOC = {-3: 1 << 30, -1: (2 << 30) - 1}


def check_device(device: Any) -> str:
    """Return torch's name of a device. Raises InvalidInputError if this machine has no such one."""
    import torch  # here, because most callers of this file need no torch

    try:
        torch.empty(1, device=(place := torch.device(device))).item()
    # the several errors of torch for a missing device
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        found = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            found.append("mps")
        raise unexpected("device", device, " or ".join(map(repr, found))) from error
    return str(place)


def resolve_device(name: str) -> str:
    """Return the device for --device auto|cpu|cuda. Raises InvalidInputError if there is none."""
    import torch

    best = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" != best:
        raise InvalidInputError("--device is cuda: expected cpu, the only device here")
    return best if name == "auto" else name


def free_memory(device: str = "cpu") -> int:
    """Return the number of bytes that are free now on a device ("cpu", "cuda", "cuda:1"). On a CPU
    the limit of the process's control group counts too, if there is one.
    """
    if device.startswith("cuda"):
        import torch  # here, because most callers ask about the CPU

        return torch.cuda.mem_get_info(device)[0]
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # all memory
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group = Path("/sys/fs/cgroup")  # of a container, version 2; cached files are free
    with contextlib.suppress(OSError, KeyError, ValueError):
        limit, used = (int((group / f"memory.{n}").read_text()) for n in ("max", "current"))
        lines = (group / "memory.stat").read_text().splitlines()
        cached = int(dict(line.split() for line in lines)["inactive_file"])
        available = min(available, max(0, limit - used + cached))
    return available


def check_room(need: float, what: str, advice: str, device: str = "cpu") -> None:
    """Raise InvalidInputError if `what` needs more bytes than are free on a device."""
    if need > (have := free_memory(device)):
        gigabytes = f"about {need / 2**30:.1f} GiB of memory, {have / 2**30:.1f} are available"
        raise InvalidInputError(f"{what} needs {gigabytes}: {advice}")


def weight_bytes(model: "nn.Module") -> int:
    """Return the number of bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def tune_malloc() -> None:
    """Let this process keep freed memory (with glibc): to fetch it anew takes a third of the time
    in small networks.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # of another library than glibc
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, size in MALLOC.items():
                mallopt(parameter, size)
