"""Commands as dataclasses, read by cyclopts: the fields are the options, their docstrings the help.

app = command_line("tool", "Tools.")
app.command("package.module:Draw", name="draw", help="Draw.")
read(app, ["draw", "--force"])  # Draw(force=True)
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

from cyclopts import App, CoercionError, CycloptsError, Group, Parameter
from cyclopts.help import DefaultFormatter, PanelSpec
from cyclopts.parameter import get_parameters

from rhn.errors import InvalidInputError
from rhn.utils.figures import inches_of
from rhn.utils.io import remember_command
from rhn.utils.validation import kinds_of
from rhn.version import __version__

Device = Literal["auto", "cpu", "cuda"]
OUTPUT = Parameter(group=Group("output", sort_key=9))
FRACTION = re.compile(r"[+-]?\d*\.\d*(e[+-]?\d+)?|[+-]?\d+e-\d+", re.IGNORECASE)
SENTENCES = re.compile(r"\.\s+(Did|Choose|Available|Only|expected)")  # of an error


def _entries(hint: Any, tokens: Sequence[Any]) -> dict[str, str]:
    """NAME=VALUE, given once for each entry; leak-rate=1 is the entry leak_rate."""
    found = {}
    for token in tokens:
        name, equals, value = token.value.partition("=")
        if not (name.strip() and equals):
            raise ValueError(f"expected NAME=VALUE, such as leak=0.5, got {token.value!r:.60}")
        found[name.strip().replace("-", "_")] = value
    return found


Entries = Annotated[
    dict,
    Parameter(
        converter=_entries,
        accepts_keys=False,
        n_tokens=-1,
        consume_multiple=False,
        metavar="NAME=VALUE",
    ),
]
CellOptions = Annotated[Entries, Parameter(name="--cell-option")]
OnOff = Annotated[bool, Parameter(negative=None)]
"""A flag that can also be given as --no-flag."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The options of every command about a trained network."""

    checkpoint: Path = field(kw_only=False)
    """best.safetensors of a run or of a study, or the folder of a run: its best weights."""
    cell: str | None = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """The size of figures."""

    figure: Annotated[str | None, OUTPUT, Parameter(metavar="SIZE")] = None
    """Width of the figure: column (3.25 inches), page (6.75), slide (13.3), or inches."""

    def __post_init__(self):
        if self.figure is not None:
            inches_of(self.figure)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The option of every command that writes results."""

    force: Annotated[bool, OUTPUT] = False
    """Also overwrite files without the mark of this toolkit; tables (.csv) have none."""


@dataclass(frozen=True, kw_only=True)
class Drawing(Sized, Writing):
    """The options of every command that draws."""

    output: Annotated[tuple[Path, ...], OUTPUT] = ()
    """Files to write: a figure (.png, .svg, .pdf), its numbers (.csv, .json, .npz)."""


@dataclass(frozen=True, kw_only=True)
class Configured:
    """A command whose further options are the fields of a configuration (`settings_of`), with
    defaults that follow from its own options, so that it prints its help itself (`print_help`).
    """

    help: Annotated[bool, Parameter(name=("--help", "-h"))] = False
    """Display this message and exit."""


def settings_of(*configs: type) -> Any:
    """The type of a dictionary of the fields of configurations that are given as options."""
    hints = {
        name: hint
        for config in configs
        for name, hint in get_type_hints(config, include_extras=True).items()
    }
    return Annotated[
        TypedDict("Settings", hints, total=False),  # type: ignore[misc]
        Parameter(name="*", show=False),
    ]


def default_of(f: Field) -> Any:
    """The value of a missing option, or MISSING."""
    return f.default if f.default_factory is MISSING else f.default_factory()


def flag(name: str) -> str:
    """A field's name as an option: hidden_size is --hidden-size."""
    return "--" + name.replace("_", "-")


def given_flags(options: Any, names: Iterable[str]) -> list[str]:
    """Those of the named options whose value is not the default: ["--mc-official"]."""
    hints = get_type_hints(type(options), include_extras=True)
    named = [f for f in fields(options) if f.name in names]
    given = [f.name for f in named if getattr(options, f.name) != default_of(f)]
    about = {name: get_parameters(hints[name])[1] for name in given}
    return [next((p.name[0] for p in about[name] if p.name), flag(name)) for name in given]


def command_line(name: str, help: str, **how: Any) -> App:
    """An empty command line: `app.command(dataclass, name="draw")` adds to it."""
    shown = Parameter(
        negative=(), consume_multiple=1, allow_repeating=True, show_default=_shown_default
    )
    about = {"version": f"{name} {__version__}", "help_format": "plaintext"}
    groups = {
        "group_arguments": Group("options", sort_key=0),
        "group_parameters": Group("options", sort_key=0),
    }
    return App(
        name,
        help=help,
        help_formatter=_Plain(),
        default_parameter=shown,
        config=_require_whole_numbers,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        **about | groups | how,
    )


def read(app: App, args: Sequence[str] | None) -> Any:
    """The dataclass of the command that the words name; None after `--help` and `--version`.

    args: the words, or None for those of this process.

    Raises InvalidInputError with one sentence for words that cannot be read.
    """
    words = list(map(str, sys.argv[1:] if args is None else args))
    remember_command(app.name[0], words)
    if not words and app.default_command is None:
        names = ", ".join(name for name in app if not name.startswith("-"))
        raise InvalidInputError(f"a command is missing, expected one of {names}")
    _load_listed(app, words)
    try:
        return app(words, exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        place = " ".join((app.name[0], *(error.command_chain or ())))
        sentence = SENTENCES.sub(_joined, str(error)).rstrip(".")
        raise InvalidInputError(f"{sentence} (see {place} --help)") from None


def run_read(
    app: App, args: Sequence[str] | None, run: Callable[[Any], None] = methodcaller("run")
) -> None:
    """Read the words, and run the command that they name."""
    if (command := read(app, args)) is not None:
        run(command)


def _load_listed(app: App, words: Sequence[str]) -> None:
    """Import the commands that a help lists, for their first lines."""
    if not words or words[0].startswith("-"):
        app.resolved_commands()
    elif words[0] in app:
        _load_listed(app[words[0]], words[1:])


def _joined(found: re.Match) -> str:
    """The begin of a further sentence, as a part of the first."""
    return f"; {found[1].lower()}"


def print_help(name: str, command: type, config: Any) -> None:
    """Print the help of a `Configured` command, with the fields of a configuration and their values
    in it as defaults; config: None for a command that has none yet.
    """
    app = command_line(name, command.__doc__ or "", help_flags=(), version_flags=())
    app.default(command if config is None else _with_fields(command, config))
    app.help_print([])


def _with_fields(command: type, config: Any) -> type:
    """A command with the fields of a configuration as further options."""
    group, kind = Parameter(group=Group("configuration", sort_key=5)), type(config)
    own: list = [("settings", Annotated[dict, Parameter(parse=False)], field(default_factory=dict))]
    for name, hint in get_type_hints(kind, include_extras=True).items():
        default = field(default_factory=partial(getattr, config, name))
        own.append((name, Annotated[hint, group], default))
    space = {"__module__": command.__module__}
    bases = (command, kind)
    return make_dataclass("Shown", own, bases=bases, namespace=space, frozen=True, kw_only=True)


class _Plain(DefaultFormatter):
    """Print texts folded to the width of the terminal, and options as tables without lines."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        from rich.box import Box
        from rich.text import Text

        self.panel_spec = PanelSpec(box=Box("    \n" * 8), padding=0)
        for entry in panel.entries:
            text = str(entry.description.primary_renderable)
            entry.description.primary_renderable = Text(" ".join(text.split()))
        super().__call__(console, options, panel)

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        paragraphs = inspect.cleandoc(str(description.primary_renderable)).split("\n\n")
        for paragraph in paragraphs:
            example = "\n  " in paragraph
            console.print(
                paragraph if example else " ".join(paragraph.split()),
                end="\n\n",
                markup=False,
                highlight=False,
            )


def _shown_default(value: Any) -> str | None:
    """A default in the help; none for what is off or empty."""
    if value is None or value is False or value in ("", (), {}):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _require_whole_numbers(app: App, names: Sequence[str], arguments: Iterable[Any]) -> None:
    """Refuse 1.5 for a whole number, which cyclopts would round."""
    for argument in arguments:
        kinds = kinds_of(get_parameters(argument.hint)[0])
        for token in argument.tokens if int in kinds and float not in kinds else ():
            if FRACTION.fullmatch(token.value):
                raise CoercionError(token=token, argument=argument, target_type=int)
