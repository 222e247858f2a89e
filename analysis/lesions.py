"""Measure the damage of lesions: the loss without single layers or pairs, all networks as one
stack.

Figure 6 of Zilly et al. (2017) shows single layers.

Only the first layer sees the input, so its lesion also blinds the network. The control is the same
network without its input product but with the layer ("blind"); the layer itself is worth the damage
beyond the control's. (For a lesion that leaves the input in, a gate held open or at its mean, the
control only shows the size of the effect.)

All lesioned networks run as one program: the parameters that differ are stacked, all others shared,
and `vmap` makes one kernel call for all networks. Memory bounds the number that runs at once.
`analysis.sequences` has the loss.

The intervals are a paired bootstrap. A loss is a ratio of sums, sum_i nll_i / sum_i frames_i over
sequences i. Frames of one chorale are dependent, chorales are independent: whole sequences are
drawn with replacement, the same draw for both networks and for numerator and denominator, and the
interval lies between the quantiles of

    (sum_i nll'_i - sum_i nll_i) / sum_i frames_i        over the draws.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from analysis.damage import LesionTable
from analysis.gates import unit_means
from analysis.lesion_modes import (
    Lesion,
    cells_of,
    changes,
    check_mode,
    lesioned_layers,
    measured_copy,
    places,
    prepared,
)
from analysis.sequences import Music, Text, task_of
from gersgorin.run.run import Progress, silent
from rhn.errors import DataError, InvalidInputError
from rhn.training.chorales import Minibatch
from rhn.training.ensemble import Ensemble, deterministic
from rhn.utils.validation import free_memory
from rhn.utils.wording import kind_of

# of the states and gates of networks that run together; more is not faster (measured)
CPU_BYTES = 384 << 20
RESAMPLES, LEVEL = 5000, 0.95  # of the bootstrap


def lesion(
    model: nn.Module,
    batch: Sequence[np.ndarray] | np.ndarray,
    mode: str | None = None,
    *,
    pairs: bool = False,
    split: str = "",
    seed: int = 0,
    device: torch.device | str | None = None,
    at_once: int | None = None,
    progress: Progress = silent,
) -> LesionTable:
    """Measure the loss with each layer lesioned in turn, all lesioned networks as one stack.

    Args:
        model: a network with an output (`rhn.models.PolyphonicModel`, `rhn.models.LanguageModel`).
        batch: piano rolls: a list of arrays (T, keys), or one array; for a language model arrays of
            ids (T,) or one. Sequences of one step predict nothing.
        mode: one of `analysis.lesion_modes.MODES`; by default "bias", or "carry" for cells without
            gates.
        pairs: also every two layers together.
        split: name of the data in the table.
        device: of the computation (default: that of the network).
        seed: of the bootstrap that draws the intervals.
        at_once: networks that run together (default: as many as memory holds).
        progress: called with (networks x batches done, of how many).

    Raises:
        InvalidInputError: an unknown mode, one that the cells lack, a network without output, or
            wrong shapes.
        DataError: nothing to predict.

    >>> from rhn import PolyphonicModel
    >>> model = PolyphonicModel("rhn", hidden_size=3, depth=2)
    >>> found = lesion(model, [np.ones((5, 88))], mode="carry")
    >>> found.mode, found.frames  # the first frame is not predicted
    ('carry', 4)
    """
    mode, task = check_mode(model, mode), task_of(model)
    if not (hasattr(model, "output_size") or hasattr(model, "vocabulary_size")):
        raise InvalidInputError(
            f"{kind_of(model)} has no output layer, so there is no loss to measure: "
            "expected a whole model"
        )
    sequences = task.sequences(batch)
    if all(len(s) < 2 for s in sequences):
        raise DataError(
            f"there is nothing to predict: expected sequences of at least 2 {task.step}s"
        )
    layers = lesioned_layers(model, mode)
    controls = lesioned_layers(model, "blind") if mode != "blind" else []
    plan: dict[tuple, Lesion] = {("layer", (layer,)): Lesion(mode, (layer,)) for layer in layers}
    plan |= {
        ("pair", pair): Lesion(mode, pair) for pair in itertools.combinations(layers, 2) if pairs
    }
    plan |= {("blind", (layer,)): Lesion("blind", (layer,)) for layer in controls}
    means = unit_means(model, sequences, device=device) if mode == "mean" else ()
    network = measured_copy(prepared(model, mode), device)
    like = next(network.parameters())
    means = [mean.to(like.device) for mean in means]
    batches = task.batches(sequences, like)
    # first unlesioned
    some: list[Callable] = [dict, *(lambda l=l: changes(network, l, means) for l in plan.values())]
    nll = stacked_nll(network, task, some, batches, at_once=at_once, progress=progress).numpy()
    if not np.isfinite(nll[0]).all():
        raise InvalidInputError(
            "the loss of the unlesioned network is not finite: its weights are too large to run"
        )
    counts = torch.cat([batch.mask[1:].sum(0, dtype=torch.float64) for batch in batches]).cpu()
    frames = counts[counts > 0].numpy()  # without rows of padding
    columns = _columns([("", ()), *plan], [p.label for p in places(model)], mode, nll, frames, seed)
    facts = {
        "sequences": len(frames),
        "frames": int(frames.sum()),
        "baseline": float((nll.sum(1) / frames.sum())[0]),
    }
    return LesionTable(mode=mode, split=split, step=task.step, **facts, **columns)  # type: ignore[arg-type]


def _columns(
    plan: list[tuple], names: list[str], mode: str, nll: np.ndarray, frames: np.ndarray, seed: int
) -> dict:
    """The columns of the table from nll (K, N) of the (kind, layers) of the plan; the first is the
    unlesioned network.
    """
    compared = [(*row, k, 0) for k, row in enumerate(plan) if k]
    if mode in ("bias", "carry"):  # these also remove the input
        both = (
            (layers, ("layer", layers), k)
            for k, (kind, layers) in enumerate(plan)
            if kind == "blind"
        )
        compared += [
            ("beyond blind", layers, plan.index(row), k) for layers, row, k in both if row in plan
        ]
    kinds, several, *places_of = zip(*compared, strict=True)
    (which, references), loss = map(list, places_of), nll.sum(1) / frames.sum()
    low, high = paired_bootstrap(nll[which], nll[references], frames, seed=seed)
    labels = tuple("+".join(names[layer - 1] for layer in layers) for layers in several)
    numbers = {
        "loss": loss[which],
        "delta": loss[which] - loss[references],
        "low": low,
        "high": high,
    }
    return {"row_kind": kinds, "label": labels} | numbers


def stacked_nll(
    model: nn.Module,
    task: Music | Text,
    changed: Sequence[Callable[[], dict[str, Tensor]]],
    batches: Sequence[Minibatch],
    *,
    at_once: int | None = None,
    progress: Progress = silent,
) -> Tensor:
    """Nats of each sequence in each changed network, (K, N) float64 on the CPU, sequences in the
    order of the batches.

    changed: functions that give new values of some parameters or buffers of each of K networks, by
    name; they share all others. at_once, progress: as of `lesion`.
    """
    tensors, columns, done = model.state_dict(), [], 0
    for batch in batches:
        step, parts = at_once or _networks_at_once(model, task, batch), []
        for start in range(0, len(changed), step):
            some = [change() for change in changed[start : start + step]]
            names = {name: None for change in some for name in change} or {
                next(iter(tensors)): None
            }
            own = {n: torch.stack([c.get(n, tensors[n]) for c in some]) for n in names}
            with deterministic():
                parts.append(Ensemble(model, own, {}).map(task.nll, batch.frames, batch.mask).cpu())
            done += len(some)
            progress(done, len(changed) * len(batches))
        columns.append(torch.cat(parts)[:, batch.mask[1:].any(0).cpu()])
    return torch.cat(columns, 1)


def _networks_at_once(model: nn.Module, task, batch: Minibatch) -> int:
    T, B = batch.mask.shape
    sizes = [
        (cell.depth, cell.blocks * cell.hidden_size, cell.state_size)
        for cell in cells_of(model).values()
    ]
    numbers = task.width + sum(depth * gates + (depth + 2) * state for depth, gates, state in sizes)
    budget = free_memory("cuda") // 3 if batch.mask.is_cuda else CPU_BYTES
    return max(1, budget // (T * B * numbers * batch.mask.element_size()))


def paired_bootstrap(
    nll: np.ndarray, reference: np.ndarray, frames: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of the difference in loss, (low, high), each (K,), in the units of
    nll / frames.

    nll (K, N) and reference (N,) or (K, N): sums over each of N sequences; frames (N,): the number
    of frames in each sum. NaN for a single sequence.

    >>> frames = np.array([4.0, 4.0, 8.0])
    >>> paired_bootstrap(3 * frames[None], frames, frames)  # every sequence loses 2 a frame
    (array([2.]), array([2.]))
    """
    rng, N = np.random.default_rng(seed), len(frames)
    if N < 2:
        return np.full(len(nll), np.nan), np.full(len(nll), np.nan)
    draws = rng.multinomial(N, np.full(N, 1 / N), size=RESAMPLES).astype(float)
    total = draws @ frames
    differences = np.asarray(nll - reference, float)
    quantiles = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    # one network at a time, so that its bits do not depend on the number of networks
    low, high = np.transpose([np.quantile(draws @ d / total, quantiles) for d in differences])
    return low, high
