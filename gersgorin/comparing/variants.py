"""Variants of a network for `gersgorin compare`: parse the words that name them, and resolve each
to a network.

rnn,irnn,package.module:factory      cells
depth=1,2,5,10, leak=0.1,0.5         an option of new cells, or of the cell's own; all others equal
init=orthogonal,uniform:0.04,bias:0  a comma before "bias:" belongs to the value
a.safetensors,runs/depth6            trained weights: files, or folders of runs
init                                 the network of a checkpoint before its training
init,lstm,runs/gru                   cells, files and init together
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from gersgorin.loading.network import Subject, labelled, names_weights, new_cell
from gersgorin.loading.open import check_network_options, network_of_options
from gersgorin.loading.options import NewOrTrained
from rhn.cells import read_options, resolve_cell
from rhn.cells.init import Initialization
from rhn.checkpoints import BEST, read_metadata, weights_file
from rhn.errors import InvalidInputError
from rhn.utils.validation import check_seed, convert

MOST = 24  # variants that one figure can tell apart
CELL, BEFORE, BIAS = "cell", "before training", "transform_bias"
Variants = tuple[str | None, tuple]
"""The option that varies, `CELL` for cells, files and init, `BEFORE`, or None if nothing varies;
and its values, each once.
"""
OPTIONS = {  # a word before "=": the option of new cells
    "depth": "depth",
    "hidden_size": "hidden_size",
    "init": "init",
    "bias": BIAS,
    "transform_bias": BIAS,
    "forget_bias": BIAS,
    "seed": "seed",
}
FIELDS = {f.name: f.type for f in fields(NewOrTrained)}
EXPECTED = (
    "expected cells (rnn,lstm), files (a.safetensors,b.safetensors), init, or values of "
    "depth=, hidden-size=, init=, bias=, seed= or "
    "of an option of the cell"
)


def parse_variants(text: str | None) -> Variants:
    """Read the words of a command line. Raises InvalidInputError for values that are missing,
    unreadable or of several kinds.
    """
    if text is None or text.strip() == "init":
        return text and BEFORE, ()
    name, _, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    option = OPTIONS.get(name.lower()) or ("=" in text and name.isidentifier() and name)
    if option and "=" not in listed:
        values = [_value(option, word.strip()) for word in re.split(r",(?!\s*bias:)", listed)]
    else:
        values = [word.strip() for word in text.split(",")]
        if "=" in text and not any(map(names_weights, values)):
            raise InvalidInputError(f"{text}: {EXPECTED}")
        option = CELL
    if "" in values:
        raise InvalidInputError(f"{text!r}: a value is missing; {EXPECTED}")
    if len(found := tuple(dict.fromkeys(values))) > MOST:
        raise InvalidInputError(
            f"{len(found)} variants are too many for one figure: expected at most {MOST}"
        )
    return option, found


def _value(name: str, word: str):
    """A value of an option as the command line reads it; an initialisation as its cell writes
    it.
    """
    if not word or name == "init":
        return word and str(Initialization.parse(word))
    if name not in FIELDS:  # an option of a cell's own, which reads it
        return word
    try:
        value = convert(word, FIELDS[name])
    except ValueError as error:
        raise InvalidInputError(f"{name}={word}: {error}") from None
    if value is None or not math.isfinite(value):
        raise InvalidInputError(f"{name}={word}: expected finite numbers")
    return value


def panel_networks(
    options: NewOrTrained, variants: Variants, input_size: int | None, seeds: int = 1
) -> list[tuple[Subject, ...]]:
    """The networks to compare, each with `seeds` seeds: that of the options first, unless it is a
    variant; before training, then after.

    Several cells without --cell are compared alone.

    input_size: numbers of a step of the data; None for ids of tokens. Raises InvalidInputError or
    CheckpointError.
    """
    check_network_options(options)
    check_seed(options.seed + seeds - 1)
    of_seeds = [
        _networks(replace(options, seed=options.seed + k), variants, input_size)
        for k in range(seeds)
    ]
    found = list(zip(*of_seeds, strict=True))
    if variants[0] and len(found) < 2:
        raise InvalidInputError(
            f"there is nothing to compare with {found[0][0].title}: name another variant"
        )
    return found


def _networks(
    options: NewOrTrained, variants: Variants, input_size: int | None
) -> Iterable[Subject]:
    """The network of each panel. Raises InvalidInputError for variants that the network of the
    options cannot have.
    """
    (option, values), trained = variants, options.module or options.checkpoint
    if option not in (None, CELL, BEFORE):
        if trained:
            raise InvalidInputError(
                f"{option}=... is for new cells: {trained} says what its cell is"
            )
        return _varied(options, option, values, input_size)
    if (option == BEFORE or "init" in values) and not options.checkpoint:
        raise InvalidInputError(
            "init means the network of --checkpoint FILE before its training: add that option"
        )
    if option == BEFORE:
        after = network_of_options(options, input_size)
        after = replace(after, title=labelled("after training", after.title))
        return [network_of_options(options, input_size, fresh=True), after]
    return _listed(options, values, input_size)


def _varied(
    options: NewOrTrained, option: str, values: tuple, input_size: int | None
) -> Iterator[Subject]:
    """New cells that differ in one option, whose value their titles have."""
    base = network_of_options(options, input_size)
    argument = _bias_of(base.name) if option == BIAS else option
    of_cell = option == BIAS or option not in FIELDS
    if of_cell:
        values = tuple(read_options(base.name, {argument: value})[argument] for value in values)
    own = options.seed if option == "seed" else getattr(base.cell, argument, None)
    own = str(own) if option == "init" and own is not None else own
    for value in values if own in values else (own, *values):
        if value is None:  # the gates' biases as drawn
            yield base
            continue
        changed = (
            {"cell_options": options.cell_options | {argument: value}}
            if of_cell
            else {option: value}
        )
        subject = network_of_options(replace(options, **changed), input_size)
        # the others are there
        in_title = option in ("init", "seed") or (option, value) == ("depth", 1)
        yield replace(subject, title=subject.title + f", {option} {value}" * in_title)


def _bias_of(name: str) -> str:
    """The option of a cell for the initial bias of its gates: transform_bias, forget_bias. Raises
    InvalidInputError for other cells.
    """
    for option in getattr(resolve_cell(name), "options", ()):
        if option.endswith("_bias"):
            return option
    raise InvalidInputError(
        f"bias= is for cells with gates whose bias can be set, such as rhn and lstm, not for {name}"
    )


def _listed(options: NewOrTrained, words: tuple, input_size: int | None) -> Iterator[Subject]:
    """The network of the options, and beside it new cells, trained weights, and its own before
    training; several cells without --cell alone. A folder and the weights in it are one.
    """
    base, trained, unique = (
        options.cell or "rhn",
        options.module or options.checkpoint,
        dict[Path, Path](),
    )
    for path in filter(
        None, (options.checkpoint, *(Path(word) for word in words if names_weights(word)))
    ):
        unique.setdefault(weights_file(path).absolute(), path)
    if not options.module and len({_vocabulary(path) for path in unique.values()}) > 1:
        raise InvalidInputError(
            f"{', '.join(map(str, unique.values()))} do not read the same: expected networks "
            "that read numbers, or language models of "
            "one vocabulary"
        )
    names = dict(zip(unique.values(), short_names([*unique.values()]), strict=True))
    if trained or (base not in words and (options.cell or len(words) < 2)):
        subject = network_of_options(options, input_size)
        named = words and (not options.module or len(names) > 1)
        yield replace(
            subject, title=labelled(next(iter(names.values()), "") if named else "", subject.title)
        )
    units = getattr(subject.cell, "hidden_size", None) if trained else None
    new = replace(
        options, hidden_size=units if options.hidden_size is None else options.hidden_size
    )
    fresh = (subject.name, "init") if options.checkpoint else ()  # one network
    for name in dict.fromkeys("init" if name in fresh else name for name in words):
        if name == "init":
            yield network_of_options(options, input_size, fresh=True)
        elif not names_weights(name):
            if input_size is None:
                raise InvalidInputError(
                    f"new cells cannot read the text that {trained} reads: name files of weights"
                )
            beside = new_cell(
                replace(new, cell=name), input_size, compared=bool(trained) or name != base
            )
            yield replace(
                beside, title=labelled("untrained" if options.checkpoint else "", beside.title)
            )
        elif (path := Path(name)) in names and path != options.checkpoint:
            beside = network_of_options(replace(options, checkpoint=path), input_size)
            yield replace(beside, title=labelled(names[path], beside.title))


def _vocabulary(path: Path) -> str | None:
    """The vocabulary of the language model in a checkpoint; None for a network that reads
    numbers.
    """
    header = read_metadata(path)
    return (
        repr(header["metadata"].get("vocabulary")) if header["class"] == "LanguageModel" else None
    )


def short_names(paths: Sequence[Path]) -> list[str]:
    """The name of each file or folder of a run, or its path if names are equal.

    >>> short_names([Path("runs/depth2/best.safetensors"), Path("runs/depth10")])
    ['depth2', 'depth10']
    >>> short_names([Path("a/run.safetensors"), Path("b/run.safetensors")])
    ['a/run', 'b/run']
    """
    homes = [path.parent if path.name == BEST else path for path in paths]
    found = [str(home).removesuffix(".safetensors") for home in homes]
    names = [Path(path).name for path in found]
    return names if len({*names}) == len(names) else found
