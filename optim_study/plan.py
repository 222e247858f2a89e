"""Plan the studies of a run: the units of their networks, the memory of a worker, and the number of
trials that are trained as one program.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from optim_study.config import RunConfig, StudyConfig
from optim_study.folder import rows_in
from rhn.cells.registry import PARAMETERS_PER_LAYER, hidden_size_for_budget, num_parameters
from rhn.data import Corpus
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from rhn.training.batches import CHORALE_ROWS
from rhn.training.ensemble import part_size, step_bytes
from rhn.training.optimizers import OPTIMIZERS, Optimizer
from rhn.utils.resources import free_memory, weight_bytes
from rhn.utils.tables import aligned

# a process with torch, optuna and matplotlib; on a GPU its context
BASE = {"cpu": 480 << 20, "cuda": 1 << 30}
TRIAL_BYTES = 32 << 10  # modules, record in the storage, curve
# measured: 30 are 3 to 10 % faster in small networks, but two workers end less evenly
LARGEST_ON_CPU = 15
SHARE = 0.6  # of the free memory
PLAN_COLUMNS = ("study", "device", "hidden_size", "parameters", "trials", "complete", "fuse")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of one study: its network, and what a worker needs. fuse: the number of trials that
    are trained as one program. memory: of a worker, in bytes. complete: trials that are recorded.
    """

    study: StudyConfig
    device: str
    hidden_size: int
    parameters: int
    complete: int
    fuse: int
    memory: int

    def row(self) -> dict[str, Any]:
        """Return the plan and the settings of the study, for JSON."""
        own = {f.name: getattr(self, f.name) for f in fields(Plan)}
        return {**own, "study": self.study.name, **asdict(self.study)}


def plan(config: RunConfig, corpus: Corpus, places: Sequence[str]) -> list[Plan]:
    """Plan each study of a run on a corpus, for workers on the devices `places`. Raises
    InvalidInputError if a network does not fit the memory; that of Ray's nodes is not known.
    """
    device, _, _ = places[0].partition(":")
    free = math.inf
    if config.engine != "ray":
        free = free_memory(device) / max(Counter(places).values())
    steps = max(map(len, corpus.train))
    complete = Counter(row.fingerprint for row in rows_in(config.folder))
    plans = []
    for study in config.studies(corpus.checksum):
        model = meta_model(study)
        need = memory(study, model, device, steps)
        fuse = fused(study, need, asked=config.fuse, jobs=len(places), device=device, free=free)
        planned = Plan(
            study=study,
            device=" ".join(dict.fromkeys(places)),
            hidden_size=model.hidden_size,
            parameters=num_parameters(model),
            complete=complete[study.fingerprint],
            fuse=fuse,
            memory=need(fuse),
        )
        plans.append(planned)
    return plans


def fused(
    study: StudyConfig,
    need: Callable[[int], int],
    asked: int | None,
    jobs: int,
    device: str,
    free: float,
) -> int:
    """Return the number of trials to train as one program: `asked`, or if that is None the largest
    number that fits. On a CPU the trials of a worker are split into at least two groups, so that
    workers end at about the same time. On a GPU all trials of a worker run together.

    need: the function that `memory` returns. free: the memory of one worker in bytes.
    """
    if asked is not None:
        k = min(asked, study.trials)
    else:
        most = most_fused(study.trials, jobs, device)
        k = max((k for k in range(2, most + 1) if need(k) <= SHARE * free), default=1)
    if need(k) > free:
        words = f"fuse is {k} for {study.name}, {need(k) / 2**30:.1f} GiB a worker"
        raise InvalidInputError(f"{words}: expected at most {free / 2**30:.1f} GiB")
    return k


def most_fused(trials: int, jobs: int, device: str) -> int:
    """Return the largest number of trials that train as one program, whatever the memory."""
    groups, largest = (jobs, trials) if device == "cuda" else (2 * jobs, LARGEST_ON_CPU)
    return min(largest, -(-trials // groups))


def plan_table(plans: Sequence[Plan]) -> str:
    """Format plans as a table."""
    rows = [planned.row() for planned in plans]
    head = [name.replace("_", " ") for name in PLAN_COLUMNS]
    return "\n".join(aligned([head, *([str(row[n]) for n in PLAN_COLUMNS] for row in rows)]))


def settings_table(study: StudyConfig) -> str:
    """Format the settings that this study shares with the others of its run as a table."""
    lines = []
    for f in fields(StudyConfig):
        if f.name not in ("arch", "depth", "options"):
            value = getattr(study, f.name)
            values = value if isinstance(value, tuple) else (value,)
            lines.append([f.name, " ".join(map(str, values))])
    return "\n".join(aligned(lines))


def meta_model(study: StudyConfig):
    """Build a model of the study on torch's meta device, without memory for its weights, with as
    many units as the budget of parameters at this depth allows.
    """
    budget = max(1, round(PARAMETERS_PER_LAYER * study.depth * study.budget_scale))
    units = hidden_size_for_budget(study.arch, budget, study.depth, **study.options)
    options: dict = {"hidden_size": units, "depth": study.depth, **study.options}
    return PolyphonicModel(study.arch, device="meta", **options)


def optimizer_of_study(config: StudyConfig) -> Optimizer:
    """Make SGD with the study's momentum, or another optimizer with the defaults of torch.optim."""
    options = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
    return OPTIMIZERS[config.optimizer](**options)


def memory(study: StudyConfig, model, device: str, steps: int) -> Callable[[int], int]:
    """Return a function that estimates the peak memory of a process, in bytes, from its number K of
    fused trials; steps: the length of the longest sequence.

        base + K (weights, state of the optimizer, best weights, initial models, and the rest)
             + k (gradients, a temporary of the update, and the saved tensors of a step)

    On a CPU the trainer computes a step of the K models in parts of k <= K models; on a GPU, k = K.
    """
    weights = weight_bytes(model)
    rows = CHORALE_ROWS * math.ceil(study.batch_size / CHORALE_ROWS)  # of a padded minibatch
    positions = steps * rows
    trial = (3 + len(optimizer_of_study(study).kept)) * weights + TRIAL_BYTES
    step = 2 * weights + step_bytes(model, positions)
    part = part_size(model, positions, torch.device(device))

    def need(trials: int) -> int:
        together = min(trials, part or trials)
        return BASE[device] + trials * trial + together * step

    return need
