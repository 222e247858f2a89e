"""The configuration of a language model's training. The values of the paper's systems are in `rhn.presets.language`."""

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from rhn.data.datasets import TEXT_SETS
from rhn.utils.validation import LARGEST_FLOAT, check_fields, require

if TYPE_CHECKING:
    from rhn.models.dropout import Dropout


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """A training of a language model on a text.

    Raises:
        InvalidInputError: a value is out of range; the message says which and what was expected.
    """

    corpus: str
    """A published text, as `rhn data` names it, or text: a file or folder of your own."""
    unit: Literal["words", "characters"] = "words"
    """What a token is in a text of your own: words or characters."""
    vocabulary_size: int | None = None
    """Keep so many words, the most frequent ones; the others become <unk>. None: all."""
    max_tokens: int | None = None
    """Use at most so many tokens of each split. None: all."""
    cell: str = "rhn"
    """{cells}, or your own as package.module:factory."""
    depth: int = 1
    """Recurrence depth, layers within a step."""
    hidden_size: int = 200
    """Hidden units of each cell."""
    layers: int = 1
    """Cells stacked on each other."""
    tied: bool = False
    """The output layer uses the embedding's weights."""
    embedding_size: int | None = None
    """Numbers a token. None: the hidden size, or the vocabulary's size where that is smaller and the weights are not tied."""
    coupled: bool = True
    """Carry gates are 1 minus the transform gates (rhn)."""
    init: str | None = "uniform:0.04"
    """How weights and biases start: uniform:A, gaussian:STD, identity[:STD], scaled[:GAIN] or orthogonal[:GAIN]; ,bias:B after it
    starts all biases at B. None: as the cell starts by itself (torch.nn's cells where nothing is given)."""
    transform_bias: float | None = -2.0
    """Initial bias of the transform gates. None: they start as `init` says, or the cell has no such gates."""
    gate_constant: float = 0.0
    """Added to what the transform gates see; no parameter, so that no weight decay shrinks it (rhn)."""
    activation: Literal["tanh", "relu", "sigmoid", "linear"] = "tanh"
    """Nonlinearity of the candidate state (rhn)."""
    skip: Literal["all", "last"] = "all"
    """Which layers have a shortcut from the last state: all from the second on, or the last one alone (dts-rnn)."""
    drop_embedding: float = 0.0
    """Share of word types dropped in a window."""
    drop_input: float = 0.0
    """Dropout of a cell's input."""
    drop_hidden: float = 0.0
    """Dropout of the state where it enters the recurrent matrices."""
    drop_output: float = 0.0
    """Dropout before the softmax."""
    drop_candidate: float = 0.0
    """Recurrent dropout: of the candidate before its gate."""
    gate_masks: Literal["shared", "separate"] = "shared"
    """Whether the gates of a cell share their masks (the TensorFlow code) or have their own (the Torch7 code)."""
    batch_size: int = 20
    """Rows that the text is cut into."""
    window: int = 35
    """Steps that the gradient goes back."""
    vary_window: bool = False
    """Windows of random length around `window`, the same ones for every seed (Merity et al. 2017)."""
    learning_rate: float = 0.2
    """Step size of SGD, for a loss in nats summed over a window."""
    lr_decay: float = 1.02
    """Divides the learning rate each epoch after the first `decay_after`."""
    decay_after: int = 20
    """Epochs at the full learning rate."""
    weight_decay: float = 0.0
    """Factor of half the sum of all squared parameters in the loss (or see `weight_decay_form`)."""
    weight_decay_form: Literal["loss", "shrink"] = "loss"
    """loss: weight decay is part of the loss; shrink: weights shrink by it after each step (the Torch7 code)."""
    gradient_norm: float = 10.0
    """Longer gradients are scaled down to this norm."""
    averaging: int | None = None
    """NT-ASGD (Merity et al. 2017): average the weights once validation has not improved for so many epochs. None: never."""
    activation_regularization: float = 0.0
    """Times the mean square of the outputs after their dropout, in nats a token."""
    temporal_activation_regularization: float = 0.0
    """Times the mean square of the outputs' change from step to step, in nats a token."""
    reset_probability: float = 0.0
    """Probability that a row starts a window from the zero state."""
    epochs: int = 500
    """Epochs in all."""
    precision: Literal["float32", "mixed", "tf32"] = "float32"
    """mixed: products with fp16 operands, sums and weights in float32; tf32: on a GPU, recurrent products with operands of 11 bits."""
    seed: int = 0
    """Seed of the initial weights and of all masks."""

    def __post_init__(self):
        from rhn.cells import Initialization  # here, because it loads torch, for which `--help` should not wait

        check_fields(self)
        texts = (*TEXT_SETS, "text")
        require(self, "corpus", self.corpus in texts, f"one of {', '.join(texts)}")
        for name in ("depth", "hidden_size", "layers", "batch_size", "window", "epochs"):
            require(self, name, getattr(self, name) >= 1, "1 or more")
        for name, least in {"vocabulary_size": 1, "max_tokens": 2, "embedding_size": 1, "averaging": 1}.items():
            value = getattr(self, name)
            require(self, name, value is None or value >= least, f"{least} or more, or None")
        for name in ("weight_decay", "activation_regularization", "temporal_activation_regularization"):
            require(self, name, 0 <= getattr(self, name) <= LARGEST_FLOAT, f"0 to {LARGEST_FLOAT:g}")
        for name in ("learning_rate", "gradient_norm"):
            require(
                self, name, 0 < getattr(self, name) <= LARGEST_FLOAT, f"a number above 0, at most {LARGEST_FLOAT:g}"
            )
        require(self, "lr_decay", 1 <= self.lr_decay < math.inf, "1 or more: the learning rate is divided by it")
        require(self, "decay_after", self.decay_after >= 0, "0 or more")
        require(self, "seed", self.seed >= 0, "0 or more")
        require(self, "reset_probability", 0 <= self.reset_probability <= 1, "a probability")
        for name in ("transform_bias", "gate_constant"):
            finite = abs(getattr(self, name) or 0) <= LARGEST_FLOAT
            require(self, name, finite, f"a number of at most {LARGEST_FLOAT:g}")
        fits = not self.tied or self.embedding_size in (None, self.hidden_size)
        require(self, "embedding_size", fits, f"{self.hidden_size}, the hidden size, where the weights are tied")
        _ = (
            self.dropout,
            self.init is None or Initialization.parse(self.init),
        )  # which raise where a rate or the scheme is none

    @property
    def dropout(self) -> "Dropout":
        """The rates of all masks."""
        from rhn.models.dropout import Dropout  # here, because it loads torch, for which `--help` should not wait

        names = ("embedding", "input", "hidden", "output", "candidate")
        return Dropout(**{name: getattr(self, f"drop_{name}") for name in names}, gate_masks=self.gate_masks)

    @property
    def skips_overflow(self) -> bool:
        """Whether a step with a gradient that is not finite leaves the weights as they are: float16 ends at 65504."""
        return self.precision == "mixed"

    @property
    def cell_options(self) -> dict:
        """What the cell is built with beside its sizes."""
        from rhn.models.building import bias_option  # here, because it loads torch, for which `--help` should not wait

        names = ("coupled", "gate_constant", "activation", "skip")
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        options = {name: value for name, value in given.items() if name in names}
        return options | bias_option(self.cell, self.transform_bias)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1 (the official code counts from 0).

        >>> config = LanguageConfig(corpus="ptb", lr_decay=2, decay_after=3)
        >>> [config.rate(epoch) for epoch in (1, 3, 4, 5)]
        [0.2, 0.2, 0.1, 0.05]
        """
        try:
            return self.learning_rate / self.lr_decay ** max(epoch - self.decay_after, 0)
        except OverflowError:
            return 0.0
