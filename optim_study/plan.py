"""Plan a run: the networks and their sizes, the devices of the workers, and the number of trials
that are fused. Fused trials are trained as one program.

The memory of K fused trials is at most about

    base + K (weights, state of the optimizer, best weights, initial models, and other parts of a
    trial)
         + k (gradients, a temporary of the update, and the saved tensors of a step)

On a CPU the trainer computes a step of the K models in parts of k <= K models. On a GPU, k = K.
Tests compare this estimate with measured memory.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields

import torch

from optim_study.backend import chorales_of_study, hidden_size, optimizer_of_study
from optim_study.presets import RunConfig
from optim_study.protocol import StudyConfig
from rhn.cells.registry import num_parameters
from rhn.cli.entry import resolve_device
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from rhn.training.chorales import CHORALE_ROWS
from rhn.training.ensemble import part_size, step_bytes, weight_bytes
from rhn.utils.tables import aligned
from rhn.utils.validation import free_memory, in_words

# measured: 30 are 3 to 10 % faster in small networks, but two workers end less evenly
LARGEST_ON_CPU = 15
SHARE = 0.6  # of the free memory
# a process with torch, optuna and matplotlib; on a GPU its context
BASE = {"cpu": 480 << 20, "cuda": 1 << 30}
TRIAL_BYTES = 32 << 10  # modules, record in the storage, curve
PLAN_COLUMNS = (
    "study",
    "device",
    "hidden_size",
    "parameters",
    "budget",
    "trials",
    "complete",
    "fuse",
    "memory",
)


def plan(studies: Sequence[StudyConfig], config: RunConfig, places: Sequence[str]) -> list[dict]:
    """Plan studies for workers on the devices `places`. Returns one row for each study, with
    `PLAN_COLUMNS` (memory in bytes) and the settings of the study.

    Raises InvalidInputError if a cell cannot be built, or if its network does not fit the memory of
    this machine. The memory of Ray's nodes is not known, and not checked.
    """
    device = places[0].partition(":")[0]
    free = (
        math.inf if config.engine == "ray" else free_memory(device) / max(Counter(places).values())
    )
    steps, rows = max(map(len, chorales_of_study(config.data).train)), []
    for study in studies:
        model = meta_model(study)
        need = memory(study, model, device, steps)
        k = fused(study, need, asked=config.fuse, jobs=len(places), device=device, free=free)
        planned = {
            "study": study.name,
            "device": " ".join(dict.fromkeys(places)),
            "hidden_size": model.hidden_size,
            "parameters": num_parameters(model),
            "budget": study.budget,
            "complete": 0,
            "fuse": k,
            "memory": need(k),
        }
        rows.append(planned | asdict(study))
    return rows


def plan_table(rows: Sequence[dict]) -> str:
    """Format rows of `plan` as a table."""
    shown = [row | {"memory": in_words(row["memory"])} for row in rows]
    head = [name.replace("_", " ") for name in PLAN_COLUMNS]
    return "\n".join(aligned([head, *([str(row[n]) for n in PLAN_COLUMNS] for row in shown)]))


def settings_table(rows: Sequence[dict]) -> str:
    """Format the settings that the rows of a plan share as a table."""
    names = [f.name for f in fields(StudyConfig) if f.name not in ("arch", "depth", "options")]
    values = {name: rows[0][name] for name in names}
    shown = {n: v if isinstance(v, tuple) else (v,) for n, v in values.items()}
    return "\n".join(aligned([[n, " ".join(map(str, v))] for n, v in shown.items()]))


def devices(config: RunConfig) -> list[str]:
    """Return the device of each worker: the CPU, or the GPUs in turn."""
    if resolve_device(config.device) == "cpu":
        return ["cpu" for _ in range(config.jobs or 1)]
    gpus = torch.cuda.device_count()
    return [f"cuda:{k % gpus}" for k in range(config.jobs or gpus)]


def memory(study: StudyConfig, model, device: str, steps: int) -> Callable[[int], int]:
    """Return a function that estimates the peak memory of a process, in bytes, from its number of
    fused trials.

    steps: the length of the longest sequence.
    """
    weights, positions = (
        weight_bytes(model),
        steps * -(-study.batch_size // CHORALE_ROWS) * CHORALE_ROWS,
    )
    trial = (3 + len(optimizer_of_study(study).kept)) * weights + TRIAL_BYTES
    step = 2 * weights + step_bytes(model, positions)
    part = part_size(model, positions, torch.device(device))
    return lambda trials: BASE[device] + trials * trial + min(trials, part or trials) * step


def fused(
    study: StudyConfig,
    need: Callable[[int], int],
    *,
    asked: int | None,
    jobs: int,
    device: str,
    free: float,
) -> int:
    """Return the number of trials to train as one program: `asked`, or if that is None the largest
    number that fits.

    On a CPU the trials of a worker are split into at least two groups, so that workers end at about
    the same time. On a GPU all trials of a worker run together, and the number is halved later if
    the memory runs out.

    need: the function that `memory` returns.
    free: the memory of one worker in bytes.

    Raises InvalidInputError if `asked`, or a single trial, does not fit.
    """
    if asked is not None:
        k = min(asked, study.trials)
    else:
        groups, largest = (jobs, study.trials) if device == "cuda" else (2 * jobs, LARGEST_ON_CPU)
        most = min(largest, -(-study.trials // groups))
        k = max((k for k in range(1, most + 1) if need(k) <= SHARE * free), default=1)
    if need(k) > free:
        raise InvalidInputError(
            f"fuse is {k} for {study.name}, {in_words(need(k))} a worker: expected at most "
            f"{in_words(free)}"
        )
    return k


def meta_model(study: StudyConfig):
    """Build a model of the study on torch's meta device, without memory for its weights. Raises
    InvalidInputError if the cell cannot be built.
    """
    options: dict = {"hidden_size": hidden_size(study), "depth": study.depth, **study.options}
    return PolyphonicModel(study.arch, device="meta", **options)
