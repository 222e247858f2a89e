"""Facts: exact statements about one minibatch of a training, without a threshold but rounding.

Each is a function of a `Probe` that returns a `Cause` or None. A fact that prevents learning by
itself is certain, and nothing needs to be trained; any other explains what the swaps show.

    found, missing = facts(probe)        # causes, and sentences about what could not be measured

Legend: B examples, T frames.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from gersgorin._validate import random_numbers_kept
from rhn.errors import USERS_FAULT
from rhn.utils.wording import counted, first_line, listed
from trainability.data import (
    Inputs,
    in_double,
)
from trainability.diagnosis import Cause
from trainability.failures import NOT_FINITE, not_finite, not_finite_examples
from trainability.losses import (
    class_axis,
    free_loss,
    graph,
    is_binary,
    operation,
    takes_logits,
)
from trainability.probe import WRONG, Probe, rows_of
from trainability.reference import is_normalised, predicts_inputs
from trainability.swaps import (
    EVERY_WEIGHT,
    OTHER_AXIS,
    PAIRED,
    USUAL_LOSS,
    default_weights,
    inputs_standardised,
    layers_along,
)
from trainability.training import Training

NUDGES = 1e-5, 1e-6, 1e-8  # of a weight, over which a derivative must not depend on the step
JUMPS, SMOOTH = (3e-2, 1e-2), 0.1  # longer ones; the share of a gradient by which they may differ
STEPS = 3  # of the optimiser, after which a weight that is used has moved
ROUNDING = 1e-6  # relative change of a sum of numbers in single precision
CUT = "Look for .detach(), torch.no_grad(), .data, rounding or a factor 0 on the way to them."
OWN_BACKWARD = "Compare your autograd.Function with torch.autograd.gradcheck."
CUT_ON_PURPOSE = (
    "Look for .detach(), .data or torch.no_grad() in forward; truncated backpropagation does so on "
    "purpose."
)
DROPS = "Look where forward drops what their layer gives."
DRIVE = "Make it from model.parameters()."
EXAMPLES = 4  # whose frames are moved, at most: some may be short, and padded
COLUMNS = 64  # of the targets that are compared with inputs
WITH_LEAST = {"NllLoss", "NllLoss2D", "BinaryCrossEntropyWithLogits"}
"""Losses of torch that have a least value for the arguments that they are made for."""
COPIED, UNREPEATABLE = "target in the input", "unrepeatable output"
PARTIAL = "partial gradient"
NOTES = COPIED, PARTIAL
"""Names of facts that are stated and are no fault: a sound training may show them."""
IDS = 20  # least number of different whole numbers that are read as ids


def no_gradient(probe: Probe) -> Cause | None:
    """No weight gets a gradient: the graph is cut, or the gradient is exactly 0 everywhere."""
    if any(p.requires_grad for p in probe.training.model.parameters()):
        if not probe.output.requires_grad:
            where, part = "The outputs have no gradient in any weight", "network"
        elif not probe.loss.requires_grad:
            where, part = "The loss has no gradient in the outputs", "loss"
        elif any(g is not None and g.any() for g in probe.gradients.values()):
            return None
        else:
            where, part = "The gradient of the loss is exactly 0 in every weight", "network"
    else:
        where, part = "No parameter of the model requires a gradient", "network"
    return Cause(
        "no gradient",
        part,
        f"{where}: no weight moves.",
        "Look for torch.no_grad(), .detach(), .item(), argmax, round or requires_grad_(False), and "
        "for a loss that does not depend on the outputs.",
        sure=True,
    )


def hidden_weights(probe: Probe) -> Cause | None:
    """Weights that the loss uses and that are no parameters of the model."""
    known = {id(p) for p in probe.training.model.parameters()}
    leaves = [getattr(node, "variable", None) for node in graph(probe.loss)]
    hidden = [leaf for leaf in leaves if isinstance(leaf, Tensor) and id(leaf) not in known]
    if not hidden:
        return None
    names = sorted({holder(probe.training.model, leaf) for leaf in hidden})
    return Cause(
        "untrained weights",
        "network",
        f"{counted(sum(leaf.numel() for leaf in hidden), 'number')} that outputs or loss depend on "
        f"and that may be trained are not parameters of the model ({listed(names)}): an optimiser "
        "of model.parameters() never changes them.",
        "Keep layers in nn.ModuleList or nn.ModuleDict instead of a list or dict, and tensors in "
        "nn.Parameter.",
    )


def still_weights(probe: Probe) -> Cause | None:
    """Weights that no output depends on, or that do not move in three steps of the optimiser."""
    sizes = {name: p.numel() for name, p in probe.training.model.named_parameters()}
    for which, part, words, remedy in kinds_of_still(probe):
        share = sum(sizes[name] for name in which) / sum(sizes.values())
        if share:
            return Cause(
                "untrained weights",
                part,
                f"{words} {listed(which)}: {share:.0%} of all weights never move.",
                remedy,
                sure=share == 1,
                evidence={"names": which, "share": share},
                repair=EVERY_WEIGHT if remedy == DRIVE else "",
            )
    return None


def kinds_of_still(probe: Probe) -> list[tuple[list[str], str, str, str]]:
    """(Names of weights that do not move, the part at fault, why in words, the remedy)."""
    reached, names = gradients_of_still(probe), dict[str, list[str]]()
    for name, by_gradient in reached.items():
        names.setdefault(kind_of_still(probe, name, reached=by_gradient), []).append(name)
    kinds = {
        "cut": ("network", "No gradient reaches", CUT),
        "left out": ("optimizer", words_of_left_out(probe.training), DRIVE),
        "at rest": ("optimizer", "The learning rate is 0 for", "Set lr to a rate above 0."),
        "unused": ("network", "No output depends on", DROPS),
        "frozen": ("optimizer", "Frozen are", "Set requires_grad_(True) for them."),
    }
    return [(names[kind], *words) for kind, words in kinds.items() if kind in names]


def kind_of_still(probe: Probe, name: str, *, reached: bool) -> str:
    """Why a weight does not move, in a word; "" if nothing is wrong with it.

    reached: whether a gradient reaches it.
    """
    parameter = probe.training.model.get_parameter(name)
    if not probe.uses(name):
        return "unused"
    if not parameter.requires_grad:
        return "frozen"
    if not reached:
        return "cut" if is_cut(probe, name) else ""
    rate = rates_of(probe.training.optimizer).get(id(parameter))
    return {None: "left out", 0.0: "at rest"}.get(rate, "")


def words_of_left_out(training: Training) -> str:
    """Why weights do not move that the optimiser does not have."""
    own = {id(p) for p in training.model.parameters()}
    others = rates_of(training.optimizer).keys() - own
    if not others:
        return "The optimiser leaves out"
    number = counted(len(others), "tensor")
    return f"The optimiser holds {number} of another network and leaves out"


def rates_of(optimizer: torch.optim.Optimizer) -> dict[int, float]:
    """The learning rates of the parameters of an optimiser, by their identities."""
    groups = optimizer.param_groups
    return {id(p): float(group.get("lr", 1.0)) for group in groups for p in group["params"]}


def gradients_of_still(probe: Probe) -> dict[str, bool]:
    """True if a gradient reaches it, for each weight that does not move in three steps."""
    training = probe.training.copy()
    names = dict(training.model.named_parameters())
    before = {name: p.detach().clone() for name, p in names.items()}
    reached = dict.fromkeys(names, False)
    training.model.train()
    with random_numbers_kept(training.model):
        for x, y in islice(training.data.stream(0), STEPS):
            training.step(x, y)
            for name, p in names.items():
                reached[name] |= p.grad is not None and bool(p.grad.any())
    return {name: hit for name, hit in reached.items() if torch.equal(names[name], before[name])}


def is_cut(probe: Probe, name: str) -> bool:
    """True if a parameter has no gradient with torch's own weights and standard inputs either."""
    if probe.frames == 1:  # of recurrent weights on a first state of zeros
        return False
    other = default_weights(probe.training)
    given = inputs_standardised(other) or other
    output = given.output(probe.x)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    parameter = dict(given.model.named_parameters())[name]
    (slope,) = torch.autograd.grad((output * weights).sum(), [parameter], allow_unused=True)
    return slope is None or not slope.any()


def lost_epsilon(probe: Probe) -> Cause | None:
    """The eps of the optimiser is 0 in the type of its weights: a step may divide by 0."""
    for group in probe.training.optimizer.param_groups:
        eps = group.get("eps")
        for kind in sorted({p.dtype for p in group["params"]}, key=str) if eps else ():
            if not torch.tensor(eps, dtype=kind):
                return Cause(
                    "eps",
                    "optimizer",
                    f"eps={eps:g} of {type(probe.training.optimizer).__name__} is 0 in {kind}, the "
                    "type of the weights: a step with a small gradient divides by 0.",
                    "Keep the weights in float32 (with torch.autocast for speed), or set eps=1e-4.",
                )
    return None


def wrong_gradient(probe: Probe) -> Cause | None:
    """Along the gradient of a weight the loss changes by another amount than autograd says.

    It is wrong if the user has an autograd.Function, else a path is cut.
    """
    training = probe.in_double
    if training is None:
        return None
    x, y = in_double(probe.x), in_double(probe.y)
    names = {n: p for n, p in training.model.named_parameters() if p.requires_grad}
    loss = training.loss(training.output(x), y)
    slopes = torch.autograd.grad(loss, list(names.values()), materialize_grads=True)
    for (name, p), slope in zip(names.items(), slopes, strict=True):
        size = float(slope.norm())
        if size < 1e-6 * abs(loss.item()):
            continue
        near = derivative(partial(change_of_loss, training, x, y, p, slope / size), size)
        if near is not None and abs(near - size) > WRONG * size:
            measured = f"along it the loss changes by {near:.3g} per unit, autograd says {size:.3g}"
            evidence = {"name": name, "change": near, "gradient": size}
            if any(isinstance(node, BackwardCFunction) for node in graph(loss)):
                words, remedy = f"The gradient of {name} is wrong: {measured}.", OWN_BACKWARD
                return Cause("wrong gradient", "network", words, remedy, evidence=evidence)
            words = f"The gradient of {name} leaves out a path: {measured}."
            return Cause(PARTIAL, "network", words, CUT_ON_PURPOSE, evidence=evidence)
    return None


def derivative(change: Callable[[float], float], size: float) -> float | None:
    """The derivative, if changes over steps of any length agree.

    None if not: thresholds lie between, and a gradient may be an estimate on purpose.
    """
    near = [change(step) for step in NUDGES]
    if max(near) - min(near) >= 1e-3 * size:
        return None
    jumps = any(abs(change(step) - near[-1]) > SMOOTH * size for step in JUMPS)
    return None if jumps else near[-1]


@torch.no_grad()
def change_of_loss(
    training: Training, x: Inputs, y: Tensor, p: Tensor, along: Tensor, step: float
) -> float:
    """Change of the loss per unit of a move of a parameter, by a central difference."""
    kept, losses = p.detach().clone(), []
    for sign in (1, -1):
        p.copy_(kept + sign * step * along)
        losses.append(training.loss(training.output(x), y).item())
    p.copy_(kept)
    return (losses[0] - losses[1]) / (2 * step)


def holder(model: nn.Module, tensor: Tensor) -> str:
    """The attribute of a module that holds a tensor outside of its parameters: "layers[0]"."""
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            for key, part in _parts(name, value):
                of_layer = isinstance(part, nn.Module) and any(
                    p is tensor for p in part.parameters()
                )
                if part is tensor or of_layer:
                    return f"{prefix}.{name}".lstrip(".") + key
    return f"a tensor of shape {tuple(tensor.shape)}"


def _parts(name: str, value: object) -> list[tuple[str, object]]:
    """(Index in words, entry) of a list or dictionary in an attribute; the attribute itself."""
    if name.startswith("_") or not isinstance(value, list | tuple | dict):
        return [("", value)]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [(f"[{key!r}]", part) for key, part in items]


def mixed_examples(probe: Probe) -> Cause | None:
    """The output of an example depends on other examples."""
    if not probe.mixed:
        return None
    shape = tuple(probe.first.shape)
    words = f"Changing one example changes the outputs of {probe.mixed} of {probe.count - 1} others"
    remedy = (
        "Swap axes by transpose or permute, not by view or reshape; apply softmax over units; undo "
        "the order of examples that were sorted for packing."
    )
    wrong = layers_along(probe.training.model, 1 - probe.axis) if len(shape) == 3 else []
    if wrong:
        kind = f"nn.{type(wrong[0]).__name__}"
        words += f": {kind} takes axis {probe.axis} of x {shape}, the examples, for time"
        remedy = f"Write {kind}(..., batch_first={not probe.axis})."
    return Cause(
        "mixed examples",
        "network",
        f"{words}.",
        remedy,
        evidence={"changed": probe.mixed},
        repair=OTHER_AXIS if wrong else "",
    )


def unread_inputs(probe: Probe) -> Cause | None:
    """One of several inputs, or numbers of each frame, that no output depends on."""
    if probe.mixed or probe.output_axis is None or gives_equal_outputs(probe):
        return None
    unread = [k for k in range(len(probe.leaves)) if probe.follows(k) and is_unread(probe, k)]
    if unread:
        words = f"No output depends on input {unread[0] + 1} of {len(probe.leaves)}"
    elif lost := unread_features(probe):
        owner = "an example" if probe.frames is None else "a frame"
        words = (
            f"No output depends on {len(lost)} of the {probe.first.shape[-1]} numbers of {owner} "
            f"({listed([str(j) for j in lost])})"
        )
    else:
        return None
    return Cause(
        "unread inputs",
        "network",
        f"{words}: it has no gradient, and changes of three sizes change no output.",
        "Look where forward drops them: an index, a slice, a factor 0, or a name used twice.",
    )


def is_unread(probe: Probe, leaf: int) -> bool:
    """True if no output depends on an input."""
    slopes = probe.slopes(leaf)
    if slopes is not None and slopes.any():
        return False
    return not probe.depends(leaf, torch.ones_like(probe.leaves[leaf], dtype=torch.bool))


def unread_features(probe: Probe) -> list[int]:
    """Numbers of each frame that no output depends on."""
    x = probe.first
    if not probe.follows(0) or x.dim() < 2 or not x.is_floating_point():
        return []
    last = x.dim() - 1
    if last == probe.axis or (last == 1 - probe.axis and probe.frames is not None):
        return []
    lost = probe.unread(0, last)
    return lost if len(lost) < x.shape[-1] else []


def unread_steps(probe: Probe) -> Cause | None:
    """Frames that no output depends on; or an output of a frame depends on that frame only."""
    T = probe.frames
    if T is None or T < 3 or probe.mixed or probe.output_axis is None or not probe.follows(0):
        return None
    if gives_equal_outputs(probe):
        return None
    lost = [] if probe.only_own_frame else probe.unread(0, 1 - probe.axis)
    read = sorted(set(range(T)) - set(lost))
    if probe.only_own_frame or len(read) == 1:
        which = f"frame {read[0] + 1} of {T}" if lost else "its own frame"
        words = f"An output depends only on {which}: nothing can be learned from the others."
        remedy = (
            "Pass the state from step to step. Of an nn.RNN, LSTM or GRU read the last output: "
            "out[:, -1] with batch_first=True, out[-1] without."
        )
    elif lost and not is_padding(probe, lost):
        frames = listed([str(t + 1) for t in lost])
        words = f"No output depends on {counted(len(lost), 'frame')} of {T} ({frames})."
        remedy = "Look for a slice, or for a mask or a reset that zeroes the state in a sequence."
    else:
        return None
    return Cause("unread steps", "network", words, remedy, evidence={"frames": T - len(read) or T})


def is_padding(probe: Probe, lost: list[int]) -> bool:
    """True if there are further inputs, such as lengths, and only the last frames are not read."""
    T = probe.frames or 0
    return len(probe.leaves) > 1 and lost == list(range(T - len(lost), T))


def detached_state(probe: Probe) -> Cause | None:
    """Small changes of earlier frames move the last output, but no gradient reaches them."""
    reached, T = probe.gradient_frames, probe.frames
    if reached is None or T is None or T < 3 or not reached.any():
        return None
    for example in range(min(probe.count, EXAMPLES)):
        moving = probe.moving_frames(example)
        if (moving & ~reached).any():
            break
    else:
        return None
    return Cause(
        "detached state",
        "network",
        f"The last output depends on {int(moving.sum())} of {T} frames, and its gradient reaches "
        f"{int(reached.sum())}.",
        "Remove .detach(), .data and torch.no_grad() between the steps of a sequence.",
        evidence={"depends": int(moving.sum()), "reached": int(reached.sum())},
    )


def looks_ahead(probe: Probe) -> Cause | None:
    """The target of a frame is an input that its output reads, or an id that it reads."""
    T = probe.frames
    if not probe.of_frames or T is None or T < 3:
        return None
    if probe.looks_ahead and predicts_inputs(probe.x, probe.y, probe.axis):
        both = any(getattr(p, "bidirectional", False) for p in probe.training.model.modules())
        remedy = (
            "Set bidirectional=False."
            if both
            else "Let an output depend on its own frame and earlier ones only."
        )
        words = "The target of a frame is a later input, and its output depends on later inputs."
        return Cause("looks ahead", "network", words, remedy)
    ids = not probe.y.is_floating_point()
    if ids and not probe.looks_ahead and copies_input(probe) and probe.reads_own_frame:
        remedy = "Shift the targets: x[:, :-1] and y = x[:, 1:]."
        words = "The target of a frame is the input of this frame, which its output reads."
        return Cause("looks ahead", "targets", words, remedy)
    return None


def copied_target(probe: Probe) -> Cause | None:
    """Real-valued targets equal an entry of their input: a task that may be meant."""
    entry = copied_entry(probe)
    if entry is None:
        return None
    return Cause(
        COPIED,
        "targets",
        f"y{entry[0]} is x{entry[1]} in every example.",
        "If this is not meant, look where the targets are made; a network that recalls it learns.",
    )


def copied_entry(probe: Probe) -> tuple[str, str] | None:
    """(Index into y, index into x) of an entry of the targets that equals one of their inputs."""
    x, y, axis = probe.first, probe.y, probe.axis
    if not (x.is_floating_point() and y.is_floating_point()) or x.dim() != 3 or probe.count < 8:
        return None
    if y.shape[:2] == x.shape[:2]:
        columns = y.reshape(*y.shape[:2], -1)
        place = _column(x.flatten(0, 1), columns.flatten(0, 1))
        return place and (f"[:, :, {place[0]}]" if y.dim() > 2 else "", f"[:, :, {place[1]}]")
    if y.shape[0] != probe.count:
        return None
    place = _column(rows_of(x, axis), rows_of(y, 0))
    if place is None:
        return None
    t, k = divmod(place[1], x.shape[2])
    index = f"[:, {t}, {k}]" if axis == 0 else f"[{t}, :, {k}]"
    return (f"[:, {place[0]}]" if y.dim() > 1 and y[0].numel() > 1 else ""), index


def _column(x: Tensor, y: Tensor) -> tuple[int, int] | None:
    """(Column of y, column of x) that are equal and take more than two values."""
    for k in range(min(y.shape[1], COLUMNS)):
        column = y[:, k : k + 1]
        if len(column.unique()) <= 2:
            continue
        same = (x == column.to(x.dtype)).all(0).nonzero().flatten()
        if len(same):
            return k, int(same[0])
    return None


def copies_input(probe: Probe) -> bool:
    """True if the targets are the inputs of the same frames."""
    x, y = probe.first, probe.y
    if x.dim() == y.dim() + 1 and x.shape[:2] == y.shape[:2]:
        x = x[..., 0] if y.is_floating_point() else x.argmax(-1)
    return x.shape == y.shape and torch.equal(x.to(y.dtype), y)


def unrepeatable_output(probe: Probe) -> Cause | None:
    """Two calls in evaluation mode differ: nothing about dependence is measured then."""
    if not probe.noise or (probe.is_rounding and not probe.kept):
        return None
    words = f"In evaluation mode two calls with the same input differ by up to {probe.noise:.2g}"
    if probe.draws:
        return Cause(
            UNREPEATABLE,
            "network",
            f"{words}: forward draws random numbers.",
            "Draw them in training mode only: F.dropout(..., training=self.training).",
        )
    kept = f" (it changes {listed(probe.kept)})" if probe.kept else ""
    return Cause(
        UNREPEATABLE,
        "network",
        f"{words}: the network keeps something from call to call{kept}.",
        "Begin each minibatch with zeros or a parameter, since its examples are others.",
    )


def unpaired_loss(probe: Probe) -> Cause | None:
    """The loss does not compare each output with the target of the same example."""
    moved = probe.moved_by_a_target
    if moved is None or not probe.is_unpaired:
        return None
    share = float(moved[0] / moved.sum())
    shape = tuple(probe.output.shape)
    return Cause(
        "unpaired loss",
        "loss",
        f"When the target of one example changes, only {share:.0%} of the change of the gradient "
        f"is at its own output: outputs have shape {shape}, y has {tuple(probe.y.shape)}.",
        f"Give y the shape of the outputs, such as y.reshape({shape}), and bring both into one "
        "order of axes by transpose or permute before reshape or flatten.",
        sure=True,
        evidence={"share": share},
        repair=PAIRED if probe.output.numel() == probe.y.numel() else "",
    )


def output_range(probe: Probe) -> Cause | None:
    """The last activation allows no output with a lower loss than a constant, or far from free."""
    last = probe.last_activation
    if last is None:
        return None
    loss, z, y = probe.training.loss, probe.output, probe.y
    constant = free_loss(loss, z, y, last.of, constant=True)
    least = free_loss(loss, z, y, last.of)
    free = free_loss(loss, z, y, lambda z: z)
    if not all(map(math.isfinite, (constant, least))) or free >= least - 0.1 * abs(constant):
        return None
    if least <= 0.1 * abs(constant):
        return None
    twice = last.kind in ("Softmax", "Sigmoid") and takes_logits(loss, z, y)
    scaled = last.is_chosen and y.is_floating_point() and not is_binary(y)
    return Cause(
        "softmax twice" if twice else "output range",
        "loss" if twice else "targets" if scaled else "network",
        f"The outputs are {last.words}, between {last.low:g} and {last.high:g}: the least loss in "
        f"this range is {least:.3g}, that of the best constant output {constant:.3g}.",
        f"Remove {last.words} from the end of the model"
        + (": this loss expects logits." if twice else ", or scale the targets to its range."),
        sure=least >= constant * (1 - ROUNDING),
        evidence={"least": least, "constant": constant},
        repair=USUAL_LOSS if twice else "",
    )


def no_least_loss(probe: Probe) -> Cause | None:
    """The loss falls without end for large outputs: its arguments are of another kind."""
    if probe.last_activation is not None:
        return None
    z, loss = probe.output.detach(), probe.training.loss
    axis = class_axis(z, probe.y)
    if z.numel() == probe.y.numel():
        right = probe.y.reshape(z.shape).to(z.dtype) * 2 - float(is_binary(probe.y))
    elif axis is not None:
        right = torch.zeros_like(z).scatter_(axis, probe.y.clamp_min(0).unsqueeze(axis), 1.0)
    else:
        return None
    with torch.no_grad():
        losses = [loss(size * right, probe.y).item() for size in (1e2, 1e4)]
    if not (losses[1] < 0 and losses[1] < 10 * losses[0] < 0) or are_log_probabilities(z, axis):
        return None
    nodes = {operation(node) for node in graph(probe.loss)}
    return Cause(
        "no least loss",
        "loss",
        f"The loss has no least value: outputs of size 100 take it to {losses[0]:.3g}, of 10,000 "
        f"to {losses[1]:.3g}.",
        "Use nn.CrossEntropyLoss() on outputs without a softmax in place of NLLLoss; targets of a "
        "binary loss lie between 0 and 1.",
        sure=bool(nodes & WITH_LEAST),
    )


def are_log_probabilities(z: Tensor, axis: int | None) -> bool:
    """True if exp of the outputs sums to 1 over the classes: they are bounded by how they arise."""
    return axis is not None and is_normalised(z.exp(), axis)


def equal_outputs(probe: Probe) -> Cause | None:
    """The outputs of all examples are equal although their inputs differ."""
    rows = rows_of(probe.first, probe.axis)
    if probe.count < 2 or (rows == rows[0]).all() or not gives_equal_outputs(probe):
        return None
    last, value = probe.last_activation, probe.before.flatten()[0].item()
    words = f"The outputs of {probe.count} examples are equal ({value:.3g})"
    if last is not None and "oftmax" in last.kind and probe.output.shape[-1] == 1:
        return Cause(
            "constant output",
            "network",
            f"{words}: a softmax over one unit is always 1.",
            "Remove the softmax and use nn.BCEWithLogitsLoss(), or give each class a unit.",
            sure=True,
        )
    part, without = part_of_equal_outputs(probe)
    remedy = f"They differ with {without}." if without else "See which input they depend on."
    zeros = [n for n, p in probe.training.model.named_parameters() if p.dim() > 1 and not p.any()]
    if zeros:
        remedy = f"These weights are all 0: {listed(zeros)}. Leave the layers their own weights."
    return Cause("constant output", part, f"{words}.", remedy)


def gives_equal_outputs(probe: Probe) -> bool:
    """True if the outputs of all examples of a minibatch are equal."""
    if probe.output_axis is None:
        return False
    outputs = rows_of(probe.before, probe.output_axis)
    return torch.equal(outputs, outputs[:1].expand_as(outputs))


def part_of_equal_outputs(probe: Probe) -> tuple[str, str]:
    """(The part without which outputs differ, the change in words); otherwise the network, ""."""
    for part, words, swap in (
        ("inputs", "standardised inputs", inputs_standardised),
        ("initial weights", "the initial weights of torch", default_weights),
    ):
        other = swap(probe.training)
        if other is not None and not gives_equal_outputs(Probe(other)):
            return part, words
    return "network", ""


def equal_targets(probe: Probe) -> Cause | None:
    """All targets of the training are equal."""
    targets = probe.training.data.targets
    first = targets[0].flatten()[:1]
    if sum(len(y) for y in targets if y.dim()) < 2 or not all((y == first).all() for y in targets):
        return None
    return Cause(
        "equal targets",
        "targets",
        f"All targets are {first.item():.4g}: a constant output is perfect, unless your loss does "
        "not read them.",
        "Look where the targets are made.",
    )


def one_step(probe: Probe) -> Cause | None:
    """Sequences of one frame in a recurrent network."""
    recurrent = any(isinstance(p, nn.RNNBase) for p in probe.training.model.modules())
    if probe.frames != 1 or not recurrent:
        return None
    shape = tuple(probe.first.shape)
    return Cause(
        "one step",
        "inputs",
        f"Each sequence has one step: x has shape {shape}, with {probe.count} examples.",
        "Give the steps an axis of their own: x.unsqueeze(-1) for x of shape (examples, steps), or "
        "windows of the series.",
    )


def ids_as_sizes(probe: Probe) -> Cause | None:
    """Whole numbers, one a frame, that a layer reads as sizes."""
    x = probe.first
    if not x.is_floating_point() or x.dim() != 3 or x.shape[-1] != 1 or (x < 0).any():
        return None
    if not torch.equal(x, x.round()) or len(x.unique()) < IDS:
        return None
    return Cause(
        "ids as numbers",
        "inputs",
        f"The inputs are whole numbers up to {x.max():.0f}, {len(x.unique())} different ones, and "
        "the network reads them as sizes.",
        f"If they are ids, begin with nn.Embedding({x.max() + 1:.0f}, 32); if sizes, standardise.",
    )


FACTS: tuple[Callable[[Probe], Cause | None], ...] = (
    not_finite,
    no_gradient,
    unrepeatable_output,
    unpaired_loss,
    no_least_loss,
    output_range,
    mixed_examples,
    hidden_weights,
    unread_steps,
    unread_inputs,
    detached_state,
    still_weights,  # as the weights of a state that is not passed on: what is read explains it
    lost_epsilon,
    wrong_gradient,
    equal_outputs,
    equal_targets,
    looks_ahead,
    copied_target,
    one_step,
    ids_as_sizes,
    not_finite_examples,
)


def facts(probe: Probe, until: float = math.inf) -> tuple[list[Cause], list[str]]:
    """(The causes that are facts, certain ones first; sentences about those not measured).

    until: a time of `time.monotonic` after which no further one is measured.
    """
    found, missing = [], []
    for fact in FACTS:
        if time.monotonic() > until:
            missing.append(f"{fact.__name__.replace('_', ' ')}: no time was left")
            continue
        try:
            cause = fact(probe)
        except USERS_FAULT as error:  # of a module or a loss that takes no such numbers
            missing.append(f"{fact.__name__.replace('_', ' ')}: {first_line(error)}")
            continue
        if cause is not None:
            found.append(cause)
        if cause is not None and (fact is no_gradient or cause.name == NOT_FINITE):
            break
    return sorted(found, key=lambda cause: not cause.sure), missing
