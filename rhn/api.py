"""The functions of `import rhn` that load models and data, and sample."""

from pathlib import Path
from typing import Any

import numpy as np

from rhn.checkpoints import lacks_network, load_model, save_checkpoint
from rhn.data import Corpus, TextCorpus, Vocabulary, chorales, read_text
from rhn.errors import CheckpointError, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.sampling import generate, sample_chorale
from rhn.training.trained import initial_model
from rhn.utils.old import check_keywords, keywords, typed

save = save_checkpoint


@typed
def load(path: str | Path, cell: str | None = None, *, before_training: bool = False) -> Any:
    """Load the model from a checkpoint or from the folder of a training run, with its trained or
    its initial weights.

    Args:
        cell: the cell of the model, if it is your own, as package.module:factory. This module is
            imported. If the file is a state_dict of a layer of torch: the name of this layer, such
            as "torch.nn:LSTM". The result is then our cell with these weights.
        before_training: whether to load the initial weights. A new cell with the same seed would
            have other weights than these initial weights.

    Raises CheckpointError for a missing or damaged file. With `before_training`, raises it also for
    a file that does not describe its training run. Raises InvalidInputError for an unknown cell.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save(f"{folder}/gru.safetensors", PolyphonicModel("gru", hidden_size=4))
    ...     load(file).hidden_size
    4
    """
    if not before_training:
        return load_model(path, cell)
    known = not lacks_network(path)
    if known:
        model, known = initial_model(path, cell=cell)
    if not known:
        raise CheckpointError(
            f"{path} has no record of its initial weights: expected a file of rhn train or "
            "optim-study"
        )
    return model


def load_data(name: str = "jsb", path: str | Path | None = None, **options) -> Corpus | TextCorpus:
    """Load the chorales ("jsb") or a text: "ptb", "enwik8", "text8", or "text" for your own file or
    folder.

    Args:
        path: path of the data. None: chorales are rebuilt from music21's scores, and texts are read
            from the folder where `rhn data get` puts them.
        options: options for a text: unit, vocabulary_size, max_tokens (see `rhn.data.read_text`).

    Raises DataError for data that are missing or damaged, InvalidInputError for an unknown name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "mine.txt")
    ...     _ = file.write_text("to be or not to be " * 40)
    ...     text = load_data("text", file, unit="words")
    >>> len(text.train), len(text.valid), text.vocabulary.symbols
    (216, 12, ('be', 'to', 'not', 'or'))
    """
    known = keywords(chorales if name == "jsb" else read_text)
    check_keywords("load_data", options, ["name", "path", *known])
    return chorales(path, **options) if name == "jsb" else read_text(name, path, **options)


def sample(
    model: PolyphonicModel | LanguageModel,
    vocabulary: Vocabulary | None = None,
    *,
    seed: int = 0,
    **options,
) -> np.ndarray | str:
    """Sample a new chorale, an array (T, 88), from a model of chorales; or sample a new text from a
    language model with its vocabulary.

    options: bars and temperature for chorales; prompt, length, temperature and top_k for texts.

    Raises InvalidInputError for a language model without a vocabulary, or an argument out of range.

    >>> sample(PolyphonicModel("rhn", hidden_size=4), bars=2).shape  # (quarter notes, keys)
    (8, 88)
    """
    draw = generate if isinstance(model, LanguageModel) else sample_chorale
    check_keywords("sample", options, ["model", "vocabulary", *keywords(draw)])
    if isinstance(model, LanguageModel):
        if vocabulary is None:
            raise InvalidInputError(
                "a text needs the vocabulary of the model's data, such as data.vocabulary"
            )
        return generate(model, vocabulary, seed=seed, **options)
    return sample_chorale(model, seed=seed, **options)
