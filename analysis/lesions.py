"""Which layers a trained network needs: each taken out in turn, the loss measured again (figure 6 of Zilly et al. 2017).

Only the first layer sees the input, so taking it out also blinds the network. The control is the same network with its input product
removed and the layer kept ("blind"); the first layer's damage beyond the control's is what the layer itself is worth. (A lesion that
leaves the input in, a gate held open or at its mean, has the control beside it for its size alone.)
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from analysis.bootstrap import paired_bootstrap
from analysis.fused import predicted, stacked_nll
from analysis.gates import unit_means
from analysis.layers import measured_copy, places
from analysis.records import LesionRow, LesionTable
from analysis.surgery import Lesion, blinds, changes, check_mode, lesioned_layers, prepared
from analysis.tasks import Music, Text, task_of
from rhn.data import Batch
from rhn.errors import DataError, InvalidInputError


def lesion(
    model: nn.Module,
    batch: Batch | Sequence[np.ndarray] | np.ndarray,
    mode: str | None = None,
    *,
    pairs: bool = False,
    units: bool = False,
    split: str = "",
    seed: int = 0,
    device: torch.device | str | None = None,
    at_once: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LesionTable:
    """The loss with each layer lesioned in turn, all lesioned networks evaluated as one stack.

    Args:
        model: a network with an output (`rhn.models.PolyphonicModel`, `rhn.models.LanguageModel`).
        batch: piano rolls: an `rhn.data.Batch`, a list of arrays (T, keys), or one array; for a language model arrays of ids (T,) or
            one. Sequences of one step predict nothing.
        mode: one of `analysis.surgery.MODES`; by default "bias", or "carry" for cells without gates.
        pairs: also every two layers together.
        units: also every single unit of every layer: as many networks as there are units.
        split: what the table calls the data.
        device: where it is computed (default: where the network is).
        seed: of the bootstrap that draws the intervals.
        at_once: networks evaluated together (default: as many as memory holds; 1: one by one).
        progress: called with (networks x batches done, of how many).

    Raises:
        InvalidInputError: an unknown mode, one that the cells do not have, a network without output, or shapes that do not fit.
        DataError: nothing to predict.
    """
    mode, task = check_mode(model, mode), _task(model)
    sequences = task.sequences(batch)
    if all(len(s) < 2 for s in sequences):
        raise DataError(f"there is nothing to predict: expected sequences of at least 2 {task.step}s")
    lesions = _lesions(model, mode, pairs, units)
    means = unit_means(model, sequences, device=device) if mode == "mean" else ()
    network = measured_copy(prepared(model, mode), device)
    like = next(network.parameters())
    means = [mean.to(like.device) for mean in means]
    batches = task.batches(sequences, like)
    run = {"at_once": at_once, "progress": progress}
    nll = stacked_nll(network, task, lesions, lambda l: changes(network, l, means), batches, **run).numpy()
    if not np.isfinite(nll[0]).all():
        raise InvalidInputError("the loss of the unlesioned network is not finite: its weights are too large to run")
    return _table(model, mode, split, lesions, nll, predicted(batches).numpy(), task.step, seed)


def _task(model: nn.Module) -> Music | Text:
    task = task_of(model)
    if not task.predicts:
        raise InvalidInputError(
            f"a {type(model).__name__} alone predicts nothing, so there is no loss to measure: expected a whole model with its output"
        )
    return task


def _lesions(model: nn.Module, mode: str, pairs: bool, units: bool) -> list[Lesion]:
    """The unlesioned network, the controls, single layers, then pairs and units."""
    layers, every = lesioned_layers(model, mode), places(model)
    lesions = [Lesion(mode)]
    if mode != "blind":
        lesions += [Lesion("blind", (layer,)) for layer in lesioned_layers(model, "blind")]
    lesions += [Lesion(mode, (layer,)) for layer in layers]
    if pairs:
        lesions += [Lesion(mode, pair) for pair in itertools.combinations(layers, 2)]
    if units:
        lesions += [Lesion(mode, (l,), unit) for l in layers for unit in range(1, every[l - 1].cell.hidden_size + 1)]
    return lesions


def _table(
    model, mode, split, lesions: list[Lesion], nll: np.ndarray, frames: np.ndarray, step: str, seed: int
) -> LesionTable:
    labels = [place.label for place in places(model)]
    loss = nll.sum(1) / frames.sum()
    low, high = paired_bootstrap(nll, nll[0], frames, seed=seed)

    def row(k: int) -> LesionRow:
        l = lesions[k]
        label = "+".join(labels[layer - 1] for layer in l.layers) + (f" unit {l.unit}" if l.unit else "")
        numbers = {"loss": loss[k], "delta": loss[k] - loss[0], "low": low[k], "high": high[k]}
        return LesionRow(
            label=label, layers=l.layers, unit=l.unit, **{key: float(value) for key, value in numbers.items()}
        )

    kinds: dict[str, list[int]] = {"layers": [], "pairs": [], "units": [], "controls": []}
    for k, l in enumerate(lesions[1:], start=1):
        control = l.mode != mode
        kinds["controls" if control else "units" if l.unit else "pairs" if len(l.layers) > 1 else "layers"].append(k)
    beyond = []
    for control in kinds["controls"]:
        k = next((k for k in kinds["layers"] if lesions[k].layers == lesions[control].layers), None)
        if k is not None and blinds(model, mode):
            ends = paired_bootstrap(nll[k : k + 1], nll[control], frames, seed=seed)
            numbers = dict(zip(("low", "high"), (float(end[0]) for end in ends), strict=True))
            beyond.append(LesionRow(**vars(row(k)) | {"delta": float(loss[k] - loss[control])} | numbers))
    rows = {kind: tuple(row(k) for k in numbers) for kind, numbers in kinds.items()}
    return LesionTable(
        mode=mode,
        split=split,
        baseline=float(loss[0]),
        sequences=len(frames),
        frames=int(frames.sum()),
        step=step,
        beyond_blind=tuple(beyond),
        **rows,
    )
