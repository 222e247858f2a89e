"""What `--compare` asks for: one kind of thing that varies, and its values. Words only, without torch.

rnn,irnn,package.module:factory      cells
depth=1,2,5,10                       an option of new cells, all else being equal
init=orthogonal,uniform:0.04,bias:0  commas within a value stay with it
a.safetensors,runs/depth6            trained weights: files, or folders of runs
"""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rhn.errors import InvalidInputError
from rhn.fields import check_seed

MOST = 24
WEIGHTS = "best.safetensors"  # of a run's folder
STATES = (".pt", ".pth", ".bin", ".ckpt")  # what a state_dict is commonly called


@dataclass(frozen=True)
class Variants:
    """One kind of thing that varies."""

    kind: str
    """ "cell", "checkpoint", or what is given to new cells: "depth", "hidden_size", "init", "bias" or "seed"."""
    values: tuple
    """Each once, in the order given."""

    @property
    def words(self) -> list[str]:
        """The values as a file's name may hold them."""
        if self.kind in ("cell", "checkpoint"):
            return short_names([Path(v) for v in self.values]) if self.kind == "checkpoint" else list(self.values)
        return [self.kind.replace("_", "-"), *(spoken(value) for value in self.values)]


def parse_variants(text: str) -> Variants:
    """What the words of `--compare` mean; raises InvalidInputError where they are empty, of several kinds or not of their kind."""
    kind, equals, listed = text.partition("=")
    kind = kind.strip().lower().replace("-", "_")
    if equals and re.fullmatch(r"\w+", kind):
        if kind not in OPTIONS:
            raise InvalidInputError(f"--compare {text}: {kind} cannot vary; expected {_kinds()}")
        name, read = OPTIONS[kind]
        if "=" in listed:
            raise InvalidInputError(f"--compare {text}: expected one kind of thing that varies, as in depth=1,2,5")
        return Variants(name, _each_once(text, [read(word) for word in _split(listed)]))
    words = [word.strip() for word in text.split(",")]
    _each_once(text, words)
    if any(re.match(r"\w[\w-]*=", word) and not _is_file(word) for word in words):
        raise InvalidInputError(f"--compare {text}: expected one kind of thing that varies, as in depth=1,2,5")
    files = [word for word in words if _is_file(word)]
    if files and len(files) < len(words):
        other = next(word for word in words if word not in files)
        raise InvalidInputError(
            f"--compare {text}: {files[0]} is a file and {other} a cell; expected only files, or only cells "
            "(a file beside new cells: --checkpoint FILE --compare CELLS)"
        )
    return Variants("checkpoint" if files else "cell", _each_once(text, words))


def spoken(value: object) -> str:
    """A value in words: whole numbers without a point.

    >>> spoken(-2.0), spoken(10), spoken("orthogonal")
    ('-2', '10', 'orthogonal')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)


def short_names(paths: list[Path]) -> list[str]:
    """What tells files apart: the part of each path between what all begin and what all end with.

    >>> short_names([Path("runs/depth2/best.safetensors"), Path("runs/depth10/best.safetensors")])
    ['depth2', 'depth10']
    >>> short_names([Path("a.safetensors"), Path("runs/b.safetensors")])
    ['a', 'runs/b']
    """
    parts = [path.with_suffix("").parts if path.suffix == ".safetensors" else path.parts for path in paths]
    if len(paths) == 1:
        return ["/".join(parts[0][-1:])]
    shortest = min(map(len, parts)) - 1  # something of each name stays
    head = _shared(parts, shortest)
    tail = _shared([names[::-1] for names in parts], shortest - head)
    return ["/".join(names[head : len(names) - tail]) for names in parts]


def _shared(parts: list[tuple], most: int) -> int:
    """How many names all paths begin with, at most so many."""
    same = [len({names[k] for names in parts}) == 1 for k in range(most)]
    return [*same, False].index(False)


def _is_file(word: str) -> bool:
    """A cell's name stays one, even where a folder is called so."""
    from rhn.cells import is_known

    if word.endswith((".safetensors", *STATES)) or os.sep in word:
        return True
    return not is_known(word) and os.path.exists(os.path.join(word, WEIGHTS))  # noqa: PTH110, PTH118 (Path raises for long names)


def _split(listed: str) -> list[str]:
    """At the commas, but for those within the value of an initialisation: uniform:0.04,bias:0."""
    return [word.strip() for word in re.split(r",(?!\s*bias:)", listed)]


def _each_once(text: str, values: list) -> tuple:
    if "" in values:
        raise InvalidInputError(f"--compare {text!r}: a value is missing; expected {_kinds()}")
    found = tuple(dict.fromkeys(values))
    if len(found) > MOST:
        raise InvalidInputError(
            f"--compare with {len(found)} values: expected at most {MOST}, as many as a figure tells apart"
        )
    return found


def _kinds() -> str:
    return "cells (rnn,lstm), files (a.safetensors,b.safetensors), or one of depth=, hidden-size=, init=, bias=, seed="


def _whole(name: str, least: int) -> Callable[[str], int]:
    def read(word: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", word) or int(word) < least:
            raise InvalidInputError(f"--compare {name}={word}: expected whole numbers of at least {least}")
        return int(word)

    return read


def _seed(word: str) -> int:
    seed = _whole("seed", 0)(word)
    check_seed(seed)
    return seed


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInputError(f"--compare bias={word}: expected finite numbers")
    return value


def _scheme(word: str) -> str:
    """As the cells write it, so that two ways to write one scheme are one value."""
    from rhn.cells.init import Initialization

    return str(Initialization.parse(word))


OPTIONS = {  # what --compare calls an option of new cells: its name here, and how a value is read
    "depth": ("depth", _whole("depth", 1)),
    "hidden_size": ("hidden_size", _whole("hidden-size", 1)),
    "init": ("init", _scheme),
    "bias": ("bias", _number),
    "transform_bias": ("bias", _number),
    "forget_bias": ("bias", _number),
    "seed": ("seed", _seed),
}
