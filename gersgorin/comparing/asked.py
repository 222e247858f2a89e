"""What the options of `gersgorin-plot` ask of a comparison or of many runs, and what of it does not go together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gersgorin.comparing.variants import Variants, parse_variants
from rhn.checkpoints import read_metadata, weights_file
from rhn.errors import CheckpointError, InvalidInputError
from rhn.options import check_least, given_flags

MOST_RUNS = 1000
ABOUT_ONE_RUN = ("animate", "leading", "lyapunov", "fixed_points", "norm_bounds", "verified", "pseudospectra", "show_discs")


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
