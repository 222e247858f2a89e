"""Causes in the output: a range that the targets leave, a distribution taken for logits, an output
that does not move.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause, listed
from gersgorin.checking.causes.data import SATURATED, padding, raw_inputs
from gersgorin.training.activation import Activation

OUT_OF_RANGE = 0.1  # of the constant's loss: the least loss in a range, from which on it is a cause
NEVER = 0.9  # likewise, from which on nothing can be learned
PAIRS = 3  # of examples whose difference is looked at
ROUNDING = 1e-5  # of the gradient of an output: that of a difference of two, which is none
ALIKE = 1e-12  # relative difference of outputs in double precision that are the same
LINE = 1e-6  # second singular value of outputs on a line, relative to the first
FEWEST = 3  # different outputs that may lie on one
MOVED = 0.1  # standard deviation of what is added to the weights: a start may be symmetric
OPENS = 10.0  # times as far apart as before, without a bias that shuts gates
# of the size of the outputs: differences between examples, below which the input hardly shows
FAINT = 1e-3


def output_range(case: Case) -> Iterator[Cause]:
    """The targets lie outside of the range of the last activation."""
    last = case.loop.activation
    if (
        last is None
        or case.loop.before is not None
        or _twice(case)
        or last.axis not in (-1, case.output.dim() - 1)
    ):
        return
    least, constant = case.least_loss(last), case.constant_loss
    if least > OUT_OF_RANGE * constant and least > case.least_loss(None) + OUT_OF_RANGE * constant:
        outside = ((case.y < last.low) | (case.y > last.high)).float().mean().item()
        share = f" ({outside:.0%} of the targets are outside)" * case.y.is_floating_point()
        states = last.words.startswith("the states")
        yield Cause(
            "output range",
            f"The outputs are {last.words}, between {last.low:g} and {last.high:g}{share}: the "
            "lowest loss in this range is "
            f"{least / constant:.3g} times that of the best constant output.",
            f"Add a linear layer after {last.words}."
            if states
            else f"Remove {last.words} from the output, or scale the targets to its range.",
            {"low": last.low, "high": last.high, "least_loss": least, "constant_loss": constant},
            sure=least > NEVER * constant,
        )


def softmax_twice(case: Case) -> Iterator[Cause]:
    """The outputs are probabilities already, and the loss takes a softmax or sigmoid of them; or
    takes no logarithm.
    """
    last = case.loop.activation
    if last is not None and (loss := _twice(case)):
        least, constant = case.least_loss(last), case.constant_loss
        yield Cause(
            "softmax twice",
            f"The outputs are {last.words}, and the loss applies {loss} to them again: it "
            f"cannot fall below {least:.3g}; the best "
            f"constant output has {constant:.3g}.",
            f"Remove {last.words} from the end of the model: this loss expects logits.",
            {"least_loss": least, "constant_loss": constant},
            sure=least > NEVER * constant,
        )


def _twice(case: Case) -> str:
    """The activation that the loss applies to outputs that are probabilities: "a softmax"; else
    empty.
    """
    last, operations = case.loop.activation, case.loss_operations
    if last is None or last.kind not in ("Softmax", "Sigmoid"):
        return ""
    return (
        "a softmax"
        if "LogSoftmax" in operations
        else "a sigmoid" * ("BinaryCrossEntropyWithLogits" in operations)
    )


def labels_beyond(case: Case) -> Iterator[Cause]:
    """Labels that are no probabilities for a loss that takes them for these."""
    if not any(name.startswith("BinaryCrossEntropy") for name in case.loss_operations):
        return
    low, high = case.y.min().item(), case.y.max().item()
    # outputs with a loss below 0, if labels lie beyond 0 and 1
    right = (case.y > 0.5).to(case.output) if case.loop.activation else 100.0 * case.y
    if (
        (low < 0 or high > 1)
        and case.y.shape == case.output.shape
        and case.loop.loss_fn(right, case.y) < 0
    ):
        yield Cause(
            "label range",
            f"The targets run from {low:g} to {high:g}, and the loss treats them as "
            "probabilities: large outputs make it fall below 0 "
            "without limit.",
            f"Rescale them to 0 to 1: y = (y - {low:g}) / {high - low:g}.",
            {"least": low, "largest": high},
        )


def negative_loss(case: Case) -> Iterator[Cause]:
    """A loss of log-probabilities on outputs that are none."""
    last: Activation | None = case.loop.activation
    takes_log = {"Log", "LogSoftmax"} & case.loss_operations
    if "NllLoss" in case.loss_operations and not takes_log and (last is None or last.high > 0):
        words = "unbounded numbers" if last is None else last.words
        yield Cause(
            "no log_softmax",
            f"The loss expects log-probabilities, but the outputs are {words}: it is "
            f"{case.loop.first_loss:.3g} at the start and falls "
            "although nothing is learned.",
            "Use torch.nn.CrossEntropyLoss() on outputs without a softmax.",
            {"first_loss": case.loop.first_loss},
            sure=last is None,
        )


def constant_output(case: Case) -> Iterator[Cause]:
    """The output does not depend on the input, and no step changes that."""
    if (
        case.output_axis is None
        or case.count < PAIRS
        or _equal_inputs(case)
        or not case.spread < ALIKE
    ):
        return
    own = case.output.movedim(case.output_axis, 0)
    weights = torch.randn(own[0].shape, generator=torch.Generator().manual_seed(0)).to(own)
    parameters = [p for p in case.model.parameters() if p.requires_grad]
    single, *pairs = (
        torch.autograd.grad(
            (z * weights).sum(), parameters, retain_graph=True, materialize_grads=True
        )
        for z in (own[0], *(own[k] - own[k - 1] for k in range(PAIRS)))
    )
    if any(
        float(g.norm()) > ROUNDING * float(s.norm())
        for pair in pairs
        for g, s in zip(pair, single, strict=True)
    ):
        return
    one = (
        case.loop.activation is not None
        and "oftmax" in case.loop.activation.kind
        and case.output.shape[-1] == 1
    )
    reason = ": a softmax over one unit is always 1" if one else ", and so are their gradients"
    reasons = [] if one else [*raw_inputs(case), *padding(case)]
    zeros = [name for name, p in case.model.named_parameters() if p.dim() > 1 and not p.any()]
    yield from [replace(cause, sure=True) for cause in reasons[:1]] or [
        Cause(
            "constant output",
            f"The outputs of {case.count} examples are equal "
            f"({case.before.flatten()[0].item():.3g}){reason}. No step changes that.",
            "Remove the softmax and use nn.BCEWithLogitsLoss(), or give each class a unit."
            if one
            else f"These weights are all zero: {listed(zeros)}. Leave the layers their own "
            "initial weights."
            if zeros
            else "Look for a dead ReLU, a layer or weights of zeros, rounding (round, "
            ".long()), inputs that saturate all units, a "
            "normalisation over one number, or an input that is not used.",
            {"spread": case.spread, "one_unit": one, "zeros": zeros},
            sure=True,
        )
    ]


def bottleneck(case: Case) -> Iterator[Cause]:
    """Outputs of three classes or more that all depend on one number, also if the weights are moved
    a little.
    """
    axes = [axis for axis, units in enumerate(case.loop.units.shape) if units > 2]
    if case.regression or len(axes) != 1 or case.spread < ALIKE or case.first[0].numel() == 1:
        return
    last, generator = case.loop.activation, torch.Generator().manual_seed(0)

    def on_a_line(outputs: Tensor) -> bool:
        z = outputs.movedim(axes[0], -1).flatten(0, -2)
        z = (
            z.clamp_min(torch.finfo(z.dtype).tiny).log()
            if last is not None and last.kind == "Softmax"
            else z
        )
        z = z - z.mean(1, keepdim=True)  # which a softmax does not see
        first, second, *_ = torch.linalg.svdvals(z - z.mean(0)).tolist()
        return second < LINE * first and len((z / first / LINE).round().unique(dim=0)) > FEWEST

    def moved(name: str, p: Tensor) -> Tensor:
        return p + MOVED * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)

    if on_a_line(case.before) and on_a_line(case.changed_outputs(moved)):
        classes = case.before.shape[axes[0]]
        yield Cause(
            "bottleneck",
            f"The outputs for {classes} classes depend on one number: those of {case.count} "
            "examples lie on a line.",
            f"Look for a layer of one unit before the last one, and give it {classes} units "
            "or more.",
            {"classes": classes},
        )


def faint_output(case: Case) -> Iterator[Cause]:
    """The outputs of different examples differ by little; by more without the largest bias, if that
    shuts gates.
    """
    if case.output_axis is None or _equal_inputs(case) or not case.spread < FAINT:
        return
    biases = {
        name: p.detach().abs().max().item()
        for name, p in case.model.named_parameters()
        if p.dim() == 1
    }
    shut = max(biases, key=lambda name: biases[name], default="")
    if shut and biases[shut] > SATURATED and case.opened(shut) > OPENS:
        yield Cause(
            "initial weights",
            f"The outputs of {case.count} examples differ by only {case.spread:.1g} of their "
            f"size, and {shut} has values of up to "
            f"{biases[shut]:.3g}, which shut gates.",
            "Leave the layers' own initial biases, or call reset_parameters() of each layer "
            "after everything that changes them.",
            {"spread": case.spread, "name": shut, "largest": biases[shut]},
        )
        return
    layers = sum(
        getattr(part, "num_layers", 1)
        for part in case.model.modules()
        if isinstance(part, nn.RNNBase | nn.RNNCellBase)
    )
    yield Cause(
        "constant output",
        f"The outputs of {case.count} examples differ by only {case.spread:.1g} of their size: "
        "the input fades on its way through "
        f"{'the network' if layers < 2 else f'{layers} recurrent layers'}.",
        "Use fewer layers, more units, shortcuts around layers, or larger initial weights; "
        "gersgorin.cure searches for them.",
        {"spread": case.spread, "layers": layers},
    )


def _equal_inputs(case: Case) -> bool:
    return case.count < 2 or bool((case.first == case.first.narrow(case.axis, 0, 1)).all())


def no_gradient(case: Case) -> Iterator[Cause]:
    """The gradient is exactly zero in each weight, as of a loss that cuts off the outputs."""
    if (
        any(slope is not None and slope.any() for slope in case.gradients.values())
        or case.spread < ALIKE
    ):
        return

    def flat(z: Tensor) -> bool:
        z = z.detach().requires_grad_()
        return not torch.autograd.grad(
            case.loop.loss_fn(z.clone(), case.y), z, materialize_grads=True
        )[0].any()

    z = case.output.detach()
    if flat(z) and not flat(z.sigmoid()):
        yield Cause(
            "output range",
            f"The gradient of the loss is exactly 0 at all outputs, from {z.min():.3g} to "
            f"{z.max():.3g}, but not at numbers between 0 "
            "and 1.",
            "End the network with nn.Sigmoid(), or use a loss of logits, such as "
            "nn.BCEWithLogitsLoss().",
            {"least": z.min().item(), "largest": z.max().item()},
            sure=True,
        )
    else:
        yield Cause(
            "no gradient",
            "The gradient of the loss is exactly 0 in each of the "
            f"{len(case.gradients)} trained tensors: no weight moves.",
            "Look for a dead ReLU, a saturated sigmoid or tanh, or a loss that does not depend "
            "on the outputs: scale the inputs, and "
            "use a loss of logits.",
            {"tensors": len(case.gradients)},
            sure=True,
        )
