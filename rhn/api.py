"""The functions of `import rhn`: load data, train, evaluate and sample. The calls are the same for
chorales and texts.
"""

from pathlib import Path
from typing import Any

import numpy as np

from rhn.checkpoints import lacks_network, load_model, save_checkpoint
from rhn.data import Corpus, TextCorpus, Vocabulary, chorales, read_text
from rhn.data.corpus import SPLITS
from rhn.errors import CheckpointError, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.presets import load_corpus, preset
from rhn.training.chorales import evaluate_chorales as evaluate_chorales
from rhn.training.config import ChoraleConfig, LanguageConfig
from rhn.training.evaluation import MeanLoss, score
from rhn.training.run import TrainingResult, check_data
from rhn.training.run import train_in_folder as train_in_folder
from rhn.training.sampling import generate, sample_chorale
from rhn.training.trained import initial_model
from rhn.utils.old import check_keywords, keywords, typed
from rhn.utils.validation import in_short

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


def train(
    config: str | ChoraleConfig | LanguageConfig,
    data: Corpus | TextCorpus | None = None,
    *,
    out: str | Path,
    device: str = "cpu",
    max_minutes: float = float("inf"),
    **changes,
) -> list[TrainingResult]:
    """Train in a folder, or continue the training run in it. Returns the losses and the path of the
    best weights, one result for each seed.

    Args:
        config: a preset by name (`rhn presets`), or a configuration.
        data: chorales or a text; None: the published data of the configuration.
        changes: fields of the configuration, such as cell="dts-rnn", cell_options={"skip":
            "last"}, hidden_size=64, epochs=10.

    Raises InvalidInputError for an unknown preset or a value out of range; also DataError,
    DivergedError and OutputError.

    >>> import tempfile
    >>> from rhn.data import Piece
    >>> ones = [Piece(np.ones((4, 88)), name="ones", split="train", index=0)] * 2
    >>> data = Corpus(ones, ones, ones, "ones")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (found,) = train("jsb-depth-1", data, out=folder, hidden_size=4, epochs=2)
    >>> found.epochs, found.finished
    (2, True)
    """
    made = preset(config, **changes)
    data = load_corpus(made) if data is None else data
    return train_in_folder(made, data, out, device=device, max_minutes=max_minutes)


def evaluate(
    model: PolyphonicModel | LanguageModel,
    data: Corpus | TextCorpus,
    split: str = "test",
    *,
    device: str = "cpu",
    **options,
) -> MeanLoss:
    """Compute the mean loss of a model on a split ("train", "valid", "test"): `.nll` is in nats per
    predicted frame or token.

    options: batch_size and temperature, for texts. Errors are those of
    `rhn.training.evaluation.score`, which raises DataError if a text is too short.

    >>> ones = [np.ones((4, 88))]
    >>> score = evaluate(PolyphonicModel("rhn", hidden_size=4), Corpus(ones, ones, ones, "ones"))
    >>> score.predicted  # frames: all but the first
    3
    """
    measure = score if isinstance(model, LanguageModel) else evaluate_chorales
    check_keywords("evaluate", options, ["model", "data", "split", *keywords(measure)])
    check_data(data, text=isinstance(model, LanguageModel))
    if split not in SPLITS:
        raise InvalidInputError(f"split is {in_short(split)}: expected one of {', '.join(SPLITS)}")
    return measure(model, getattr(data, split), device=device, **options)


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
