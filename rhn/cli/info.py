"""`rhn info` prints versions, devices and the kernels in use; `rhn presets` lists the presets of
`rhn train`.
"""

import itertools
import platform
from dataclasses import dataclass
from typing import Any

from rhn.cli.entry import print_json
from rhn.presets import PRESETS, parameters, preset
from rhn.utils.old import counted, table
from rhn.version import __version__

HEADER = ("preset", "cell", "size", "depth", "layers", "units", "tied", "paper")
NOTE = (
    "size: parameters. paper: the published test result, perplexity of words or bits per character."
)


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print versions and devices. For each device, list the kernels (code for recurrences and
    losses), and which of them are used.

    examples:
      rhn info
      RHN_COMPILED=0 rhn info --json
    """

    json: bool = False
    """Print one JSON object: versions, devices, and kernels (name, device, used)."""

    def run(self) -> None:
        import numpy
        import torch

        from rhn.kernels.table import kernel_states

        versions = {"python": platform.python_version(), "rhn-toolkit": __version__}
        versions |= {package.__name__: package.__version__ for package in (torch, numpy)}
        found, kernels = device_rows(), kernel_states()
        if self.json:
            print_json({"versions": versions, "devices": found, "kernels": kernels})
            return
        print(", ".join(f"{name} {number}" for name, number in versions.items()))
        for device in found:
            print(f"{device['name']:<8}{device['model']}; {device['details']}")
        rows = [(k["name"], k["device"], "yes" if k["used"] else "no") for k in kernels]
        header = ("kernel", "device", "used")
        print("\n" + table(header, rows, left=header[1:]))


def device_rows() -> list[dict[str, str]]:
    """List the CPU and every GPU, each as a dictionary: name, model, details."""
    import torch

    threads = counted(torch.get_num_threads(), "torch thread")
    found = [{"name": "cpu", "model": platform.machine(), "details": threads}]
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        details = (
            f"{p.multi_processor_count} multiprocessors, {p.total_memory / 2**30:.0f} "
            f"GiB, compute capability {p.major}.{p.minor}"
        )
        found.append({"name": f"cuda:{i}", "model": p.name, "details": details})
    return found


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets (complete configurations) of `rhn train`."""

    json: bool = False
    """Print a JSON list. Each preset has the entries name, cell, parameters, depth, layers,
    hidden_size, tied and published_test.
    """

    def run(self) -> None:
        rows = [preset_facts(name) for name in PRESETS]
        if self.json:
            print_json(rows)
            return
        print(table(HEADER, map(_line, rows), left=("cell",)), NOTE, sep="\n\n", end="\n\n")
        for about, group in itertools.groupby(PRESETS, key=lambda name: PRESETS[name].about):
            first, *others = group
            print(f"{first} to {others[-1]}: {about}" if others else f"{first}: {about}")


def preset_facts(name: str) -> dict[str, Any]:
    """Return the facts about a preset for JSON."""
    config = preset(name)
    return {
        "name": name,
        "cell": config.cell,
        "parameters": parameters(config),
        "depth": config.depth,
        "layers": getattr(config, "layers", 1),
        "hidden_size": config.hidden_size,
        "tied": getattr(config, "tied", False),
        "published_test": PRESETS[name].test,
    }


def _line(row: dict[str, Any]) -> list:
    """Return a line of the table."""
    size, tied = f"{row['parameters'] / 1e6:.2f}M", "yes" if row["tied"] else "no"
    sizes = [row[name] for name in ("depth", "layers", "hidden_size")]
    return [row["name"], row["cell"], size, *sizes, tied, _result(row["published_test"])]


def _result(paper: float | None) -> str:
    """Format a published result: perplexity with one decimal, bits with two decimals."""
    if paper is None:
        return ""
    return f"{paper:.1f}" if paper > 10 else f"{paper:.2f}"
