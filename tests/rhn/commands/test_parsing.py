"""Dataclasses become options: the values of words, one sentence for what cannot be read, and
`--help`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

from rhn.errors import InvalidInputError
from rhn.utils.options import Commands, configuration, option, parse


@dataclass(frozen=True, kw_only=True)
class Base:
    seed: int = option(0, "Seed of 100 % of the draws.")


@dataclass(frozen=True, kw_only=True)
class Plot(Base):
    """Draw."""

    files: tuple[Path, ...] = option((), metavar="FILE", positional=True)
    rate: float = 0.5
    kind: Literal["swarm", "map"] = "swarm"
    fuse: Literal["auto"] | int | None = option(None, metavar="auto|K")
    range: tuple[float, float] | None = option(
        None, "From where to where (default: 0 1).", metavar="LOW HIGH"
    )
    several_numbers: tuple[float, ...] = ()
    text: str = ""
    entries: dict = option({}, flag="--entry")
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    tied: bool = option(True, "Whether weights are shared.")
    units: int | None = option(None, "Units of a layer. None: as many as fit.")
    file: Path | None = option(None, "A file (default: data.csv).")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit."""

    output: Path = option(metavar="FILE")
    settings: dict = configuration(
        (Config,), lambda given: CONFIGS.get(str(given.get("output"))), "Its values."
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
        (["--entry", "a-b=1", "--entry", "c=x=y"], {"entries": {"a_b": "1", "c": "x=y"}}),
        (["--rate", "1", "--rate", "2"], {"rate": 2.0}),
    ],
)
def test_words_are_read_as_the_types_of_the_fields(words, values):
    assert read("plot", *words) == Plot(**values)


@for_each(
    ("words", "place", "reason"),
    [
        ("", "tool", "a command is missing, expected one of plot, fit, more"),
        ("more polt", "tool more", "'polt' is not a command, expected one of fit"),
        ("fit", "tool fit", "required: --output"),
        ("plot --rate x", "tool plot", "--rate: expected a number, got 'x'"),
        ("plot --fuse 1.5", "tool plot", "--fuse: expected 'auto' or a whole number"),
        ("plot --kind x", "tool plot", "--kind: invalid choice: 'x'"),
        ("plot --rate --log", "tool plot", "--rate: expected one"),
        ("plot --entry a", "tool plot", "--entry: expected NAME=VALUE"),
        ("plot --rat 1", "tool plot", "--rat is not an option; perhaps you meant --rate"),
        ("fit --output a b", "tool fit", "'b' is one word too many"),
        ("fit --output=", "tool fit", "--output: expected a path"),
    ],
)
def test_words_that_cannot_be_read_are_one_sentence(words, place, reason):
    with pytest.raises(InvalidInputError) as refused:
        read(*words.split())
    sentence = str(refused.value)
    assert (
        reason in sentence and sentence.endswith(f" (see {place} --help)") and "\n" not in sentence
    )


def test_only_the_given_fields_of_a_configuration_are_settings():
    assert read("fit", "--output", "a").settings == {}
    found = read("more", "fit", "--output", "a", "--no-tied", "--units", "3")
    assert found.settings == {"tied": False, "units": 3}


def test_help_shows_the_commands_the_options_and_their_real_defaults(capsys):
    assert "plot Draw. fit Fit. more More." in shown(capsys, "--help")
    plot = shown(capsys, "plot", "--help")
    assert "--seed N Seed of 100 % of the draws (default: 0)" in plot
    assert "--range LOW HIGH From where to where (default: 0 1)." in plot
    assert "--kind {swarm,map} (default: swarm)" in plot and "--fuse auto|K" in plot
    assert "None" not in plot and plot.startswith("usage: tool plot [FILE] [options] Draw.")
    assert "configuration" not in shown(capsys, "fit", "-h")
    five, none = (shown(capsys, "fit", "--output", name, "--help") for name in ("five", "none"))
    assert "--tied, --no-tied Whether weights are shared (default: True)" in five
    assert "--units N Units of a layer. None: as many as fit (default: 5)" in five
    assert (
        "--units N Units of a layer. None (default): as many as fit. --file PATH A file "
        "(default: data.csv)." in none
    )
