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
from analysis.damage import LesionRow, LesionTable
from analysis.fused import predicted, stacked_nll
from analysis.gates import unit_means
from analysis.layers import measured_copy, places
from analysis.surgery import Lesion, blinds, changes, check_mode, lesioned_layers, prepared
from analysis.tasks import task_of
from rhn.data import Batch
from rhn.errors import DataError, InvalidInputError


def lesion(
    model: nn.Module,
    batch: Batch | Sequence[np.ndarray] | np.ndarray,
    mode: str | None = None,
    *,
    pairs: bool = False,
    units: bool = False,
    together: Sequence[int] = (),
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
        together: also these layers, counted from 1, all at once.
        split: what the table calls the data.
        device: where it is computed (default: where the network is).
        seed: of the bootstrap that draws the intervals.
        at_once: networks evaluated together (default: as many as memory holds; 1: one by one).
        progress: called with (networks x batches done, of how many).

    Raises:
        InvalidInputError: an unknown mode, one that the cells or layers do not have, a network without output, or wrong shapes.
        DataError: nothing to predict.
    """
    mode, task = check_mode(model, mode), task_of(model)
    if not (hasattr(model, "output_size") or hasattr(model, "vocabulary_size")):
        raise InvalidInputError(
            f"a {type(model).__name__} alone predicts nothing, so there is no loss to measure: expected a whole model with its output"
        )
    sequences = task.sequences(batch)
    if all(len(s) < 2 for s in sequences):
        raise DataError(f"there is nothing to predict: expected sequences of at least 2 {task.step}s")
    kinds = _lesions(model, mode, pairs, units, together)
    lesions = [Lesion(mode), *itertools.chain(*kinds.values())]
    means = unit_means(model, sequences, device=device) if mode == "mean" else ()
    network = measured_copy(prepared(model, mode), device)
    like = next(network.parameters())
    means = [mean.to(like.device) for mean in means]
    batches = task.batches(sequences, like)
    run = {"at_once": at_once, "progress": progress}
    nll = stacked_nll(network, task, lesions, lambda l: changes(network, l, means), batches, **run).numpy()
    if not np.isfinite(nll[0]).all():
        raise InvalidInputError("the loss of the unlesioned network is not finite: its weights are too large to run")
    return _table(model, mode, split, kinds, nll, predicted(batches).numpy(), task.step, seed)


def _lesions(model: nn.Module, mode: str, pairs: bool, units: bool, together: Sequence[int]) -> dict[str, list[Lesion]]:
    """The lesioned networks by the names of a table's rows."""
    layers, every = lesioned_layers(model, mode), places(model)
    if missing := [layer for layer in together if layer not in layers]:
        raise InvalidInputError(
            f"mode {mode!r} cannot lesion layer {missing[0]}: expected among {', '.join(map(str, layers))}"
        )
    if len(set(together)) == 1:
        raise InvalidInputError(f"layer {together[0]} alone was to be lesioned together: expected two layers or more")
    sizes = {layer: every[layer - 1].cell.hidden_size for layer in layers}
    return {
        "controls": [Lesion("blind", (layer,)) for layer in lesioned_layers(model, "blind") if mode != "blind"],
        "layers": [Lesion(mode, (layer,)) for layer in layers],
        "pairs": [Lesion(mode, pair) for pair in itertools.combinations(layers, 2) if pairs],
        "together": [Lesion(mode, tuple(sorted(set(together))))] if together else [],
        "units": [Lesion(mode, (layer,), unit) for layer in layers for unit in range(1, sizes[layer] + 1) if units],
    }


def _table(
    model, mode, split, kinds: dict[str, list[Lesion]], nll: np.ndarray, frames: np.ndarray, step: str, seed: int
) -> LesionTable:
    """nll (K, N): the unlesioned network's, then those of the lesions in the order of `kinds`."""
    labels, loss = [p.label for p in places(model)], nll.sum(1) / frames.sum()
    place = {lesion: k for k, lesion in enumerate(itertools.chain(*kinds.values()), start=1)}

    def rows(lesions: list[Lesion], references: list[int]) -> tuple[LesionRow, ...]:
        """The networks' losses, and their differences to those of the reference networks."""
        which = [place[lesion] for lesion in lesions]
        ends = zip(*paired_bootstrap(nll[which], nll[references], frames, seed=seed), strict=True)
        return tuple(
            LesionRow(
                label="+".join(labels[number - 1] for number in l.layers) + (f" unit {l.unit}" if l.unit else ""),
                layers=l.layers,
                unit=l.unit,
                loss=float(loss[k]),
                delta=float(loss[k] - loss[r]),
                low=float(low),
                high=float(high),
            )
            for l, k, r, (low, high) in zip(lesions, which, references, ends, strict=True)
        )

    found = {kind: rows(lesions, [0] * len(lesions)) for kind, lesions in kinds.items() if lesions}
    controls = {control.layers: place[control] for control in kinds["controls"]}
    if seen := [l for l in kinds["layers"] if blinds(model, mode) and l.layers in controls]:
        found["beyond_blind"] = rows(seen, [controls[l.layers] for l in seen])
    counts = {"sequences": len(frames), "frames": int(frames.sum())}
    return LesionTable(mode=mode, split=split, baseline=float(loss[0]), step=step, **counts, **found)
