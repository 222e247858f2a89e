"""Plan a run: networks and their sizes, devices of the workers, number of trials trained as one program.

The memory of K fused trials:

    bytes = base + K (weights, state of the optimizer, best weights, initial models, and other parts of a trial)
                 + k (gradients, a temporary of the update, and the saved tensors of a step)

On a CPU the trainer takes a stack through a step in parts of k <= K models; on a GPU k = K. Tests measure it.

Measured on a CPU, whole commands: of small networks (rhn, depth 2, 2,824 parameters) 100, 500 and 1500 fused trials take 607, 640 and
718 MiB, and 542, 607 and 683 MiB if the pieces are short.
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optim_study.backend import hidden_size, load_corpus, make_optimizer
from optim_study.presets import RunConfig
from optim_study.protocol import StudyConfig
from rhn.cells.registry import lacking
from rhn.cli.entry import resolve_device
from rhn.errors import InvalidInputError
from rhn.training.ensemble import part_size, step_bytes, weight_bytes
from rhn.utils.memory import free_memory, in_words
from rhn.utils.wording import table

_logger = logging.getLogger(__name__)

LARGEST_ON_CPU = 15  # measured: 30 are 3 to 10 % faster in small networks, but two workers end less evenly
SHARE = 0.6  # of the free memory
BASE = {
    "cpu": 480 << 20,
    "cuda": 1 << 30,
}  # a process with torch, optuna and matplotlib; on a GPU its context and libraries
TRIAL_BYTES = 32 << 10  # modules, record in the storage, curve
KEPT = 2.5  # saved numbers for each row of a recurrent matrix, measured on a CPU: 1.3 (rhn) to 4 (gru); more on a GPU


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One study of the plan."""

    config: StudyConfig
    hidden_size: int
    parameters: int
    """Of the whole network, output layer and biases included."""
    complete: int
    """Complete trials."""
    fuse: int
    """Trials trained as one program."""
    memory_bytes: int
    """Estimated peak of a worker."""

    def row(self) -> dict:
        """The plan of this study for the table and for JSON."""
        c = self.config
        about = {"study": c.name, "arch": c.label, "optimizer": c.optimizer, "trials": c.trials, "budget": c.budget}
        about["depth"] = None if "depth" in lacking(c.label) else c.depth
        return about | {name: value for name, value in vars(self).items() if name != "config"}


def plan(
    studies: Sequence[StudyConfig],
    config: RunConfig,
    places: Sequence[str],
    complete: Mapping[str, int],
    free: float | None = None,
) -> list[Planned]:
    """Plan these studies for workers on these devices.

    complete: study -> complete trials.
    free: bytes of memory for a worker; None: those of this machine.

    Raises InvalidInputError if a cell cannot be built or does not fit the memory.
    """
    from rhn.cells.registry import num_parameters
    from rhn.training.chorales import ROWS

    device = places[0].partition(":")[0]
    if free is None:
        free = free_memory(device) / max(Counter(places).values())
    longest = max(map(len, load_corpus(config.data).train))

    def planned(study: StudyConfig) -> Planned:
        model, positions = meta_model(study), longest * -(-study.batch_size // ROWS) * ROWS
        states = len(make_optimizer(study).kept)
        limits = {"trials": study.trials, "jobs": len(places), "device": device, "asked": config.fuse, "free": free}
        k = fused(model, positions, states=states, **limits)
        return Planned(
            config=study,
            hidden_size=model.hidden_size,
            parameters=num_parameters(model),
            complete=complete.get(study.name, 0),
            fuse=k,
            memory_bytes=memory(model, k, positions, device, states),
        )

    return [planned(study) for study in studies]


def plan_table(rows: Sequence[dict], columns: float = math.inf) -> str:
    """Rows of `Planned.row` as text; the least informative columns are dropped until it fits `columns` characters."""
    heads = "study", "optimizer", "units", "parameters", "budget", "trials", "complete", "fused", "memory/worker"
    names = "study", "optimizer", "hidden_size", "parameters", "budget", "trials", "complete", "fuse", "memory_bytes"
    forms = {"parameters": "{:,}".format, "budget": "{:,}".format, "memory_bytes": in_words}
    lines = [[forms.get(name, str)(row[name]) for name in names] for row in rows]
    return table(heads, lines, drop=("budget", "complete", "fused", "parameters"), width=columns)


def devices(config: RunConfig) -> list[str]:
    """The device of each worker: the CPU, or the GPUs in turn. Warns if several workers share one."""
    import torch

    if resolve_device(config.device) == "cpu":
        return ["cpu"] * (1 if config.jobs == "auto" else config.jobs)
    gpus = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    jobs = len(gpus) if config.jobs == "auto" else config.jobs
    if jobs > len(gpus):
        _logger.warning("--jobs %d: workers share a GPU, which is slower than one on each of the %d", jobs, len(gpus))
    return [gpus[k % len(gpus)] for k in range(jobs)]


def memory(model, trials: int, positions: int, device: str, states: int = 1) -> int:
    """Estimate the peak bytes of a process with this number of fused trials, on batches of this number of positions.

    states: tensors that the optimizer keeps for each weight.
    """
    import torch

    from rhn.cells.registry import is_known

    weights, at_once = weight_bytes(model), min(trials, part_size(model, positions, torch.device(device)) or trials)
    step = kept_bytes(model, positions) if device == "cpu" and is_known(model.cell) else step_bytes(model, positions)
    return BASE[device] + trials * ((3 + states) * weights + TRIAL_BYTES) + at_once * (2 * weights + step)


def kept_bytes(model, positions: int) -> int:
    """Bytes that a step of one of our models saves on a CPU: fewer than the upper bound `step_bytes`, which cuts steps into parts."""
    rows = sum(p.numel() // p.shape[-1] for p in model.parameters() if p.dim() > 1) - model.output_size
    return round(4 * positions * (KEPT * rows + model.output_size))


def fused(
    model, positions: int, *, trials: int, jobs: int, device: str, asked: int | str, free: float, states: int = 1
) -> int:
    """The number of trials of a network to train as one program: `asked`, or the largest one that suits.

    On a CPU every worker gets at least two groups, so that workers end at about the same time; on a GPU all trials run together, and
    the number is halved later if the memory runs out. `free`: the memory of one worker in bytes.

    Raises InvalidInputError if `asked`, or a single trial, does not fit.
    """

    def need(k: int) -> int:
        return memory(model, k, positions, device, states)

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
    """A model of the study on the meta device. Raises InvalidInputError if the cell cannot be built."""
    from rhn.models import PolyphonicModel

    size = {"hidden_size": hidden_size(study), "depth": study.depth}
    return PolyphonicModel(study.arch, **size, device="meta", **study.options)
