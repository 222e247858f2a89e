"""Candidates of `cure`: the initial weights and learning rates that a training run allows.

    for start in starts_of(training):
        start.apply(other.model)             # calls functions of `trainability.starts`
        start.code                           # the same as lines of Python
    Change(start, factor=0.1).applied(training)

All initial weights except the user's and torch's set the output bias so that the mean output is the
best constant output.
"""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin.data.layout import Layout, has_batch
from trainability.data import Inputs, sequence_of
from trainability.minima import least
from trainability.optimizers import scaled_rate
from trainability.probe import Probe
from trainability.race import UNCHANGED
from trainability.starts import (
    blocks_of,
    cell_layers,
    chrono_,
    default_,
    identity_,
    memories,
    normal_,
    orthogonal_,
    remembering_,
)
from trainability.training import Training

EXAMPLES = 128  # for the mean output and the best constant output
GIVEN, OUTPUT_BIAS, CHRONO = "your weights", "output bias at the best constant", "chrono gates"
NORMAL, ORTHOGONAL, IDENTITY = "matrices of 1/sqrt(n)", "orthogonal matrices", "identity matrices"
MEMORY, DEFAULT = "sensing and remembering units", "torch's initial weights"
SEEDS = range(5, 13)  # of `default_`, that of its default first: a draw may have no gradient
SIMPLICITY = {GIVEN: 0, OUTPUT_BIAS: 1, DEFAULT: 1, CHRONO: 2}  # of initial weights; 3: matrices


@dataclass(frozen=True)
class Start:
    """Initial weights: functions of `trainability.starts` that set them, then an output bias. Two
    objects are equal if their words are equal.
    """

    words: str
    """The initial weights in words, such as "orthogonal matrices, chrono gates"."""
    calls: tuple[tuple[Callable[..., None], Mapping[str, Any]], ...] = field(
        default=(), compare=False
    )
    """Functions that change a model in place, each with its further arguments."""
    bias: tuple[str, list[float]] | None = field(default=None, compare=False)
    """(Name of the output bias, its values); None: the bias is not changed."""

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Set the initial weights of a model, in place."""
        for function, options in self.calls:
            function(model, **options)
        if self.bias is not None:
            name, values = self.bias
            model.get_parameter(name).copy_(torch.tensor(values))

    @property
    def code(self) -> str:
        """Lines of Python that change `model` as `apply` does; "" for the user's own weights."""
        lines = ["import trainability.starts"] if self.calls else []
        for function, options in self.calls:
            given = "".join(f", {name}={value!r}" for name, value in options.items() if value)
            lines.append(filled(f"trainability.starts.{function.__name__}(model{given})"))
        if self.bias is not None:
            name, values = self.bias
            put = f"    model.get_parameter({name!r}).copy_(torch.tensor({values}))"
            lines += ["import torch", "with torch.no_grad():", filled(put)]
        return "".join(f"{line}\n" for line in lines)


def filled(line: str) -> str:
    """Return a long statement wrapped to lines of at most 79 characters."""
    return textwrap.fill(
        line, 79, subsequent_indent="        ", break_long_words=False, break_on_hyphens=False
    )


def starts_of(training: Training) -> Iterator[Start]:
    """Yield the user's initial weights, then all others that fit the network."""
    called = training.copy()  # a normalisation counts its calls, a parametrisation keeps values
    x, y = training.data.sample(EXAMPLES)
    outputs = called.output(x)
    bias = output_bias_of(trained_parameters(called), outputs)
    constant = None if bias is None else constant_of_least_loss(training, outputs.detach(), y)
    yield Start(GIVEN)
    for start in (Start(OUTPUT_BIAS), *_redrawn(called, x, bias, seed_of_default(training))):
        if bias is not None and constant is not None and start.words != DEFAULT:
            start = with_bias(start, training, x, bias, constant)
        if start.calls or start.bias:
            yield start


def _redrawn(
    training: Training, x: Inputs, bias: str | None, seed: dict[str, int]
) -> Iterator[Start]:
    """Yield newly drawn initial weights. bias: name of the output bias. seed: argument of
    `default_`.
    """
    model, trained = training.model, trained_parameters(training)
    names = tuple(name for name, _ in model.named_parameters() if name not in trained)
    blocks = [b for b in blocks_of(model, keep=names) if b.name != bias]
    if all(b.is_bias for b in blocks):
        return
    norms, frames = data_norms(training, x), frame_count(sequence_of(x), training.layout)
    drawn: dict[str, Any] = {"norms": norms, "keep": names}
    chrono = (chrono_, {"frames": frames, "keep": names})
    has_gates = any(b.memory for b in blocks)
    yield Start(DEFAULT, ((default_, {"keep": names} | seed),))
    if has_gates:
        yield Start(CHRONO, (chrono,))
    yield Start(NORMAL, ((normal_, drawn),))
    if any(b.recurrent for b in blocks):
        yield Start(ORTHOGONAL, ((orthogonal_, drawn),))
        if has_gates:
            yield Start(f"{ORTHOGONAL}, {CHRONO}", ((orthogonal_, drawn), chrono))
        else:
            yield Start(IDENTITY, ((identity_, drawn),))
    if frames > 1 and memories(model, frames, names):
        yield Start(MEMORY, ((remembering_, {"frames": frames} | drawn),))


def seed_of_default(training: Training) -> dict[str, int]:
    """Return the argument of `default_` for the first seed with which a weight gets a gradient; {}
    if it is the usual seed.
    """
    trained = trained_parameters(training)
    keep = [name for name, _ in training.model.named_parameters() if name not in trained]
    for seed in SEEDS:
        other = training.copy()
        default_(other.model, seed=seed, keep=keep)
        if any(g is not None and g.any() for g in Probe(other).gradients.values()):
            return {} if seed == SEEDS[0] else {"seed": seed}
    return {}


@torch.no_grad()
def with_bias(start: Start, training: Training, x: Inputs, name: str, constant: Tensor) -> Start:
    """Return initial weights whose output bias makes the mean output equal to the best constant
    output.
    """
    other = training.copy()
    start.apply(other.model)
    bias = other.model.get_parameter(name)
    values = bias + constant - other.output(x).flatten(0, -2).mean(0)
    if not values.isfinite().all():
        return start
    return replace(start, bias=(name, [float(f"{v:.5g}") for v in values.tolist()]))


@torch.enable_grad()
def constant_of_least_loss(training: Training, outputs: Tensor, y: Tensor) -> Tensor | None:
    """Return the constant output (K,) with the least loss; None if there is none."""

    def loss(z: Tensor) -> Tensor:
        return training.loss(z.expand(outputs.shape).clone(), y)

    _, z = least(loss, torch.zeros_like(outputs[(0,) * (outputs.dim() - 1)]))
    return z if torch.isfinite(z).all() else None


def frame_count(x: Tensor, layout: Layout) -> int:
    """Return the number of frames of sequences of numbers, images or ids; 1 if x has no frames."""
    return layout.sizes(x)[0] if has_batch(x, ids=not x.is_floating_point()) else 1


def trained_parameters(training: Training) -> dict[str, Tensor]:
    """Return the parameters that the optimiser changes, by name."""
    moved = set[int]()
    for group in training.optimizer.param_groups:
        if group.get("initial_lr") or group.get("lr", 1.0):
            moved |= {id(p) for p in group["params"] if p.requires_grad}
    return {name: p for name, p in training.model.named_parameters() if id(p) in moved}


def output_bias_of(parameters: Mapping[str, Tensor], outputs: Tensor) -> str | None:
    """Return the name of the parameter that is added to every output (..., K); None if there is
    none.

    The gradient of such a parameter is the sum of the gradients of all outputs.
    """
    likely = {name: p for name, p in parameters.items() if p.shape == outputs.shape[-1:]}
    if not likely or outputs.dim() < 2 or not outputs.requires_grad:
        return None
    generator = torch.Generator().manual_seed(0)
    slope = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype).to(outputs)
    found = torch.autograd.grad((outputs * slope).sum(), list(likely.values()), allow_unused=True)
    total = slope.flatten(0, -2).sum(0)
    tolerance = (1e-5, 1e-8) if outputs.dtype == torch.float64 else (1e-3, 1e-4)
    for name, gradient in zip(likely, found, strict=True):
        if gradient is not None and torch.allclose(gradient, total, *tolerance):
            return name
    return None


@torch.enable_grad()
def data_norms(training: Training, x: Inputs) -> dict[str, float]:
    """Return the root mean square norm of the data that each module reads, by the module's name.

    Outputs of trained parts do not count as data.
    """
    sizes: dict[nn.Module, float] = {}

    def look(module: nn.Module, given: tuple) -> None:
        value = given[0] if given else None
        value = value.data if isinstance(value, nn.utils.rnn.PackedSequence) else value
        if isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad:
            sizes.setdefault(module, float(value.detach().square().sum(-1).mean().sqrt()))

    with ExitStack() as hooks:
        for module in training.model.modules():
            hooks.enter_context(module.register_forward_pre_hook(look))
        training.output(x)
    return {
        path: float(f"{sizes[module]:.4g}")
        for path, module in training.model.named_modules()
        if 0 < sizes.get(module, 0) < math.inf and any(layer.input for layer in cell_layers(module))
    }


@dataclass(frozen=True)
class Change:
    """Initial weights and a learning rate that `cure` may try."""

    start: Start
    factor: float = 1.0
    """Factor on the user's learning rates."""
    adam: float | None = None
    """Learning rate of Adam instead of the user's optimiser; None: the user's optimiser."""

    def applied(self, training: Training) -> Training:
        """Return a copy of a training run with this change."""
        other = training.copy() if self.factor == 1 else training.with_rates(self.factor)
        self.start.apply(other.model)
        if self.adam is not None:
            other.optimizer = torch.optim.Adam(other.model.parameters(), self.adam)
            other.scheduler = None
        return other

    def rate(self, training: Training) -> float:
        """Return the learning rate of the changed run; with a scheduler, the rate at the start
        (`initial_lr` of the optimiser's parameter groups).
        """
        return self.adam or scaled_rate(training.learning_rate, self.factor)

    def words(self, training: Training) -> str:
        """Return the change in words, such as "orthogonal matrices, learning rate 0.01"."""
        parts = [self.start.words] if self.start.words != GIVEN else []
        if self.adam is not None:
            parts.append(f"Adam {self.adam:.3g}")
        elif self.factor != 1:
            parts.append(f"learning rate {self.rate(training):.3g}")
        return ", ".join(parts) or UNCHANGED.what

    def slower(self, factor: float) -> "Change":
        """Return the same initial weights with the learning rate multiplied by a factor."""
        if self.adam is not None:
            return replace(self, adam=scaled_rate(self.adam, factor))
        return replace(self, factor=self.factor * factor)

    @property
    def size(self) -> tuple[float, ...]:
        """The size of the change, as a sort key."""
        return (
            SIMPLICITY.get(self.start.words, 3),
            self.adam is not None,
            abs(math.log(self.factor)),
        )
