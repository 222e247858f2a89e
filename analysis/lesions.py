"""Measure the damage of lesions: the loss of a network without single layers or pairs of layers
(single layers: figure 6 of Zilly et al. 2017).

The lesioned networks of `rhn.models` run as one program. The parameters that differ are stacked,
all others are shared, and `vmap` makes one kernel call for all networks. The number of networks
that run at once depends on the memory. Of a user's module, edited copies run one after another.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.jackknife import paired_interval
from analysis.layers import Place, copied_network, places, recurrent_modules
from analysis.lesion_modes import Lesion, changes, check_mode, lesioned_layers
from analysis.lesion_table import LesionTable
from analysis.recorded import check_causal, in_batch, recorded_calls
from analysis.sequences import (
    Music,
    NetworkAndData,
    Text,
    network_title,
    opened,
    task_of,
)
from gersgorin import checks
from rhn.cells import Cell
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
Case = tuple[str, Lesion, Lesion | None]
"""The kind of an entry of the table, its lesion, and that of the network that it is compared with
(None: the unlesioned network).
"""
Loss = Callable[[nn.Module, Any], Any]
"""A function (model, sequence) that returns the loss of a sequence, one number."""


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
        mode: "bias", "carry" or "blind", see `analysis.lesion_modes` (default: "bias", or "carry"
            for cells without gates or without biases).
        pairs: also lesion every pair of layers.
        loss: a function loss(model, sequence) that returns the loss of a sequence in a lesioned
            copy of the model. None: that of the next frame or token, in nats; a module then returns
            a logit for each key of each frame.
        split: split to read (default: test; valid for a text), or the name of that of arrays.
        chorales: names of pieces, or their numbers in the split; none: all of the split.
        length, max_tokens: number of tokens of a text to predict in each sequence (default: 200),
            and in all (default: 20,000).
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
    good = loss is None or callable(loss)
    checks.require(good, "loss", checks.kind(loss), "a function (model, sequence), or None")
    network = copied_network(given.model, device)
    every = places(network)
    mode = check_mode(every, mode)
    if loss is None:
        measure, frames, step, constant = _next_step(network, given, batch_first, at_once)
    else:
        sequences = [*given.sequences]
        checks.require(bool(sequences), "number of sequences", 0, "at least 1")
        measure = partial(module_losses, loss=loss, sequences=sequences)
        frames, step, constant = np.ones(len(sequences)), "", float("nan")
    cases = _cases(every, mode, pairs=pairs)
    lesions = dict.fromkeys([None, *(own for _, own, _ in cases)])  # first unlesioned
    ready, inner = network, ""
    if mode == "carry":
        from analysis.carried import INNER, carried_network

        ready, inner = carried_network(network), INNER
    change = partial(changes, every, ready.state_dict(), inner=inner)
    some = [partial(change, each) if each else dict for each in lesions]
    with reported(progress, "lesion") as advance:
        nll = measure(ready, changed=some, progress=advance).numpy()
    finite = np.isfinite(nll[0]).all()
    checks.require(finite, "loss without lesions", "not finite", "a number")
    if mode == "carry":
        _check_carried(network, measure, nll[0])
    sums = dict(zip(lesions, nll, strict=True))
    own = np.stack([sums[one] for _, one, _ in cases])
    reference = np.stack([sums[other] for *_, other in cases])
    losses, compared = (nats.sum(1) / frames.sum() for nats in (own, reference))
    low, high = paired_interval(own, reference, frames)
    with np.errstate(invalid="ignore"):  # of infinite losses there is no difference
        delta = losses - compared
    return LesionTable(
        network=network_title(given.model),
        data=given.data,
        split=given.split,
        mode=mode,
        step=step,
        sequences=len(frames),
        frames=int(frames.sum()) if loss is None else 0,
        baseline=float(nll[0].sum() / frames.sum()),
        constant=constant,
        row_kind=tuple(kind for kind, *_ in cases),
        label=tuple("+".join(every[k - 1].label for k in own.layers) for _, own, _ in cases),
        loss=losses,
        delta=delta,
        low=low,
        high=high,
    )


def stretches_of(corpus: Any, split: str, **lengths: int) -> list[np.ndarray]:
    """Cut the beginning of a text into sequences."""
    from analysis.texts import stretches  # music needs none

    return stretches(getattr(corpus, split), **lengths)


def _next_step(
    network: nn.Module, given: NetworkAndData, batch_first: bool | None, at_once: int | None
) -> tuple[Callable[..., Tensor], np.ndarray, str, float]:
    """Return a function that computes losses of the next step (K, N) of changed networks, the
    number of predicted steps (N,), the kind of a step, and the loss of the constant predictor.
    """
    task, like = task_of(network, given.sequences), next(network.parameters())
    sequences = task.sequences(given.sequences)
    for i, frames in enumerate(sequences if isinstance(task, Music) else ()):
        others = frames[~np.isin(frames, (0, 1))]  # they have no loss
        checks.require(not others.size, f"number in sequence {i}", others[:1], "0 or 1")
    usable = [sequence for sequence in sequences if len(sequence) > 1]
    checks.require(bool(usable), f"number of {task.step}s to predict", 0, "at least 1")
    constant = task.constant_loss(usable)
    if isinstance(network, RecurrentModel):
        batches = task.batches(usable, like)
        masks = [batch.mask[1:].sum(0, dtype=torch.float64) for batch in batches]
        counts = torch.cat(masks).cpu()
        frames = counts[counts > 0].numpy()  # without rows of padding
        stacked = partial(stacked_nll, task=task, batches=batches, at_once=at_once)
        return stacked, frames, task.step, constant
    x = [task.inputs([sequence], like)[:, 0] for sequence in usable]
    check_causal(network, x[0], batch_first)
    loss = partial(next_frame_nll, batch_first=batch_first)
    one_by_one = partial(module_losses, loss=loss, sequences=x)
    return one_by_one, np.array([len(each) - 1.0 for each in x]), task.step, constant


def _check_carried(network: nn.Module, measure: Callable, nll: np.ndarray) -> None:
    """Raise InvalidInputError if the network with cells that run layer by layer, without a lesion,
    has another loss than nll, the sums (N,) of the layer-by-layer network; or if a layer of
    torch.nn does not start from zeros, which `carry` would not keep.
    """
    run, kinds = partial(measure, network, changed=[dict]), recurrent_modules(network)
    if not isinstance(network, RecurrentModel):
        for name, each in recorded_calls(network, run).items():
            zeros = isinstance(kinds[name], Cell) or not each[0][1].any()
            checks.require(zeros, f"first state of {name}", "not 0", "0, for carry")
    wanted = run()[0].numpy()
    tolerance = torch.finfo(next(network.parameters()).dtype).eps ** 0.5
    same = np.allclose(nll, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())
    cells = ", ".join(dict.fromkeys(type(module).__name__ for module in kinds.values()))
    checks.require(
        same, f"loss by run_layer of {cells}", nll.sum(), f"{wanted.sum()}, that of step"
    )


def _cases(every: Sequence[Place], mode: str, *, pairs: bool) -> list[Case]:
    """Return single layers, pairs, blind controls, and layers compared with their controls."""
    layers = lesioned_layers(every, mode)
    controls = lesioned_layers(every, "blind") if mode != "blind" else []
    single = {(k,): Lesion(mode, (k,)) for k in layers}
    several = {pair: Lesion(mode, pair) for pair in itertools.combinations(layers, 2) if pairs}
    blind = {(k,): Lesion("blind", (k,)) for k in controls}
    kinds: dict[str, dict] = {"layer": single, "pair": several, "blind": blind}
    found: list[Case] = [(kind, own, None) for kind in kinds for own in kinds[kind].values()]
    return found + [("beyond blind", single[k], own) for k, own in blind.items() if k in single]


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
    tensors, columns, done = model.state_dict(), [], 0
    for batch in batches:
        step, parts = at_once or _networks_at_once(model, task, batch.mask), list[Tensor]()
        for start in range(0, len(changed), step):
            some = [change() for change in changed[start : start + step]]
            names = {name: None for c in some for name in c} or {next(iter(tensors)): None}
            own = {name: torch.stack([c.get(name, tensors[name]) for c in some]) for name in names}
            with deterministic():
                nll = Ensemble(model, own, {}).map(task.nll, batch.frames, batch.mask)
            parts.append(nll.cpu())
            done += len(some)
            progress(done, len(changed) * len(batches))
        columns.append(torch.cat(parts)[:, batch.mask[1:].any(0).cpu()])
    return torch.cat(columns, 1)


def _networks_at_once(model: nn.Module, task: Music | Text, mask: Tensor) -> int:
    cells: Iterable[Any] = recurrent_modules(model).values()
    sizes = [(cell.depth, cell.blocks * cell.hidden_size, cell.state_size) for cell in cells]
    numbers = task.width + sum(depth * gates + (depth + 2) * state for depth, gates, state in sizes)
    budget = free_memory(str(mask.device)) // 3 if mask.is_cuda else CPU_BYTES
    return max(1, budget // (mask.numel() * numbers * mask.element_size()))
