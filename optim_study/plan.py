"""What a run is going to do, before it does it: networks, sizes, where each worker works, how many trials it trains as one program.

What K fused trials take of memory:

    bytes = base + K (weights, momentum, best weights, the models they started from, and what else a trial is made of)
                 + k (gradients, a temporary of the update, and what a step keeps)

On a CPU the trainer takes a stack through a step in parts of k <= K models; on a GPU k = K. Tests measure it.

Measured on a CPU, whole commands: of small networks (rhn, depth 2, 2,824 parameters) 100, 500 and 1500 fused trials take 607, 640 and
718 MiB, and 542, 607 and 683 MiB where the pieces are short.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optim_study.presets import WorkSettings
from optim_study.protocol import StudyConfig
from optim_study.results import counts, table
from optim_study.storage import Storage, open_storage
from optim_study.trainer import hidden_size, load_corpus
from rhn.cells.registry import lacking
from rhn.cli.common import resolve_device
from rhn.errors import InvalidInputError
from rhn.training.memory import free_memory, in_words, part_size, step_bytes, weight_bytes

_logger = logging.getLogger(__name__)

LARGEST_ON_CPU = 15  # measured: 30 are 3 to 10 % faster than 15 in small networks, but two workers end less evenly
SHARE = 0.6  # of the free memory
BASE = {
    "cpu": 480 << 20,
    "cuda": 1 << 30,
}  # a process with torch, optuna and matplotlib; on a GPU its context and libraries
TRIAL_BYTES = 32 << 10  # beside its arrays: modules, the storage's record, the curve
KEPT = 2.5  # numbers kept for each row of a recurrent matrix, measured on a CPU: 1.3 (rhn) to 4 (gru); a GPU keeps more


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One study of the plan."""

    config: StudyConfig
    hidden_size: int
    parameters: int
    """Of the whole network, output layer and biases included."""
    complete: int
    """Trials that are complete already."""
    fuse: int
    """Trials trained as one program."""
    memory: int
    """Estimated peak bytes a worker."""

    @property
    def work(self) -> float:
        """Cost of training one trial for one epoch, in arbitrary units. Measured on a CPU (docstring of `progress`)."""
        return self.parameters + 4300

    def row(self) -> dict:
        """For the table and for JSON."""
        return {
            "study": self.config.name,
            "arch": self.config.label,
            "depth": None if "depth" in lacking(self.config.label) else self.config.depth,
            "hidden_size": self.hidden_size,
            "parameters": self.parameters,
            "budget": self.config.budget,
            "trials": self.config.trials,
            "complete": self.complete,
            "fuse": self.fuse,
            "memory_bytes": self.memory,
        }


def plan(
    studies: Sequence[StudyConfig],
    config: WorkSettings,
    places: Sequence[str],
    storage: Storage | None = None,
    free: float | None = None,
) -> list[Planned]:
    """The plan of these studies for workers at these places (see `devices`). Nothing is made: without a storage, one that is there
    already is looked at. `free`: bytes of memory for a worker, where they are not those of this machine.

    Raises InvalidInputError where a cell cannot be built, or where there is too little memory.
    """
    from rhn.cells.make import num_parameters
    from rhn.training.batches import ROWS

    if storage is None and (config.storage or (config.folder / "journal.log").is_file()):
        storage = open_storage(config.storage, config.folder, config.wait_storage)
    device = places[0].partition(":")[0]
    if free is None:
        free = free_memory(device) / max(Counter(places).values())
    longest = max(map(len, load_corpus(config.data).train))

    def planned(study: StudyConfig) -> Planned:
        model, positions = meta_model(study), longest * -(-study.batch_size // ROWS) * ROWS
        asked = {"trials": study.trials, "jobs": len(places), "device": device, "asked": config.fuse, "free": free}
        k = fused(model, positions, **asked)
        return Planned(
            config=study,
            hidden_size=model.hidden_size,
            parameters=num_parameters(model),
            complete=counts(study, storage).complete if storage else 0,
            fuse=k,
            memory=memory(model, k, positions, device),
        )

    return [planned(study) for study in studies]


def plan_table(rows: Sequence[dict], columns: float = math.inf) -> str:
    """What a run is going to do (`Planned.row`), as text; where that is wider than so many characters, without what says least."""
    names = {"study": "study", "units": "hidden_size", "parameters": "parameters", "budget": "budget"}
    names |= {"trials": "trials", "complete": "complete", "fused": "fuse", "memory/worker": "memory_bytes"}
    left = ["budget", "complete", "fused", "parameters"]
    while True:
        lines = [[_cell(name, r[name]) for name in names.values()] for r in rows]
        told = table(tuple(names), lines)
        if not left or max(map(len, told.splitlines())) <= columns:
            return told
        del names[left.pop(0)]


def _cell(name: str, value) -> str:
    return (
        in_words(value) if name == "memory_bytes" else f"{value:,}" if name in ("parameters", "budget") else str(value)
    )


def devices(config: WorkSettings) -> list[str]:
    """Where each worker works: on the CPU, or each on the next GPU. Says so where several have to share one."""
    import torch

    if resolve_device(config.device) == "cpu":
        return ["cpu"] * (1 if config.jobs == "auto" else config.jobs)
    gpus = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    jobs = len(gpus) if config.jobs == "auto" else config.jobs
    if jobs > len(gpus):
        _logger.warning("--jobs %d: workers share a GPU, which is slower than one on each of the %d", jobs, len(gpus))
    return [gpus[k % len(gpus)] for k in range(jobs)]


def memory(model, trials: int, positions: int, device: str) -> int:
    """Estimated peak bytes of a process that trains so many fused trials of this model, on batches of so many positions."""
    import torch

    from rhn.cells.registry import is_known

    weights, at_once = weight_bytes(model), min(trials, part_size(model, positions, torch.device(device)) or trials)
    step = kept_bytes(model, positions) if device == "cpu" and is_known(model.cell) else step_bytes(model, positions)
    return BASE[device] + trials * (4 * weights + TRIAL_BYTES) + at_once * (2 * weights + step)


def kept_bytes(model, positions: int) -> int:
    """What a step of one of our models keeps on a CPU: less than what `step_bytes` allows for, by which steps are cut into parts."""
    rows = sum(p.numel() // p.shape[-1] for p in model.parameters() if p.dim() > 1) - model.output_size
    return round(4 * positions * (KEPT * rows + model.output_size))


def fused(model, positions: int, *, trials: int, jobs: int, device: str, asked: int | str, free: float) -> int:
    """How many trials of a network to train as one program: what was asked, or the largest number that suits.

    On a CPU every worker gets two groups or more, so that they end at about the same time; on a GPU all trials go together, halved
    later if the memory does not last. `free` is the memory of one worker in bytes.

    Raises InvalidInputError where the number asked for, or even a single trial, does not fit.
    """

    def need(k: int) -> int:
        return memory(model, k, positions, device)

    if asked != "auto":
        k = min(asked, trials)
    else:
        most = -(-trials // jobs) if device == "cuda" else min(LARGEST_ON_CPU, -(-trials // (2 * jobs)))
        k = max((k for k in range(1, most + 1) if need(k) <= SHARE * free), default=1)
    if need(k) > free:
        what = f"{k} fused trials" if k > 1 else "one trial"
        raise InvalidInputError(
            f"{what} of {model.cell}-depth{model.depth} would need about {in_words(need(k))} of memory a worker, "
            f"{in_words(free)} are free: use a smaller --fuse, fewer --jobs or a smaller --budget-scale"
        )
    return k


def meta_model(study: StudyConfig):
    """A model of the study without memory; raises InvalidInputError where the cell cannot be built."""
    from rhn.models import PolyphonicModel

    size = {"hidden_size": hidden_size(study), "depth": study.depth}
    return PolyphonicModel(study.arch, **size, device="meta", **study.options)
