"""Load the network and the data that a command's options name.

    load_network(options, input_size)    (module, its names): new, of a checkpoint, the user's
    load_model(options, input_size)      a network with an output, for a loss
    datasets_of_options(options)         chorales, sequences of a file, parts of a text

Legend: T steps; m inputs of a cell.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gersgorin._validate import users_code
from gersgorin.cli.options import DataOptions, NewOrTrained
from gersgorin.data.files import (
    Dataset,
    chorale_data,
    chorales_origin,
    first_tokens,
    read_numbers,
)
from gersgorin.network.factory import build_module, load_weights
from gersgorin.network.find import cell_title, find_cell, model_label, part_of, recurrent_cells
from gersgorin.network.open import check_memory, names_of_data, open_run
from gersgorin.network.sequence_map import OUTPUTS, ModelWithData, on_next_frames
from gersgorin.run.cell import Sizes, checked_sizes
from gersgorin.run.run import Label, Run
from rhn.cells import is_known, name_of_cell, read_options, resolve_cell
from rhn.cells.init import for_steps
from rhn.cells.registry import import_named
from rhn.checkpoints import load_model as load_checkpoint
from rhn.checkpoints import read_metadata
from rhn.data import chorale
from rhn.data.jsb import chorales
from rhn.errors import CheckpointError, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.plotting.provenance import named_file, words_of_checkpoint, words_of_new
from rhn.training.trained import initial_model, load_text_model
from rhn.utils.shared_options import given_flags
from rhn.utils.validation import check_seed
from rhn.utils.wording import kind_of

KEYS = 88  # inputs: the keys of a chorale's frames
UNITS = 64  # of a new cell
TEXT_STEPS = 100
NEW_CELL = ("depth", "hidden_size", "init", "transform_bias", "cell_options")


def load_network(
    options: NewOrTrained, input_size: int | None, steps: int = 100, *, fresh: bool = False
) -> tuple[nn.Module, Label]:
    """The network of these options, for data of `steps` frames, and its names.

    A new cell is in float64. Of a checkpoint and a module the names are those of one of its cells.

    Args:
        input_size: m; None: ids of tokens.
        fresh: a trained network before its training, with the initial weights that the file
            describes, or with weights drawn from the seed.

    Raises:
        InvalidInputError, CheckpointError: no such network, options that it does not have or that
            exclude each other, or a checkpoint whose cell reads other inputs.
    """
    check_network_options(options)
    if options.module:
        module, label = _module(options, input_size, fresh=fresh)
        said = options.state_size is not None
        cell, layer = find_cell(module, options.layer, options.submodule, said=said)
        title = cell_title(cell, layer)
        title = f"{options.submodule}: {title}" if options.submodule else title
        return module, replace(label, name=options.module, title=labelled(label.title, title))
    if options.checkpoint:
        return _checkpoint(options, input_size, fresh=fresh)
    return _new_cell(replace(options, init=for_steps(options.init, steps)), input_size)


def _new_cell(options: NewOrTrained, input_size: int | None) -> tuple[nn.Module, Label]:
    """A new cell, an rhn of depth 1 and 64 units by default, for the keys of chorales."""
    name = options.cell or "rhn"
    factory = resolve_cell(name)
    depth = 1 if options.depth is None else options.depth
    units = UNITS if options.hidden_size is None else options.hidden_size
    if input_size is None:
        raise InvalidInputError(
            f"the new cell {name} cannot read a text: name files of language models"
        )
    given, own = settings_of_new(name, options)

    def build(device: str) -> nn.Module:
        generator = torch.Generator().manual_seed(options.seed)
        return factory(
            input_size,
            units,
            depth,
            generator=generator,
            device=device,
            dtype=torch.float64,
            **given,
        )

    expected = (
        "expected a factory of cells (input_size, hidden_size, depth, *, generator, "
        "device, dtype), not of modules"
    )
    with users_code(
        f"cannot build {name} with {units} units, depth {depth}", "" if is_known(name) else expected
    ):
        cell = build("meta")  # where it takes no memory
    check_memory(cell, 1, "cpu")
    title = with_options(cell_title(cell, name=name), own)
    return build("cpu"), Label(name=name, title=title, made=words_of_new(cell, options.seed))


def settings_of_new(name: str, options: NewOrTrained) -> tuple[dict, dict]:
    """(Keyword arguments of a new cell, those of its `cell_options` among them); what is None is
    left to the cell. Raises InvalidInputError for options that the cell does not have.
    """
    bias = {} if options.transform_bias is None else {"transform_bias": options.transform_bias}
    own = read_options(name, options.cell_options)
    init = {} if options.init is None else {"init": options.init}
    return init | read_options(name, bias) | own, own


def with_options(title: str, options: Mapping) -> str:
    """A title of a network with its given options.

    >>> with_options("leaky, 64 units", {"leak": 0.5})
    'leaky, 64 units, leak 0.5'
    """
    words = [title]
    for name, value in options.items():
        shown = f"{value:g}" if isinstance(value, float) else value
        words.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(words)


def _module(
    options: NewOrTrained, input_size: int | None, *, fresh: bool = False
) -> tuple[nn.Module, Label]:
    """A module of the user's, and as names only what its weights are."""
    assert options.module
    path = options.checkpoint
    module = build_module(
        options.module,
        seed=options.seed,
        input_size=input_size,
        hidden_size=options.hidden_size,
        weights=path,
        state_size=sizes_of_words(options.state_size),
    )
    if fresh:
        return module, Label(title="fresh weights")
    if path is None:  # of unknown origin: a factory may set its own seed
        return module, Label()
    load_weights(module, path)
    return module, Label(made=named_file(path))


def _checkpoint(
    options: NewOrTrained, input_size: int | None, *, fresh: bool = False
) -> tuple[nn.Module, Label]:
    """The network of a checkpoint, with the names of one of its cells."""
    model, label = _trained(options, fresh=fresh)
    cells = recurrent_cells(model)
    if not cells or not (isinstance(model, LanguageModel) or cells[0].input_size == input_size):
        theirs = [f"{type(c).__name__} of {c.input_size} inputs" for c in cells]
        what = "a chorale's keys" if input_size == KEYS else "as many as the sequence has"
        raise InvalidInputError(
            f"{options.checkpoint}: expected a recurrent cell with {input_size} inputs "
            f"({what}), found {', '.join(theirs) or 'none with step(x, s)'}"
        )
    cell, _ = find_cell(model, options.layer or 1)
    name = options.cell or name_of_cell(cell)
    title = cell_title(cell, name=name)
    if len(cells) > 1:
        title = f"cell {options.layer or 1} of {len(cells)}: {title}"
    return model, replace(label, name=name, title=labelled(label.title, title))


def _trained(options: NewOrTrained, *, fresh: bool = False) -> tuple[nn.Module, Label]:
    """The network of a checkpoint; as names the origin of its weights, and words about fresh
    ones.
    """
    path = options.checkpoint
    assert path
    if not fresh:
        return load_checkpoint(path, options.cell), Label(made=words_of_checkpoint(path))
    model, known = initial_model(path, options.seed, options.cell)
    made = words_of_checkpoint(path, fresh=True)
    if not known:
        return model, Label(made=made, title=f"fresh weights (seed {options.seed})")
    # a training draws other weights from a seed than a new cell
    return model, Label(made=f"{made} of the training" if made else "", title="before training")


def labelled(label: str, title: str) -> str:
    """A title after the label that tells it from others of its name, if there is one."""
    return title if title.split(",")[0] == label else ": ".join(filter(None, (label, title)))


def sizes_of_words(words: str | None) -> Sizes | None:
    """The state_size in the words of a command. Raises InvalidInputError.

    >>> sizes_of_words("5"), sizes_of_words("5,5")
    (5, (5, 5))
    """
    if words is None:
        return None
    try:
        sizes = tuple(map(int, words.split(",")))
    except ValueError:
        raise InvalidInputError(
            f"--state-size {words}: expected a whole number, or several joined by commas, 5,5"
        ) from None
    return checked_sizes(sizes if len(sizes) > 1 else sizes[0])


def model_of_file(options: Any, input_size: int) -> tuple[nn.Module, Label, str | None]:
    """The network with an output that a command's options name, its names, and its loss; None: it
    has its own.

    Raises InvalidInputError or CheckpointError.
    """
    check_network_options(options)
    loss = "squared" if options.input else "bernoulli"
    if options.module:
        module = part_of(_module(options, input_size)[0], options.submodule)
        name = f"{options.module}, {options.submodule}" if options.submodule else options.module
        return module, Label(name=name), loss
    if not options.checkpoint:
        return *_new_model(options, input_size), loss
    model, label = _trained(options)
    if not isinstance(model, PolyphonicModel | LanguageModel):
        raise InvalidInputError(
            f"{options.checkpoint} holds only {kind_of(model)}: expected a network with an output"
        )
    return model, replace(label, name=options.checkpoint.name), None


def _new_model(options: Any, width: int) -> tuple[nn.Module, Label]:
    """A model with inputs and outputs of some width around a new cell."""
    cell, units, depth = options.cell or "rhn", options.hidden_size or UNITS, options.depth or 1
    given, own = settings_of_new(cell, options)
    generator = torch.Generator().manual_seed(options.seed)
    given = {"init": None, "hidden_size": units, "depth": depth, "generator": generator} | given
    with users_code(f"cannot build {cell} with {units} units, depth {depth}"):
        built = PolyphonicModel(cell, **given, input_size=width, output_size=width)
    title = with_options(cell_title(built, name=cell), own)
    return built, Label(name=title, made=words_of_new(built.cells[0], options.seed))


def run_of(
    options: NewOrTrained, module: nn.Module, label: Label, data: Dataset, device: str
) -> Run:
    """The run of a loaded network along the first sequence of data, with its names."""
    declared = hasattr(module, "state_shapes")  # by `module_of_step`
    run = open_run(
        module,
        data,
        state_size=None if declared else sizes_of_words(options.state_size),
        layer=options.layer,
        submodule=options.submodule,
        batch_axis=options.batch_axis,
        gates=None if options.gates is None else import_named(options.gates, "gates"),
        device=device,
    )
    return run.named(replace(run.label, name=label.name, title=label.title, made=label.made))


def run_of_options(options: Any, *, device: str) -> Run:
    """The run that a command's options name, in float64. Raises RhnError."""
    data = data_of_options(options, options)
    module, label = load_network(options, data.input_size, data.steps)
    return run_of(options, module, label, data, device)


def model_with_data(options: Any, *, device: str) -> ModelWithData:
    """The model that a command's options name, with their sequences; for a loss (`options.of`) a
    network with an output, and the next frames as targets. Raises RhnError.
    """
    check_network_options(options)
    data, of = data_of_options(options, options), getattr(options, "of", OUTPUTS)
    if of == OUTPUTS and not options.module and not options.checkpoint:
        module, label = load_network(options, data.input_size, data.steps)
    else:
        module, label = _whole(options, of, data.input_size)
        own = model_label(module)
        words = own.title if options.submodule or not options.module else ""
        title = labelled(options.submodule or "", words or type(module).__name__)
        label = Label(title=title, made=label.made or own.made)
    names = names_of_data(data) | {"sequence": data.label, "data": data.about}
    declared = hasattr(module, "state_shapes")
    return on_next_frames(
        module.to(device),
        data.all_read_by(module),
        of,
        batch_axis=getattr(options, "batch_axis", None),
        submodule=options.submodule,
        state_size=None if declared else sizes_of_words(options.state_size),
        label=replace(label, **names),
    )


def _whole(options: Any, of: Any, input_size: int | None) -> tuple[nn.Module, Label]:
    """A whole network: a module, that of a checkpoint, or a new one with an output for a loss."""
    if options.module:
        return _module(options, input_size)
    return _trained(options) if of == OUTPUTS else model_of_file(options, input_size or KEYS)[:2]


def check_network_options(options: NewOrTrained) -> None:
    """Raise InvalidInputError for options of the network that exclude each other."""
    new, wrong = given_flags(options, NEW_CELL), ""
    own = given_flags(options, ("batch_axis", "state_size"))
    if own and not options.module:
        wrong = f"{own[0]} is for --module package.module:factory: add that, or leave it out"
    elif options.module:
        if given := given_flags(options, ("cell",)) or [f for f in new if f != "--hidden-size"]:
            wrong = (
                f"{given[0]} cannot be given with --module, whose code decides it: leave one out"
            )
    elif options.submodule:
        wrong = "--submodule names a part of --module package.module:factory: add that"
    elif not options.checkpoint and given_flags(options, ("layer",)):
        wrong = "--layer is for --checkpoint FILE, not for a new cell"
    elif options.checkpoint and new:
        wrong = f"{', '.join(new)} cannot be given with --checkpoint: the file describes the cell"
    if wrong:
        raise InvalidInputError(wrong)
    check_seed(options.seed)


def data_of_options(network: NewOrTrained, data: DataOptions) -> Dataset:
    """The data that a command's options name. Raises InvalidInputError or DataError."""
    return datasets_of_options(network, data)[0]


def datasets_of_options(
    network: NewOrTrained, data: DataOptions, count: int | None = None
) -> list[Dataset]:
    """The sequence that options name, or the first `count`: chorales of the test split, sequences
    of a file, or parts of a text.

    Each has at most `data.steps` steps; of several, `about` describes all. A text is what the
    language model of a checkpoint reads.

    Raises DataError, or InvalidInputError if there are fewer, or for options that exclude each
    other.
    """
    if data.input and (given := given_flags(data, ("chorale", "data"))):
        raise InvalidInputError(
            f"--input and {given[0]} both name something to read: give only one"
        )
    text = reads_text(network)
    if text and data.input is None:
        raise InvalidInputError(
            f"{network.checkpoint} holds a language model, which reads a text: give one as input"
        )
    if data.input is None:
        found, where = _chorales(data, count), "the test split"
    else:
        whole = (
            _text(data.input, network, data.steps, count)
            if text
            else read_numbers(data.input).cut(data.steps)
        )
        found = [whole] if count is None else [*whole.parts(count)]
        where = whole.name
    if count and len(found) < count:
        raise InvalidInputError(
            f"{count} sequences: {where} has {len(found)}, expected at most that number"
        )
    return found


def reads_text(network: NewOrTrained) -> bool:
    """True for the checkpoint of a language model. Raises CheckpointError."""
    if network.module or not network.checkpoint:
        return False
    try:
        return read_metadata(network.checkpoint)["class"] == "LanguageModel"
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; for weights of your own module add --module package.module:factory"
        ) from error


def _chorales(data: DataOptions, count: int | None) -> list[Dataset]:
    """The chorale that options name, or the first ones of the test split."""
    if count is None:
        return [chorale_data(chorale(data.chorale, data.data), data.data).cut(data.steps)]
    found = [chorale_data(piece, data.data) for piece in chorales(data.data).test[:count]]
    found = [each.cut(data.steps and min(data.steps, each.steps)) for each in found]
    most = f"at most {data.steps} steps of each of the " if data.steps else ""
    about = f"{most}first {count} of the test split of {chorales_origin(data.data)}"
    return found if count == 1 else [replace(each, about=about) for each in found]


def _text(path: Path, network: NewOrTrained, steps: int | None, count: int | None) -> Dataset:
    """The first tokens of a text, or `count` successive parts of it."""
    assert network.checkpoint  # see `reads_text`
    wanted = (count or 1) * (steps or TEXT_STEPS)
    ids = first_tokens(path, load_text_model(network.checkpoint, network.cell).vocabulary, wanted)
    whole = Dataset(
        name=path.name,
        kind="text",
        x=torch.from_numpy(ids)[None],
        unit="tokens",
        about=f"first {len(ids)} tokens",
    )
    whole = whole.cut(wanted if count or steps else None)
    return replace(whole, x=whole.x.reshape(count or 1, -1))
