"""Values that are wrong for an argument or an option."""

from math import nan
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch


class Odd:
    """An object of no use."""

    def __repr__(self) -> str:
        return "Odd()"


NO_VALUES = (Odd(), "nowhere", -1, nan, 1j, b"x")
NO_DATA = (torch.zeros(0), torch.full((6, 3), nan), torch.zeros(2, 2, 2, 3), [Odd()])
DATA = ("A", "batch", "data", "frames", "s", "s0", "tokens", "x", "y")
SIGNED = ("below", "constant", "transform_bias")


def wrong_values(name: str) -> list[Any]:
    """Values that no function takes for the argument of this name."""
    if name == "out":  # a folder, which a function makes
        return [Odd(), -1, nan, 1j, "novel.txt/a"]
    if name == "path":
        return [Odd(), -1, nan, 1j, "nowhere/a.npz", "folder.png", "novel.txt/a"]
    values = [value for value in NO_VALUES if value != -1 or name not in SIGNED]
    return [*values, *(NO_DATA if name in DATA else ())]


FILES = (  # that the tests write, and of which no command can use one for another
    "missing", "folder.png", "empty.txt", "evil.pt", "bomb.pickle", "loop.csv", "sparse.csv",
    "pipe", "one_step.py", "list.json", "/dev/zero", "", "a" * 300, "bad\udcff.npz",
)  # fmt: skip
PLACES = ("nowhere/a.json", "a.xyz", "folder.png", "/dev/full", "", "novel.txt/a", "a" * 300)
HUGE = ("9" * 18, "1e30")
ENDLESS = {  # options whose large values are sound, or take long
    "--batch-size", "--epochs", "--fuse", "--length",
    "--max-tokens", "--mc", "--patience", "--record", "--seed", "--steps", "--threads", "--top-k",
}  # fmt: skip
NAMES = {  # words that are wrong for options of text
    "--arch": ("", "x"),
    "--cell": ("", "x", ":", "math:pi", "nowhere:x", "objects:"),
    "--cell-option": ("", "x", "=", "x=1", "=1"),
    "--chorale": ("", "x", "test-999999"),
    "--corpus": ("", "x"),
    "--figure": ("", "x", "0", "-1", "nan", "inf", "1e9"),
    "--init": ("", "x", "gaussian:nan"),
    "--layer": ("", "x"),
    "--module": (":", "none.py:x", "novel.txt:x", "one_step.py:", "folder.png:x", "math:pi"),
    "NAME": ("", "x"),
    "NETWORKS": ("", "x", ":", "none.py:x"),
    "--of": ("", "x", ":"),
    "--panels": ("", "x"),
    "--set": ("", "x", "=1", "x=1", "seed=x"),
    "PRESET": ("", "x"),
    "--storage": ("x",),
    "TRAINING": ("", "x", ":", "none.py:x", "novel.txt:x", "train.py:", "train.py:x"),
}


def types_in(hint: Any) -> set:
    """The types in an annotation."""
    return {hint, get_origin(hint)}.union(*map(types_in, get_args(hint)))


def wrong_words(option: str, hint: Any, command: str) -> tuple[str, ...]:
    """Words that a command must refuse for an option of this type; none if it takes any text."""
    kinds = types_in(hint)
    if bool in kinds:
        return ("maybe",)
    if int in kinds:
        return ("x", "1.5", "nan", "", "-1", "9" * 20, *(() if option in ENDLESS else HUGE))
    if float in kinds:
        signed = option.removeprefix("--").replace("-", "_") in SIGNED
        infinite = () if option == "--max-minutes" else ("1e999",)
        return ("x", "", "nan", "-inf", *infinite, *(() if signed else ("-1",)))
    if Literal in kinds:
        return ("", "x")
    if Path in kinds:
        makes = command in ("rhn train", "optim-study run")
        if option == "--out" and makes:  # a folder that a command makes
            return PLACES[3:]
        return PLACES if option in ("--csv", "--curves", "--output") else FILES
    return NAMES.get(option, ())
