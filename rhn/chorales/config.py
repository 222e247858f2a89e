"""The configuration of a training on the chorales. Complete ones by name are in `rhn.presets.chorales`."""

from dataclasses import dataclass
from typing import Literal

from rhn.utils.validation import LARGEST_FLOAT, LARGEST_INIT, check_fields, require

SMALLEST_MIXED = 1e-4  # float16 has its 11 bits from 6e-5 on


@dataclass(frozen=True, kw_only=True)
class ChoraleConfig:
    """A training of the polyphonic model on the chorales.

    Raises:
        InvalidInputError: a value is out of range; the message says which and what was expected.
    """

    cell: str
    """{cells}, or your own as package.module:factory."""
    depth: int
    """Recurrence depth, layers within a step."""
    hidden_size: int
    """Hidden units."""
    learning_rate: float
    """Step size of SGD, for a loss in nats a frame."""
    init_std: float | None
    """Standard deviation of the Gaussian initial weights. None: as the cell starts by itself (the presets with torch.nn's cells)."""
    transform_bias: float | None
    """Initial bias of the transform gates. None: they start at zero, or the cell has no such gates."""
    skip: Literal["all", "last"] = "all"
    """Which layers have a shortcut from the last state: all from the second on, or the last one alone (dts-rnn)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    batch_size: int = 32
    """Chorales a batch."""
    epochs: int = 300
    """At most so many epochs."""
    patience: int = 50
    """Stop after so many epochs without a better loss."""
    objective: Literal["train", "valid"] = "valid"
    """Whose loss decides which weights are best: train or valid."""
    precision: Literal["float32", "mixed", "tf32"] = "float32"
    """mixed: products with fp16 operands, sums and weights in float32; tf32: on a GPU, recurrent products with operands of 11 bits."""
    seed: int = 0
    """Seed of the initial weights and of the order of batches."""

    def __post_init__(self):
        check_fields(self)
        for name in ("depth", "hidden_size", "batch_size", "epochs", "patience"):
            require(self, name, getattr(self, name) >= 1, "1 or more")
        require(self, "seed", self.seed >= 0, "0 or more")
        for name in ("learning_rate", "init_std"):
            most, value = LARGEST_INIT if name == "init_std" else LARGEST_FLOAT, getattr(self, name)
            require(self, name, value is None or 0 < value <= most, f"a number above 0, at most {most:g}")
        enough = self.precision != "mixed" or self.init_std is None or self.init_std >= SMALLEST_MIXED
        require(
            self, "init_std", enough, f"{SMALLEST_MIXED:g} or more with precision mixed, whose float16 ends at 6e-8"
        )
        require(self, "momentum", 0 <= self.momentum < 1, "0 or more and less than 1")
        finite = abs(self.transform_bias or 0) <= LARGEST_FLOAT
        require(self, "transform_bias", finite, f"a number of at most {LARGEST_FLOAT:g}")

    @property
    def cell_options(self) -> dict:
        """What the cell is built with beside its sizes."""
        from rhn.models.building import bias_option  # here, because it loads torch, for which `--help` should not wait

        skip = {} if self.skip == "all" else {"skip": self.skip}
        return skip | bias_option(self.cell, self.transform_bias)
