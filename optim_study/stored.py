"""Where the commands that only look find what there is to look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from optim_study.results import Row, stored_rows
from rhn.options import Arg


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the commands that only look share."""

    out: Annotated[Path, Arg("DIR")] = Path("runs/all")
    """Folder of the run."""
    storage: Annotated[str | None, Arg("URL")] = None
    """The run's database (default: the journal file OUT/journal.log)."""

    def rows(self) -> list[Row]:
        """All complete trials."""
        return [row for config, storage in self.studies() for row in stored_rows([config], storage)]

    def studies(self) -> list[tuple]:
        """(configuration, storage) of each study there."""
        from optim_study.shared_study import stored_configs
        from optim_study.storage import open_existing

        storage = open_existing(self.storage, self.out)
        return [(config, storage) for config in stored_configs(storage)]
