"""`rhn resume`: continue a training run in its folder, and print a table of losses."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from rhn.cli.train import Running
from rhn.presets import read_preset
from rhn.training.config import read_config
from rhn.utils.command_line import Count


@dataclass(frozen=True, kw_only=True)
class Resume(Running):
    """Continue a training run from its last save, with the results of an uninterrupted one."""

    out: Path = field(kw_only=False)
    """Folder of the training run."""
    epochs: Count | None = None
    """Maximum number of epochs in all (default: that of the configuration)."""
    cell: str | None = None
    """The cell of the training run, if it is your own, as package.module:factory."""

    def run(self) -> None:
        from rhn.cli.recording import recorded_every  # loads torch

        path = self.out / "config.json"
        config, entries = read_preset(path, cell=self.cell), read_config(path)
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        several = sorted(int(home.name.removeprefix("seed-")) for home in self.out.glob("seed-*"))
        seeds, data = several or [config.seed], self.data or entries.get("path")
        self.train(config, seeds, self.out, data, recorded_every(self.out))
