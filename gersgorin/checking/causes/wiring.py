"""Causes in the wiring: weights that do not move, a state that is cut, examples that mix, outputs that look ahead, unpaired targets."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gersgorin.checking.activation import graph
from gersgorin.checking.causes.case import SAME, Case
from gersgorin.checking.causes.cause import Cause, listed
from gersgorin.checking.reach import measure_reach
from rhn.utils.wording import counted

PAIRED = 1e-6  # relative change of a loss with permuted targets, from which on it pairs them
SEVERAL = 3  # permutations of the targets


def unpaired_loss(case: Case) -> Iterator[Cause]:
    """The loss does not change when targets are permuted among examples."""
    g, last, y, axis = torch.Generator().manual_seed(0), case.loop.activation, case.y, case.target_axis
    if not y.dim() or y.shape[axis] != case.count or case.count < 3:
        return
    noise = torch.randn(case.output.shape, generator=g).to(case.output)
    z = noise if last is None else last.of(noise)
    if last is None and y.is_floating_point():
        z = y.mean() + y.std() * noise
    orders = [torch.randperm(case.count, generator=g) for _ in range(SEVERAL)]
    others = [other for order in orders if not torch.equal(other := y.index_select(axis, order.to(y.device)), y)]
    own = case.loop.loss_fn(z, y).item()
    changes = [abs(case.loop.loss_fn(z, other).item() - own) for other in others]
    if others and max(changes) <= PAIRED * abs(own) and z.std() > 0:
        yield Cause(
            "unpaired loss",
            f"The loss does not change ({own:.6g}) when targets are permuted among the {case.count} examples of a minibatch, for outputs of shape "
            f"{tuple(z.shape)} and y of shape {tuple(y.shape)}: it does not compare an output with its own target.",
            f"Give y the shape {tuple(z.shape)}, as by y.reshape(output.shape), and take the mean of the loss last.",
            {"loss": own, "change": max(changes)},
            sure=True,
        )


def hidden_weights(case: Case) -> Iterator[Cause]:
    """Weights that are used and are no parameters of the model."""
    of_model = {id(p): name for name, p in case.model.named_parameters()}
    leaves = [v for n in graph(case.loop.loss_fn(case.output, case.y)) if isinstance(v := getattr(n, "variable", None), Tensor)]
    if hidden := [leaf for leaf in leaves if id(leaf) not in of_model]:
        names = listed(sorted({_holder(case.model, leaf) for leaf in hidden}))
        yield Cause(
            "untrained weights",
            f"{counted(len(hidden), 'tensor')} with {sum(leaf.numel() for leaf in hidden):,} weights ({names}) are used and are no parameters of "
            "the model: no optimiser of model.parameters() moves them.",
            "Keep layers in nn.ModuleList or nn.ModuleDict in place of a list or dict, and tensors in nn.Parameter.",
            {"tensors": len(hidden)},
        )


def still_weights(case: Case) -> Iterator[Cause]:
    """Weights that no gradient reaches, that the optimiser does not have, or that are frozen."""
    groups = zip(case.loop.optimizer.param_groups, case.loop.rates, strict=True)
    names = {id(p): name for name, p in case.loop.model.named_parameters()}
    moved = {names[id(p)] for group, rate in groups if rate for p in group["params"]}
    every = [name for name, _ in case.model.named_parameters()]
    still = {name for name, slope in case.gradients.items() if slope is None or not slope.any()}
    reasons = {
        "no gradient reaches": (still, "Remove torch.no_grad(), .detach() and .data around their layer, and use its output."),
        "the optimiser does not have": (case.gradients.keys() - still - moved, "Make the optimiser from model.parameters()."),
        "are frozen": ({*every} - case.gradients.keys(), "Set requires_grad_(True) for them."),
    }
    total = sum(p.numel() for p in case.model.parameters())
    for words, (which, remedy) in reasons.items():
        some = [p for name, p in case.model.named_parameters() if name in which]
        if total > (weights := sum(p.numel() for p in some)) > 0 and case.frames != 1:
            ordered = [name for name in every if name in which]
            tensors = counted(len(ordered), "tensor")
            subject = f"{tensors} {words}" if words == "are frozen" else f"{words.capitalize()} {tensors}"
            yield Cause(
                "untrained weights",
                f"{subject}, {weights / total:.0%} of all weights: {listed(ordered)}.",
                remedy,
                {"share": weights / total, "names": ordered},
            )


def _holder(model: nn.Module, tensor: Tensor) -> str:
    """ "layers[0].weight": the attribute of a module that holds a tensor outside of its parameters."""
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            path = f"{prefix}.{name}".lstrip(".")
            if value is tensor:
                return path
            parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
            for key, part in parts if not name.startswith("_") else ():
                named = part.named_parameters() if isinstance(part, nn.Module) else [("", part)]
                for own, p in named:
                    if p is tensor:
                        return f"{path}[{key!r}]{'.' * bool(own)}{own}"
    return f"a tensor of shape {tuple(tensor.shape)}"


def cut_in_time(case: Case) -> Iterator[Cause]:
    """A state without a gradient through time, or an output that cannot depend on some steps."""
    if case.frames is None or case.frames < 3 or not isinstance(case.x, Tensor) or case.output_axis is None or case.count < 2 or case.mixed:
        return
    last = case.frames - 1
    if case.of_frames:
        if not case.change(case.with_frame(last - 1))[:, last].max() > SAME and not case.change(case.with_frame(0))[:, last].max() > SAME:
            yield Cause(
                "unread steps",
                f"The output at a step depends on the input of that step only, not on the {last} before: the state is not passed on.",
                "Pass the state of each step to the next one.",
                {"frames": case.frames, "read": 1},
            )
            return
    else:
        every = range(case.frames) if case.frames <= 16 else sorted({*range(3), *range(0, case.frames, case.frames // 8), last - 1, last})
        read = [t for t in every if case.change(case.with_frame(t)).max() > SAME]
        if read and (len(read) == 1 or max(read) < min(last, 3)):
            which = "last" if read[-1] == last else "first" if not read[-1] else f"{read[-1] + 1}th"
            axis = 1 - case.axis
            yield Cause(
                "unread steps",
                f"The output depends on the {which} of {case.frames} steps only; other steps cannot be learned from.",
                "Pass the state from step to step, and read the output of the last one: "
                + ("out[:, -1]." if axis == 1 else "out[-1]."),
                {"frames": case.frames, "read": [t + 1 for t in read]},
            )
            return
    reach = measure_reach(case.loop, case.loop.model)
    if reach is not None and len(reach.norms) > 2 and reach.norms[0] > 0 and not reach.norms[1:].any():
        yield Cause(
            "detached state",
            f"The gradient through time is exactly 0: the loss of a step changes with earlier inputs, but no gradient reaches them over {reach.frames} "
            "steps.",
            "Detach the state between minibatches only, not between steps: remove .detach(), .data or torch.no_grad() from the loop over time.",
            {"frames": reach.frames},
        )


def mixed_examples(case: Case) -> Iterator[Cause]:
    """An output that depends on other examples."""
    if others := case.mixed:
        layers = [type(part).__name__ for part in case.model.modules() if isinstance(part, nn.RNNBase) and part.batch_first == bool(case.axis)]
        yield Cause(
            "mixed examples",
            f"Changing one example changes the outputs of {others} of {case.count - 1} others"
            + (f": {layers[0]} takes axis {case.axis} of x {tuple(case.first.shape)}, that of the examples, for time." if layers else "."),
            f"Write nn.{layers[0]}(..., batch_first={not case.axis})."
            if layers
            else "Use transpose or permute in place of view or reshape to swap axes, and take a softmax over units.",
            {"changed": others, "examples": case.count},
        )


def looks_ahead(case: Case) -> Iterator[Cause]:
    """The target is the next input, and the output reads it."""
    if not case.of_frames or not case.frames or case.frames < 3 or not isinstance(case.x, Tensor) or not continues(case):
        return
    t = case.frames // 2
    if case.count > 1 and case.output_axis is not None and case.change(case.with_frame(t + 1))[:, t].max() > SAME:
        both = any(getattr(part, "bidirectional", False) for part in case.model.modules())
        yield Cause(
            "looks ahead",
            "The target of a step is the next input, and the output of that step depends on it"
            + (": the bidirectional layer reads it backwards." if both else "."),
            "Set bidirectional=False." if both else "Let the output at a step depend on this step and earlier ones only.",
            {"frame": t},
        )


def continues(case: Case) -> bool:
    """True if the targets are the next frames of the input."""
    x, y = case.first.movedim(case.axis, 0), case.y.movedim(case.target_axis, 0)
    if x.shape[:2] != y.shape[:2]:
        return False
    x, y = x[:, 1:], y[:, :-1]
    if x.dim() == y.dim() + 1 and not y.is_floating_point():
        x = x.argmax(-1)
    return x.shape == y.shape and torch.equal(x.to(y.dtype), y)
