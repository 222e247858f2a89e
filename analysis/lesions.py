"""Measure the damage of lesions: the loss of a network without single layers or pairs of layers.

Figure 6 of Zilly et al. (2017) shows single layers.

In an RHN only the first layer reads the input, so a lesion of this layer also removes the input.
The control ("blind", in figures "input removed") is the same network with the layer, but without
the input product of this layer. The layer itself contributes the damage beyond that of the control.

All lesioned networks run as one program. The parameters that differ are stacked, all others are
shared, and `vmap` makes one kernel call for all networks. The number of networks that run at once
depends on the memory. `analysis.sequences` computes the loss.

Sequences are taken as independent of each other, and the steps of one sequence are not. The
intervals of `paired_interval` are therefore computed from the differences of whole sequences.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor, nn
from torch.func import functional_call

from analysis.damage import LesionTable
from analysis.lesion_modes import Lesion, changes, check_mode, lesioned_layers, prepared
from analysis.network import (
    ROWS,
    STEPS,
    TimeFirst,
    TorchForm,
    cells_of,
    close,
    open_network,
    original,
    places,
)
from analysis.sequences import Music, Text, stretches, task_of
from analysis.trained import opened
from rhn.cells import Cell
from rhn.data.text import TextCorpus
from rhn.errors import DataError, InvalidInputError
from rhn.training.chorales import ChoraleBatch
from rhn.training.ensemble import Ensemble, deterministic
from rhn.utils.old import typed, with_article
from rhn.utils.validation import free_memory, whole_number

# of the states and gates of networks that run together; more is not faster (measured)
CPU_BYTES = 384 << 20
LEVEL = 0.95  # of the intervals
Progress = Callable[[int, int], None]


def no_report(done: int, total: int) -> None:
    """Report no progress."""


@typed
def lesion(
    model: nn.Module | str | Path,
    batch: Sequence[np.ndarray] | np.ndarray | str | Path | None = None,
    mode: str | None = None,
    *,
    pairs: bool = False,
    split: str = "",
    cell: str | None = None,
    batch_axis: int | None = None,
    device: torch.device | str | None = None,
    at_once: int | None = None,
    progress: Progress = no_report,
) -> LesionTable:
    """Measure the loss of a network with each layer lesioned in turn.

    Args:
        model: a network with an output layer: `rhn.models.PolyphonicModel`,
            `rhn.models.LanguageModel`, or a module from frames to logits of the same shape. The
            model can also be the path of a checkpoint or run folder.
        batch: one array or a list of arrays: piano rolls (T, keys) of 0 and 1, or token ids (T,)
            for a language model. A sequence of one step predicts nothing. batch can also be the
            path of a file of chorales or of a text. None: the data of the training run of the
            checkpoint.
        mode: one of `analysis.lesion_modes.MODES` (default: "bias", or "carry" for cells without
            gates).
        pairs: also lesion every pair of layers.
        split: name of the data in the table; if `batch` is a path or None, also the split to read
            (default: test; valid for a text).
        cell: the cell of the checkpoint if it is your own, as package.module:factory.
        batch_axis: the axis of the batch in the input of a module: 0 for (B, T, m), 1 for (T, B,
            m); None: the axis that is not the time axis of its cells.
        device: device of the computation (default: that of the network).
        at_once: number of networks that run together (default: as many as fit the memory).
        progress: called with (networks x batches done, networks x batches in all).

    Raises:
        InvalidInputError: an unknown mode, a mode that the cells lack, a network without output
            layer, wrong shapes, or frames with numbers other than 0 and 1.
        DataError: no step can be predicted.

    >>> from rhn import PolyphonicModel
    >>> model = PolyphonicModel("rhn", hidden_size=3, depth=2)
    >>> found = lesion(model, [np.ones((5, 88))], mode="carry")
    >>> found.mode, found.frames  # the first frame is not predicted
    ('carry', 4)
    """
    at_once = None if at_once is None else whole_number("at_once", at_once)
    read, data, split = opened(model, batch, split, _stretches_of, cell)
    task = task_of(read, data)
    network = open_network(read, task.width, batch_axis=batch_axis, device=device)
    mode = check_mode(network, mode)
    _check_output(network, task.width)
    sequences = task.sequences(data)
    if isinstance(task, Music):
        _check_keys(sequences)
    if all(len(s) < 2 for s in sequences):
        raise DataError(
            f"there is nothing to predict: expected sequences of at least 2 {task.step}s"
        )
    cases = _cases(network, mode, pairs=pairs)
    whole, network = network, prepared(network, mode)
    like = next(network.parameters())
    batches = task.batches(sequences, like)
    # first unlesioned
    lesions = dict.fromkeys([None, *(case.lesion for case in cases)])
    some = [partial(changes, network, each) if each else dict for each in lesions]
    nll = stacked_nll(network, task, some, batches, at_once=at_once, progress=progress).numpy()
    if not np.isfinite(nll[0]).all():
        raise InvalidInputError(
            "the loss of the unlesioned network is not finite: its weights are too large to run"
        )
    counts = torch.cat([batch.mask[1:].sum(0, dtype=torch.float64) for batch in batches]).cpu()
    frames = counts[counts > 0].numpy()  # without rows of padding
    if mode == "carry":
        _check_carried(whole, task, nll[0], batches)
    columns: Any = _columns(cases, dict(zip(lesions, nll, strict=True)), frames)
    names, cell = [place.label for place in places(network)], places(network)[0].cell
    return LesionTable(
        mode=mode,
        split=split,
        step=task.step,
        gate_name=getattr(cell, "gate_name", "transform gate"),
        sequences=len(frames),
        frames=int(frames.sum()),
        baseline=float(nll[0].sum() / frames.sum()),
        row_kind=tuple(case.kind for case in cases),
        label=tuple("+".join(names[layer - 1] for layer in case.layers) for case in cases),
        **columns,
    )


def _check_carried(
    network: nn.Module, task: Music | Text, nll: np.ndarray, batches: Sequence[ChoraleBatch]
) -> None:
    """Raise InvalidInputError if the network with cells that run layer by layer, without a lesion,
    has another loss. nll: the sums (N,) of the layer-by-layer network.
    """
    wanted = stacked_nll(network, task, [dict], batches)[0]
    if not close(torch.from_numpy(nll), wanted.to(next(network.parameters()).dtype)):
        kinds = ", ".join(dict.fromkeys(type(c).__name__ for c in cells_of(network).values()))
        raise InvalidInputError(
            f"mode 'carry' runs {kinds} layer by layer, which gives another loss than the "
            "network: expected run_layer and step to do what forward does"
        )


def _stretches_of(corpus: TextCorpus, split: str) -> list[np.ndarray]:
    """Cut the beginning of a text into sequences."""
    return stretches(getattr(corpus, split))


@dataclass(frozen=True)
class Case:
    """A row of the table: a lesioned network, and the network with which it is compared."""

    kind: str
    """Kind of the row, as in `LesionTable`."""
    layers: tuple[int, ...]
    """The lesioned layers, counted from 1."""
    lesion: Lesion
    reference: Lesion | None = None
    """The lesion of the network of the comparison; None: the unlesioned network."""


def _cases(network: nn.Module, mode: str, *, pairs: bool) -> list[Case]:
    """Return the rows: single layers, pairs, blind controls, and layers compared with their
    controls.
    """

    def own(*lesioned: int) -> Lesion:
        return Lesion(mode, lesioned)

    def blind(layer: int) -> Lesion:
        return Lesion("blind", (layer,))

    layers = lesioned_layers(network, mode)
    controls = lesioned_layers(network, "blind") if mode != "blind" else []
    several = itertools.combinations(layers, 2) if pairs else ()
    beyond = [layer for layer in controls if layer in layers]
    return [
        *(Case("layer", (layer,), own(layer)) for layer in layers),
        *(Case("pair", pair, own(*pair)) for pair in several),
        *(Case("blind", (layer,), blind(layer)) for layer in controls),
        *(Case("beyond blind", (layer,), own(layer), blind(layer)) for layer in beyond),
    ]


def _columns(
    cases: Sequence[Case], nll: dict[Lesion | None, np.ndarray], frames: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the columns of the table. nll: lesion -> nats (N,) of each sequence in the network."""
    own = np.stack([nll[case.lesion] for case in cases])
    reference = np.stack([nll[case.reference] for case in cases])
    loss, compared = (nats.sum(1) / frames.sum() for nats in (own, reference))
    low, high = paired_interval(own, reference, frames)
    with np.errstate(invalid="ignore"):  # of infinite losses there is no difference
        return {"loss": loss, "delta": loss - compared, "low": low, "high": high}


def _check_output(network: nn.Module, width: int) -> None:
    """Raise InvalidInputError for a network without an output for each key, which has no loss."""
    if not isinstance(network, TimeFirst):
        return
    module, returned = original(network), network.returned
    if isinstance(module, Cell | TorchForm):
        kind = with_article(module.kind if isinstance(module, TorchForm) else type(module).__name__)
        raise InvalidInputError(
            f"{kind} has no output layer, so there is no loss to measure: expected a whole model"
        )
    if returned != (STEPS, ROWS, width):
        raise InvalidInputError(
            f"{type(module).__name__} returns outputs (T, B, ...) of shape {returned} for frames "
            f"{(STEPS, ROWS, width)}: expected the same shape, a logit for each key of each frame"
        )


def _check_keys(sequences: Sequence[np.ndarray]) -> None:
    """Raise InvalidInputError for frames with numbers other than 0 and 1, which have no loss."""
    for i, frames in enumerate(sequences):
        if not np.isin(frames, (0, 1)).all():
            raise InvalidInputError(
                f"sequence {i} has numbers other than 0 and 1: lesions need frames of "
                "keys, each 0 or 1"
            )


def stacked_nll(
    model: nn.Module,
    task: Music | Text,
    changed: Sequence[Callable[[], dict[str, Tensor]]],
    batches: Sequence[ChoraleBatch],
    *,
    at_once: int | None = None,
    progress: Progress = no_report,
) -> Tensor:
    """Compute the loss of each sequence in each of K changed networks, in nats: (K, N) float64 on
    the CPU, with sequences in the order of the batches.

    changed: one function for each network, which returns new values of some of its parameters or
    buffers, by name. All networks share the others.
    at_once, progress: as for `lesion`.
    """
    columns, done = [], 0
    for batch in batches:
        step, parts = at_once or _networks_at_once(model, task, batch), []
        for start in range(0, len(changed), step):
            some = [change() for change in changed[start : start + step]]
            with deterministic(), torch.no_grad():
                parts.append(_nll(model, task, some, batch).cpu())
            done += len(some)
            progress(done, len(changed) * len(batches))
        columns.append(torch.cat(parts)[:, batch.mask[1:].any(0).cpu()])
    return torch.cat(columns, 1)


def _nll(
    model: nn.Module, task: Music | Text, changed: Sequence[dict[str, Tensor]], batch: ChoraleBatch
) -> Tensor:
    """Compute the nats (K, B) of some changed networks. A module of the user may have operations
    that vmap lacks, so it runs once for each network.
    """
    given = batch.frames, batch.mask
    if isinstance(model, TimeFirst):
        each = [partial(functional_call, model, change) for change in changed]
        return torch.stack([task.nll(call, *given) for call in each])
    tensors = model.state_dict()
    names = {name: None for change in changed for name in change} or {next(iter(tensors)): None}
    own = {name: torch.stack([c.get(name, tensors[name]) for c in changed]) for name in names}
    return Ensemble(model, own, {}).map(task.nll, *given)


def _networks_at_once(model: nn.Module, task: Music | Text, batch: ChoraleBatch) -> int:
    T, B = batch.mask.shape
    sizes = [
        (cell.depth, cell.blocks * cell.hidden_size, cell.state_size)
        for cell in cells_of(model).values()
    ]
    numbers = task.width + sum(depth * gates + (depth + 2) * state for depth, gates, state in sizes)
    budget = free_memory("cuda") // 3 if batch.mask.is_cuda else CPU_BYTES
    return max(1, budget // (T * B * numbers * batch.mask.element_size()))


def paired_interval(
    nll: np.ndarray, reference: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the 95 % interval of the difference in loss between networks. Returns (low, high),
    each (K,), in the unit of nll / frames.

    nll (K, N) and reference (N,) or (K, N): sums of losses over each of N sequences. frames (N,):
    the number of frames in each sum. The ends are NaN for a single sequence, and for sums that are
    not finite. Raises InvalidInputError for other shapes, and for numbers of frames that are not
    above 0.

    The difference D is a ratio of sums over sequences. D_i is the same ratio without sequence i.
    The interval is D +- t s with the jackknife's standard error s, and Student's factor t for N - 1
    degrees of freedom:

        s^2 = (N - 1) / N  sum_i (D_i - D)^2

    For sequences of equal length this is Student's interval of the mean difference of a sequence.
    The interval was tested in simulations of 2 to 30 sequences
    (tests/analysis/test_analysis_lesions.py). If the differences of single sequences are normally
    distributed, the interval contains the true difference in 92 to 96 % of all cases. If these
    differences are as skewed as an exponential distribution, it does so in more than 85 % of all
    cases. For comparison, the interval of a percentile bootstrap contains the true difference in
    half of all cases for 2 sequences, and in about 90 % for 12 sequences.

    >>> frames = np.array([4.0, 4.0, 8.0])
    >>> paired_interval(3 * frames[None], frames, frames)  # every sequence loses 2 per frame
    (array([2.]), array([2.]))
    """
    nll, reference, frames = np.asarray(nll), np.asarray(reference), np.asarray(frames)
    if nll.ndim != 2 or frames.shape != nll.shape[1:] or reference.shape[-1:] != frames.shape:
        raise InvalidInputError(
            "expected sums of losses nll (K, N), reference (N,) or (K, N), and frames (N,), got "
            f"{nll.shape}, {reference.shape} and {frames.shape}"
        )
    if not (np.isfinite(frames).all() and (frames > 0).all()):
        raise InvalidInputError("frames: expected numbers above 0")
    N, total = len(frames), frames.sum()
    if N < 2:
        return np.full(len(nll), np.nan), np.full(len(nll), np.nan)
    with np.errstate(invalid="ignore"):  # inf - inf
        more = np.asarray(nll - reference, float)
        difference = more.sum(1) / total
        changes = (difference[:, None] * frames - more) / (total - frames)  # D_i - D
        error = np.sqrt((N - 1) / N * (changes**2).sum(1))
        margin = stdtrit(N - 1, (1 + LEVEL) / 2) * error
        return difference - margin, difference + margin
