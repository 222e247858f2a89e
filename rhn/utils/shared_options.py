"""Options that commands share: base classes of their dataclasses, and types of fields."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Group, Parameter
from cyclopts.parameter import get_parameters

from rhn.utils.figures import inches_of

Device = Literal["auto", "cpu", "cuda"]
OUTPUT_GROUP = Parameter(group=Group("output", sort_key=9))
OnOff = Annotated[bool, Parameter(negative=None)]
"""A flag --name that can also be given as --no-name."""


def _entries(hint: Any, tokens: Sequence[Any]) -> dict[str, str]:
    """Read entries NAME=VALUE, one from each use of the option; gate-constant=1 is the entry
    gate_constant.
    """
    found = {}
    for token in tokens:
        name, equals, value = token.value.partition("=")
        if not (name.strip() and equals):
            raise ValueError(f"expected NAME=VALUE, such as skip=last, got {token.value!r:.60}")
        found[name.strip().replace("-", "_")] = value
    return found


ENTRIES = Parameter(
    converter=_entries,
    accepts_keys=False,
    n_tokens=-1,
    consume_multiple=False,
    metavar="NAME=VALUE",
)
CellOptions = Annotated[dict, ENTRIES, Parameter(name="--cell-option")]


@dataclass(frozen=True, kw_only=True)
class TrainedOptions:
    """The options of every command that reads a trained network."""

    checkpoint: Path = field(kw_only=False)
    """The folder of a training run, or the file best.safetensors of a training run or a study."""
    cell: str | None = None
    """The cell of the checkpoint, if it is your own, as package.module:factory."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """The option for the size of figures."""

    figure: Annotated[str | None, OUTPUT_GROUP, Parameter(metavar="SIZE")] = None
    """Width of the figure: column (3.25 inches), page (6.75 inches), slide (13.33 inches), or a
    number of inches.
    """

    def __post_init__(self):
        if self.figure is not None:
            inches_of(self.figure)


@dataclass(frozen=True, kw_only=True)
class Drawing(Sized):
    """The options of every command that draws."""

    output: Annotated[tuple[Path, ...], OUTPUT_GROUP] = ()
    """Files to write: a figure (.png, .svg, .pdf) and its numbers (.csv, .json, .npz)."""
    title: Annotated[str | None, OUTPUT_GROUP] = None
    """Title of the figure. Default: a sentence with the result, if there is one."""
    footer: Annotated[bool, OUTPUT_GROUP, Parameter(negative="--no-footer", show=True)] = True
    """Write the network, the data and the version of the toolkit at the bottom of the figure."""


def default_of(f: Field) -> Any:
    """Return the default of a field, or MISSING if it has none."""
    return f.default if f.default_factory is MISSING else f.default_factory()


def flag(name: str) -> str:
    """Return a field's name as an option: hidden_size becomes --hidden-size."""
    return "--" + name.replace("_", "-")


def given_flags(options: Any, names: Iterable[str]) -> list[str]:
    """Among the named options, return those whose values are not the defaults, such as
    ["--mc-official"].
    """
    hints = get_type_hints(type(options), include_extras=True)
    named = [f for f in fields(options) if f.name in names]
    given = [f.name for f in named if getattr(options, f.name) != default_of(f)]
    about = {name: get_parameters(hints[name])[1] for name in given}
    return [next((n for p in about[name] for n in p.name or ()), flag(name)) for name in given]
