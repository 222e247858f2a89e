"""Configurations of training runs, for chorales and for language models on texts. `rhn.presets` has
complete configurations by name.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from rhn.cells.registry import CELLS, accepts, read_options, resolve_cell
from rhn.data.datasets import TEXT_SETS
from rhn.errors import InvalidInputError
from rhn.utils.io import read_json
from rhn.utils.old import (
    CellOptions,
    Count,
    Fraction,
    Natural,
    NonNegative,
    OnOff,
    Positive,
    check_fields,
    require,
    within,
)
from rhn.utils.validation import LARGEST_FLOAT

if TYPE_CHECKING:
    from rhn.models.dropout import Dropout

SMALLEST_EPSILON = 1e-37  # float32 has its 24 bits from 1.2e-38 on


HYPERPARAMETERS = {
    "sgd": ("momentum",),
    "adam": ("beta1", "beta2", "epsilon"),
    "adamw": ("beta1", "beta2", "epsilon"),
    "rmsprop": ("alpha", "epsilon", "momentum"),
}
"""The fields of a configuration that each optimizer reads, in addition to the learning rate and the
weight decay.
"""


CellName = Annotated[
    str, Parameter(help=f"The cell: {', '.join(CELLS)}, or your own as package.module:factory.")
]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The fields that all configurations of training runs share; `rhn train PRESET --help`
    describes them.

    Raises:
        InvalidInputError: a value is out of range. The message names the field and the expected
            value.
    """

    cell: CellName
    depth: Count
    """Recurrence depth: the number of layers within a time step."""
    hidden_size: Count
    """Number of hidden units of each cell."""
    transform_bias: float | None
    """Initial bias of the transform gates. None: `init` or the cell sets this bias, or the cell has
    no transform gates.
    """
    cell_options: CellOptions = field(default_factory=dict)
    """An option of the cell, such as skip=last. Can be given several times."""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    """Optimizer, as in torch.optim. The learning rates of the presets are for sgd; adam needs a
    learning rate of about 0.001.
    """
    learning_rate: Positive
    """Learning rate of the optimizer."""
    momentum: Fraction = 0.0
    """Momentum of sgd and rmsprop."""
    beta1: Fraction = 0.9
    """Decay per step of the running mean of gradients (adam, adamw)."""
    beta2: Fraction = 0.999
    """Decay per step of the running mean of squared gradients (adam, adamw)."""
    alpha: Fraction = 0.99
    """Decay per step of the running mean of squared gradients (rmsprop)."""
    epsilon: Annotated[float, within(least=SMALLEST_EPSILON, most=LARGEST_FLOAT)] = 1e-8
    """Number that is added to the square root of the mean of squared gradients (adam, adamw,
    rmsprop).
    """
    weight_decay: NonNegative = 0.0
    """Factor of the weight decay: this factor times half the sum of all squared parameters is added
    to the loss. For adamw, each step reduces the weights by this factor times the learning rate.
    """
    batch_size: Count
    """Number of sequences in a batch."""
    epochs: Count
    """Maximum number of epochs."""
    patience: Count | None = None
    """Stop after N epochs without a better loss. None: do not stop early."""
    seed: Natural = 0
    """Seed of the initial weights and of everything else that is random."""

    def __post_init__(self):
        check_fields(self)

    @property
    def options(self) -> dict:
        """The options of the cell, without its sizes."""
        bias: dict = {}
        if self.transform_bias is not None or accepts(resolve_cell(self.cell), "transform_bias"):
            bias = {"transform_bias": self.transform_bias}
        return read_options(self.cell, bias | self.cell_options)


@dataclass(frozen=True, kw_only=True)
class ChoraleConfig(TrainingConfig):
    """The configuration of a training run of the polyphonic model on the chorales; errors as for
    `TrainingConfig`.
    """

    learning_rate: Positive
    """Learning rate of the optimizer, for a loss in nats per frame."""
    init_std: Positive | None
    """Standard deviation of the Gaussian initial weights. None: the cell's own initialisation (the
    default for torch.nn's cells).
    """
    momentum: Fraction = 0.9
    batch_size: Count = 32
    """Number of chorales in a batch."""
    epochs: Count = 300
    patience: Count | None = 50
    objective: Literal["train", "valid"] = "valid"
    """The loss that decides which weights are best: the loss on the training data (train) or on the
    validation data (valid).
    """

    @property
    def init(self) -> str | None:
        """The initialisation, as the argument `init` of cells and models."""
        return None if self.init_std is None else f"gaussian:{self.init_std!r}"


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(TrainingConfig):
    """The configuration of a training run of a language model on a text; errors as for
    `TrainingConfig`.
    """

    corpus: str
    """A published text by its name in `rhn data`, or "text" for your own file or folder."""
    unit: Literal["words", "characters"] = "words"
    """Unit of the tokens of your own text: words or characters."""
    vocabulary_size: Count | None = None
    """Keep the N most frequent words; all other words become <unk>. None: keep all words."""
    max_tokens: Annotated[int, within(least=2)] | None = None
    """Use at most N tokens of each split. None: use all tokens."""
    cell: CellName = "rhn"
    depth: Count = 1
    hidden_size: Count = 200
    layers: Count = 1
    """Number of stacked cells."""
    tied: OnOff = False
    """Use the embedding's weights in the output layer."""
    embedding_size: Count | None = None
    """Size of the embedding of a token. None: the hidden size, or the size of the vocabulary if
    the vocabulary is smaller and the weights are not tied.
    """
    init: str | None = "uniform:0.04"
    """Initialisation of weights and biases, with the default of each number in brackets:
    uniform[:A] (0.04), gaussian[:STD] (0.01), identity[:STD] (0.001), scaled[:GAIN] (1),
    orthogonal[:GAIN] (1) or memory[:STEPS] (the steps of a window). Append ,bias:B to set all
    biases to B. None: the cell's own initialisation (the default for torch.nn's cells).
    """
    transform_bias: float | None = -2.0
    drop_embedding: Fraction = 0.0
    """Share of the words (or characters) of the vocabulary that is dropped in a window."""
    drop_input: Fraction = 0.0
    """Dropout rate of a cell's input."""
    drop_hidden: Fraction = 0.0
    """Dropout rate of the state before the recurrent matrices."""
    drop_output: Fraction = 0.0
    """Dropout rate of the outputs before the softmax."""
    drop_candidate: Fraction = 0.0
    """Recurrent dropout: dropout rate of the candidate state before its gate."""
    gate_masks: Literal["shared", "separate"] = "shared"
    """Dropout masks of the gates of a cell. shared: all gates share one mask (as in the TensorFlow
    code). separate: each gate has its own mask (as in the Torch7 code).
    """
    batch_size: Count = 20
    """Number of sequences of the text that are read in parallel."""
    window: Count = 35
    """Number of time steps of truncated backpropagation."""
    vary_window: OnOff = False
    """Use windows of random length around `window`. The lengths are the same for every seed (Merity
    et al. 2017).
    """
    learning_rate: Positive = 0.2
    """Learning rate of the optimizer, for a loss in nats that is summed over the time steps of a
    window.
    """
    lr_decay: Annotated[float, within(least=1, most=LARGEST_FLOAT)] = 1.02
    """After the first `decay_after` epochs, divide the learning rate by this number at the start of
    each epoch.
    """
    decay_after: Natural = 20
    """Number of epochs at the full learning rate."""
    weight_decay_form: Literal["loss", "shrink"] = "loss"
    """How weight decay acts. loss: it is part of the loss. shrink: after each step the weights are
    multiplied by 1 - weight decay (as in the Torch7 code).
    """
    gradient_norm: Positive = 10.0
    """Largest norm of the gradient; a larger gradient is scaled down to this norm."""
    averaging: Count | None = None
    """NT-ASGD (Merity et al. 2017): begin to average the weights after N epochs without a better
    validation loss. None: never average.
    """
    activation_regularization: NonNegative = 0.0
    """Factor of a penalty in the loss on the mean square of the outputs after dropout, in nats per
    token.
    """
    temporal_activation_regularization: NonNegative = 0.0
    """Factor of a penalty in the loss on the mean squared change of the outputs from one time step
    to the next, in nats per token.
    """
    reset_probability: Annotated[float, within(least=0, most=1)] = 0.0
    """Probability that a sequence of the batch begins a window with the zero state instead of the
    state at the end of the previous window.
    """
    epochs: Count = 500

    def __post_init__(self):
        super().__post_init__()
        texts = (*TEXT_SETS, "text")
        require(self, "corpus", self.corpus in texts, f"one of {', '.join(texts)}")

    @property
    def dropout(self) -> "Dropout":
        """The dropout rates at all places."""
        # here, because it loads torch, for which `--help` should not wait
        from rhn.models.dropout import Dropout

        names = ("embedding", "input", "hidden", "output", "candidate")
        rates = {name: getattr(self, f"drop_{name}") for name in names}
        return Dropout(**rates, gate_masks=self.gate_masks)

    def decay(self, epoch: int) -> float:
        """Return the divisor of the learning rate in an epoch. Epochs are counted from 1 (in the
        official code from 0).

        >>> config = LanguageConfig(corpus="ptb", lr_decay=2, decay_after=3)
        >>> [config.decay(epoch) for epoch in (1, 3, 4, 5)]
        [1, 1, 2, 4]
        """
        try:
            return self.lr_decay ** max(epoch - self.decay_after, 0)
        except OverflowError:
            return math.inf


def read_config(file: Path) -> dict:
    """Read a configuration from a JSON file: the config.json of a training run, or a file of your
    own.

    Raises InvalidInputError if the file cannot be read or is not a configuration.
    """
    try:
        content = read_json(file)
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InvalidInputError(f"{file} is not JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("preset", ""), str):
        raise InvalidInputError(
            f'{file} is not a configuration, expected an object such as {{"preset": "ptb-sota"}}'
        )
    return content
