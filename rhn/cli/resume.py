"""`rhn resume`: go on with the training in a folder."""

from dataclasses import dataclass, replace
from pathlib import Path

from rhn.cli.configuration import starting_point
from rhn.cli.run_training import RunOptions, run_training
from rhn.errors import InvalidInputError
from rhn.presets import LanguageConfig
from rhn.utils.io import read_json
from rhn.utils.options import Device, option


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a training from its last save. The results are those of an uninterrupted training."""

    out: Path = option(help="Folder of the run.", metavar="DIR", positional=True)
    max_minutes: float | None = option(None, "Stop after X minutes with everything saved.")
    epochs: int | None = option(None, "Total number of epochs, instead of that of the configuration.")
    data: Path | None = option(None, "Path of the data, if it was moved.")
    cell: str | None = option(None, "The cell of a training with a cell of your own, as package.module:factory.")
    threads: int | None = option(None, "Text: CPU threads.")
    device: Device = option("auto", "Device of the training.")
    json: bool = option(False, "Print the result as one JSON object.")

    def run(self) -> None:
        path = self.out / "config.json"
        if not path.is_file():
            raise InvalidInputError(
                f"{self.out} holds no training: there is no config.json in it; `rhn train` begins one"
            )
        config, seeds = starting_point(None, path, self.cell), read_json(path).get("seeds")
        if isinstance(config, LanguageConfig):
            if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
                raise InvalidInputError(f"{path} does not say which seeds were trained: it is no run's config.json")
        elif self.threads is not None:
            raise InvalidInputError("--threads is for language models, and this trains on chorales: leave it out")
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        from rhn.cli.recording import recorded_every
        from rhn.training.trained import data_path

        options = RunOptions(
            out=self.out,
            data=data_path(self.out) if self.data is None else self.data,
            record=recorded_every(self.out),
            **{name: getattr(self, name) for name in ("max_minutes", "threads", "device", "json")},
        )
        run_training(config, seeds or [config.seed], options)
