"""What `--compare` asks for: one kind of thing that varies, and its values. Words only, without torch.

rnn,irnn,package.module:factory      cells
depth=1,2,5,10                       an option of new cells, all else being equal
init=orthogonal,uniform:0.04,bias:0  commas within a value stay with it
a.safetensors,runs/depth6            trained weights: files, or folders of runs

Which networks `gersgorin-plot` looks at, and what each is called: that of its options first, unless it is among the others.

What the options of `gersgorin-plot` ask of a comparison or of many runs, and what of it does not go together.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gersgorin.networks import Subject, checkpoint_cells, module_cells, new_cell
from rhn.cells import CELLS, resolve_cell
from rhn.checkpoints import read_metadata, weights_file
from rhn.errors import CheckpointError, InvalidInputError
from rhn.fields import check_seed
from rhn.options import check_least, given_flags

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


@dataclass(frozen=True)
class Panel:
    """One kind of network."""

    title: str
    """What figures and tables call it."""
    subjects: tuple[Subject, ...]
    """Itself, of each seed."""

    @property
    def subject(self) -> Subject:
        """Of the first seed."""
        return self.subjects[0]


def panels(options, variants: Variants | None, input_size: int | None, seeds: int = 1) -> list[Panel]:
    """What is to be measured, each network with this many seeds of initial weights from options.seed on.

    input_size: what is read, as `gersgorin.data.Source` tells it.

    Raises InvalidInputError, as `new_cell` and `checkpoint_cells` do, and where nothing is left to compare.
    """
    check_seed(options.seed + seeds - 1)
    of_seeds = [list(_named(replace(options, seed=options.seed + k), variants, input_size)) for k in range(seeds)]
    found = [Panel(of_one[0][0], tuple(subject for _, subject in of_one)) for of_one in zip(*of_seeds, strict=True)]
    if variants is not None and len(found) < 2:
        raise InvalidInputError(
            f"--compare {options.compare}: nothing to compare with: expected something else than {found[0].title}"
        )
    return found


def _named(options, variants: Variants | None, input_size: int | None) -> Iterator[tuple[str, Subject]]:
    """(title, subject) of each panel."""
    if options.checkpoint or options.module or variants is None or variants.kind == "cell":
        yield from _fixed(options, variants, input_size)
        return
    given = _given(options, input_size)
    base, kind = new_cell(options.cell or "rhn", **given), variants.kind
    own = _value(base, kind, options)
    for value in variants.values if own in variants.values else (own, *variants.values):
        subject = base if value == own else new_cell(base.name, **given | _changed(base.name, kind, value))
        yield _title(subject, kind, value), subject


def _fixed(options, variants: Variants | None, input_size: int | None) -> Iterator[tuple[str, Subject]]:
    """The network of the options, and other files or other cells."""
    kind, values = (variants.kind, variants.values) if variants else ("cell", ())
    if options.module:
        yield from _of_module(options, values if kind == "checkpoint" else (), input_size)
    elif options.checkpoint:
        files = [options.checkpoint, *(values if kind == "checkpoint" else ())]
        for path, name in zip(files, short_names(files), strict=True):
            before = options.seed if options.compare_init and path == options.checkpoint else None
            for subject in checkpoint_cells(path, options.layer, options.cell, input_size=input_size, before=before):
                yield f"{name}: {subject.title}" if variants else subject.title, subject
    base = options.cell or "rhn"
    if kind == "cell":
        given = _given(options, input_size)
        others = options.checkpoint or options.module
        for name in values if others or base in values else (base, *values):
            subject = new_cell(name, compared=name != base or others is not None, **given)
            yield subject.title, subject


def _of_module(options, files: tuple, input_size: int | None) -> Iterator[tuple[str, Subject]]:
    """The user's module with the weights of the options, and with those of other files."""
    known = {"submodule": options.submodule, "layer": options.layer, "input_size": input_size}
    known |= {"hidden_size": options.hidden_size, "seed": options.seed}
    names = short_names([options.checkpoint, *files]) if files else [""]
    for path, name in zip([options.checkpoint, *files], names, strict=True):
        fresh = options.compare_init and path == options.checkpoint
        for subject in module_cells(options.module, weights=path, fresh=fresh, **known):
            yield f"{name}: {subject.title}" if files else subject.title, subject


def _given(options, input_size: int | None) -> dict:
    """What the options say of new cells."""
    given = {name: getattr(options, name) for name in ("depth", "hidden_size", "seed", "transform_bias", "init")}
    return given | ({} if input_size is None else {"input_size": input_size})


def _changed(name: str, kind: str, value) -> dict:
    return {bias_option(name) if kind == "bias" else kind: value}


def bias_option(name: str) -> str:
    """The option of a cell that says how its gates' bias starts: transform_bias, forget_bias and the like; raises InvalidInputError."""
    found = _biases(resolve_cell(name))
    if not found:
        such = ", ".join(cell for cell, factory in CELLS.items() if _biases(factory))
        raise InvalidInputError(
            f"--compare bias=... is for cells with gates whose bias can be set ({such}), not for {name}"
        )
    return found[0]


def _biases(factory) -> list[str]:
    return [option for option in getattr(factory, "options", ()) if option.endswith("_bias")]


def _value(base: Subject, kind: str, options):
    """What the network of the options has of what varies; None where it does not say."""
    if kind == "seed":
        return options.seed
    if kind == "bias":
        return getattr(base.cell, bias_option(base.name), None)
    value = getattr(base.cell, kind, None)
    return str(value) if kind == "init" and value is not None else value


def _title(subject: Subject, kind: str, value) -> str:
    """What a panel is called, with what varies said in full."""
    said = "as drawn" if value is None else spoken(value)
    if kind == "bias":
        return f"{subject.title}, {bias_option(subject.name).replace('_', ' ')} {said}"
    if kind in ("init", "seed") or (kind, value) == ("depth", 1):
        return f"{subject.title}, {kind} {said}"
    return subject.title


MOST_RUNS = 1000
ABOUT_ONE_RUN = (
    "animate",
    "leading",
    "lyapunov",
    "fixed_points",
    "norm_bounds",
    "verified",
    "pseudospectra",
    "show_discs",
)


def settled(options):
    """(options, variants or None): of files alone the first is what the others are compared with, as if it were --checkpoint.

    Raises InvalidInputError where --compare, --sequences or --seeds do not go with the other options.
    """
    check_least(options, sequences=1, seeds=1)
    variants = None if options.compare is None else parse_variants(options.compare)
    if variants is not None and variants.kind == "checkpoint":
        options = replace(options, checkpoint=options.checkpoint or Path(variants.values[0]))
        variants = replace(variants, values=_other_files(options.checkpoint, variants.values))
    if variants is not None:
        _check_variants(options, variants)
    _check_many(options, variants)
    return options, variants


def many_runs(options) -> bool:
    """Whether medians and bands over several runs are asked for, be they one."""
    return options.sequences is not None or options.seeds is not None


def what_it_reads(path: Path) -> tuple:
    """("text", its vocabulary) of a checkpoint's language model, or ("numbers", None); raises CheckpointError."""
    try:
        about = read_metadata(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; for weights of a module of your own add --module package.module:factory"
        ) from error
    return ("text", about["metadata"].get("vocabulary")) if about["class"] == "LanguageModel" else ("numbers", None)


def _check_variants(options, variants: Variants) -> None:
    given = options.module or options.checkpoint
    if given and variants.kind not in ("cell", "checkpoint"):
        kind = variants.words[0]
        raise InvalidInputError(f"--compare {kind}=... is for new cells: {given} says what its cell is")
    if variants.kind != "checkpoint":
        return
    if not variants.values:
        raise InvalidInputError(
            f"--compare {options.checkpoint}: expected at least two files, or --checkpoint with another"
        )
    for other in () if options.module else variants.values:
        if what_it_reads(other) != what_it_reads(options.checkpoint):
            raise InvalidInputError(
                f"{other} and {options.checkpoint} do not read the same: expected networks that read numbers, or language models "
                "of one vocabulary"
            )


def _other_files(first: Path, files: Sequence[str]) -> tuple[Path, ...]:
    """Each once, and not the first: a folder and the weights in it are one. Raises CheckpointError for a folder without weights."""
    found = {weights_file(path).absolute(): Path(path) for path in (first, *files)}
    return tuple(path for path in found.values() if weights_file(path).absolute() != weights_file(first).absolute())


def _check_many(options, variants: Variants | None) -> None:
    for name in ("sequences", "seeds"):
        if (count := getattr(options, name) or 1) > MOST_RUNS:
            raise InvalidInputError(f"--{name} is {count}, expected at most {MOST_RUNS}")
    if options.seeds is not None and options.checkpoint:
        raise InvalidInputError(f"--seeds draws new weights, those of {options.checkpoint} are trained: leave it out")
    if options.seeds is not None and variants is not None and variants.kind == "seed":
        raise InvalidInputError("--compare seed=... shows each seed and --seeds their median: give one")
    if options.sequences is not None and (given := given_flags(options, ("chorale",))):
        raise InvalidInputError(f"--sequences and {given[0]} are two things to read: give one")
    if many_runs(options) and (given := given_flags(options, ABOUT_ONE_RUN)):
        raise InvalidInputError(f"{given[0]} is about one run, and of many only medians are kept: leave it out")
