"""`rhn info`: versions, devices, and the kernels in use."""

import contextlib
import functools
import platform
import shutil
import textwrap
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from rhn.cli.entry import print_json
from rhn.utils.options import option
from rhn.utils.wording import counted

PACKAGES = ("rhn-toolkit", "torch", "numpy")


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print versions, devices, and which kernels are used on them, or why not.

    examples:
      rhn info
      RHN_COMPILED=0 rhn info --json
    """

    json: bool = option(False, "Print JSON: versions, devices, kernels (name, device, purpose, used, reason).")

    def run(self) -> None:
        from rhn.kernels.table import kernel_states

        versions, found = {name: version(name) for name in PACKAGES}, devices()
        kernels = kernel_states()
        if self.json:
            python = {"python": platform.python_version()}
            rows = [asdict(kernel) | {"used": kernel.used} for kernel in kernels]
            print_json({"versions": python | versions, "devices": found, "kernels": rows})
            return
        given = (f"{name} {number or 'is not installed'}" for name, number in versions.items())
        wrapped = functools.partial(textwrap.fill, width=min(100, shutil.get_terminal_size((80, 24)).columns))
        print(wrapped(", ".join([f"Python {platform.python_version()}", *given])))
        for device in found:
            print(wrapped(f"{device['name']:<8}{device['model']}; {device['details']}", subsequent_indent=" " * 8))
        print(f"\n{'kernel':<22}{'device':<8}used")
        for kernel in kernels:
            used = "yes" if kernel.used else f"no: {kernel.reason}"
            print(wrapped(f"{kernel.name:<22}{kernel.device:<8}{used}", subsequent_indent=" " * 30))
            print(wrapped(f"for {kernel.purpose}", initial_indent="  ", subsequent_indent="    "))


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The name of the CPU on Linux; elsewhere its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def devices() -> list[dict[str, str]]:
    """The CPU and every GPU: name, model, details."""
    import torch

    found = [{"name": "cpu", "model": cpu_model(), "details": f"{counted(torch.get_num_threads(), 'torch thread')}"}]
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        details = f"{p.multi_processor_count} multiprocessors, {p.total_memory / 2**30:.0f} GiB, compute capability {p.major}.{p.minor}"
        found.append({"name": f"cuda:{i}", "model": p.name, "details": details})
    return found
