"""Facts about weights: no gradient reaches a weight, the optimiser or the model does not have it,
or it never changes.
"""

import re
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin.validate import random_numbers_kept
from rhn.utils.wording import counted, listed, percent
from trainability.activation import RANGES
from trainability.autograd import dense, ends_of_gradient, graph, operation
from trainability.candidates import trained_parameters
from trainability.cause import Cause
from trainability.data import Inputs, noise_like
from trainability.facts.dependence import ONE_UNIT, equal_outputs, gives_equal_outputs
from trainability.probe import SCALES, Probe, scale
from trainability.scores import TINY
from trainability.swaps import EVERY_WEIGHT, NOT_FROZEN, default_weights, inputs_standardised
from trainability.training import Training

STEPS = 3  # of the optimiser, after which a weight that is used has moved
CUT = "Look for .detach(), torch.no_grad(), .data, rounding or a factor 0 on the way to them."
ONE_STEP_BACKWARD = (
    "At the last frame the output of the backward direction has read one frame. Read its output at "
    "frame 0, or the last state h of each direction."
)
SATURATING = {
    "Clamp",
    "ClampMin",
    "ClampMax",
    "Hardtanh",
    "Hardsigmoid",
    "Elu",
    "Threshold",
    "Maximum",
    "Minimum",
    "Where",
}
"""Operations, besides those of `RANGES`, whose slope is 0 at some inputs."""
STAIRS = {"Round", "Floor", "Ceil", "Trunc", "Sign"}
"""Operations whose slope is 0 at all inputs."""
DROPS = "Look where forward drops the outputs of their layer."
DRIVE = "Make it from model.parameters()."
EPOCH = 64  # minibatches, at most, that are seen before all gradients are called 0
THAW = "Set requires_grad_(True) for them, and give them to the optimiser."
INTENDED = ", unless they stay unchanged on purpose, such as pretrained weights."
REPAIRS = {DRIVE: EVERY_WEIGHT, THAW: NOT_FROZEN}


def no_gradient(probe: Probe) -> Cause | None:
    """Fact: no weight gets a gradient, because autograd has no path to any weight, or because every
    gradient is 0.
    """
    if any(p.requires_grad for p in probe.training.model.parameters()):
        if not probe.output.requires_grad:
            where, part = "The outputs have no gradient in any weight", "network"
        elif not probe.loss.requires_grad:
            where, part = "The loss has no gradient in the outputs", "loss"
        elif moves_a_weight(probe):
            return None
        else:
            return zero_gradient(probe)
    else:
        where, part = "No parameter of the model requires a gradient", "network"
    return Cause(
        "no gradient",
        part,
        f"{where}: no weight moves.",
        "Look for torch.no_grad(), .detach(), .item(), argmax or requires_grad_(False), and "
        "for a loss that does not depend on the outputs.",
        sure=True,
    )


def moves_a_weight(probe: Probe) -> bool:
    """True if a weight has a gradient that is not 0, in the minibatch or in the next ones of an
    epoch.
    """
    if any(g is not None and g.any() for g in probe.gradients.values()):
        return True
    training = probe.training.copy()
    training.model.train()
    weights = [p for p in training.model.parameters() if p.requires_grad]
    for x, y in islice(training.data.stream(0), EPOCH):
        loss = training.loss(training.output(x), y)
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        if any(g is not None and dense(g).any() for g in found):
            return True
    return False


def zero_gradient(probe: Probe) -> Cause:
    """Return the cause for a gradient that is 0 in every weight, with the operation at which it
    ends.
    """
    training, modules = probe.training, dict[Any, tuple[str, str]]()
    with ExitStack() as hooks:
        for path, module in training.model.named_modules():
            keep = partial(keep_module, modules, path)
            hooks.callback(module.register_forward_hook(keep).remove)
        output = training.output(probe.x)
    loss = training.loss(output, probe.y)
    weights = [p for p in training.model.parameters() if p.requires_grad]
    end = next(iter(ends_of_gradient(loss, weights)), None)
    kind = "" if end is None else operation(end)
    one_unit = "oftmax" in kind and output.shape[-1] == 1
    words = "The gradient of the loss is exactly 0 in every weight: no weight moves."
    if kind in (*RANGES, *SATURATING, *STAIRS):
        what = "{1} (self.{0})".format(*modules[end]) if end in modules else operation_name(kind)
        words += f" It ends at {what}, whose slope is 0 at each of its inputs."
    return Cause(
        "no gradient",
        "network" if end is None or end in graph(output) else "loss",
        words,
        ONE_UNIT if one_unit else remedy_of_zero(kind),
        sure=True,
        curable=not (one_unit or kind in STAIRS),
        evidence={"operation": kind},
    )


def operation_name(kind: str) -> str:
    """Return an operation of autograd in words, such as "a sigmoid"."""
    return RANGES[kind][0] if kind in RANGES else kind.lower()


def remedy_of_zero(kind: str) -> str:
    """Return the remedy for an operation at which the gradient ends."""
    if kind in STAIRS:
        return "Leave it out while the network trains: its slope is 0 everywhere."
    if kind in (*RANGES, *SATURATING):
        return "Remove it, scale what it reads, or let trainability.cure draw other weights."
    return (
        "Look for weights or factors of 0, and for outputs that equal their targets; "
        "trainability.cure tries other initial weights."
    )


def keep_module(
    modules: dict[Any, tuple[str, str]], path: str, module: nn.Module, given: tuple, made: object
) -> None:
    """Store (path, class) of the innermost module whose output is a node of autograd, as a forward
    hook.
    """
    if isinstance(made, Tensor) and made.grad_fn is not None and path:
        modules.setdefault(made.grad_fn, (path, type(module).__name__))


def hidden_weights(probe: Probe) -> Cause | None:
    """Fact: the loss depends on trainable tensors that are no parameters of the model, and that the
    optimiser does not have.
    """
    known = {id(p) for p in probe.training.model.parameters()}
    known |= rates_of(probe.training.optimizer).keys()
    leaves = [getattr(node, "variable", None) for node in graph(probe.loss)]
    hidden = [leaf for leaf in leaves if isinstance(leaf, Tensor) and id(leaf) not in known]
    if not hidden:
        return None
    names = sorted({holder(probe.training.model, leaf) for leaf in hidden})
    number = sum(leaf.numel() for leaf in hidden)
    are, them = ("is not a parameter", "it") if number == 1 else ("are not parameters", "them")
    return Cause(
        "untrained weights",
        "network",
        f"Outputs or loss depend on {counted(number, 'trainable number')} that {are} of the model "
        f"({listed(names)}): an optimiser of model.parameters() never changes {them}.",
        "Keep layers in nn.ModuleList or nn.ModuleDict instead of a list or dict, and tensors in "
        "nn.Parameter.",
    )


def holder(model: nn.Module, tensor: Tensor) -> str:
    """Return the attribute of a module that holds a tensor which is no parameter, such as
    "layers[0]".
    """
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
    """(Index in words, entry) for each entry of a list or dictionary; for any other attribute, the
    attribute itself.
    """
    if name.startswith("_") or not isinstance(value, list | tuple | dict):
        return [("", value)]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [(f"[{key!r}]", part) for key, part in items]


def still_weights(probe: Probe) -> Cause | None:
    """Fact: some weights never change, because no output depends on them, or because three
    optimiser steps leave them unchanged.
    """
    sizes = {name: p.numel() for name, p in probe.training.model.named_parameters()}
    for which, part, words, remedy in kinds_of_still(probe):
        share = sum(sizes[name] for name in which) / sum(sizes.values())
        if share:
            return Cause(
                "untrained weights",
                part,
                f"{words} {listed(which)}: {percent(share)} of all weights never move.",
                remedy if share == 1 else remedy.removesuffix(".") + INTENDED,
                sure=share == 1,
                evidence={"names": which, "share": share},
                repair=REPAIRS.get(remedy, ""),
            )
    return None


def kinds_of_still(probe: Probe) -> list[tuple[list[str], str, str, str]]:
    """Return (names of weights that do not change, the part at fault, the reason in words, the
    remedy) for each reason.
    """
    reached, names = gradients_of_still(probe), dict[str, list[str]]()
    for name, by_gradient in reached.items():
        names.setdefault(kind_of_still(probe, name, reached=by_gradient), []).append(name)
    kinds = {
        "cut": ("network", "No gradient reaches", remedy_of_cut(names.get("cut", []))),
        "left out": ("optimizer", words_of_left_out(probe.training), DRIVE),
        "at rest": ("optimizer", "The learning rate is 0 for", "Set lr to a rate above 0."),
        "unused": ("network", "No output depends on", DROPS),
        "frozen": ("network", "requires_grad is False for", THAW),
    }
    return [(names[kind], *words) for kind, words in kinds.items() if kind in names]


def remedy_of_cut(names: list[str]) -> str:
    """Return where to look for the reason why no gradient reaches weights."""
    backward = bool(names) and all(re.search(r"weight_hh_l\d+_reverse$", name) for name in names)
    return ONE_STEP_BACKWARD if backward else CUT


def kind_of_still(probe: Probe, name: str, *, reached: bool) -> str:
    """Return one word for the reason why a weight does not change; "" if nothing is wrong with the
    weight.

    reached: whether a gradient reaches the weight.
    """
    parameter = probe.training.model.get_parameter(name)
    if not is_used(probe, name):
        return "unused"
    if not parameter.requires_grad:
        return "frozen"
    if not reached:
        return "cut" if is_cut(probe, name) else ""
    rate = rates_of(probe.training.optimizer).get(id(parameter))
    return {None: "left out", 0.0: "at rest"}.get(rate, "")


def is_used(probe: Probe, name: str) -> bool:
    """True if an output depends on a parameter: autograd has a path to it, or a change of it
    changes an output.
    """
    if probe.noise:
        return True
    for training in (probe.training, probe.generic):
        parameter = training.model.get_parameter(name)
        kept, wanted = parameter.detach().clone(), parameter.requires_grad
        try:
            parameter.requires_grad_(True)
            output = training.output(probe.x)
            if any(getattr(node, "variable", None) is parameter for node in graph(output)):
                return True
            if moves(training, probe.x, parameter, output):
                return True
        finally:
            with torch.no_grad():
                parameter.copy_(kept)
            parameter.requires_grad_(wanted)
    return False


@torch.no_grad()
def moves(training: Training, x: Inputs, parameter: Tensor, before: Tensor) -> bool:
    """True if the outputs change with a parameter."""
    kept = parameter.detach().clone()
    for k, size in enumerate(SCALES):
        noise = noise_like(kept, k)
        parameter.copy_(kept + size * scale(kept, whole=True) * noise)
        if not torch.equal(training.output(x), before):
            return True
    return False


def words_of_left_out(training: Training) -> str:
    """Return why weights that the optimiser does not have do not change."""
    own = {id(p) for p in training.model.parameters()}
    others = rates_of(training.optimizer).keys() - own
    if not others:
        return "The optimiser leaves out"
    number = counted(len(others), "tensor")
    return f"The optimiser holds {number} of another network and leaves out"


def rates_of(optimizer: torch.optim.Optimizer) -> dict[int, float]:
    """Return the learning rate of each parameter of an optimiser, by the id of the parameter."""
    groups = optimizer.param_groups
    return {id(p): float(group.get("lr", 1.0)) for group in groups for p in group["params"]}


def gradients_of_still(probe: Probe) -> dict[str, bool]:
    """Return, for each weight that three optimiser steps do not change, whether a gradient reaches
    it.
    """
    training = probe.training.copy()
    names = dict(training.model.named_parameters())
    before = {name: p.detach().clone() for name, p in names.items()}
    reached = dict.fromkeys(names, False)
    training.model.train()
    with random_numbers_kept(training.model):
        for x, y in islice(training.data.stream(0), STEPS):
            training.step(x, y)
            for name, p in names.items():
                reached[name] |= p.grad is not None and bool(dense(p.grad).any())
    return {name: hit for name, hit in reached.items() if torch.equal(names[name], before[name])}


def is_cut(probe: Probe, name: str) -> bool:
    """True if a parameter has no gradient with torch's weights and standardised inputs either."""
    if probe.frames == 1:  # of recurrent weights on a first state of zeros
        return False
    other = default_weights(probe.training)
    given = inputs_standardised(other) or other
    output = given.output(probe.x)
    weights = noise_like(output)
    parameter = dict(given.model.named_parameters())[name]
    (slope,) = torch.autograd.grad((output * weights).sum(), [parameter], allow_unused=True)
    return slope is None or not dense(slope).any()


def constant_outputs(probe: Probe) -> Cause | None:
    """Fact: all outputs are equal, and no optimiser step changes that."""
    cause = equal_outputs(probe)
    return None if cause is None or leaves_zero(probe) else cause


def leaves_zero(probe: Probe) -> bool:
    """True if outputs differ after trained weights that are all 0 take one step along their
    gradient.
    """
    other = probe.training.copy()
    with torch.no_grad():
        for name, p in trained_parameters(other).items():
            slope = probe.gradients.get(name)
            if not p.any() and slope is not None:
                p.sub_(slope / slope.norm().clamp_min(TINY))
    return not gives_equal_outputs(Probe(other))
