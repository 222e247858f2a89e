"""Where the commands that only look find what there is to look at."""

from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from optim_study.results import Row, stored_rows
from rhn.errors import OutputError
from rhn.utils.options import Arg

if TYPE_CHECKING:
    from optim_study.protocol import StudyConfig
    from optim_study.storage import Storage


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


def interrupted(config: "StudyConfig", storage: "Storage") -> int:
    """How many begun trials of a study nobody holds: their workers were stopped or killed, and the next one goes on with them.

    0 where that cannot be seen, because the locks may not be opened here.
    """
    from optim_study.locks import LocksLostError

    begun = [trial.number for trial in storage.trials(config.name, "RUNNING")]
    if not begun:
        return 0
    with suppress(OutputError, LocksLostError), closing(storage.locks(config.name)) as locks, locks.mutex():
        return sum(locks.try_lock(number) for number in begun)  # nobody claims meanwhile
    return 0
