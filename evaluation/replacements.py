"""A training with one part replaced: by that of its repaired copy, or by a plain known good one.

    for part, name, change in replacements(written, repaired):
        changed = change(make(False, seed), make(True, seed))    # fresh copies, None: not possible

Plain torch. Nothing of `trainability` is used, since its answers are judged by these trainings.

Known good: inputs and targets standardised; the loss that belongs to targets and outputs; torch's
own initial weights, or orthogonal recurrent ones with open forget gates; Adam at three rates,
gradients clipped at norm 1; no dropout and no weight decay; a plain loop over shuffled minibatches;
a GRU of 64 units; four times the steps.

Legend: N examples, T frames, K outputs or classes.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler

from evaluation.networks import output_of
from evaluation.threads.trainings import Training

PARTS = (
    *("data", "inputs", "targets", "loss", "initial weights"),
    *("optimizer", "regularization", "order", "network", "length"),
)
RATES = (1e-3, 3e-3, 1e-2)
OF_THE_REPAIRED = "of the repaired training"
SAMPLE = 64  # examples by which two models or losses are compared
STANDARD = 0.1, 0.8, 1.25  # the largest mean, the least and largest deviation of standardised data

Change = Callable[[Training, Training], Training | None]


class Replacement(NamedTuple):
    """One changed training."""

    part: str
    name: str
    change: Change


def replacements(written: Training, repaired: Training) -> Iterator[Replacement]:
    """Yield what can be replaced in a training; parts of the repaired one if the repair changes
    several (if it changes one, that training is the repaired one).
    """
    changed = changed_parts(written, repaired)
    if len(changed) > 1:
        for part in changed:
            yield Replacement(part, OF_THE_REPAIRED, FROM_REPAIRED[part])
    yield from KNOWN_GOOD


# What the repair changes


def changed_parts(written: Training, repaired: Training) -> list[str]:
    """The parts in which two trainings of the same seed differ; data: inputs and targets."""
    inputs, targets = (
        not same(a, b) for a, b in zip(data_of(written), data_of(repaired), strict=True)
    )
    differ = {
        "data": inputs and targets,
        "inputs": inputs and not targets,
        "targets": targets and not inputs,
        "regularization": regularization_of(written) != regularization_of(repaired),
        "optimizer": optimizer_of(written) != optimizer_of(repaired),
        "order": order_of(written) != order_of(repaired),
        "length": written.steps != repaired.steps,
        "network": not same_function(written, repaired),
    }
    differ["initial weights"] = not differ["network"] and not same_size(written, repaired)
    differ["loss"] = not same_loss(written, repaired)
    found = [part for part in PARTS if differ[part]]
    # what cannot be seen from outside: a line of an own loop, or a loss that overflows
    return found or ["loss" if written.fit is None else "order"]


def data_of(training: Training) -> tuple[Tensor, Tensor]:
    """All inputs and targets to train with."""
    if training.y is not None:
        return training.x, training.y
    return training.x.dataset.tensors


def sample_of(training: Training) -> tuple[Tensor, Tensor]:
    """The first examples."""
    axis = training.options.get("batch_axis", 0)
    x, y = data_of(training)
    return x.narrow(axis, 0, min(SAMPLE, x.shape[axis])), y.narrow(
        axis if y.dim() > 2 else 0, 0, min(SAMPLE, y.shape[axis if y.dim() > 2 else 0])
    )


def same(a: Tensor, b: Tensor) -> bool:
    """True if two tensors are equal, NaN included."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), equal_nan=True)


def regularization_of(training: Training) -> tuple[float, ...]:
    """Rates of dropout and weight decays."""
    decays = [group.get("weight_decay", 0.0) for group in training.optimizer.param_groups]
    rates = [m.p for m in training.model.modules() if isinstance(m, nn.Dropout)]
    rates += [m.dropout for m in training.model.modules() if isinstance(m, nn.RNNBase)]
    return (*decays, *rates)


def optimizer_of(training: Training) -> tuple:
    """The optimiser with its options, the weights that it lacks, clipping and schedule."""
    own = training.optimizer
    held = {id(p) for group in own.param_groups for p in group["params"]}
    lacks = [name for name, p in training.model.named_parameters() if id(p) not in held]
    options = [{k: v for k, v in g.items() if k != "params"} for g in own.param_groups]
    for group in options:
        group.pop("weight_decay", None)
    schedule = training.options.get("scheduler")
    numbers = () if schedule is None else (schedule.__dict__.get("gamma"), type(schedule))
    return type(own), options, lacks, training.options.get("clip_norm"), numbers


def order_of(training: Training) -> tuple:
    """What decides which examples come when, as far as it can be seen."""
    loader = training.x if training.y is None else None
    kinds = () if loader is None else (type(loader.dataset), type(loader.sampler))
    return kinds, training.batch_size, training.fit is None


def same_function(written: Training, repaired: Training) -> bool:
    """True if two models with equal weights have equal outputs and gradients."""
    models = copy.deepcopy(written.model).eval(), copy.deepcopy(repaired.model).eval()
    x = sample_of(repaired)[0]
    try:
        models[0].load_state_dict(models[1].state_dict())
        pairs = zip(*(output_and_gradients(model, x) for model in models), strict=True)
        return all(same(a, b) for a, b in pairs)
    except (RuntimeError, IndexError, AttributeError):  # of shapes
        return False


def output_and_gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of its squares for all weights that it depends on."""
    output = output_of(model, x)
    weights = list(model.parameters())
    grads = torch.autograd.grad(output.float().square().sum(), weights, allow_unused=True)
    return [output, *(torch.zeros(()) if g is None else g for g in grads)]


def same_size(written: Training, repaired: Training) -> bool:
    """True if the weights of two equal networks differ no more than two draws do."""
    pairs = zip(written.model.parameters(), repaired.model.parameters(), strict=True)
    return all(alike(a, b) for a, b in pairs)


def alike(a: Tensor, b: Tensor) -> bool:
    """True if the norms of two tensors of weights are about equal; small tensors are not told
    apart.
    """
    low, high = sorted((a.norm().item(), b.norm().item()))
    return a.numel() < 16 or high <= 1.5 * low + 1e-9


def same_loss(written: Training, repaired: Training) -> bool:
    """True if two losses are equal on the outputs of the repaired network."""
    own, other = written.loss_fn, repaired.loss_fn
    if own is other or (isinstance(own, nn.Module) and repr(own) == repr(other) == f"{own}"):
        return True
    try:
        written.model(sample_of(written)[0])  # some losses read what the network keeps
        output = output_of(repaired.model, sample_of(repaired)[0]).detach()
        y = sample_of(repaired)[1]
        return same(own(output, y), other(output, y))
    except (RuntimeError, IndexError, ValueError):
        return False


# Parts of the repaired training


def rebuilt(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The same optimiser with the same options for the weights of another model."""
    accepted = inspect.signature(type(optimizer)).parameters
    options = {k: v for k, v in optimizer.param_groups[0].items() if k in accepted}
    options.pop("params")
    return type(optimizer)([p for p in model.parameters() if p.requires_grad], **options)


def with_optimizer(training: Training, optimizer: torch.optim.Optimizer, like: Training):
    """A training with another optimiser, and the clipping and schedule of a third one."""
    options = {k: v for k, v in training.options.items() if k == "batch_axis"}
    options |= {k: v for k, v in like.options.items() if k == "clip_norm"}
    if "scheduler" in like.options:
        schedule = copy.copy(like.options["scheduler"])
        schedule.optimizer = optimizer
        for group in optimizer.param_groups:
            group["initial_lr"] = schedule.base_lrs[0]
        options["scheduler"] = schedule
    return replace(training, optimizer=optimizer, options=options)


def with_network(written: Training, model: nn.Module) -> Training:
    """A training with another network under the same optimiser, clipping and schedule."""
    return with_optimizer(replace(written, model=model), rebuilt(written.optimizer, model), written)


def data_repaired(written: Training, repaired: Training) -> Training:
    return replace(written, x=repaired.x, y=repaired.y, test=repaired.test, error=repaired.error)


def inputs_repaired(written: Training, repaired: Training) -> Training:
    return replace(written, x=repaired.x, test=repaired.test, error=repaired.error)


def targets_repaired(written: Training, repaired: Training) -> Training:
    return replace(written, y=repaired.y, test=repaired.test, error=repaired.error)


def loss_repaired(written: Training, repaired: Training) -> Training:
    return replace(written, loss_fn=repaired.loss_fn)


def weights_repaired(written: Training, repaired: Training) -> Training:
    written.model.load_state_dict(repaired.model.state_dict())
    return written


def optimizer_repaired(written: Training, repaired: Training) -> Training:
    return with_optimizer(written, rebuilt(repaired.optimizer, written.model), repaired)


def regularization_repaired(written: Training, repaired: Training) -> Training:
    for own, other in zip(written.model.modules(), repaired.model.modules(), strict=True):
        for name in ("p", "dropout"):
            if isinstance(getattr(own, name, None), float):
                setattr(own, name, getattr(other, name))
    for group in written.optimizer.param_groups:
        group["weight_decay"] = repaired.optimizer.param_groups[0]["weight_decay"]
    return written


def order_repaired(written: Training, repaired: Training) -> Training:
    x = written.x if written.y is not None else repaired.x
    return replace(written, x=x, fit=repaired.fit, batch_size=repaired.batch_size)


def network_repaired(written: Training, repaired: Training) -> Training:
    return with_network(written, repaired.model)


def length_repaired(written: Training, repaired: Training) -> Training:
    return replace(written, steps=repaired.steps)


FROM_REPAIRED: dict[str, Change] = {
    "data": data_repaired,
    "inputs": inputs_repaired,
    "targets": targets_repaired,
    "loss": loss_repaired,
    "initial weights": weights_repaired,
    "optimizer": optimizer_repaired,
    "regularization": regularization_repaired,
    "order": order_repaired,
    "network": network_repaired,
    "length": length_repaired,
}


# Known good parts


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each feature: the last axis of three or more, else all together."""
    flat = values.flatten(0, -2) if values.dim() > 2 else values.flatten()
    return flat.mean(0), flat.std(0).clamp_min(1e-6)


def is_standard(mean: Tensor, std: Tensor) -> bool:
    """True if nothing is left to standardise."""
    centred, least, largest = STANDARD
    return bool((mean.abs() < centred).all() and (std > least).all() and (std < largest).all())


def inputs_standardised(written: Training, _: Training) -> Training | None:
    """Every feature with mean 0 and deviation 1, in a hook before the network."""
    x = data_of(written)[0]
    if not x.is_floating_point() or is_standard(*moments(x)):
        return None
    mean, std = moments(x)
    written.model.register_forward_pre_hook(lambda _, inputs: ((inputs[0] - mean) / std,))
    return written


def scaled_targets(written: Training, shift: Tensor, scale: Tensor) -> Training:
    """Targets minus a shift, divided by a scale; outputs are scaled back to be judged."""
    own = written.loss_fn
    written.model.register_forward_hook(
        lambda model, _, output: output if model.training else output * scale + shift
    )
    return replace(written, loss_fn=lambda output, y: own(output, (y - shift) / scale))


def has_real_targets(written: Training) -> bool:
    """True if targets are numbers, not all 0 or 1, one for each output."""
    x, y = sample_of(written)
    if not y.is_floating_point() or bool(((y == 0) | (y == 1)).all()):
        return False
    return output_of(written.model, x).numel() == y.numel()


def targets_standardised(written: Training, _: Training) -> Training | None:
    if not has_real_targets(written):
        return None
    mean, std = moments(data_of(written)[1])
    return None if is_standard(mean, std) else scaled_targets(written, mean, std)


def targets_from_0_to_1(written: Training, _: Training) -> Training | None:
    """If outputs lie there."""
    if not has_real_targets(written) or output_kind(written) != "probability":
        return None
    y = data_of(written)[1]
    if y.min() >= 0 and y.max() <= 1:
        return None
    return scaled_targets(written, y.min(), y.max() - y.min())


@torch.no_grad()
def output_kind(training: Training) -> str:
    """What the outputs are by their values: log-probabilities, probabilities of "classes", a
    "probability", or "numbers".
    """
    output = output_of(training.model.eval(), sample_of(training)[0])
    training.model.train()
    if not output.isfinite().all():
        return "numbers"
    totals = [v.sum(-1) for v in (output.exp(), output)] if output.dim() > 1 else []
    ones = [torch.allclose(v, torch.ones_like(v), atol=1e-3) for v in totals]
    several = output.dim() > 1 and output.shape[-1] > 1
    within = bool((output >= 0).all() and (output <= 1).all())
    if several and ones[0] and (output <= 0).all():
        return "log-probabilities"
    if several and ones[1] and within:
        return "classes"
    return "probability" if within else "numbers"


def usual_loss(written: Training, _: Training) -> Training | None:
    """The loss that belongs to targets and outputs; None if there is none, or it is the same."""
    x, y = sample_of(written)
    output = output_of(written.model, x).detach()
    kind = output_kind(written)
    loss = loss_for(output, y, kind)
    if loss is None:
        return None
    try:
        if same(loss(output, y), written.loss_fn(output, y)):
            return None
    except (RuntimeError, ValueError, IndexError):
        pass  # the loss as written cannot take these outputs once more
    changed = replace(written, loss_fn=loss)
    if written.error is None or not y.is_floating_point() or kind == "numbers":
        return changed
    return replace(changed, error=partial(error_of_probabilities, written.error))


def error_of_probabilities(own: Callable[[nn.Module], float], model: nn.Module) -> float:
    """The owner's measure of probabilities or of their logits, whichever it was meant for."""

    class Logits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.logit(model(x), 1e-6)

    return min(own(model), own(Logits().eval()))


def loss_for(output: Tensor, y: Tensor, kind: str) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Squared error, or cross entropy of probabilities, their logarithms, or logits."""
    if y.is_floating_point():
        if output.numel() != y.numel():
            return None
        if not ((y == 0) | (y == 1)).all():
            return lambda output, y: F.mse_loss(output.reshape(y.shape), y)
        entropy: Any = F.binary_cross_entropy_with_logits
        if kind in ("probability", "classes"):
            entropy = F.binary_cross_entropy
        return lambda output, y: entropy(output.reshape(y.shape), y)
    last = output.dim() == y.dim() + 1 and output.shape[:-1] == y.shape
    first = output.dim() == y.dim() + 1 and (*output.shape[:1], *output.shape[2:]) == y.shape
    if not last and not first:
        return None
    logarithms: dict[str, Callable[[Tensor], Tensor]] = {
        "log-probabilities": lambda z: z,
        "classes": lambda z: z.clamp_min(1e-7).log(),
        "probability": lambda z: z.log_softmax(-1),
        "numbers": lambda z: z.log_softmax(-1),
    }

    def entropy_of_classes(output: Tensor, y: Tensor) -> Tensor:
        logs = logarithms[kind](output if last else output.movedim(1, -1))
        return F.nll_loss(logs.flatten(0, -2), y.flatten())

    return entropy_of_classes


def default_weights(written: Training, _: Training) -> Training | None:
    """What torch draws; None if the weights as written look like it."""
    before = [p.detach().clone() for p in written.model.parameters()]
    for module in written.model.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    after = written.model.parameters()
    return None if all(alike(a, b) for a, b in zip(before, after, strict=True)) else written


def open_gates(written: Training, _: Training) -> Training | None:
    """Orthogonal recurrent weights, biases 0, and 1 for the forget gates of an LSTM; None if there
    is no recurrent layer of torch.
    """
    layers = [m for m in written.model.modules() if isinstance(m, nn.RNNBase | nn.RNNCellBase)]
    for layer in layers:
        for name, weight in layer.named_parameters():
            open_gate(name, weight.detach(), "LSTM" in type(layer).__name__)
    return written if layers else None


def open_gate(name: str, weight: Tensor, is_lstm: bool) -> None:
    """Draw one weight of a recurrent layer."""
    if "weight_hh" in name:
        for gate in weight.split(weight.shape[1]):
            nn.init.orthogonal_(gate)
    elif "weight" in name:
        nn.init.xavier_uniform_(weight)
    else:
        weight.zero_()
    if is_lstm and "bias_ih" in name:
        weight.chunk(4)[1].fill_(1.0)


def longer(written: Training, _: Training) -> Training | None:
    """Four times the steps; None if an own loop decides."""
    return None if written.fit is not None else replace(written, steps=4 * written.steps)


def with_adam(rate: float, written: Training, _: Training) -> Training:
    weights = [p for p in written.model.parameters() if p.requires_grad]
    clipped = replace(written, options={"clip_norm": 1.0})
    return with_optimizer(written, torch.optim.Adam(weights, rate), clipped)


def no_regularization(written: Training, _: Training) -> Training | None:
    """Without dropout and weight decay; None if there is none."""
    if not any(regularization_of(written)):
        return None
    for module in written.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    for group in written.optimizer.param_groups:
        group["weight_decay"] = 0.0
    return written


def shuffled(written: Training, _: Training) -> Training | None:
    """A plain loop over shuffled minibatches; None if it is one."""
    if written.fit is not None:
        return replace(written, fit=None)
    if written.y is not None or isinstance(written.x.sampler, RandomSampler):
        return None
    return replace(written, x=DataLoader(written.x.dataset, written.x.batch_size, shuffle=True))


class Reference(nn.Module):
    """A GRU of 64 units with a linear output of the shape that another network has."""

    def __init__(self, x: Tensor, output: Tensor, kind: str, y: Tensor, both: bool, words: int):
        super().__init__()
        self.kind, self.ids = kind, not x.is_floating_point()
        self.classes_first = (
            output.dim() == 3
            and not y.is_floating_point()
            and (output.shape[1] != y.shape[1] and output.shape[2] == y.shape[-1])
        )
        shape = output.shape[1:]
        shape = shape[::-1] if self.classes_first else shape
        self.frames = shape[0] if len(shape) == 2 else 0
        self.flat = len(shape) == 0
        self.swap = (
            x.dim() == 3
            and self.frames not in (0, x.shape[1])
            and (self.frames == x.shape[2] and not self.ids)
        )
        self.embed = nn.Embedding(words, 64) if self.ids else None
        with torch.no_grad():
            sequence = self.sequence(x)
        if self.frames > sequence.shape[1]:
            raise ValueError("more frames of outputs than of inputs")
        self.rnn = nn.GRU(sequence.shape[2], 64, batch_first=True, bidirectional=both)
        self.out = nn.Linear(64 * (1 + both), shape[-1] if shape else 1)

    def sequence(self, x: Tensor) -> Tensor:
        """Inputs as (N, T, m)."""
        if self.embed is not None:
            return self.embed(x.flatten(1))
        x = x.unsqueeze(2) if x.dim() == 2 else x.flatten(2)
        return x.transpose(1, 2) if self.swap else x

    def forward(self, x: Tensor) -> Tensor:
        states, last = self.rnn(self.sequence(x))
        ends = last[-self.rnn.bidirectional - 1 :].transpose(0, 1).flatten(1)
        every = states if self.frames == x.shape[1] else states[:, -self.frames :]
        output = self.out(every if self.frames else ends)
        if self.kind == "log-probabilities":
            output = output.log_softmax(-1)
        elif self.kind == "classes":
            output = output.softmax(-1)
        elif self.kind == "probability":
            output = output.sigmoid()
        output = output.mT if self.classes_first else output
        return output.squeeze(1) if self.flat else output


def gru(written: Training, repaired: Training) -> Training | None:
    """A GRU of 64 units, whose outputs are of the kind that the repaired network has."""
    if written.options.get("batch_axis"):
        return None
    x, y = sample_of(written)
    with torch.no_grad():
        output = output_of(written.model, x)
    both = any(m.bidirectional for m in written.model.modules() if isinstance(m, nn.RNNBase))
    inputs = data_of(written)[0]
    words = 0 if inputs.is_floating_point() else int(inputs.max()) + 1
    model: Any = Reference(x, output, output_kind(repaired), y, both, words)
    return with_network(written, model)


KNOWN_GOOD = (
    Replacement("inputs", "standardised", inputs_standardised),
    Replacement("targets", "standardised", targets_standardised),
    Replacement("targets", "from 0 to 1", targets_from_0_to_1),
    Replacement("loss", "the usual one", usual_loss),
    Replacement("initial weights", "of torch", default_weights),
    Replacement("initial weights", "orthogonal with open forget gates", open_gates),
    *(Replacement("optimizer", f"Adam {rate:g}", partial(with_adam, rate)) for rate in RATES),
    Replacement("regularization", "none", no_regularization),
    Replacement("order", "shuffled", shuffled),
    Replacement("network", "GRU of 64 units", gru),
    Replacement("length", "four times the steps", longer),
)
