"""The functions of `import rhn`: load data, train, evaluate and sample. The calls are the same for
chorales and texts.
"""

from dataclasses import fields
from pathlib import Path

from rhn.checkpoints import load as load
from rhn.checkpoints import save as save
from rhn.data import Corpus, TextCorpus
from rhn.data import load_data as load_data
from rhn.data.corpus import SPLITS
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.presets import changed, config_class, load_corpus, preset
from rhn.training.chorales import evaluate_chorales as evaluate_chorales
from rhn.training.config import ChoraleConfig, LanguageConfig
from rhn.training.evaluation import MeanLoss, score
from rhn.training.run import TrainingResult, check_data
from rhn.training.run import train_in_folder as train_in_folder
from rhn.training.sampling import sample as sample
from rhn.utils.old import check_keywords, keywords
from rhn.utils.validation import in_short


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
    kind = config_class(config, None) if isinstance(config, str) else type(config)
    known = [field.name for field in fields(kind)]
    check_keywords("train", changes, ["out", "device", "max_minutes", *known])
    config = preset(config, **changes) if isinstance(config, str) else changed(config, changes)
    data = load_corpus(config) if data is None else data
    return train_in_folder(config, data, out, device=device, max_minutes=max_minutes)


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
