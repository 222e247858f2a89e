"""What a run is going to do, before it does it: networks, sizes, trials, memory."""

from dataclasses import asdict, dataclass

from rhn.command import resolve_device
from rhn.engine.memory import free_memory

from . import fuse
from .config import StudyConfig
from .listing import counts
from .presets import RunConfig
from .space import parameter_budget
from .storage import Storage, open_storage


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One study of the plan."""

    config: StudyConfig
    hidden_size: int
    parameters: int
    """Of the whole network, output layer and biases included."""
    budget: int
    complete: int
    """Trials that are complete already."""
    fuse: int
    """Trials trained as one program."""
    memory: int
    """Estimated peak bytes a worker."""

    @property
    def work(self) -> float:
        """Cost of training one trial for one epoch, in arbitrary units. Measured on a CPU (docstring of `progress`)."""
        return self.parameters + 2500

    def row(self) -> dict:
        """For the table and for JSON."""
        names = ("hidden_size", "parameters", "budget")
        about = {"study": self.config.name, "arch": self.config.arch, "depth": self.config.depth}
        about |= {name: value for name, value in asdict(self).items() if name in names}
        return about | {
            "trials": self.config.trials,
            "complete": self.complete,
            "fuse": self.fuse,
            "memory_bytes": self.memory,
        }


def plan(studies: list[StudyConfig], config: RunConfig, storage: Storage | None = None) -> list[Planned]:
    """The plan of these studies. Without a storage nothing is made: one that is there already is looked at."""
    if storage is None and (config.storage or (config.folder / "journal.log").is_file()):
        storage = open_storage(config.storage, config.folder)
    from rhn.cells.budget import num_parameters

    device = resolve_device(config.device)
    free, corpus = free_memory(device), load_corpus(config.data)
    planned = []
    for study in studies:
        model, batches = meta_model(study), [fuse.largest_batch(corpus.train, study.batch_size)]
        k = fuse.choose(
            model, batches, trials=study.trials, jobs=config.jobs, device=device, fuse=config.fuse, free=free
        )
        planned.append(
            Planned(
                config=study,
                hidden_size=model.hidden_size,
                parameters=num_parameters(model),
                budget=parameter_budget(study.depth, study.budget_scale),
                complete=counts(study, storage).complete if storage else 0,
                fuse=k,
                memory=fuse.memory(model, k, batches, device),
            )
        )
    return planned


def meta_model(study: StudyConfig):
    """A model of the study without memory; raises InvalidInputError where the cell cannot be built."""
    from rhn.models import PolyphonicModel

    from .swarm import hidden_size

    return PolyphonicModel(
        study.arch, hidden_size=hidden_size(study), depth=study.depth, device="meta", **study.options
    )


def load_corpus(data):
    """The chorales that trials are trained on, read once a process."""
    from .swarm import _corpus

    return _corpus(data)
