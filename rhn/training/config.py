"""Configurations of training runs on chorales and on texts; `rhn.training.presets` has presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from rhn.cells.options import accepts, read_options
from rhn.cells.registry import resolve_cell
from rhn.utils.validation import (
    LARGEST_FLOAT,
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Range,
    check_values,
    unexpected,
)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The fields that all configurations share. Raises InvalidInputError for a value that is not of
    the type or in the range of its field.
    """

    cell: str
    """The cell: rnn, irnn, dt-rnn, dts-rnn, rhn, lstm, gru, or package.module:factory."""
    depth: Count
    """Recurrence depth: the number of layers within a time step."""
    hidden_size: Count
    """Number of units of a cell."""
    transform_bias: float | None
    """Initial bias of the transform gates. None: that of `init`, or no such gates."""
    cell_options: dict = field(default_factory=dict)
    """An option of the cell, such as skip=last. Can be given several times."""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    """Optimizer, as in torch.optim, with momentum, beta1, beta2, alpha and epsilon."""
    learning_rate: Positive
    """Learning rate, for a loss in nats per frame, or in nats summed over a window of a text."""
    momentum: Fraction = 0.0
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    alpha: Fraction = 0.99
    epsilon: Annotated[float, Range(least=1e-37, most=LARGEST_FLOAT)] = 1e-8
    weight_decay: NonNegative = 0.0
    """Factor of half the sum of all squared parameters in the loss; adamw: as in torch.optim."""
    batch_size: Count
    """Number of chorales in a batch, or of parts of the text that are read in parallel."""
    epochs: Count
    """Maximum number of epochs."""
    patience: Count | None = None
    """Stop after N epochs without a better loss. None: do not stop early."""
    seed: Natural = 0
    """Seed of the initial weights, the minibatch order and the dropout masks."""

    def __post_init__(self):
        check_values(self)

    @property
    def options(self) -> dict:
        """The options of the cell, without its sizes."""
        bias: dict = {}
        if self.transform_bias is not None or accepts(resolve_cell(self.cell), "transform_bias"):
            bias = {"transform_bias": self.transform_bias}
        return read_options(self.cell, bias | self.cell_options)


@dataclass(frozen=True, kw_only=True)
class ChoraleConfig(TrainingConfig):
    """The configuration of a training run of the polyphonic model on the chorales."""

    init_std: Positive | None
    """Standard deviation of the Gaussian initial weights for chorales. None: the cell's own."""
    momentum: Fraction = 0.9
    batch_size: Count = 32
    epochs: Count = 300
    patience: Count | None = 50
    objective: Literal["train", "valid"] = "valid"
    """The loss that decides which weights are best."""

    @property
    def init(self) -> str | None:
        """The initialisation, as the argument `init` of cells and models."""
        return None if self.init_std is None else f"gaussian:{self.init_std!r}"


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(TrainingConfig):
    """The configuration of a training run of a language model on a text."""

    corpus: str
    """A published text of `rhn data`, or "text" for your own."""
    unit: Literal["words", "characters"] = "words"
    """Unit of the tokens of your own text."""
    vocabulary_size: Count | None = None
    """Keep the N most frequent words; all others become <unk>. None: keep all."""
    max_tokens: Annotated[int, Range(least=2)] | None = None
    """Use at most N tokens of each split. None: all."""
    cell: str = "rhn"
    depth: Count = 1
    hidden_size: Count = 200
    layers: Count = 1
    """Number of stacked cells."""
    tied: bool = False
    """Use the embedding's weights in the output layer."""
    embedding_size: Count | None = None
    """Size of the embedding. None: hidden_size, or untied the size of a smaller vocabulary."""
    init: str | None = "uniform:0.04"
    """Initial weights for a text: uniform[:A] (0.04), gaussian[:STD] (0.01), identity[:STD]
    (0.001), scaled[:GAIN] (1), orthogonal[:GAIN] (1) or memory[:STEPS] (a window); ,bias:B sets all
    biases. None: the cell's.
    """
    transform_bias: float | None = -2.0
    drop_embedding: Fraction = 0.0
    """Share of the words of the vocabulary that is dropped in a window."""
    drop_input: Fraction = 0.0
    drop_hidden: Fraction = 0.0
    drop_output: Fraction = 0.0
    drop_candidate: Fraction = 0.0
    gate_masks: Literal["shared", "separate"] = "shared"
    """Whether the gates of a cell share a dropout mask, or each has its own."""
    batch_size: Count = 20
    window: Count = 35
    """Number of time steps of truncated backpropagation."""
    learning_rate: Positive = 0.2
    lr_decay: Annotated[float, Range(least=1, most=LARGEST_FLOAT)] = 1.02
    """Divide the learning rate by this number at each epoch after the first `decay_after`."""
    decay_after: Natural = 20
    weight_decay_form: Literal["loss", "shrink"] = "loss"
    """In the loss; or multiply the weights by 1 - weight decay after each step."""
    gradient_norm: Positive = 10.0
    """Largest norm of the gradient; a larger gradient is scaled down to this norm."""
    epochs: Count = 500

    @property
    def dropout(self) -> Any:
        """The dropout rates at all places, a `rhn.models.dropout.Dropout`."""
        from rhn.models.dropout import Dropout  # loads torch, for which `--help` does not wait

        names = ("embedding", "input", "hidden", "output", "candidate")
        rates = {name: getattr(self, f"drop_{name}") for name in names}
        return Dropout(**rates, gate_masks=self.gate_masks)

    def decay(self, epoch: int) -> float:
        """Return the divisor of the learning rate in an epoch, counted from 1.

        >>> config = LanguageConfig(corpus="ptb", lr_decay=2, decay_after=3)
        >>> [config.decay(epoch) for epoch in (1, 3, 4, 5)]
        [1, 1, 2, 4]
        """
        try:
            return self.lr_decay ** max(epoch - self.decay_after, 0)
        except OverflowError:
            return math.inf


REMOVED = {
    "vary_window": False,
    "averaging": None,
    "activation_regularization": 0.0,
    "temporal_activation_regularization": 0.0,
    "reset_probability": 0.0,
}
"""Fields of files of versions before 0.9.0, with the values that training has now."""


def without_removed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a stored configuration without those of older versions.

    >>> without_removed({"depth": 2, "averaging": 5})
    {'depth': 2}
    """
    return {name: value for name, value in fields.items() if name not in REMOVED}


def trainable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `without_removed(fields)`. Raises InvalidInputError if a removed field has another
    value than training has now.
    """
    for name, value in REMOVED.items():
        if fields.get(name, value) != value:
            expected = f"{value}, the only value since version 0.9.0"
            raise unexpected(name, fields[name], expected)
    return without_removed(fields)
