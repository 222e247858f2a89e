"""What makes a study that study: the protocol, which no resume may change, and its fingerprint.

The protocol is stored in the study's user attributes, so that every worker can compare, and its fingerprint in
every file that a trial leaves behind, so that leftovers of another study are never taken for this one's.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rhn.errors import DataError, InvalidInputError

from .space import Settings, Space, settings


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """One (architecture, depth): all that its results depend on. Only `trials` may grow from one run to the next.

    Raises:
        InvalidInputError: a value is out of range; the message says which and what was expected.
    """

    arch: str
    """Name of the architecture: `rhn`, `dt-rnn`, ..., or a user's `package.module:factory`."""
    depth: int
    """Recurrence depth."""
    data: str
    """Checksum of the data set."""
    seed: int = 0
    """Seed of settings, initial weights and the order of batches."""
    trials: int = 60
    """How many trials the study has in all: a total, not an increment."""
    epochs: int = 1000
    """At most so many epochs of training a trial."""
    patience: int = 100
    """A trial stops after so many epochs without a better loss."""
    budget_scale: float = 1.0
    """Factor on the paper's parameter budgets."""
    objective: Literal["train", "valid"] = "train"
    """Whose best negative log-likelihood, in nats a frame, is the value of a trial."""
    space: Space = field(default_factory=Space)
    """Where the settings of the trials are drawn from."""
    batch_size: int = 32
    """Sequences a batch."""
    momentum: float = 0.9
    """Momentum of SGD."""
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Whatever else the trainer lets change the results, by name."""

    def __post_init__(self):
        if not re.fullmatch(r"[\w:+-][\w.:+-]*", self.arch):
            raise InvalidInputError(
                f"the architecture is {self.arch!r}, expected a name of letters, digits and . : _ + -"
            )
        for name, least in {"depth": 1, "seed": 0, "trials": 1, "epochs": 1, "patience": 1, "batch_size": 1}.items():
            if getattr(self, name) < least:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, expected {least} or more")
        if not 0 < self.budget_scale < math.inf:
            raise InvalidInputError(f"budget_scale is {self.budget_scale}, expected a number above 0")
        if not 0 <= self.momentum < 1:
            raise InvalidInputError(f"momentum is {self.momentum}, expected 0 or more and less than 1")
        if self.objective not in ("train", "valid"):
            raise InvalidInputError(f"objective is {self.objective!r}, expected 'train' or 'valid'")
        for name in ("budget_scale", "momentum"):  # 1 and 1.0 are the same protocol
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def name(self) -> str:
        """Name of the study and of its folder: `dt-rnn-depth4`."""
        return f"{self.arch}-depth{self.depth}"

    def settings(self, number: int) -> Settings:
        """The hyperparameters of one trial."""
        return settings(self.space, seed=self.seed, arch=self.arch, depth=self.depth, number=number)

    def protocol(self) -> dict[str, Any]:
        """All but the number of trials, as JSON has it: what must not change between resumes."""
        values = asdict(self) | {"options": dict(self.options)}
        del values["trials"]
        return json.loads(json.dumps(values))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that differ where the protocol differs."""
        return hashlib.sha256(json.dumps(self.protocol(), sort_keys=True).encode()).hexdigest()[:16]


def config_from_protocol(protocol: Mapping[str, Any], *, trials: int) -> StudyConfig:
    """The configuration behind a stored protocol: how a worker joins a study without being told the options again.

    Raises:
        DataError: the protocol was stored by another version, with fields this one does not know.
    """
    try:
        return StudyConfig(**{**protocol, "space": Space(**protocol["space"]), "trials": trials})
    except (TypeError, KeyError) as error:
        raise DataError(f"the stored protocol is from another version of optim-study ({error})") from None


def require_same_protocol(config: StudyConfig, stored: Mapping[str, Any]) -> None:
    """Refuses to go on with a study under another protocol.

    Raises:
        InvalidInputError: they differ; the message names every value, here and in the study.
    """
    here, there = _flat(config.protocol()), _flat(stored)
    differences = [
        f"{name} {_shown(here, name)} here, {_shown(there, name)} in the study"
        for name in sorted(here.keys() | there.keys())
        if name not in here or name not in there or here[name] != there[name]
    ]
    if differences:
        raise InvalidInputError(
            f"study {config.name} cannot go on with another protocol: {'; '.join(differences)}; "
            "give the same values, or another output folder or storage"
        )


def _flat(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """`space` and `options` opened up: `space.learning_rate`."""
    flat = {}
    for name, value in protocol.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[name] = value
    return flat


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "absent"
