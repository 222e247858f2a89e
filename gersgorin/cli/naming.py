"""What a figure is called where no name is given: it says what is shown, and differs wherever anything that changes the picture does.

gersgorin-rhn-depth5-bwv269                     what is as usual is left out
gersgorin-rhn-128-units-seed3-bwv269-steps20
gersgorin-depth6-bwv269-3f2a8c01                words that do not tell all end in a number that does
"""

import re
import zlib
from pathlib import Path

from gersgorin.comparison.variants import Variants
from rhn.cell_names import CELL_NAMES
from rhn.options import options_of

SILENT = ("output", "save_data", "json", "force", "device", "animate", "record")  # change nothing in the picture
USUAL = {"depth": 1, "hidden_size": 64, "transform_bias": -2.0}  # what None means
LONGEST = 90  # letters, so that with what is added a name stays under 120
BEST = "best"  # weights of every run are called so
PLAIN = re.compile(r"[a-z0-9_]+")
SCHEME = re.compile(r"[a-z]+(:[0-9.]+)?")
PIECE = re.compile(r"bwv[0-9.]+|(train|valid|test)-[0-9]+")
NETWORK = {  # an option: its word, where it is given
    "compare_init": "before-after",
    "depth": "depth{}",
    "hidden_size": "{}-units",
    "init": "{}",
    "transform_bias": "bias{}",
    "seed": "seed{}",
    "layer": "layer{}",
    "submodule": "{}",
}
MEASURED = {
    "seeds": "{}-seeds",
    "steps": "steps{}",
    "unit": "{}",
    "data": "{}",
    "discs": "{}-discs",
    "dtype": "{}",
    "show_discs": "each-disc",
    "leading": "{}-leading",
    "memory_limit": "within-{}",
    "lyapunov": "lyapunov{}",
    "repeat": "repeat{}",
    "fixed_points": "fixed-points{}",
    "norm_bounds": "bounded",
    "verified": "verified",
    "pseudospectra": "pseudospectra",
}


def figure_name(options, variants: Variants | None) -> str:
    """The default name of a figure of `gersgorin-plot`; see above."""
    given = _given(options)
    network = options.checkpoint or options.module or options.cell or "rhn"
    reads = options.text or options.input or ("test" if options.sequences else options.chorale.lower().replace(" ", ""))
    words = [_word(network), *_words(given, NETWORK)]
    words += ["vs", *variants.words] if variants else []
    words += [f"{options.sequences}-of"] * (options.sequences is not None) + [_word(reads)]
    told = _tells(options, given, variants)
    return named(
        ["gersgorin", *words, *_words(given, MEASURED)], "" if told else repr((sorted(given.items()), variants))
    )


def default_figure(command: str, options) -> str:
    """The default name of a figure of `gersgorin COMMAND`: "gersgorin-lyapunov-rhn-depth5-bwv269.png"."""
    given = _given(options)
    network, reads = options.checkpoint or options.module or options.cell or "rhn", options.input or options.chorale
    what = {"cell", "checkpoint", "module", "input", "chorale", "data", *NETWORK}
    more = [f"{name.replace('_', '-')}{_word(value)}" for name, value in given.items() if name not in what]
    plain = not given.keys() & {"checkpoint", "module", "submodule", "input", "data"} and _plain_network(options)
    words = ["gersgorin", *([command] if command else []), _word(network), *_words(given, NETWORK), _word(reads), *more]
    return named(words, "" if plain else repr(sorted(given.items())))


def recording_name(path: Path) -> str:
    """The default name of the figure of a recording: the file's, or that of the folder it is in."""
    run = path.parent if path.name == "record.npz" and path.parent.name else path
    return named(["gersgorin", _word(run)], "" if _plain_path(run, (".npz", "")) else str(path.resolve()))


def named(words: list[str], more: str = "") -> str:
    """Words as the name of a .png, without what a name cannot hold; a long one is cut. `more`: what else tells it from others.

    >>> named(["gersgorin", "rhn", "vs", "a.b:make", "bwv269"])
    'gersgorin-rhn-vs-a.b-make-bwv269.png'
    """
    name = re.sub(r"[^\w.-]+", "-", re.sub(r"\s", "", "-".join(words)))
    if more or len(name) > LONGEST:
        name = f"{name[:LONGEST].rstrip('-')}-{zlib.crc32(f'{name} {more}'.encode(errors='replace')):08x}"
    return f"{name}.png"


def _given(options) -> dict:
    """The options that say what is in the picture, where they are not what is usual."""
    declared = {option.name: option.default for option in options_of(type(options)) if option.name not in SILENT}
    given = {name: getattr(options, name) for name, usual in declared.items() if getattr(options, name) != usual}
    return {name: value for name, value in given.items() if value != USUAL.get(name)}


def _words(given: dict, known: dict) -> list[str]:
    return [template.format(_word(given[name])) for name, template in known.items() if name in given]


def _word(value) -> str:
    """A value as a name may hold it: of a file its stem, of the best weights of a training that of their folder."""
    if isinstance(value, Path):
        return (value.parent.name or BEST) if value.stem == BEST else value.stem
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tells(options, given: dict, variants: Variants | None) -> bool:
    """Whether the words can be read in one way only."""
    plain = [_plain_network(options), _plain_sequence(options)]
    for name in given.keys() & {*NETWORK, *MEASURED}:
        plain.append(_plain_value(given[name]) or (name == "init" and SCHEME.fullmatch(given[name])))
    if variants:
        plain += [value in CELL_NAMES or _plain_value(value) for value in variants.values]
        plain += [variants.kind != "checkpoint"]
    return all(plain)


def _plain_value(value) -> bool:
    """Whether a number's word is the number; words of the user's may be anything."""
    if isinstance(value, float):
        return float(_word(value)) == value
    return isinstance(value, int) or value in ("column", "both", "float32")


def _plain_network(options) -> bool:
    if options.checkpoint:
        path = options.checkpoint
        home = path.parent if path.name == f"{BEST}.safetensors" else path
        return options.module is None and options.cell is None and _plain_path(home, (".safetensors", ""))
    return options.module is None and (options.cell or "rhn") in CELL_NAMES


def _plain_sequence(options) -> bool:
    if path := options.text or options.input:
        return _plain_path(path, (".txt",) if options.text else (".npy",))
    return options.sequences is not None or bool(PIECE.fullmatch(options.chorale.lower().replace(" ", "")))


def _plain_path(path: Path, usual: tuple[str, ...]) -> bool:
    """Whether the name alone tells the file: it is in the current folder and is called as no cell or chorale is."""
    stem = path.stem
    taken = stem in CELL_NAMES or stem == BEST or PIECE.match(stem) or stem == "test"
    return len(path.parts) == 1 and path.suffix in usual and bool(PLAIN.fullmatch(stem)) and not taken
