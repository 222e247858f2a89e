"""Measure the damage of lesions: the loss of a network without single layers or pairs of layers
(single layers: figure 6 of Zilly et al. 2017).

The lesioned networks of `rhn.models` run as one program. The parameters that differ are stacked,
all others are shared, and `vmap` makes one kernel call for all networks. The number of networks
that run at once depends on the memory. Of a user's module, edited copies run one after another.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.jackknife import paired_interval
from analysis.layers import Place, copied_network, places, recurrent_modules
from analysis.lesion_modes import MODES, Lesion
from analysis.lesion_table import LesionTable
from analysis.lesioned_network import changes, check_mode, lesioned_layers
from analysis.recorded import check_causal, in_batch
from analysis.sequences import (
    Music,
    NetworkAndData,
    Text,
    network_title,
    opened,
    task_of,
)
from gersgorin import checks
from rhn.models.networks import RecurrentModel
from rhn.training.batches import ChoraleBatch
from rhn.training.ensemble import Ensemble
from rhn.utils.progress import Advance, Progress, reported
from rhn.utils.resources import free_memory
from rhn.utils.threads import deterministic
from rhn.utils.validation import whole_number

# of the states and gates of networks that run together; more is not faster (measured)
CPU_BYTES = 384 << 20
Change = Callable[[], dict[str, Tensor]]
"""A function that returns new values of some tensors of a network, by name."""
Loss = Callable[[nn.Module, Any], Any]
"""A function (model, sequence) that returns the loss of a sequence, one number."""
Losses = Mapping[Lesion | None, np.ndarray]
"""The losses (N,) of the sequences by the lesion of the network; None: the unlesioned network."""


class Case(NamedTuple):
    """An entry of the table."""

    kind: str
    lesion: Lesion
    reference: Lesion | None
    """The lesion of the network that it is compared with; None: the unlesioned network."""


@dataclass(frozen=True, eq=False)
class Measure:
    """How the losses of a network are computed."""

    losses: Callable[..., Tensor]
    """A function (network, changed=, progress=) that returns the losses (K, N) of changed networks
    on N sequences, summed over the steps of a sequence.
    """
    lengths: np.ndarray
    """Number of predicted steps of each sequence, (N,); ones with a loss of the user's."""
    order: np.ndarray
    """The place of each of the N sequences among those that are given."""
    step: str = ""
    """The kind of a step; "" with a loss of the user's."""
    constant: float = float("nan")
    """The loss of the constant predictor."""


def lesion(
    model: nn.Module | str | Path | NetworkAndData,
    batch: Any = None,
    mode: str | None = None,
    *,
    pairs: bool = False,
    loss: Loss | None = None,
    split: str = "",
    chorales: Sequence[str] = (),
    length: int | None = None,
    max_tokens: int | None = None,
    cell: str | None = None,
    batch_first: bool | None = None,
    device: torch.device | str | None = None,
    at_once: int | None = None,
    progress: Progress = None,
) -> LesionTable:
    """Measure the loss of a network with each layer lesioned in turn.

    Args:
        model: a network of `rhn.models`, or a module with cells of `rhn.cells` or RNN, LSTM and GRU
            of torch.nn; or the path of a checkpoint or run folder.
        batch: one array or a list of arrays: piano rolls (T, keys) of 0 and 1, or token ids (T,)
            for a language model; or the path of a file of chorales or a text. None: the data of the
            training run of the checkpoint. With `loss`: a list of what that function takes.
        mode: one of `analysis.lesion_modes.MODES`: "bias", ... (default: the first one that some
            layer can have).
        pairs: also lesion every pair of layers.
        loss: a function loss(model, sequence) that returns the loss of a sequence in a lesioned
            copy of the model. None: that of the next frame or token, in nats; a module then returns
            a logit for each key of each frame.
        split: split to read (default: test; valid for a text), or the name of that of arrays.
        chorales: names of pieces, or their indices in the original split; none: all of the split.
        length, max_tokens: number of tokens of a text to predict in each sequence (default: 200),
            and in all (default: 20,000). Only for the text of a path.
        cell: the cell of the checkpoint if it is your own, as package.module:factory.
        batch_first: True for a module of x (B, T, m), False for (T, B, m); None: its attribute.
        device: device of the computation (default: that of the network).
        at_once: number of networks that run together (default: as many as fit the memory).
        progress: True to show the networks x batches that are done and the time left, False to show
            nothing, None to show them in a terminal session or notebook; or a function of (those
            done, all).

    Raises InvalidInputError for a mode that the layers lack, wrong shapes, frames with numbers
    other than 0 and 1, nothing to predict, or a loss without lesions that is not finite.

    >>> from rhn import PolyphonicModel
    >>> model = PolyphonicModel("rhn", hidden_size=3, depth=2)
    >>> found = lesion(model, [np.ones((5, 88))], mode="carry")
    >>> found.mode, found.frames  # the first frame is not predicted
    ('carry', 4)
    """
    how: Any = {"split": split, "chorales": chorales, "cell": cell, "length": length}
    given = opened(model, batch, stretches_of, max_tokens=max_tokens, **how)
    at_once = None if at_once is None else whole_number("at_once", at_once)
    is_function = loss is None or callable(loss)
    checks.require(is_function, "loss", checks.kind(loss), "a function (model, sequence), or None")
    network = copied_network(given.model, device)
    every = places(network)
    mode = check_mode(every, mode)
    if loss is None:
        measure = _next_step(network, given, batch_first, at_once)
    else:
        measure = _own_loss([*given.sequences], loss)
    cases = _cases(every, mode, pairs=pairs)
    with reported(progress, "lesion") as advance:
        losses = _losses(network, mode, cases, measure, advance)
    return LesionTable(
        network=network_title(given.model),
        data=given.data,
        split=given.split,
        mode=mode,
        step=measure.step,
        sequences=len(measure.lengths),
        frames=int(measure.lengths.sum()) if measure.step else 0,
        constant=measure.constant,
        row_kind=tuple(case.kind for case in cases),
        label=tuple("+".join(every[k - 1].label for k in case.lesion.layers) for case in cases),
        **_numbers(cases, losses, measure),
    )


def _losses(
    network: nn.Module, mode: str, cases: Sequence[Case], measure: Measure, advance: Advance
) -> Losses:
    """Compute the losses of the unlesioned network and of each lesioned one. Raises
    InvalidInputError if those without lesions are not finite, or if the mode refuses the network.
    """
    lesions = dict.fromkeys([None, *(case.lesion for case in cases)])
    ready = MODES[mode].prepare(network)
    change = partial(changes, places(ready), ready.state_dict())
    changed = [partial(change, each) if each else dict for each in lesions]
    losses = measure.losses(ready, changed=changed, progress=advance).numpy()
    whole = losses[0]
    finite = np.isfinite(whole).all()
    checks.require(finite, "loss without lesions", "not finite", "a number")
    MODES[mode].check(network, lambda: measure.losses(network, changed=[dict])[0].numpy(), whole)
    return dict(zip(lesions, losses, strict=True))


def _numbers(cases: Sequence[Case], losses: Losses, measure: Measure) -> dict[str, Any]:
    """Return the numbers of the table: of each entry, and of each sequence in the given order."""
    whole, total = losses[None], measure.lengths.sum()
    own = np.stack([losses[case.lesion] for case in cases])
    reference = np.stack([losses[case.reference] for case in cases])
    loss, compared = own.sum(1) / total, reference.sum(1) / total
    low, high = paired_interval(own, reference, measure.lengths)
    with np.errstate(invalid="ignore"):  # of infinite losses there is no difference
        delta = loss - compared
    given = np.argsort(measure.order)
    return {
        "baseline": float(whole.sum() / total),
        "loss": loss,
        "delta": delta,
        "low": low,
        "high": high,
        "lengths": measure.lengths[given],
        "baseline_sums": whole[given],
        "loss_sums": own[:, given],
    }


def stretches_of(corpus: Any, split: str, **lengths: int) -> list[np.ndarray]:
    """Cut the beginning of a text into sequences."""
    from analysis.texts import stretches  # music needs none

    return stretches(getattr(corpus, split), **lengths)


def _own_loss(sequences: Sequence[Any], loss: Loss) -> Measure:
    """Measure a loss of the user's, one number for each sequence."""
    count = len(sequences)
    checks.require(bool(sequences), "number of sequences", count, "at least 1")
    losses = partial(module_losses, loss=loss, sequences=sequences)
    return Measure(losses=losses, lengths=np.ones(count), order=np.arange(count))


def _next_step(
    network: nn.Module, given: NetworkAndData, batch_first: bool | None, at_once: int | None
) -> Measure:
    """Measure the loss of the next frame or token in nats. Sequences of one step have none."""
    task, like = task_of(network, given.sequences), next(network.parameters())
    sequences = task.sequences(given.sequences)
    if isinstance(task, Music):
        check_keys(sequences)
    steps = np.array([len(sequence) - 1.0 for sequence in sequences])
    order = np.flatnonzero(steps)
    checks.require(len(order) > 0, f"number of {task.step}s to predict", 0, "at least 1")
    usable = [sequences[i] for i in order]
    losses: Callable[..., Tensor]
    if isinstance(network, RecurrentModel):
        batches = task.batches(usable, like)
        losses = partial(stacked_nll, task=task, batches=batches, at_once=at_once)
        order = order[np.argsort(-steps[order], kind="stable")]  # of the batches
    else:
        x = [task.inputs([sequence], like)[:, 0] for sequence in usable]
        check_causal(network, x[0], batch_first)
        frame_loss = partial(next_frame_nll, batch_first=batch_first)
        losses = partial(module_losses, loss=frame_loss, sequences=x)
    return Measure(
        losses=losses,
        lengths=steps[order],
        order=order,
        step=task.step,
        constant=task.constant_loss(usable),
    )


def check_keys(rolls: Sequence[np.ndarray]) -> None:
    """Raise InvalidInputError for other numbers than 0 and 1, which have no loss."""
    for i, frames in enumerate(rolls):
        others = frames[~np.isin(frames, (0, 1))]
        checks.require(not others.size, f"number in sequence {i}", others[:1].tolist(), "0 or 1")


def _cases(every: Sequence[Place], mode: str, *, pairs: bool) -> list[Case]:
    """Return single layers, pairs, controls, and layers compared with their controls."""
    control = MODES[mode].control
    layers = lesioned_layers(every, mode)
    single = {k: Lesion(mode, (k,)) for k in layers}
    several = [Lesion(mode, two) for two in itertools.combinations(layers, 2)] if pairs else []
    found = [Case("layer", own, None) for own in single.values()]
    found += [Case("pair", own, None) for own in several]
    if control is None:
        return found
    controls = {k: Lesion(control, (k,)) for k in lesioned_layers(every, control)}
    found += [Case(control, own, None) for own in controls.values()]
    both = [k for k in controls if k in single]
    return found + [Case(f"beyond {control}", single[k], controls[k]) for k in both]


def next_frame_nll(model: nn.Module, x: Tensor, batch_first: bool | None = None) -> Tensor:
    """Return the loss in nats of a user's module, summed over all frames of x (T, m) but the first.

    >>> model = nn.Sequential(cell := nn.RNN(2, 2))  # its outputs are the logits 0
    >>> _ = [nn.init.zeros_(weight) for weight in cell.parameters()]
    >>> round(next_frame_nll(model, torch.ones(4, 2)).item(), 3)  # 3 x 2 log 2
    4.159
    """
    logits, axis = in_batch(model, x[:-1], batch_first)
    logits = getattr(logits, "logits", logits)
    while isinstance(logits, tuple | list) and logits:
        logits = logits[0]
    good = isinstance(logits, Tensor) and logits.dim() == 3 and logits.shape[axis] == 1
    logits = logits.squeeze(axis) if good else torch.empty(0)
    shape, wanted = tuple(logits.shape), f"{tuple(x[1:].shape)}, a logit for each key of each frame"
    checks.require(logits.shape == x[1:].shape, f"output of {type(model).__name__}", shape, wanted)
    losses = F.binary_cross_entropy_with_logits(logits, x[1:], reduction="none")
    return losses.sum(dtype=torch.float64)


def module_losses(
    model: nn.Module,
    *,
    changed: Sequence[Change],
    loss: Loss,
    sequences: Sequence[Any],
    progress: Advance = lambda done, total: None,
) -> Tensor:
    """Compute the losses (K, N) of N sequences in each of K edited copies of a user's module."""
    rows = list[list[float]]()
    with torch.no_grad(), deterministic():
        for done, change in enumerate(changed, start=1):
            edited, new = copied_network(model), change()
            edited.load_state_dict(new, strict=False)
            rows.append([float(loss(edited, sequence)) for sequence in sequences])
            progress(done, len(changed))
    return torch.tensor(rows, dtype=torch.float64)


def stacked_nll(
    model: nn.Module,
    *,
    changed: Sequence[Change],
    task: Music | Text,
    batches: Sequence[ChoraleBatch],
    at_once: int | None = None,
    progress: Advance = lambda done, total: None,
) -> Tensor:
    """Compute the loss of each sequence in each of K changed networks of ours, in nats: (K, N)
    float64 on the CPU, with sequences in the order of the batches.
    """
    tensors, columns, done = model.state_dict(), list[Tensor](), 0
    for batch in batches:
        step, parts = at_once or _networks_at_once(model, task, batch.mask), list[Tensor]()
        for start in range(0, len(changed), step):
            some = [change() for change in changed[start : start + step]]
            with deterministic():
                nll = Ensemble(model, _stacked(tensors, some), {}).map(
                    task.nll, batch.frames, batch.mask
                )
            parts.append(nll.cpu())
            done += len(some)
            progress(done, len(changed) * len(batches))
        is_sequence = batch.mask[1:].any(0).cpu()  # not a row of padding
        columns.append(torch.cat(parts)[:, is_sequence])
    return torch.cat(columns, 1)


def _stacked(
    tensors: Mapping[str, Tensor], changed: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Stack the tensors in which K changed networks differ; vmap needs at least one."""
    names = dict.fromkeys(name for change in changed for name in change)
    if not names:
        names = dict.fromkeys([next(iter(tensors))])
    return {name: torch.stack([c.get(name, tensors[name]) for c in changed]) for name in names}


def _networks_at_once(model: nn.Module, task: Music | Text, mask: Tensor) -> int:
    cells: Iterable[Any] = recurrent_modules(model).values()
    sizes = [(cell.depth, cell.blocks * cell.hidden_size, cell.state_size) for cell in cells]
    numbers = task.width + sum(depth * gates + (depth + 2) * state for depth, gates, state in sizes)
    budget = free_memory(str(mask.device)) // 3 if mask.is_cuda else CPU_BYTES
    return max(1, budget // (mask.numel() * numbers * mask.element_size()))
