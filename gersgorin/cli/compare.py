"""`gersgorin compare`: networks side by side, or medians and bands over many runs.

The user names the networks one by one: new cells, trained weights, modules. `--set depth=5` sets an
option of all new cells that have it, `--set rhn.depth=5` that of one cell. If an option is set to
several values, each value gives one network.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Group, Parameter

from gersgorin.analyses import ANALYSES, Analysis
from gersgorin.cli.options import (
    BatchAxisOption,
    DataOptions,
    NetworkOptions,
    NewCell,
    NewOrTrained,
    OutputOptions,
)
from gersgorin.cli.outputs import check_step, default_figure, show_result
from rhn.cells.registry import (
    accepts,
    cell_options,
    import_named,
    is_known,
    read_options,
    resolve_cell,
    unknown_cell,
)
from rhn.cli.entry import own_cell, resolve_device, run_command
from rhn.errors import InvalidInputError
from rhn.utils.old import Outputs, convert, counted, given_flags, run_read, single, within
from rhn.utils.progress import progress_bars
from rhn.utils.validation import check_seed

MOST_RUNS, MOST_NETWORKS = 1000, 24
SEEDS, SEQUENCES = 5, 20  # of bands, by default
COMPARISON = Parameter(group=Group("comparison", sort_key=0))
NEW_CELL = {k: kind for k, kind in get_type_hints(NewCell).items() if k != "transform_bias"}


@dataclass(frozen=True, kw_only=True)
class CompareOptions(OutputOptions, DataOptions, BatchAxisOption, NewCell):
    """Compare networks along a sequence, or over many sequences and seeds.

    examples:
      gersgorin compare rnn,lstm,gru,rhn
      gersgorin compare rhn,dt-rnn,dts-rnn,rnn --set depth=5 --figure slide
      gersgorin compare rhn --set depth=1 --set depth=5 --analysis lyapunov
      gersgorin compare rnn,dts-rnn --set dts-rnn.skip=last
      gersgorin compare rhn,lstm --over seeds --seeds 5
      gersgorin compare runs/depth6 --before-training --output trained.pdf
    """

    networks: Annotated[str | None, COMPARISON] = field(default=None, kw_only=False)
    """Networks to compare, separated by commas: cells (rnn,lstm), files or folders of trained
    weights (runs/a,b.safetensors), modules or cells of your own (package.module:factory).
    """
    set: Annotated[tuple[str, ...], COMPARISON, Parameter(metavar="NAME=VALUE")] = ()
    """Set an option of all new cells that have it (depth=5), or of one cell (rhn.depth=5). If an
    option gets several values, there is one network for each value: --set depth=1 depth=5.
    """
    before_training: Annotated[bool, COMPARISON] = False
    """Also draw each trained network as it was before training, with its initial weights (default:
    only the trained network).
    """
    module: Annotated[str | None, COMPARISON] = None
    """Your torch module, package.module:factory. Needed if the files in NETWORKS contain weights of
    this module.
    """
    submodule: Annotated[str | None, COMPARISON] = None
    """Name of a part of your modules, such as encoder.rnn. The first recurrent cell in this part is
    analysed. Default: the first recurrent cell in the whole module.
    """
    analysis: Annotated[str, COMPARISON] = "spectra"
    """The analysis to compare: spectra, products, gains, gates, lyapunov, fixed-points, ..."""
    over: Annotated[tuple[Literal["seeds", "sequences"], ...], COMPARISON] = ()
    """Draw medians and 10 to 90 % bands over seeds, sequences, or both (default: one run of each
    network).
    """
    seeds: Annotated[int | None, COMPARISON, within(least=1, most=MOST_RUNS)] = None
    """Number of seeds for --over seeds. The seeds count up from the value of --seed (default: 5
    seeds).
    """
    sequences: Annotated[int | None, COMPARISON, within(least=1, most=MOST_RUNS)] = None
    """Number of chorales, or of sequences of --input, for --over sequences (default 20)."""

    @property
    def words(self) -> list[str]:
        """The names of the networks, each once."""
        words = (word.strip() for word in (self.networks or "").split(","))
        return list(dict.fromkeys(filter(None, words)))

    @property
    def samples(self) -> dict[str, int]:
        """The number of seeds and of sequences for bands; empty if there are no bands."""
        given = {"seeds": self.seeds, "sequences": self.sequences}
        usual = {"seeds": SEEDS, "sequences": SEQUENCES}
        return {
            name: number or usual[name]
            for name, number in given.items()
            if number or name in self.over
        }


def main(args: list[str] | None = None, prog: str = "gersgorin compare") -> int:
    """Run the command; returns its exit code. prog: the command as the user typed it."""
    return run_command(lambda: run_read(single(prog, CompareOptions), args, run))


def run(options: CompareOptions) -> None:
    """Load networks and data, run the analysis on each network, then print, draw and write the
    results.
    """
    row = _analysis(options)
    _check(options)

    from gersgorin.cli.load import chorales_file, datasets_of_options
    from gersgorin.comparison import errors_name, measure_network, side_by_side
    from rhn.data import chorales

    outputs = Outputs.of(
        options, default_figure("" if row.name == "spectra" else row.command, options)
    )
    rows = _rows(options)
    reader = _reader(rows)
    data = datasets_of_options(reader, options, options.samples.get("sequences"))
    file = None if options.input else chorales_file(reader, options.data)
    measured_on = None if options.input else (file, chorales(file))
    if measured_on:
        _warn_of_other_data(rows, *measured_on)
    check_step(options.step, max(each.steps for each in data), row)
    device, measured = resolve_device(options.device), list[Any]()
    networks = [_network(options, one, data, measured_on, device) for one in rows]
    with progress_bars() as report:
        for one, network in zip(rows, networks, strict=True):
            name = one.name if len(rows) > 1 else ""
            with own_cell(one.network.module or one.network.cell), errors_name(name):
                bands = bool(options.samples)
                measured.append(measure_network(network, row, bands=bands, report=report))
    found = side_by_side(measured, row, only=len(_differing(rows)) == 1)
    result = found if len(found) > 1 else found[0]
    show_result(outputs, options, result, partial(result.figure, **options.drawing))


def _analysis(options: CompareOptions) -> Analysis:
    """The row of --analysis. Raises InvalidInputError for an unknown name, or for an analysis that
    needs a model with data.
    """
    rows = {row.name.replace("_", "-"): row for row in ANALYSES.values() if row.needs == "run"}
    name = options.analysis.replace("_", "-")
    if name not in rows:
        raise InvalidInputError(f"--analysis {options.analysis}: expected one of {', '.join(rows)}")
    return rows[name]


def _check(options: CompareOptions) -> None:
    """Raise InvalidInputError for options that contradict each other."""
    many, trained = options.samples, [word for word in options.words if _names_weights(word)]
    sizes = () if options.module else ("hidden_size",)  # of a module, too
    of_new = given_flags(options, (*sizes, "depth", "init", "transform_bias"))
    of_modules = given_flags(options, ("submodule", "batch_axis"))
    refused = {
        f"the weights of {', '.join(trained)} are trained, and options of new cells are given, "
        f"{', '.join(of_new)}: leave them out, or give them to a new cell by --set NAME=VALUE": (
            of_new and trained
        ),
        **_without_option(options),
        "there is no network to compare: name at least one, such as gersgorin compare "
        "rnn,lstm": not options.words,
        "bands over many runs exist only for spectra: leave --analysis out": many
        and options.analysis != "spectra",
        "--sequences and --chorale both name something to read: give only one": "sequences" in many
        and given_flags(options, ("chorale",)),
        f"the weights of {', '.join(trained)} are trained, and --over seeds draws new ones: "
        "leave one out": "seeds" in many and trained,
        "--before-training is for trained weights: name a file or the folder of a training": (
            options.before_training and not trained
        ),
        "--module is for files of weights: name them, or the module itself in place of a "
        "cell": options.module and not trained,
        f"{', '.join(of_modules)} is for modules of your own: name one, or leave it out": (
            of_modules and not options.module and not any(map(_names_module, options.words))
        ),
    }
    for sentence, wrong in refused.items():
        if wrong:
            raise InvalidInputError(sentence)
    check_seed(options.seed + many.get("seeds", 1) - 1)


def _without_option(options: CompareOptions) -> dict[str, bool]:
    """Sentences {sentence: whether it applies} about the networks without trained weights that lack
    an option for all of them.
    """
    words, found = [word for word in options.words if not _names_weights(word)], dict[str, bool]()
    for name in ("depth", "init", "transform_bias"):
        value = getattr(options, name)
        if given_flags(options, (name,)) and (name, value) != ("depth", 1):
            having = [word for word in words if _has(word, name)]
            lack = [word for word in words if word not in having]
            found[_lacking(name, value, having, lack)] = bool(lack)
    return found


def _lacking(name: str, value: Any, having: Sequence[str], lack: Sequence[str]) -> str:
    """A sentence about networks that lack an option, and about those that have it."""
    have = "has" if len(lack) == 1 else "have"
    remedy = f"give --set {name}={value}, which sets it for {', '.join(having)}"
    return (
        f"--{name.replace('_', '-')} is {value}, and {', '.join(lack)} {have} no such option: "
        f"{remedy if having else 'leave it out'}"
    )


@dataclass(frozen=True)
class _Row:
    """A network to compare, as the options of a command about this network only."""

    network: NewOrTrained
    name: str = ""
    """Name of the network, see `gersgorin.labels.Identity`."""
    after: str = ""
    """"after epoch 34" for trained weights beside their initial weights."""
    varied: tuple[str, ...] = ()
    """Words that tell the network from others with the same cell: "orthogonal weights"."""
    fresh: bool = False
    """True for a trained network before its training run."""

    @property
    def identity(self) -> str:
        """The origin of the network. The folder of a training run and the file in it have the same
        origin.
        """
        from rhn.checkpoints import weights_file  # here, because `--help` should not load torch

        path = self.network.checkpoint
        home = path and weights_file(path).absolute()
        return repr((self.fresh, home, replace(self.network, checkpoint=None)))


def _rows(options: CompareOptions) -> list[_Row]:
    """The networks in the order in which the user named them, each once. Raises InvalidInputError
    for a single network, for too many, and for an option that no cell has.
    """
    rows = dict[str, _Row]()
    for row in _each(options):
        rows.setdefault(row.identity, row)
    if len(rows) > MOST_NETWORKS:
        raise InvalidInputError(
            f"{len(rows)} networks are too many for one figure: expected at most {MOST_NETWORKS}"
        )
    if len(rows) < 2 and not options.samples:
        raise InvalidInputError(
            f"there is nothing to compare with {options.words[0]}: name another network"
            f"{_to_compare(next(iter(rows.values())).network)}"
        )
    return [*rows.values()]


def _to_compare(network: NewOrTrained) -> str:
    """The options with which a single network has something to compare with."""
    if network.checkpoint:
        return ", or give --before-training"
    return "" if network.module else ", give --set with two values, or --over seeds"


def _each(options: CompareOptions) -> Iterator[_Row]:
    """Yield the networks of each name."""
    files = [word for word in options.words if _names_weights(word)]
    modules = [word for word in options.words if _names_module(word)]
    cells = [_cell(word) for word in options.words if word not in (*files, *modules)]
    settings = [_Setting.of(word, cells) for word in options.set]
    names = _names(options, files, modules)
    for word in options.words:
        if word in cells:
            yield from _new_cells(options, word, settings, names[word])
        elif word in modules:
            yield _Row(_of_module(options, word), names[word])
        else:
            yield from _trained(options, Path(word), names[word])


def _names(options: CompareOptions, files: Sequence[str], modules: Sequence[str]) -> dict[str, str]:
    """The names of the networks by the words for them; "" for a file that is the only word. If
    there are trained and other networks, the names tell them apart.
    """
    short = dict(zip((*files, *modules), short_names(files, modules), strict=True))
    if len(options.words) == 1:
        return {word: "" if word in files else short.get(word, word) for word in options.words}
    new, trained = "new " if files else "", "trained "
    if options.before_training or len(files) == len(options.words):  # the labels have the state
        trained = ""
    return {
        word: f"{trained if word in files else ''}{short[word]}" if word in short else new + word
        for word in options.words
    }


def _differing(rows: Sequence[_Row]) -> set[str]:
    """Names of the options in which networks differ."""
    each = [
        vars(row.network) | row.network.cell_options | {"fresh": row.fresh, "cell_options": None}
        for row in rows
    ]
    names = {name for values in each for name in values}
    return {name for name in names if len({repr(values.get(name)) for values in each}) > 1}


def _cell(word: str) -> str:
    """Return a name of a cell. Raises InvalidInputError for any other word."""
    if not is_known(word) and ":" not in word:
        raise InvalidInputError(f"there is no file of weights {word}: {unknown_cell(word)}")
    return word


@dataclass(frozen=True)
class _Setting:
    """A value of --set: an option of all new cells, or of one of them."""

    cells: tuple[str, ...]
    """The cells that have the option."""
    name: str
    value: str
    own: bool
    """True for an option of one cell, which takes precedence over that of all cells."""

    @classmethod
    def of(cls, word: str, cells: Sequence[str]) -> "_Setting":
        """Read NAME=VALUE or CELL.NAME=VALUE. Raises InvalidInputError for another word, for a
        cell that is not compared, and for an option that no cell has.
        """
        key, _, value = (part.strip() for part in word.partition("="))
        target, _, name = key.rpartition(".")
        name = name.replace("-", "_")
        if not (name and value):
            raise InvalidInputError(f"--set {word}: expected NAME=VALUE, such as depth=5")
        if not cells:
            raise InvalidInputError(
                f"--set {word} is for new cells, such as rhn, and none is named: name one, or "
                "leave --set out"
            )
        if target and target not in cells:
            raise InvalidInputError(
                f"--set {word}: {target} is not among the new cells {', '.join(cells)}"
            )
        named = [target] if target else cells
        having = tuple(cell for cell in named if _has(cell, name))
        if not having and name == "depth":
            raise InvalidInputError(f"--set {word}: {', '.join(named)} cannot be made deeper")
        if not having:
            read_options(named[0], {name: value})  # raises the error that names the cell's options
        return cls(having, name, value, own=bool(target))


def _has(cell: str, name: str) -> bool:
    """True if a new cell has an option. A module has none."""
    if _names_module(cell):
        return False
    if name == "depth":
        return getattr(resolve_cell(cell), "deep", True)
    return name in NEW_CELL or name in {option.name for option in cell_options(cell)}


def _grid(settings: Sequence[_Setting], cell: str) -> dict[str, list[str]]:
    """The options of a cell with their values, each once: {option: values}."""
    mine = [setting for setting in settings if cell in setting.cells]
    replaced = {setting.name for setting in mine if setting.own}
    grid: dict[str, list[str]] = {}
    for setting in mine:
        if setting.own or setting.name not in replaced:
            grid.setdefault(setting.name, []).append(setting.value)
    return {name: [*dict.fromkeys(values)] for name, values in grid.items()}


def _new_cells(
    options: CompareOptions, cell: str, settings: Sequence[_Setting], name: str
) -> Iterator[_Row]:
    """Yield a cell with each combination of the values of its options."""
    grid = _grid(settings, cell)
    flags = {f.name: getattr(options, f.name) for f in fields(NewCell)}
    for values in product(*grid.values()):
        given = dict(zip(grid, values, strict=True))
        own = {name: value for name, value in given.items() if name not in NEW_CELL}
        sizes = {name: _value(name, given[name]) for name in given if name in NEW_CELL}
        network = NewOrTrained(**flags | sizes, cell=cell, cell_options=own)
        titled = ("hidden_size", "depth")
        shown = [key for key in sizes if len(grid[key]) > 1 and key not in titled]
        words = (_in_words(key, sizes[key], grid[key]) for key in shown)
        yield _Row(network, name, varied=tuple(words))


def _in_words(name: str, value, values: Sequence[str]) -> str:
    """An option of a new cell in the words of a figure's title. values: all values that are
    compared.

    >>> _in_words("init", "identity:0.1", ["identity:0.1", "scaled"])
    'identity weights'
    >>> _in_words("init", "identity:0.1", ["identity:0.1", "identity:1"])
    'identity weights of 0.1'
    """
    if name != "init":
        return f"{name.replace('_', ' ')} {value:g}"
    scheme, _, scale = value.partition(":")
    alike = [each for each in values if each.partition(":")[0] == scheme]
    return f"{scheme} weights of {scale}" if len(alike) > 1 and scale else f"{scheme} weights"


def _value(name: str, word: str):
    """Convert the value of an option of new cells. Raises InvalidInputError if it does not fit."""
    try:
        return convert(word, NEW_CELL[name])
    except ValueError as error:
        raise InvalidInputError(f"--set {name}={word}: {error}") from None


def _of_module(options: CompareOptions, module: str | None) -> NewOrTrained:
    """The user's module, with the options for modules."""
    units = options.hidden_size if module else None
    return NetworkOptions(
        module=module,
        submodule=options.submodule,
        batch_axis=options.batch_axis if module else None,
        hidden_size=units,
        seed=options.seed,
    )


def _trained(options: CompareOptions, path: Path, name: str) -> Iterator[_Row]:
    """Yield the network with its trained weights, named with their epoch. With --before-training,
    yield the network with its initial weights first.
    """
    from rhn.plotting.provenance import epoch_words

    network = replace(_of_module(options, options.module), checkpoint=path)
    epoch = "" if options.module else epoch_words(path)
    if options.before_training:
        yield _Row(network, name, fresh=True)
        yield _Row(network, name, after=f"after {epoch or 'training'}")
    else:
        yield _Row(network, f"{name}, {epoch}".removesuffix(", ") if name else "")


def short_names(files: Sequence[str], modules: Sequence[str] = ()) -> list[str]:
    """The name of each file or folder of a training run, then of each factory or class. All files,
    or all factories, have longer names if two names are the same up to case, or if one is that of a
    cell.

    >>> short_names(["runs/depth2/best.safetensors", "runs/depth10"], ["nets:Net"])
    ['depth2', 'depth10', 'Net']
    >>> short_names(["a/run.safetensors", "b/run.safetensors"], ["one:make", "two:make"])
    ['a/run', 'b/run', 'one:make', 'two:make']
    >>> short_names(["runs/rhn", "runs/depth2"], ["nets:LSTM", "nets:Net"])
    ['runs/rhn', 'runs/depth2', 'nets:LSTM', 'nets:Net']
    """
    from rhn.checkpoints import BEST
    from rhn.plotting.provenance import named_file

    paths = [Path(file) for file in files]
    homes = [path.parent if path.name == BEST else path for path in paths]
    found = [str(home).removesuffix(".safetensors") for home in homes]
    found = [named_file(Path(home).absolute()) if is_known(home) else home for home in found]
    ends = [Path(home).name for home in found], [word.rpartition(":")[2] for word in modules]
    folded = [*map(str.casefold, [*ends[0], *ends[1]])]
    unclear = {name for name in folded if folded.count(name) > 1 or is_known(name)}
    return [*_clear(ends[0], found, unclear), *_clear(ends[1], modules, unclear)]


def _clear(short: Sequence[str], long: Sequence[str], unclear: set[str]) -> Sequence[str]:
    """Return the short names; the long ones if a short one is unclear."""
    return short if unclear.isdisjoint(map(str.casefold, short)) else long


def _names_weights(word: str) -> bool:
    from gersgorin.network.factory import names_weights

    return names_weights(word)


def _names_module(word: str) -> bool:
    """True for package.module:factory that returns a torch module: a factory without the argument
    depth. Raises InvalidInputError if it cannot be imported.
    """
    if ":" not in word or is_known(word) or _names_weights(word):
        return False
    factory = import_named(word, "cell or module")
    if _is_module(factory) or _without_arguments(factory):
        return True
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a built-in function, or nothing to call
        return not callable(factory)
    open_ended = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    takes_depth = accepts(factory, "depth") or any(p.kind in open_ended for p in parameters)
    return not takes_depth


def _is_module(found) -> bool:
    from torch import nn

    return isinstance(found, nn.Module)


def _without_arguments(found) -> bool:
    """True for a class of modules that does not define `__init__`."""
    from torch import nn

    return isinstance(found, type) and inspect.signature(found) == inspect.signature(nn.Module)


def _reader(rows: Sequence[_Row]) -> NewOrTrained:
    """The network that decides how the data is read: the first trained network, or else the first
    one. Raises InvalidInputError if language models have different vocabularies.
    """
    trained = [row.network for row in rows if row.network.checkpoint]
    files = [n.checkpoint for n in trained if n.checkpoint and not n.module]
    if len({_vocabulary(path) for path in files}) > 1:
        raise InvalidInputError(
            f"{', '.join(dict.fromkeys(map(str, files)))} do not read the same inputs: "
            "expected networks that read numbers, or language models of one vocabulary"
        )
    return next(iter(trained), rows[0].network)


def _warn_of_other_data(rows: Sequence[_Row], file: Path | None, corpus) -> None:
    """Log a sentence for each trained network whose chorales are not those that all read."""
    from rhn.training.trained import stored_data

    networks = [row.network for row in rows]
    for path in dict.fromkeys(n.checkpoint for n in networks if n.checkpoint and not n.module):
        stored = stored_data(path)
        if stored.checksum is not None:
            stored.warn(file, corpus)


def _vocabulary(path: Path) -> str | None:
    """The vocabulary of the language model in a checkpoint; None for a network that reads
    numbers.
    """
    from rhn.checkpoints import read_metadata

    header = read_metadata(path)
    language = header["class"] == "LanguageModel"
    return repr(header["metadata"].get("vocabulary")) if language else None


def _network(options: CompareOptions, row: _Row, data: Sequence, measured_on, device: str):
    """The network of a row, with its runs for each seed and each sequence."""
    from gersgorin.cli.load import load_network, run_of
    from gersgorin.cli.trained import words_of_training_data
    from gersgorin.comparison import Compared

    size, steps = data[0].input_size, data[0].steps

    def loaded(k: int):
        network = replace(row.network, seed=row.network.seed + k)
        return network, *load_network(network, size, steps, fresh=row.fresh)

    first = loaded(0)
    label, seeds, seed = first[2], options.samples.get("seeds", 1), row.network.seed
    parts = label.title.split(", ")
    varied = [word for word in row.varied if word not in parts]
    title = ", ".join([*parts, *varied])

    def runs():
        for k in range(seeds):
            network, module, own = loaded(k) if k else first
            for one in data:
                run = run_of(network, module, replace(own, title=title), one, device)
                yield network.seed, run

    made = _over_seeds(label.made, seed, seeds) if seeds > 1 else label.made
    path = None if row.network.module else row.network.checkpoint
    trained_on = words_of_training_data(path, measured_on) if path and not row.fresh else ""
    return Compared(
        runs=runs(),
        name=row.name,
        state=label.state or row.after,
        along=_along(data),
        made=", ".join(filter(None, (made, trained_on))),
        data=data[0].about,
        count=seeds * len(data),
    )


def _over_seeds(made: str, seed: int, count: int) -> str:
    """The origin of weights drawn from several seeds; `made`: that of the weights of the first.

    >>> _over_seeds("uniform:0.04, seed 3", 3, 2), _over_seeds("nets:Net", 0, 5)
    ('uniform:0.04, seeds 3 to 4', 'nets:Net, seeds 0 to 4')
    """
    first = made.removesuffix(f"seed {seed}").removesuffix(", ")
    return ", ".join(filter(None, (first, f"seeds {seed} to {seed + count - 1}")))


def _along(data: Sequence) -> str:
    """All sequences, in words: "chorale bwv269", "20 chorales"."""
    first = data[0]
    if len(data) == 1:
        return f"{first.kind} {first.label}"
    words = counted(len(data), "part" if first.kind == "text" else first.kind)
    return words if first.kind == "chorale" else f"{words} of {first.name}"
