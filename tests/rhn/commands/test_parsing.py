"""What a user types becomes the values of a command, one sentence, or the help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from cyclopts import Parameter
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

from rhn.errors import InvalidInputError
from rhn.utils import command_line as new
from rhn.utils.command_line import command_line, run_read
from rhn.utils.old import (
    CellOptions,
    Configured,
    Count,
    Drawing,
    Fraction,
    OnOff,
    given_flags,
    print_help,
    read,
    settings_type,
)


@dataclass(frozen=True, kw_only=True)
class Plot(Drawing):
    """Draw.

    examples:
      tool plot a b
      tool plot c
    """

    files: tuple[Path, ...] = field(default=(), kw_only=False)
    """What to draw: 100 % of it."""
    rate: float = 0.5
    share: Fraction = 0.0
    seed: int = 0
    """Seed of all
    draws.
    """
    kind: Literal["swarm", "map"] = "swarm"
    fuse: Literal["auto"] | int | None = None
    range: Annotated[tuple[float, float] | None, Parameter(metavar="LOW HIGH")] = None
    several_numbers: tuple[float, ...] = ()
    text: str = ""
    cell_options: CellOptions = field(default_factory=dict)
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    tied: OnOff = True
    """Whether weights are shared."""
    units: Count | None = None
    """Units of a layer. None: as many as fit."""


@dataclass(frozen=True, kw_only=True)
class Fit(Configured):
    """Fit."""

    data: Path
    settings: settings_type(Config) = field(default_factory=dict)  # type: ignore[valid-type]


TOOL, MORE = command_line("tool", "A tool."), command_line("more", "More.")
TOOL.command(Plot, name="plot")
MORE.command(Fit, name="fit")
TOOL.command(MORE)


def typed(*words):
    return read(TOOL, list(map(str, words)))


def printed(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


@given(
    st.floats(allow_nan=False),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
)
def test_numbers_are_read_as_python_writes_them(rate, seed, numbers):
    found = typed("plot", f"--rate={rate}", "--seed", seed, "--several-numbers", *numbers)
    assert (found.rate, found.seed, found.several_numbers) == (rate, seed, tuple(numbers))


@for_each(
    ("words", "values"),
    [
        ([], {}),
        (["--rate", "-1e-3", "--range", "-1", "-.5"], {"rate": -1e-3, "range": (-1.0, -0.5)}),
        (["a", "b", "--log"], {"files": (Path("a"), Path("b")), "log": True}),
        (["--log", "a"], {"files": (Path("a"),), "log": True}),
        (["--log", "--", "--a"], {"files": (Path("--a"),), "log": True}),
        (["--several_numbers", "1", "2"], {"several_numbers": (1.0, 2.0)}),
        (["--output", "a.png", "b.csv"], {"output": (Path("a.png"), Path("b.csv"))}),
        (["--fuse", "auto"], {"fuse": "auto"}),
        (["--fuse", "3"], {"fuse": 3}),
        (["--fuse", "None"], {"fuse": None}),
        (["--text=--no_option=x"], {"text": "--no_option=x"}),
        (["--text", ""], {"text": ""}),
        (
            ["--cell-option", "a-b=1", "--cell-option", "c=x=y"],
            {"cell_options": {"a_b": "1", "c": "x=y"}},
        ),
        (["--rate", "1", "--rate", "2"], {"rate": 2.0}),
    ],
)
def test_words_are_read_as_the_types_of_the_fields(words, values):
    assert typed("plot", *words) == Plot(**values)


@for_each(
    ("words", "place", "reason"),
    [
        ("", "", "a command is missing, expected one of plot, more"),
        ("more ift", "", "Unknown command: ift; did you mean fit?"),
        ("more fit", "tool more fit", "--data requires an argument"),
        ("plot --rate x", "tool plot", "--rate: expected a number, got 'x'"),
        ("plot --seed 1.5", "tool plot", "--seed: expected a whole number, got '1.5'"),
        ("plot --fuse x", "tool plot", "--fuse: expected 'auto', a whole number or None"),
        ("more fit --data a --units 0", "tool more fit", "--units is 0, expected 1 or more"),
        ("plot --share 1", "tool plot", "--share is 1.0, expected 0 or more, less than 1"),
        ("plot --share inf", "tool plot", "--share is inf, expected 0 or more, less than 1"),
        ("plot --kind mapp", "tool plot", '"mapp" for --kind; choose from: "swarm", "map"'),
        ("plot --rate --log", "tool plot", "--rate requires an argument"),
        ("plot --range 1", "tool plot", "--range requires 2 positional arguments; only got 1"),
        ("plot --output", "tool plot", "--output requires at least 1 element"),
        ("plot --cell-option a", "tool plot", "expected NAME=VALUE, such as skip=last, got 'a'"),
        ("plot --rat 1", "tool plot", "Unknown option: --rat; did you mean --rate?"),
        ("more fit --data a b", "tool more fit", "b: unexpected argument"),
        ("more fit --data a --unit 3", "tool more fit", "did you mean --units?"),
        ("plot --no-log", "tool plot", "Unknown option: --no-log"),
    ],
)
def test_words_that_cannot_be_read_are_one_sentence(words, place, reason):
    with pytest.raises(InvalidInputError) as refused:
        typed(*words.split())
    sentence = str(refused.value)
    assert reason in sentence and "\n" not in sentence and ". " not in sentence
    assert not place or sentence.endswith(f" (see {place} --help)")


def test_only_the_given_fields_of_a_configuration_are_settings():
    assert typed("more", "fit", "--data", "a").settings == {}
    found = typed("more", "fit", "--no-tied", "--data", "a", "--units", "3")
    assert found.settings == {"tied": False, "units": 3}
    assert typed("more", "fit", "--data", "a", "--units", "None").settings == {"units": None}


def test_given_options_have_the_names_that_a_user_types():
    found = typed("plot", "--cell-option", "leak=1", "--several-numbers", "2", "--rate", "0.5")
    assert given_flags(found, vars(found)) == ["--several-numbers", "--cell-option"]


def test_help_shows_commands_options_defaults_and_examples(capsys):
    assert typed("--help") is None
    assert "plot: Draw." in printed(capsys)
    assert typed("plot", "-h") is None
    lines = capsys.readouterr().out
    assert "examples:\n  tool plot a b\n  tool plot c\n" in lines
    text = " ".join(lines.split())
    assert "--seed INT: Seed of all draws. [default: 0]" in text
    assert "--range LOW HIGH --several-numbers FLOAT..." in text  # no default, no help
    assert "100 % of it" in text and "[choices: swarm, map] [default: swarm]" in text
    assert "output: --figure SIZE" in text and "None" not in text
    assert typed("--version") is None
    assert printed(capsys).startswith("tool ")


def test_help_of_a_configuration_has_its_values(capsys):
    print_help("tool fit", Fit, None)
    assert "--units" not in printed(capsys)
    print_help("tool fit", Fit, Config(units=5, tied=True))
    text = printed(capsys)
    assert "--tied, --no-tied: Whether weights are shared. [default: True]" in text
    assert "--units INT: Units of a layer. None: as many as fit. [default: 5]" in text


@for_each(
    ("words", "reason"),
    [
        ("", "a command is missing, expected one of draw"),
        ("draw --share 1", 'Invalid value "1.0" for --share. Must be < 1.'),
        ("draw --steps 1.5", 'for --steps: unable to convert "1.5" into int'),
        ("draw --output=", 'for --output: unable to convert "" into Path'),
        ("draw --stepps 1", "Unknown option: --stepps. Did you mean --steps?"),
    ],
)
def test_a_command_is_not_run_with_words_that_cannot_be_read(words, reason):
    drawn, tool = [], command_line("tool", "A tool.")

    @dataclass(frozen=True, kw_only=True)
    class Draw:
        """Draw."""

        share: new.Fraction = 0.5
        steps: int = 3
        output: Path = Path("a.png")

    tool.command(Draw, name="draw")
    run_read(tool, ["draw", "--steps", "4"], drawn.append)
    assert drawn == [Draw(steps=4)]
    with pytest.raises(InvalidInputError) as refused:
        run_read(tool, words.split(), drawn.append)
    assert reason in str(refused.value) and len(drawn) == 1
