"""`rhn info` and `rhn presets`: versions, devices and the kernels in use; the presets of `rhn train`."""

import contextlib
import functools
import itertools
import platform
import shutil
import textwrap
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rhn.cli.entry import print_json
from rhn.utils.options import option
from rhn.utils.wording import counted, table

PACKAGES = ("rhn-toolkit", "torch", "numpy")
WIDTH = 100  # of lines, at most
HEADER = ("preset", "cell", "size", "depth", "layers", "units", "tied", "paper")
LEAST = ("tied", "layers", "cell", "depth", "units")  # columns that narrow terminals do without, in this order
NOTE = "size: parameters. paper: the published test result, perplexity of words or bits a character."


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


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets of `rhn train`."""

    json: bool = option(False, "Print a JSON list: name, parameters, depth, hidden_size, tied, published_test.")

    def run(self) -> None:
        from rhn.presets import PRESETS

        if self.json:
            print_json([facts(name) for name in PRESETS])
            return
        columns = min(WIDTH, shutil.get_terminal_size((80, 24)).columns)
        print(table(HEADER, map(_line, PRESETS), left=("cell",), drop=LEAST, width=columns, gap=" "))
        print(f"\n{textwrap.fill(NOTE, columns)}\n")
        for about, group in itertools.groupby(PRESETS, key=lambda name: PRESETS[name].about):
            first, *others = group
            names = f"{first} to {others[-1]}" if others else first
            print(textwrap.fill(f"{names}: {about}", columns, subsequent_indent="  "))


def facts(name: str) -> dict[str, Any]:
    """The JSON of a preset."""
    from rhn.presets import PRESETS, parameters, preset

    config = preset(name)
    return {
        "name": name,
        "parameters": parameters(config),
        "depth": config.depth,
        "hidden_size": config.hidden_size,
        "tied": getattr(config, "tied", False),
        "published_test": PRESETS[name].test,
    }


def _line(name: str) -> list:
    """A line of the table."""
    from rhn.presets import preset

    config, found = preset(name), facts(name)
    size, paper, tied = f"{found['parameters'] / 1e6:.2f}M", found["published_test"], "yes" if found["tied"] else "no"
    result = "" if paper is None else f"{paper:.1f}" if paper > 10 else f"{paper:.2f}"
    layers = getattr(config, "layers", 1)
    return [name, config.cell, size, config.depth, layers, config.hidden_size, tied, result]
