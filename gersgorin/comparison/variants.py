"""Variants of a network for `gersgorin compare`: parse the words that name them, and resolve each to a network.

rnn,irnn,package.module:factory      cells
depth=1,2,5,10                       an option of new cells, with all other options equal
init=orthogonal,uniform:0.04,bias:0  a comma before "bias:" belongs to the value
a.safetensors,runs/depth6            trained weights: files, or folders of runs
init                                 the network of a checkpoint before its training
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from gersgorin.loading.network import Subject, checkpoint_cells, module_cells, new_cell
from gersgorin.options import NewOrTrained
from gersgorin.resolve import NEW_CELL, check_network_options
from rhn.cells import CELLS, is_known, resolve_cell
from rhn.cells.init import Initialization
from rhn.checkpoints import BEST, read_metadata, weights_file
from rhn.errors import InvalidInputError
from rhn.utils.validation import check_seed, convert

MOST = 24  # variants that one figure can tell apart
STATES = (".pt", ".pth", ".bin", ".ckpt")  # usual suffixes of a state_dict
CELL, FILES, BEFORE = "cell", "checkpoint", "init"  # kinds beside the options of a cell
OPTIONS = {  # a word before "=": the option of new cells
    "depth": "depth",
    "hidden_size": "hidden_size",
    "init": "init",
    "bias": "transform_bias",
    "transform_bias": "transform_bias",
    "forget_bias": "transform_bias",
    "seed": "seed",
}
EXPECTED = "expected cells (rnn,lstm), files (a.safetensors,b.safetensors), init, or one of depth=, hidden-size=, init=, bias=, seed="
ONE_KIND = "expected one kind of variant, as in depth=1,2,5"


@dataclass(frozen=True)
class Variants:
    """Variants of one kind."""

    kind: str
    """"cell"; "checkpoint"; "init" for before training; or "init=", "depth=", "hidden_size=", "transform_bias=", "seed="."""
    values: tuple = ()
    """Each once, in the given order."""

    @property
    def option(self) -> str | None:
        """The option of new cells that varies."""
        return self.kind[:-1] if self.kind.endswith("=") else None


@dataclass(frozen=True)
class Panel:
    """One network with its seeds."""

    title: str
    """Its name in figures and tables."""
    subjects: tuple[Subject, ...]
    """One for each seed."""

    @property
    def subject(self) -> Subject:
        """Of the first seed."""
        return self.subjects[0]


def parse_variants(text: str) -> Variants:
    """Read the words of a command line. Raises InvalidInputError for values that are missing, unreadable or of several kinds."""
    if text.strip() == BEFORE:
        return Variants(BEFORE)
    kind, equals, listed = text.partition("=")
    kind = kind.strip().lower().replace("-", "_")
    if equals and re.fullmatch(r"\w+", kind):
        if kind not in OPTIONS:
            raise InvalidInputError(f"{text}: {kind} cannot vary; {EXPECTED}")
        if "=" in listed:
            raise InvalidInputError(f"{text}: {ONE_KIND}")
        words = [word.strip() for word in re.split(r",(?!\s*bias:)", listed)]
        return Variants(f"{OPTIONS[kind]}=", _each_once(text, [_value(kind, word) for word in words]))
    words = [word.strip() for word in text.split(",")]
    files = [word for word in words if _is_file(word)]
    if any(re.match(r"\w[\w-]*=", word) for word in words if word not in files):
        raise InvalidInputError(f"{text}: {ONE_KIND}")
    if files and len(files) < len(words):
        other = next(word for word in words if word not in files)
        raise InvalidInputError(
            f"{text}: {files[0]} is a file and {other} a cell; expected only files, or only cells (a file beside new cells: "
            "CELLS --checkpoint FILE)"
        )
    return Variants(FILES if files else CELL, _each_once(text, words))


def _value(kind: str, word: str):
    """A value of an option as the command line reads it; an initialisation as its cell writes it."""
    if not word:
        return ""
    option = next(f for f in fields(NewOrTrained) if f.name == OPTIONS[kind])
    if option.name == "init":
        return str(Initialization.parse(word))
    try:
        value = convert(word, option.type)
    except ValueError as error:
        raise InvalidInputError(f"{kind}={word}: {error}") from None
    if value is None or not math.isfinite(value):
        raise InvalidInputError(f"{kind}={word}: expected finite numbers")
    if option.name == "seed":
        check_seed(value)
    return value


def _each_once(text: str, values: list) -> tuple:
    if "" in values:
        raise InvalidInputError(f"{text!r}: a value is missing; {EXPECTED}")
    found = tuple(dict.fromkeys(values))
    if len(found) > MOST:
        raise InvalidInputError(f"{len(found)} variants are too many for one figure: expected at most {MOST}")
    return found


def _is_file(word: str) -> bool:
    """True for a word that names weights; the name of a cell does not, even beside a folder of that name."""
    if word.endswith((".safetensors", *STATES)) or os.sep in word:
        return True
    return not is_known(word) and os.path.exists(os.path.join(word, BEST))  # noqa: PTH110, PTH118 (Path raises for long names)


def short_names(paths: Sequence[Path]) -> list[str]:
    """The part of each path between the common beginning and the common end.

    >>> short_names([Path("runs/depth2/best.safetensors"), Path("runs/depth10/best.safetensors")])
    ['depth2', 'depth10']
    >>> short_names([Path("a.safetensors"), Path("runs/b.safetensors")])
    ['a', 'runs/b']
    """
    parts = [path.with_suffix("").parts if path.suffix == ".safetensors" else path.parts for path in paths]
    if len(paths) == 1:
        return ["/".join(parts[0][-1:])]
    shortest = min(map(len, parts)) - 1  # at least one part of each path stays
    head = _shared(parts, shortest)
    tail = _shared([names[::-1] for names in parts], shortest - head)
    return ["/".join(names[head : len(names) - tail]) for names in parts]


def _shared(parts: list[tuple], most: int) -> int:
    """Length of the common beginning, at most so long."""
    same = [len({names[k] for names in parts}) == 1 for k in range(most)]
    return [*same, False].index(False)


def panels(options: NewOrTrained, variants: Variants | None, input_size: int | None, seeds: int = 1) -> list[Panel]:
    """The networks to compare: that of the options first, unless it is a variant; each with `seeds` seeds from options.seed on.

    Several cells without --cell are compared alone.

    input_size: numbers of a step of the data; None for ids of tokens. Raises InvalidInputError or CheckpointError.
    """
    check_network_options(options)
    check_seed(options.seed + seeds - 1)
    if variants is not None:
        _check(options, variants, input_size)
    of_seeds = [list(_networks(replace(options, seed=options.seed + k), variants, input_size)) for k in range(seeds)]
    found = [Panel(of_one[0][0], tuple(subject for _, subject in of_one)) for of_one in zip(*of_seeds, strict=True)]
    if variants is not None and len(found) < 2:
        raise InvalidInputError(f"there is nothing to compare with {found[0].title}: name another variant")
    return found


def _check(options: NewOrTrained, variants: Variants, input_size: int | None) -> None:
    """Raise InvalidInputError for variants that the network of the options cannot have."""
    trained = options.module or options.checkpoint
    if variants.kind == BEFORE and not options.checkpoint:
        raise InvalidInputError("init is the network of --checkpoint FILE before its training: add that")
    if variants.option and trained:
        raise InvalidInputError(f"{variants.kind}... is for new cells: {trained} says what its cell is")
    if variants.kind == CELL and input_size is None:
        raise InvalidInputError(
            f"new cells cannot read the text that {options.checkpoint} reads: name files of weights"
        )
    if variants.kind == FILES and not options.module:
        for other in variants.values:
            if _vocabulary(other) != _vocabulary(options.checkpoint):
                raise InvalidInputError(
                    f"{other} and {options.checkpoint} do not read the same: expected networks that read numbers, or language models "
                    "of one vocabulary"
                )


def _vocabulary(path: str | Path) -> tuple:
    """(Whether a checkpoint reads text, its vocabulary)."""
    header = read_metadata(path)
    text = header["class"] == "LanguageModel"
    return text, header["metadata"].get("vocabulary") if text else None


def _networks(
    options: NewOrTrained, variants: Variants | None, input_size: int | None
) -> Iterator[tuple[str, Subject]]:
    """(Title, network) of each panel."""
    given = {name: getattr(options, name) for name in (*NEW_CELL, "seed")}
    given |= {} if input_size is None else {"input_size": input_size}
    if variants is not None and variants.option:
        yield from _varied(options.cell or "rhn", given, variants)
        return
    trained = bool(options.module or options.checkpoint)
    if trained:
        yield from _trained(options, variants, input_size)
    base = options.cell or "rhn"
    names = variants.values if variants is not None and variants.kind == CELL else ()
    alone = options.cell is None and len(names) > 1  # several cells and no --cell: only these
    for name in names if trained or alone or base in names else (base, *names):
        subject = new_cell(name, compared=trained or name != base, **given)
        yield subject.title, subject


def _varied(name: str, given: dict, variants: Variants) -> Iterator[tuple[str, Subject]]:
    """New cells that differ in one option."""
    base, option = new_cell(name, **given), variants.option
    argument = _bias_of(name) if option == "transform_bias" else option
    own = given["seed"] if option == "seed" else getattr(base.cell, argument, None)
    own = str(own) if option == "init" and own is not None else own
    for value in variants.values if own in variants.values else (own, *variants.values):
        subject = base if value == own else new_cell(name, **given | {argument: value})
        words = "as drawn" if value is None else f"{value:g}" if isinstance(value, float) else value
        in_title = option in ("init", "seed", "transform_bias") or (option, value) == ("depth", 1)
        yield subject.title + f", {argument.replace('_', ' ')} {words}" * in_title, subject


def _trained(options: NewOrTrained, variants: Variants | None, input_size: int | None) -> Iterator[tuple[str, Subject]]:
    """The network of the options with its weights, with those before its training, or with those of other files."""
    kind = variants.kind if variants else None
    files, size = [options.checkpoint], {"input_size": input_size}
    if kind == FILES:  # a folder and the weights in it are one
        unique: dict[Path, Path] = {}
        for path in (options.checkpoint, *variants.values):
            unique.setdefault(weights_file(path).absolute(), Path(path))
        files = list(unique.values())
    named = len(files) > 1 or (kind in (FILES, CELL) and not options.module)
    for path, name in zip(files, short_names(files) if named else files, strict=True):
        if options.module:
            size |= {"hidden_size": options.hidden_size, "seed": options.seed, "submodule": options.submodule}
            found = module_cells(options.module, weights=path, layer=None, fresh=kind == BEFORE, **size)
        else:
            before = options.seed if kind == BEFORE else None
            found = checkpoint_cells(path, None, options.cell, before=before, **size)
        for subject in found:
            yield f"{name}: {subject.title}" if named else subject.title, subject


def _bias_of(name: str) -> str:
    """The option of a cell for the initial bias of its gates: transform_bias, forget_bias. Raises InvalidInputError for other cells."""
    found = _biases(resolve_cell(name))
    if not found:
        such = ", ".join(cell for cell, factory in CELLS.items() if _biases(factory))
        raise InvalidInputError(f"bias= is for cells with gates whose bias can be set ({such}), not for {name}")
    return found[0]


def _biases(factory) -> list[str]:
    return [option for option in getattr(factory, "options", ()) if option.endswith("_bias")]
