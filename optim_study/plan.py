"""Plan the studies of a run: the units of their networks, the memory of a worker, and the number of
trials that are trained as one program.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields

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


def plan(
    config: RunConfig, corpus: Corpus, places: Sequence[str]
) -> tuple[list[StudyConfig], list[dict]]:
    """Plan a run on a corpus for workers on the devices `places`. Returns the studies, and for each
    a row with `PLAN_COLUMNS`, the memory of a worker in bytes, and the settings. Raises
    InvalidInputError if a network does not fit the memory; that of Ray's nodes is not known.
    """
    device, free, rows = places[0].partition(":")[0], math.inf, []
    if config.engine != "ray":
        free = free_memory(device) / max(Counter(places).values())
    steps, studies = max(map(len, corpus.train)), config.studies(corpus.checksum)
    complete = Counter(row.fingerprint for row in rows_in(config.folder))
    for study in studies:
        model = meta_model(study)
        need = memory(study, model, device, steps)
        k = fused(study, need, asked=config.fuse, jobs=len(places), device=device, free=free)
        planned = {
            "study": study.name,
            "device": " ".join(dict.fromkeys(places)),
            "hidden_size": model.hidden_size,
            "parameters": num_parameters(model),
            "complete": complete[study.fingerprint],
            "fuse": k,
            "memory": need(k),
        }
        rows.append(planned | asdict(study))
    return studies, rows


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
        k = max((k for k in range(1, most + 1) if need(k) <= SHARE * free), default=1)
    if need(k) > free:
        words = f"fuse is {k} for {study.name}, {need(k) / 2**30:.1f} GiB a worker"
        raise InvalidInputError(f"{words}: expected at most {free / 2**30:.1f} GiB")
    return k


def most_fused(trials: int, jobs: int, device: str) -> int:
    """Return the largest number of trials that train as one program, whatever the memory."""
    groups, largest = (jobs, trials) if device == "cuda" else (2 * jobs, LARGEST_ON_CPU)
    return min(largest, -(-trials // groups))


def plan_table(rows: Sequence[dict]) -> str:
    """Format rows of `plan` as a table."""
    head = [name.replace("_", " ") for name in PLAN_COLUMNS]
    return "\n".join(aligned([head, *([str(row[n]) for n in PLAN_COLUMNS] for row in rows)]))


def settings_table(rows: Sequence[dict]) -> str:
    """Format the settings that the rows of a plan share as a table."""
    names = [f.name for f in fields(StudyConfig) if f.name not in ("arch", "depth", "options")]
    values = {n: v if isinstance(v := rows[0][n], tuple) else (v,) for n in names}
    return "\n".join(aligned([[n, " ".join(map(str, v))] for n, v in values.items()]))


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
    positions = steps * -(-study.batch_size // CHORALE_ROWS) * CHORALE_ROWS
    trial = (3 + len(optimizer_of_study(study).kept)) * weights + TRIAL_BYTES
    step = 2 * weights + step_bytes(model, positions)
    part = part_size(model, positions, torch.device(device))
    return lambda trials: BASE[device] + trials * trial + min(trials, part or trials) * step
