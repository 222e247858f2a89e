"""`rhn info` and `rhn presets`: versions, devices and the kernels in use; the presets of `rhn
train`.
"""

import itertools
import platform
from dataclasses import dataclass
from typing import Any

import numpy

from rhn.cli.entry import print_json
from rhn.presets import PRESETS, parameters, preset
from rhn.utils.options import option
from rhn.utils.wording import counted, table
from rhn.version import __version__

HEADER = ("preset", "cell", "size", "depth", "layers", "units", "tied", "paper")
NOTE = (
    "size: parameters. paper: the published test result, perplexity of words or bits a character."
)


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print versions, devices, and which kernels are used on them, or why not.

    examples:
      rhn info
      RHN_COMPILED=0 rhn info --json
    """

    json: bool = option(
        False, "Print JSON: versions, devices, kernels (name, device, purpose, used, reason)."
    )

    def run(self) -> None:
        import torch

        from rhn.kernels.table import kernel_states

        versions = {"python": platform.python_version(), "rhn-toolkit": __version__}
        versions |= {package.__name__: package.__version__ for package in (torch, numpy)}
        found, kernels = devices(), kernel_states()
        if self.json:
            print_json({"versions": versions, "devices": found, "kernels": kernels})
            return
        print(", ".join(f"{name} {number}" for name, number in versions.items()))
        for device in found:
            print(f"{device['name']:<8}{device['model']}; {device['details']}")
        used = ("yes" if kernel["used"] else f"no: {kernel['reason']}" for kernel in kernels)
        rows = [
            (k["name"], k["device"], k["purpose"], words)
            for k, words in zip(kernels, used, strict=True)
        ]
        print(
            f"\n{table(('kernel', 'device', 'for', 'used'), rows, left=('device', 'for', 'used'))}"
        )


def devices() -> list[dict[str, str]]:
    """The CPU and every GPU: name, model, details."""
    import torch

    found = [
        {
            "name": "cpu",
            "model": platform.machine(),
            "details": counted(torch.get_num_threads(), "torch thread"),
        }
    ]
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
    """List the presets of `rhn train`."""

    json: bool = option(
        False, "Print a JSON list: name, parameters, depth, hidden_size, tied, published_test."
    )

    def run(self) -> None:
        rows = [facts(name) for name in PRESETS]
        if self.json:
            print_json(rows)
            return
        print(table(HEADER, map(_line, rows), left=("cell",)), NOTE, sep="\n\n", end="\n\n")
        for about, group in itertools.groupby(PRESETS, key=lambda name: PRESETS[name].about):
            first, *others = group
            print(f"{first} to {others[-1]}: {about}" if others else f"{first}: {about}")


def facts(name: str) -> dict[str, Any]:
    """The JSON of a preset."""
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
    """A line of the table."""
    size, paper, tied = (
        f"{row['parameters'] / 1e6:.2f}M",
        row["published_test"],
        "yes" if row["tied"] else "no",
    )
    result = "" if paper is None else f"{paper:.1f}" if paper > 10 else f"{paper:.2f}"
    return [
        row["name"],
        row["cell"],
        size,
        row["depth"],
        row["layers"],
        row["hidden_size"],
        tied,
        result,
    ]
