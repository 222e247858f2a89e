"""Load the modules, trained weights and texts that a command's options name.

cell_of_module(options, input_size)        (module, its names): the user's
cell_of_checkpoint(options, input_size)    that of a training run
text_of_options(path, network, ...)        tokens that a language model reads
"""

import codecs
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gersgorin.cli.new import sizes_of_words
from gersgorin.cli.options import NewOrTrained
from gersgorin.data.files import Dataset
from gersgorin.network.factory import build_module
from gersgorin.network.find import cell_title, find_cell, recurrent_cells, title_in
from gersgorin.run.run import Label
from rhn.cells import name_of_cell
from rhn.checkpoints import load_model as load_checkpoint
from rhn.checkpoints import weights_file
from rhn.data.corpus import KEYS, Corpus
from rhn.data.text import Vocabulary
from rhn.data.vocabulary import split_words
from rhn.errors import DataError, InvalidInputError, first_line
from rhn.models import LanguageModel
from rhn.plotting.provenance import named_file, words_of_checkpoint
from rhn.training.trained import initial_model, load_text_model, stored_data
from rhn.utils.io import check_file
from rhn.weights import load_weights

TEXT_STEPS = 100
READ = 1 << 20  # bytes of a text: more tokens than any memory holds Jacobians


def cell_of_module(
    options: NewOrTrained, input_size: int | None, *, fresh: bool = False
) -> tuple[nn.Module, Label]:
    """The user's module, and the names of its chosen cell."""
    assert options.module
    module, label = module_of_user(options, input_size, fresh=fresh)
    said = options.state_size is not None
    cell, layer = find_cell(module, options.layer, options.submodule, said=said)
    title = title_in(module, cell, layer, options.submodule)
    made = label.made or options.module
    return module, replace(label, name=options.module, title=title, made=made)


def module_of_user(
    options: NewOrTrained, input_size: int | None, *, fresh: bool = False
) -> tuple[nn.Module, Label]:
    """The user's module, and names that contain only the origin of its weights."""
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
        return module, Label(state="fresh weights")
    if path is None:  # of unknown origin: a factory may set its own seed
        return module, Label()
    load_weights(module, weights_file(path))
    return module, Label(made=named_file(path))


def cell_of_checkpoint(
    options: NewOrTrained, input_size: int | None, *, fresh: bool = False
) -> tuple[nn.Module, Label]:
    """The network of a checkpoint, and the names of its chosen cell."""
    model, label = trained_model(options, fresh=fresh)
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
    return model, replace(label, name=name, title=title)


def trained_model(options: NewOrTrained, *, fresh: bool = False) -> tuple[nn.Module, Label]:
    """Return the network of a checkpoint and its names. The names contain the origin of the
    weights, and say if these are initial weights.
    """
    path = options.checkpoint
    assert path
    if not fresh:
        return load_checkpoint(path, options.cell), Label(made=words_of_checkpoint(path))
    model, known = initial_model(path, options.seed, options.cell)
    made = words_of_checkpoint(path, fresh=True)
    if not known:
        return model, Label(made=made, state=f"fresh weights (seed {options.seed})")
    return model, Label(made=made, state="before training")


def words_of_training_data(path: Path, measured: tuple[Path | None, Corpus] | None) -> str:
    """Describe the data on which a checkpoint was trained, as far as its files tell: "trained on
    mine.json".

    measured: the chorales that the network reads now, and their path; None: other data.
    """
    stored = stored_data(path)
    if stored.path is not None:
        return f"trained on {stored.path.name}"
    if measured is None or stored.checksum is None:
        return ""
    which = "other" if stored.difference(*measured) else "these"
    return f"trained on the training split of {which} chorales"


def labelled(label: str, title: str) -> str:
    """Put a label before a title, unless the label is empty or begins the title. The label
    distinguishes networks with the same title.
    """
    return title if title.split(",")[0] == label else ": ".join(filter(None, (label, title)))


def text_of_options(
    path: Path, network: NewOrTrained, steps: int | None, count: int | None
) -> Dataset:
    """The first tokens of a text, or `count` successive parts of the text."""
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


def first_tokens(path: Path, vocabulary: Vocabulary, count: int) -> np.ndarray:
    """Ids of the first tokens of a text file, (count,), or fewer if the file is shorter.

    Raises DataError for a file that is empty, cannot be read or is not UTF-8, and InvalidInputError
    for a symbol outside the vocabulary.
    """
    try:
        check_file(path)
        with path.open("rb") as file:
            symbols: Any = file.read(READ)  # text or bytes
        if vocabulary.unit != "bytes":
            symbols = codecs.getincrementaldecoder("utf-8")().decode(
                symbols, final=len(symbols) < READ
            )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a text: {first_line(error)}") from error
    ids = vocabulary.encode(
        (split_words(symbols) if vocabulary.unit == "words" else symbols)[:count]
    )
    if len(ids) == 0:
        raise DataError(f"{path} holds no tokens: expected a text")
    return ids
