"""Causes in the wiring: weights that do not move, a state that is cut, examples that mix, outputs
that look ahead, unpaired targets.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause, listed
from gersgorin.training.activation import graph, operation

PAIRED = 1e-6  # relative change of a loss with permuted targets, from which on it pairs them
OWN = 0.2  # share of the change of the gradient at an example's own output, if its targets change
FIRST_FRAMES = 8  # that are all tried
SEVERAL = 3  # permutations of the targets
# of weights in single and in double precision, for differences of the loss
NUDGES = (2e-2, 1e-2), (1e-4, 1e-5)
WRONG = 0.05  # relative: a gradient that disagrees with both
FAINT = 1e-2  # of the largest gradient of a weight: smaller ones are not looked at
DETACH = (
    "Detach the state only between minibatches: remove .detach(), .data or no_grad() from "
    "the loop over time."
)


def unpaired_loss(case: Case) -> Iterator[Cause]:
    """The loss does not compare outputs with targets of the same examples."""
    g, last, y, axis = (
        torch.Generator().manual_seed(0),
        case.loop.activation,
        case.y,
        case.target_axis,
    )
    if not y.dim() or y.shape[axis] != case.count or case.count < 3:
        return
    noise = torch.randn(case.output.shape, generator=g).to(case.output)
    tried = [noise if last is None else last.of(noise)]  # also as logarithms
    if last is None and y.is_floating_point():
        tried.append(y.mean() + y.std() * noise)
    orders = [torch.randperm(case.count, generator=g) for _ in range(SEVERAL)]
    others = [
        other
        for order in orders
        if not torch.equal(other := y.index_select(axis, order.to(y.device)), y)
    ]
    losses = [[case.loop.loss_fn(z, each).item() for each in (y, *others)] for z in tried]
    change, z = (
        max(
            abs(each - own) / max(abs(own), 1e-300)
            for own, *rest in losses
            for each in (own, *rest)
        ),
        tried[-1],
    )
    if others and change <= PAIRED and z.std() > 0:
        yield Cause(
            "unpaired loss",
            f"The loss does not change when targets are permuted among {case.count} examples "
            f"(outputs {tuple(z.shape)}, y "
            f"{tuple(y.shape)}): it does not compare each output with its own target.",
            "Give y the shape of the outputs, for example by y.reshape(output.shape), and "
            "average over losses of single examples.",
            {"change": change},
            sure=True,
        )
    elif (
        others
        and case.output_axis is not None
        and (share := _own_share(case, z.detach(), others[0])) < OWN
    ):
        yield Cause(
            "unpaired loss",
            f"When the targets of one example change, only {share:.0%} of the change of the "
            "gradient is at its own outputs "
            f"{tuple(z.shape)}: the loss compares outputs with targets y {tuple(y.shape)} of "
            "other examples.",
            "Bring outputs and y into one order of axes by transpose or permute, before "
            "reshape or flatten.",
            {"share": share},
        )


def _own_share(case: Case, z: Tensor, others: Tensor) -> float:
    """Share of the change of the gradient at the outputs of the examples whose targets are
    replaced; 1 if nothing changes.
    """
    axis, differ = (
        case.target_axis,
        (others != case.y).movedim(case.target_axis, 0).reshape(case.count, -1).any(1),
    )
    rows = differ.nonzero().flatten()[:1]
    y = case.y.clone().index_copy_(axis, rows, others.index_select(axis, rows))
    z = z.requires_grad_()
    slopes = [torch.autograd.grad(case.loop.loss_fn(z, some), z)[0] for some in (case.y, y)]
    changed = (
        (slopes[0] - slopes[1])
        .abs()
        .movedim(case.output_axis or 0, 0)
        .reshape(case.count, -1)
        .sum(1)
    )
    return (changed[rows].sum() / changed.sum()).item() if changed.any() else 1.0


def hidden_weights(case: Case) -> Iterator[Cause]:
    """Weights that are used and are no parameters of the model."""
    known = {id(p) for p in case.model.parameters()}
    nodes = graph(case.loop.loss_fn(case.output, case.y))
    leaves = [leaf for node in nodes if isinstance(leaf := getattr(node, "variable", None), Tensor)]
    if hidden := [leaf for leaf in leaves if id(leaf) not in known]:
        names = listed(sorted({_holder(case.model, leaf) for leaf in hidden}))
        yield Cause(
            "untrained weights",
            f"{sum(leaf.numel() for leaf in hidden):,} weights are used but are not parameters "
            f"of the model ({names}): an optimiser of "
            "model.parameters() never changes them.",
            "Keep layers in nn.ModuleList or nn.ModuleDict instead of a list or dict, and "
            "tensors in nn.Parameter.",
            {"tensors": len(hidden)},
        )


def _holder(model: nn.Module, tensor: Tensor) -> str:
    """ "layers[0]": the attribute of a module that holds a tensor outside of its parameters, or a
    layer with it.
    """
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            path, parts = f"{prefix}.{name}".lstrip("."), {"": value}
            if isinstance(value, list | tuple | dict) and not name.startswith("_"):
                parts = {
                    f"[{key!r}]": part
                    for key, part in (
                        value.items() if isinstance(value, dict) else enumerate(value)
                    )
                }
            for key, part in parts.items():
                if part is tensor or (
                    isinstance(part, nn.Module) and any(p is tensor for p in part.parameters())
                ):
                    return path + key
    return f"a tensor of shape {tuple(tensor.shape)}"


def still_weights(case: Case) -> Iterator[Cause]:
    """Weights that no gradient reaches, that the optimiser does not have, or that are frozen."""
    if case.frames == 1:  # without a gradient in recurrent weights
        return
    sizes = {name: p.numel() for name, p in case.model.named_parameters()}
    cut = {name for name, slope in case.gradients.items() if slope is None}
    zero = {name for name, slope in case.gradients.items() if slope is not None and not slope.any()}
    for which, words, remedy in (
        (
            cut,
            "No gradient reaches",
            "Remove torch.no_grad(), .detach() and .data around their layer, and use its output.",
        ),
        (
            zero,
            "The gradient is exactly 0 in",
            "What they compute is saturated (tanh, sigmoid), switched off (ReLU) or multiplied "
            "by 0: begin with smaller weights, and "
            "look for a factor 0.",
        ),
        (
            case.forgotten - cut - zero,
            "The optimiser does not hold",
            "Make it from model.parameters().",
        ),
        (sizes.keys() - case.gradients.keys(), "Frozen are", "Set requires_grad_(True) for them."),
    ):
        share = sum(sizes[name] for name in which) / sum(sizes.values())
        if 0 < share < 1:
            yield Cause(
                "untrained weights",
                f"{words} {listed([name for name in sizes if name in which])}: {share:.0%} of "
                "all weights.",
                remedy,
                {"share": share, "names": sorted(which)},
            )


def cut_in_time(case: Case) -> Iterator[Cause]:
    """An output that cannot depend on some steps, or a state without a gradient through time."""
    T = case.frames
    if T is None or not _has_time(case):
        return
    several = [*range(min(T, FIRST_FRAMES)), T // 2, T - 2, T - 1]
    if case.of_frames:
        read = [] if any(case.reads(t)[:, -1].any() for t in (T - 2, 0)) else [T - 1]
    else:
        read = [t for t in sorted({*several}) if case.reads(t).any()]
    if read and (len(read) == 1 or read[-1] < min(T - 1, 3)):
        steps, last = (f"step {read[-1] + 1} of {T}", "[:, -1]" if case.axis == 0 else "[-1]")
        steps, last = ("its own step", "") if case.of_frames else (steps, last)
        yield Cause(
            "unread steps",
            f"The output depends only on {steps}: nothing can be learned from the others.",
            "Pass the state from step to step"
            + (f", and read the last output: out{last}." if last else "."),
            {"frames": T, "read": [t + 1 for t in read]},
        )
        return
    if (case.of_frames or T - 2 in read) and case.reached[0] and not case.reached[1:].any():
        words = (
            "is exactly 0: earlier inputs change the output, but the gradient reaches "
            f"none of these {T - 1}"
        )
        yield Cause("detached state", f"The gradient through time {words}.", DETACH, {"frames": T})


def cut_partly(case: Case) -> Iterator[Cause]:
    """A state that is cut after some steps of a sequence."""
    if case.frames is None or not _has_time(case):
        return
    seen = int(case.reached.long().cumprod(0).sum())
    if 1 < seen < case.frames and not case.reached[seen:].any() and case.reads(0).any():
        words = (
            "stops: the first inputs change the output, but the gradient reaches only the "
            f"last {seen} of {case.frames} steps"
        )
        yield Cause(
            "detached state",
            f"The gradient through time {words}.",
            DETACH,
            {"frames": case.frames, "seen": seen},
        )


def half_read(case: Case) -> Iterator[Cause]:
    """A bidirectional layer of which only the last step is read, where its backward half has seen
    one step.
    """
    both = [
        (part, made)
        for part, _, made in case.calls
        if isinstance(part, nn.RNNBase) and part.bidirectional
    ]
    if (
        not both
        or not isinstance(states := both[-1][1][0], Tensor)
        or states.dim() != 3
        or not states.requires_grad
    ):
        return
    layer, (_, final) = both[-1]
    weights = torch.randn(case.output.shape, generator=torch.Generator().manual_seed(0)).to(
        case.output
    )
    ends = [states, *(final if isinstance(final, tuple) else (final,))]
    slopes = torch.autograd.grad(
        (case.output * weights).sum(), ends, retain_graph=True, materialize_grads=True
    )
    forward, backward = (
        half.flatten(1).any(1) for half in slopes[0].movedim(int(layer.batch_first), 0).chunk(2, -1)
    )
    read = any(slope.any() for slope in slopes[1:])
    if (
        len(backward) > 1
        and not read
        and all(half[-1] and not half[:-1].any() for half in (forward, backward))
    ):
        kind, H, first = (
            f"nn.{type(layer).__name__}",
            states.shape[-1] // 2,
            ":, " * layer.batch_first,
        )
        yield Cause(
            "unread steps",
            f"Of {len(backward)} outputs of a bidirectional {kind} only the last is read, "
            "where its backward half has seen one step.",
            f"Read the backward half at the first step: torch.cat([out[{first}-1, :{H}], "
            f"out[{first}0, {H}:]], -1) for out[{first}-1].",
            {
                "frames": len(backward),
                "layer": next(name for name, part in case.model.named_modules() if part is layer),
            },
        )


def softmax_of_one(case: Case) -> Iterator[Cause]:
    """Each softmax over several numbers of an example runs over an axis of one number, and is
    always 1.
    """
    nodes = [node for node in graph(case.output) if operation(node) == "Softmax"]
    shapes = [
        (tuple(n._saved_result.shape), (n._saved_dim + 2**63) % 2**64 - 2**63) for n in nodes
    ]  # autograd has no sign
    several = all(math.prod(shape) > case.count and shape[axis] == 1 for shape, axis in shapes)
    if case.frames != 1 and shapes and several:
        shape, axis = shapes[0]
        yield Cause(
            "softmax over one number",
            f"A softmax inside the network runs over axis {axis} of {shape}, which has one "
            "entry: its results are all 1.",
            "Apply it along the axis of the steps, such as scores.softmax(1) for scores "
            "(examples, steps, 1).",
            {"shape": list(shape), "axis": axis},
        )


def wrong_gradient(case: Case) -> Iterator[Cause]:
    """A gradient that is not that of the loss, as of an own backward: along it the loss changes by
    another amount.
    """
    slopes = {name: slope for name, slope in case.gradients_of_twin().items() if slope is not None}
    sizes = {name: float(slope.norm()) for name, slope in slopes.items()}
    sizes = {name: size for name, size in sizes.items() if size > FAINT * max(sizes.values())}

    def change(*names: str) -> float:
        """Of the loss along the gradients of these weights; NaN if it depends on the size of the
        step.
        """
        along = {name: slopes[name] / sizes[name] for name in names}
        steps = NUDGES[all(slope.dtype == torch.float64 for slope in along.values())]
        far, near = (case.change_along(along, step) for step in steps)
        return near if abs(far - near) <= WRONG / 5 * abs(near) else math.nan

    def wrong(found: float, size: float) -> bool:
        return abs(found - size) > WRONG * max(abs(found), size)

    if not sizes or not wrong(change(*sizes), sum(sizes.values())):
        return
    for name, size in sizes.items():
        if wrong(found := change(name), size):
            yield Cause(
                "wrong gradient",
                f"The gradient of {name} is wrong: along it the loss changes by {found:.3g} "
                f"per unit, autograd says {size:.3g}.",
                "Compare your autograd.Function with torch.autograd.gradcheck; look for a "
                ".detach() or an estimate on the way to it.",
                {"name": name, "change": found, "gradient": size},
            )
            return


def _has_time(case: Case) -> bool:
    """True if frames of numbers or of embedded ids can be followed to the outputs of their own
    examples.
    """
    if (
        (case.frames or 0) < 3
        or not isinstance(case.x, Tensor)
        or case.output_axis is None
        or case.mixed
    ):
        return False
    return case.first.is_floating_point() or any(
        isinstance(part, nn.Embedding) for part in case.model.modules()
    )


def unrepeatable_output(case: Case) -> Iterator[Cause]:
    """Outputs in evaluation mode that differ from call to call."""
    if case.noise:
        yield Cause(
            "unrepeatable output",
            f"In evaluation mode two calls with the same input differ by {case.noise:.1%} of "
            "the largest output.",
            "Something in forward draws random numbers, such as an initial state by "
            "torch.randn, or keeps a state from call to call: "
            "begin each sequence with zeros or a parameter; F.dropout(..., "
            "training=self.training).",
            {"share": case.noise},
        )


def mixed_examples(case: Case) -> Iterator[Cause]:
    """An output that depends on other examples."""
    if not case.mixed:
        return
    layers = [
        (f"nn.{type(part).__name__}", tuple(x.shape))
        for part, x, _ in case.calls
        if isinstance(part, nn.RNNBase)
        and part.batch_first == bool(case.axis)
        and isinstance(x, Tensor)
    ]
    shape = tuple(case.first.shape)
    words = f"Changing one example changes the outputs of {case.mixed} of {case.count - 1} others"
    remedy = (
        "Swap axes by transpose or permute, not by view or reshape; apply softmax over "
        "units; undo the order of examples that "
    )
    remedy += "were sorted for packing."
    if layers:
        kind, given = layers[0]
        if given[:2] == shape[:2]:
            words += f": {kind} treats axis {case.axis} of x {shape}, that of the examples, as time"
            remedy = f"Write {kind}(..., batch_first={not case.axis})."
        else:
            words += f": {kind} reads an input of shape {given} made of x {shape}"
            remedy = (
                f"Swap the axes by transpose or permute before {kind}, in place of view or reshape."
            )
    yield Cause(
        "mixed examples", f"{words}.", remedy, {"changed": case.mixed, "examples": case.count}
    )


def looks_ahead(case: Case) -> Iterator[Cause]:
    """The target is the next input, or the present one, and the output reads it."""
    T = case.frames
    if case.ahead is None or T is None or T < 3 or case.output_axis is None or case.mixed:
        return
    t = T // 2
    later = case.reads(t + 1)[:, t].any()
    if case.ahead == 1 and later:
        both = any(getattr(part, "bidirectional", False) for part in case.model.modules())
        yield Cause(
            "looks ahead",
            "The target of a step is the next input, and the output of that step depends on it"
            + (": the bidirectional layer reads it backwards." if both else "."),
            "Set bidirectional=False."
            if both
            else "Let the output at a step depend on this step and earlier ones only.",
            {"frame": t},
        )
    elif case.ahead == 0 and not later and case.reads(t)[:, t].any():
        yield Cause(
            "looks ahead",
            "The target of a step is the input of this step, which its output reads: the "
            "network learns to copy.",
            "Shift the targets: x[:, :-1] and y = x[:, 1:].",
            {"frame": t},
        )
