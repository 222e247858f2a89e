"""Dataclasses become options: what words are read as, what is refused in one sentence, what `--help` shows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

from gersgorin.cli.check import CheckOptions
from gersgorin.cli.plot import PlotOptions
from optim_study.presets import RunConfig
from rhn.cells import CELLS
from rhn.cli.parsing import Commands, parse
from rhn.errors import InvalidInputError
from rhn.training.config import ChoraleConfig, LanguageConfig
from rhn.utils.options import Arg, Fields, field_docs


@dataclass(frozen=True, kw_only=True)
class Base:
    seed: int = 0
    """Seed of 100 % of
    the draws."""


@dataclass(frozen=True, kw_only=True)
class Plot(Base):
    """Draw."""

    files: Annotated[tuple[Path, ...], Arg("FILE", positional=True)] = ()
    rate: float = 0.5
    kind: Literal["swarm", "map"] = "swarm"
    fuse: Annotated[Literal["auto"] | int | None, Arg("auto|K")] = None
    range: Annotated[tuple[float, float] | None, Arg("LOW HIGH")] = None
    """From where to where (default: 0 1)."""
    several_numbers: tuple[float, ...] = ()
    text: str = ""
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    tied: bool = True
    """Whether weights are shared."""
    units: int | None = None
    """Units of a layer. None: as many as fit."""
    file: Path | None = None
    """A file (default: data.csv)."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit."""

    output: Annotated[Path, Arg("FILE")]
    values: Annotated[dict, Fields((Config,), lambda given: CONFIGS.get(str(given.get("output"))))] = field(
        default_factory=dict
    )


CONFIGS = {"five": Config(units=5), "none": Config()}
TOOL = Commands("A tool.", {"plot": Plot, "fit": Fit, "more": Commands("More.", {"fit": Fit})})


def read(*words):
    return parse(TOOL, list(map(str, words)), prog="tool")


def shown(capsys, *words) -> str:
    with pytest.raises(SystemExit) as ended:
        read(*words)
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@given(
    st.floats(allow_nan=False),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
)
def test_numbers_are_read_as_python_writes_them(rate, seed, numbers):
    numbers = [abs(number) if str(number).startswith("-inf") else number for number in numbers]
    found = read("plot", f"--rate={rate}", "--seed", seed, "--several-numbers", *numbers)
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
        (["--fuse", "auto"], {"fuse": "auto"}),
        (["--fuse", "3"], {"fuse": 3}),
        (["--fuse", "None"], {"fuse": None}),
        (["--text=--no_option=x"], {"text": "--no_option=x"}),
        (["--text", ""], {"text": ""}),
        (["--rate", "1", "--rate", "2"], {"rate": 2.0}),
    ],
)
def test_words_are_read_as_the_types_of_the_fields(words, values):
    assert read("plot", *words) == Plot(**values)


@for_each(
    ("words", "sentence"),
    [
        ("", "a command is missing, expected one of plot, fit, more (see tool --help)"),
        ("polt", "'polt' is no command, expected one of plot, fit, more (see tool --help)"),
        ("more polt", "'polt' is no command, expected one of fit (see tool more --help)"),
        ("fit", "tool fit needs --output FILE (see tool fit --help)"),
        ("plot --rate x", "--rate expects a number, got 'x' (see tool plot --help)"),
        ("plot --fuse 1.5", "--fuse expects 'auto' or a whole number, got '1.5' (see tool plot --help)"),
        ("plot --kind x", "--kind expects 'swarm' or 'map', got 'x' (see tool plot --help)"),
        ("plot --range 1", "--range expects 2 values (see tool plot --help)"),
        ("plot --rate", "--rate expects one value (see tool plot --help)"),
        ("plot --rate --log", "--rate expects one value (see tool plot --help)"),
        ("plot --rate=--", "--rate expects a value, got '--' (see tool plot --help)"),
        ("plot --log=1", "--log takes no value, got '1' (see tool plot --help)"),
        ("plot --rat 1", "--rat is no option; perhaps you meant --rate (see tool plot --help)"),
        ("plot -x", "-x is no option (see tool plot --help)"),
        ("plot --tied", "--tied is no option here, but of tool fit and tool more fit (see tool plot --help)"),
        ("fit --output a b", "'b' is one word too many (see tool fit --help)"),
        ("fit --output=", "--output expects a path, got '' (see tool fit --help)"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(words, sentence):
    with pytest.raises(InvalidInputError) as refused:
        read(*words.split())
    assert str(refused.value) == sentence


@pytest.mark.parametrize("words", [["--rate", "1", "--rate", "2"], ["--range", "1", "2", "--range", "3", "4"]], ids=str)
def test_an_option_may_be_told_to_be_given_once(words):
    with pytest.raises(InvalidInputError, match=f"{words[0]} was given more than once: give it once"):
        parse(Plot, words, prog="tool", once=True)
    assert parse(Plot, ["--rate", "1", "--log", "--log"], prog="tool", once=True) == Plot(rate=1.0, log=True)


def test_of_a_configuration_s_fields_only_what_was_given_is_known():
    assert read("fit", "--output", "a").values == {}
    assert read("more", "fit", "--output", "a", "--no-tied", "--units", "3").values == {"tied": False, "units": 3}


def test_help_shows_the_commands_the_options_and_their_real_defaults(capsys):
    assert "plot Draw. fit Fit. more More." in shown(capsys, "--help")
    plot = shown(capsys, "plot", "--help")
    assert "--seed N Seed of 100 % of the draws (default: 0)" in plot
    assert "--range LOW HIGH From where to where (default: 0 1)." in plot
    assert "--kind {swarm,map} (default: swarm)" in plot and "--fuse auto|K" in plot
    assert "None" not in plot and plot.startswith("usage: tool plot [FILE] [options] Draw.")
    assert "configuration" not in shown(capsys, "fit", "-h")
    five, none = (shown(capsys, "fit", "--help", "--output", name) for name in ("five", "none"))
    assert "--tied, --no-tied Whether weights are shared (default: True)" in five
    assert "--units N Units of a layer. None: as many as fit (default: 5)" in five
    assert "--units N Units of a layer. None (default): as many as fit. --file PATH A file (default: data.csv)." in none


@for_each("kind", [ChoraleConfig, LanguageConfig, RunConfig, PlotOptions, CheckOptions])
def test_help_names_every_cell_of_the_registry(kind):
    docs = field_docs(kind)
    assert docs["arch" if kind is RunConfig else "cell"].startswith(", ".join(CELLS))
