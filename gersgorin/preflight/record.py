"""What a check found: the training that was asked about, what is expected of it, and the numbers behind that. No torch."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gersgorin.preflight.words import summary, verdict
from rhn.errors import InvalidInputError
from rhn.files import finite_json
from rhn.result import Result

if TYPE_CHECKING:
    from gersgorin.preflight.gains import Gains

MOST = 10**9  # batches or epochs


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is going to be trained, by SGD on the mean loss of a frame. Raises InvalidInputError."""

    learning_rate: float
    momentum: float = 0.9
    epochs: int = 300
    batches: int = 1
    """Steps of SGD an epoch."""

    def __post_init__(self):
        for name, fits, expected in (
            ("learning_rate", lambda v: 0 < v < math.inf, "a number above 0"),
            ("momentum", lambda v: 0 <= v < 1, "0 or more and less than 1"),
            ("epochs", lambda v: 1 <= v <= MOST and v == int(v), "a whole number of at least 1"),
            ("batches", lambda v: 1 <= v <= MOST and v == int(v), "a whole number of at least 1"),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
                raise InvalidInputError(f"the {name.replace('_', ' ')} is {value}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is expected of one network under one training."""

    escape_epochs: float
    """Epochs on the plateau; infinite where it is not seen to leave."""
    ended: str
    """How the way off the plateau ended, see `gersgorin.saddle.escape.Trajectory`."""
    probability: float | None
    """That it learns: that its loss gets a tenth below the best constant output's. None: not known."""
    interval: tuple[float, float] | None
    """Exact, 95 %, of the share of study networks like it that learned."""
    networks: int = 0
    """How many those are."""
    learned: int = 0


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A change, and what is expected of the changed network."""

    change: str
    """In words, with the option's name: "initialise with 1/sqrt(n) (init scaled)"."""
    option: dict[str, Any]
    """What to give instead: {"init": "scaled"}."""
    outlook: Outlook


@dataclass(frozen=True, kw_only=True, repr=False)
class Check(Result):
    """All that was found. `verdict` is one sentence, `summary()` a page, `to_json()` what the command prints."""

    name: str
    training: Training
    outlook: Outlook
    order: float
    """Of the plateau: how steeply the rate of learning falls with the scale of all weights."""
    rates: dict[str, float]
    """||dL/dW|| / ||W|| on the plateau, by matrix."""
    constant_loss: float
    """What a network reaches that ignores its input."""
    first_loss: float
    """What it has before training."""
    weight_scale: float | None
    """Root mean square of the recurrent weights."""
    unlike: str | None
    """Why the probability is not known; None where it is."""
    loss_unit: str = "nats a frame"
    """Of both losses."""
    again: str | None = None
    """Where it diverged when followed: how another draw of its weights ended, as `Outlook.ended`; None where none was followed."""
    cells: "tuple[Gains, ...]" = ()
    """Gains, exponents and saturation, one for each cell and seed."""
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def probability(self) -> float | None:
        return self.outlook.probability

    @property
    def interval(self) -> tuple[float, float] | None:
        return self.outlook.interval

    @property
    def escape_epochs(self) -> float:
        return self.outlook.escape_epochs

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        return verdict(self)

    def summary(self) -> str:
        """The verdict and the numbers behind it, as text."""
        return summary(self)

    def to_json(self) -> dict:
        """Everything, JSON-ready: what is not finite is None."""
        content = {"verdict": self.verdict, "probability": self.probability, "interval": self.interval}
        content |= {"escape_epochs": self.escape_epochs, "order": self.order, "rates": self.rates, "name": self.name}
        content |= {
            "ended": self.outlook.ended,
            "another_draw_ended": self.again,
            "study_networks": self.outlook.networks,
            "study_learned": self.outlook.learned,
        }
        content |= {
            name: getattr(self, name) for name in ("unlike", "constant_loss", "first_loss", "loss_unit", "weight_scale")
        }
        content |= asdict(self.training)
        content["cells"] = [
            {name: value.tolist() if hasattr(value, "tolist") else value for name, value in vars(cell).items()}
            for cell in self.cells
        ]
        content["suggestions"] = [
            {"change": s.change, "option": s.option} | asdict(s.outlook) for s in self.suggestions
        ]
        return finite_json(content)
