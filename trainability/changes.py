"""Changes of a training run, each of one part, in the order of the rows.

    run = CHANGES["no dropout, no decay"].apply(run, known)   # in place; None if it does not apply

A change gets a run whose objects are as the user gave them; a `Snapshot` undoes it. Random weights
are drawn from torch's random state.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rhn.utils.torch_private import Dropout, tree_flatten, tree_leaves, tree_map, tree_unflatten
from rhn.utils.validation import is_number
from trainability.gru import LINKS, Interface, Reader
from trainability.initial_weights import reset_
from trainability.scores import CLASSES, NUMBERS, RAW, SIGNS, all_if_none, columns
from trainability.snapshot import Snapshot, restored
from trainability.training import TrainingRun, differs

RATE, CLIP = 0.003, 1.0  # of Adam
NONE, IN_TRAINING, SINGLE = "none", "none, in training mode", "none, single examples"
EVERYTHING, LONGER = "everything", "four times the steps"
ADAM, PLAIN = "Adam 0.003, clip 1", "plain optimiser: your rate, no schedule, no clipping"
TENTH, TEN = "a tenth of the rate", "ten times the rate"


@dataclass(frozen=True)
class Known:
    """What facts know of a run."""

    mixes: bool = False
    """True if outputs change with other examples."""
    low: float = -math.inf
    """The smallest output over random weights."""
    high: float = math.inf
    """The largest output over random weights."""
    of_loss: tuple[Tensor, ...] = ()
    """Parameters that only the loss has."""


def gru(run: TrainingRun, known: Known) -> TrainingRun | None:
    """A GRU in place of the network, trained by the user's optimiser and loss."""
    x, y, _ = run.data.first_minibatch()
    with torch.no_grad():
        output = run.output(x)
    if isinstance(output, Tensor):
        main = run.layout.outputs_first(output)
    elif run.usual:
        main = run.main(output)
    else:
        return None
    last = "" if run.usual else needed(run)
    both = any(getattr(m, "bidirectional", False) for m in run.model.modules())
    plan = Interface.of(x, main, y, run.score)
    model = Reader(run.data.train.x, plan, run.layout, last=last, both=both)
    model = model.to(main.device, main.dtype)
    retarget(run, model)
    return replace(run, model=model, last=last)


def needed(run: TrainingRun) -> str:
    """Return the last operation that the user's loss needs, a key of `LINKS`; "" for none."""
    kind, last = run.score.kind, run.score.last
    if run.score.takes_logits or kind == NUMBERS:
        return ""
    usual = {CLASSES: "LogSoftmax", SIGNS: "Sigmoid"}.get(kind, "")
    return last if last in LINKS else usual


def retarget(run: TrainingRun, model: nn.Module) -> None:
    """Let the optimiser train the weights of another model in place of those of the run's."""
    old, groups = {id(p) for p in run.model.parameters()}, run.optimizer.param_groups
    held = [any(id(p) in old for p in group["params"]) for group in groups]
    for group in groups:
        group["params"] = [p for p in group["params"] if id(p) not in old]
    first = groups[held.index(True) if any(held) else 0]
    first["params"] = [*model.parameters(), *first["params"]]


def adam(run: TrainingRun, known: Known) -> TrainingRun:
    """Adam with clipping, for all weights of the model and the loss."""
    others = [p for group in run.optimizer.param_groups for p in group["params"]]
    weights = {id(p): p for p in [*run.model.parameters(), *others, *known.of_loss]}
    optimizer = torch.optim.Adam([p for p in weights.values() if p.requires_grad], RATE)
    return replace(run, optimizer=optimizer, scheduler=None, clip_norm=CLIP)


def usual_loss(run: TrainingRun, known: Known) -> TrainingRun | None:
    """The usual loss for the kind of targets, if the user's is another one."""
    if run.score.kind == RAW or run.predict is not None:
        return None
    x, y, _ = run.data.first_minibatch()
    other = replace(run, usual=True)
    with restored(run.model, run.loss_fn), torch.no_grad():
        output = run.output(x)
        turned = tree_map(lambda t: t.roll(1, 0) if isinstance(t, Tensor) else t, output)
        pairs = [[one.loss(z, y) for one in (run, other)] for z in (output, turned)]
    same = [not differs(one.reshape(1), two.reshape(1)) for one, two in pairs]
    return None if all(same) else other


def inputs_standardised(run: TrainingRun, known: Known) -> TrainingRun | None:
    """Each feature of x with mean 0 and standard deviation 1; masks of 0 and 1 stay."""
    scales = [
        scale_of(t) if t.is_floating_point() and not ((t == 0) | (t == 1)).all() else None
        for t in tree_leaves(run.data.train.x)
    ]
    if not any(scales):
        return None

    def change(x: Any) -> Any:
        leaves, spec = tree_flatten(x)
        changed = []
        for t, scale in zip(leaves, scales, strict=True):
            if scale is not None:
                mean, spread = scale
                t = (t - mean) / spread
            changed.append(t)
        return tree_unflatten(changed, spec)

    return replace(run, change_x=change)


def targets_standardised(run: TrainingRun, known: Known) -> TrainingRun | None:
    """Each output of y with mean 0 and standard deviation 1."""
    if run.score.kind != NUMBERS or run.predict is not None:
        return None
    y = columns(run.data.train.y)
    y = y.reshape(len(y), -1)
    counted = all_if_none(run.score.counts(y))
    scales = [scale_of(one[kept]) for one, kept in zip(y.T, counted.T, strict=True)]
    means, spreads = zip(*scales, strict=True)
    return replace(run, shift=torch.cat(means), scale=torch.cat(spreads))


def scale_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return (mean, standard deviation) of each feature of numbers (N, ..., m); the deviation of a
    constant feature is 1.

    >>> scale_of(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    (tensor([2., 5.]), tensor([1., 1.]))
    """
    flat = (values.flatten(0, -2) if values.dim() > 1 else values.unsqueeze(1)).double()
    mean, spread = flat.mean(0), flat.std(0, correction=0)
    tiny = torch.finfo(torch.float32).eps * flat.abs().amax(0)
    spread = torch.where(spread > tiny, spread, 1.0)
    kind = values.dtype if values.is_floating_point() else torch.float32
    return mean.to(kind), spread.to(kind)


def targets_in_range(run: TrainingRun, known: Known) -> TrainingRun | None:
    """y moved into the range of the outputs, if it is outside."""
    if run.score.kind != NUMBERS or run.predict is not None:
        return None
    (least, most), low, high = map(float, run.score.targets.aminmax()), known.low, known.high
    if (low <= least and most <= high) or low == high:
        return None
    scale = (most - least) / (high - low) if math.isfinite(high - low) else 1.0
    shift = least - low * scale if math.isfinite(low) else most - high * scale
    return replace(run, shift=torch.tensor(shift), scale=torch.tensor(scale))


def shuffled(run: TrainingRun, known: Known) -> TrainingRun | None:
    """A new order of the examples in each epoch."""
    return None if run.shuffle else replace(run, shuffle=True)


def no_dropout(run: TrainingRun, known: Known) -> TrainingRun | None:
    """No dropout in layers of torch, no weight decay."""
    found = False
    for module in run.model.modules():
        name = "p" if isinstance(module, Dropout) else "dropout"
        rate: Any = getattr(module, name, None)
        if is_number(rate) and rate > 0:
            setattr(module, name, 0.0)
            found = True
    for group in run.optimizer.param_groups:
        found = found or group.get("weight_decay", 0) > 0
        group["weight_decay"] = 0.0
    return run if found else None


def plain_optimizer(run: TrainingRun, known: Known) -> TrainingRun | None:
    """The user's optimiser at its first rate, without schedule and clipping."""
    if run.scheduler is None and run.clip_norm is None:
        return None
    for group in run.optimizer.param_groups:
        if "initial_lr" in group:
            group["lr"] = group["initial_lr"]
    return replace(run, scheduler=None, clip_norm=None)


def tenth_of_rate(run: TrainingRun, known: Known) -> TrainingRun | None:
    """All learning rates divided by ten."""
    return replace(run, factor=0.1) if has_rates(run) else None


def ten_times_rate(run: TrainingRun, known: Known) -> TrainingRun | None:
    """All learning rates multiplied by ten."""
    return replace(run, factor=10.0) if has_rates(run) else None


def has_rates(run: TrainingRun) -> bool:
    """True if each parameter group has a learning rate, as those of most optimisers."""
    return all(group.get("lr") is not None for group in run.optimizer.param_groups)


def torch_weights(run: TrainingRun, known: Known) -> TrainingRun:
    """New initial weights."""
    reset_(run.model)
    return run


def other_axis(run: TrainingRun, known: Known) -> TrainingRun | None:
    """Layers of torch that read the examples along the other axis, if outputs mix examples."""
    layers = [m for m in run.model.modules() if isinstance(getattr(m, "batch_first", None), bool)]
    if not layers or not known.mixes:
        return None
    for layer in layers:
        layer.batch_first = not layer.batch_first  # type: ignore[assignment]
    return run


def everything(run: TrainingRun, known: Known) -> TrainingRun | None:
    """A GRU, Adam, the usual loss, standardised inputs and targets, shuffled."""
    for change in (usual_always, inputs_standardised, targets_standardised, gru, adam, shuffled):
        run = change(run, known) or run
    return run if isinstance(run.model, Reader) else None


def usual_always(run: TrainingRun, known: Known) -> TrainingRun | None:
    """The usual loss, also if the user's is the same."""
    scored = run.score.kind != RAW and run.predict is None
    return replace(run, usual=True) if scored else None


Apply = Callable[[TrainingRun, Known], TrainingRun | None]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One part of a training run that a row replaces."""

    label: str
    apply: Apply
    """Changes a run in place and returns it; None if the change does not apply."""
    meaning: str
    """What is changed, as on the page."""
    may_be_starred: bool = True
    keeps_first_loss: bool = False
    """True if the row has the network, data, loss and first weights of none."""


TABLE = (
    Change(
        label=EVERYTHING,
        apply=everything,
        meaning="A GRU, Adam, the usual loss (yours if it is raw), standardised inputs and "
        "targets, shuffled.",
        may_be_starred=False,
    ),
    Change(
        label="a GRU of 64 units",
        apply=gru,
        meaning="Another network with your loss and your optimiser's settings.",
    ),
    Change(
        label=ADAM,
        apply=adam,
        meaning="Adam for all trainable weights of model, optimiser and loss, without a scheduler.",
        keeps_first_loss=True,
    ),
    Change(
        label="the usual loss",
        apply=usual_loss,
        meaning="`nn.CrossEntropyLoss()`, `nn.BCEWithLogitsLoss()` or `nn.MSELoss()`, with each "
        "output paired with its own target.",
    ),
    Change(
        label="inputs standardised",
        apply=inputs_standardised,
        meaning="Entries of the last axis minus their mean, over their standard deviation (1 for "
        "constant ones). Ids and inputs of only 0 and 1 stay.",
    ),
    Change(
        label="targets standardised",
        apply=targets_standardised,
        meaning="Each output of y minus its mean over training examples, over its standard "
        "deviation (1 for a constant one).",
    ),
    Change(
        label="targets to the range of the outputs",
        apply=targets_in_range,
        meaning="y is shifted into the range of the outputs, and scaled if both ends are finite.",
    ),
    Change(
        label="shuffled",
        apply=shuffled,
        meaning="Each epoch has a new order of the examples.",
    ),
    Change(
        label="no dropout, no decay",
        apply=no_dropout,
        meaning="Dropout of layers is 0, and `weight_decay` of the optimiser is 0.",
    ),
    Change(
        label=PLAIN,
        apply=plain_optimizer,
        meaning="Your optimiser with its initial rate, without a scheduler and without clipping.",
        keeps_first_loss=True,
    ),
    Change(
        label=TENTH,
        apply=tenth_of_rate,
        meaning="All rates of all groups are divided by ten at each step.",
        keeps_first_loss=True,
    ),
    Change(
        label=TEN,
        apply=ten_times_rate,
        meaning="All rates of all groups are multiplied by ten at each step.",
        keeps_first_loss=True,
    ),
    Change(
        label="torch's initial weights",
        apply=torch_weights,
        meaning="New weights: `reset_parameters()` of each layer; other matrices are uniform in "
        "+-1/sqrt(columns).",
    ),
    Change(
        label="examples along the other axis",
        apply=other_axis,
        meaning="`batch_first` of all layers that have it is reversed.",
    ),
)
"""All changes, in the order of the rows."""
CHANGES = {change.label: change for change in TABLE}
ROW_LABELS = (NONE, IN_TRAINING, SINGLE, *CHANGES, LONGER)
"""The labels of all rows, in their order."""
STARRABLE = tuple(change.label for change in TABLE if change.may_be_starred)
KEEPS_FIRST_LOSS = (*(change.label for change in TABLE if change.keeps_first_loss), LONGER)


def parameters_of_loss(loss_fn: Any, model: nn.Module) -> tuple[Tensor, ...]:
    """Return the trainable tensors that a loss holds, and the model does not."""
    own = {id(p) for p in model.parameters()}
    found = Snapshot(loss_fn).tensors
    return tuple(t for t in found if t.is_leaf and t.requires_grad and id(t) not in own)
