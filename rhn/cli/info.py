"""`rhn info` prints versions and devices; `rhn presets` lists the presets."""

import platform
from dataclasses import dataclass

from rhn.cli.entry import print_json
from rhn.training.configure import preset
from rhn.training.presets import PRESETS
from rhn.utils.tables import aligned, formatted
from rhn.version import __version__


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print versions, devices, and whether the compiled kernels (C code on the CPU) are in use."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        import numpy
        import torch

        from rhn.kernels.compiled import library

        versions = {"python": platform.python_version(), "rhn-toolkit": __version__}
        versions |= {package.__name__: package.__version__ for package in (torch, numpy)}
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        devices = {"cpu": platform.machine()}
        devices |= {gpu: torch.cuda.get_device_properties(gpu).name for gpu in gpus}
        compiled = library() is not None
        if self.json:
            print_json({"versions": versions, "devices": devices, "compiled_kernels": compiled})
            return
        kernels = ("compiled kernels", "yes" if compiled else "no")
        print(*aligned([*versions.items(), *devices.items(), kernels]), sep="\n")


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets (complete configurations) of `rhn train`. The published test result is the
    perplexity of words, or bits per character.
    """

    json: bool = False
    """Print a JSON list."""

    def run(self) -> None:
        from rhn.training.build import parameters  # loads torch

        rows = []
        for name, row in PRESETS.items():
            config = preset(name)
            facts = {"name": name, "cell": config.cell, "parameters": parameters(config)}
            facts |= {"depth": config.depth, "layers": getattr(config, "layers", 1)}
            facts |= {"hidden_size": config.hidden_size, "tied": getattr(config, "tied", False)}
            rows.append(facts | {"published_test": row.test})
        if self.json:
            print_json(rows)
            return
        lines = [[row.pop("name"), row.pop("cell"), *map(formatted, row.values())] for row in rows]
        names = ("parameters", "depth", "layers", "units", "tied", "published test")
        print(*aligned([("preset", "cell", *names), *lines]), sep="\n")
