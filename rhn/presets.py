"""Complete training runs by name, or from a file: `rhn train ptb-sota` trains with the
configuration `preset("ptb-sota")`.

A preset is a row of values that replace defaults of `LanguageConfig`, or, for the chorales, a
depth. The presets for chorales are the networks of the optimisation study. The presets for language
models are the networks of the paper (Zilly et al. 2017, section 5.2, with the values of the
official code), and more recent networks.

Language models are named by corpus, then by depth, by depth x units, or by the official code
(Torch7, Theano, Brainstorm) that published the system; "sota" is the best model of the paper.
`ptb-modern` uses later methods and does not reproduce a result of the paper.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from rhn.cells.registry import (
    accepts,
    hidden_size_for_budget,
    is_known,
    num_parameters,
    read_options,
    resolve_cell,
)
from rhn.data.datasets import TEXT_SETS, data_set
from rhn.errors import InvalidInputError
from rhn.training.config import ChoraleConfig as ChoraleConfig
from rhn.training.config import LanguageConfig as LanguageConfig
from rhn.training.config import read_config
from rhn.utils.old import check_keywords, convert, default_of, expected, fits, listed, nearest
from rhn.utils.validation import in_short

if TYPE_CHECKING:
    from rhn.data import Corpus, TextCorpus

# entries of a run's config.json beside the configuration
RUN_ENTRIES = ("seeds", "text", "device", "data", "path")
PTB_WORDS = TEXT_SETS["ptb"].counts["vocabulary"]
PARAMETERS_PER_LAYER = 150_000  # the budgets of the paper: 150,000 at depth 1, 900,000 at depth 6
BUDGET = "parameters"  # entry of a preset: the parameters that its hidden units may take
BIAS = "transform_bias"
OF_ONE_CELL = ("cell_options", BIAS)  # fields that another cell does not take over


class DepthRow(NamedTuple):
    """A network of the paper's figure 5(a): its depth, its hidden units, and its perplexity without
    and with tied weights.
    """

    depth: int
    units: int
    valid: float
    test: float
    valid_tied: float
    test_tied: float


# figure 5(a): untied of 32 million parameters each, tied growing from 19 to 23 million
PTB_BY_DEPTH = (
    DepthRow(1, 1275, 92.4, 89.2, 93.2, 90.6),
    DepthRow(2, 1180, 79.0, 76.3, 76.9, 75.1),
    DepthRow(3, 1110, 75.0, 72.6, 72.7, 70.6),
    DepthRow(4, 1050, 73.3, 70.9, 70.8, 68.6),
    DepthRow(5, 1000, 72.0, 69.8, 69.7, 67.7),
    DepthRow(6, 960, 71.9, 69.3, 69.1, 66.6),
    DepthRow(7, 920, 71.7, 68.7, 68.7, 66.4),
    DepthRow(8, 890, 71.2, 68.5, 68.2, 66.1),
    DepthRow(9, 860, 71.3, 68.5, 68.1, 66.0),
    DepthRow(10, 830, 71.3, 68.3, 68.3, 66.0),
)


@dataclass(frozen=True)
class Preset:
    """One row of the table of presets."""

    about: str
    """The description that `rhn presets` prints."""
    values: Mapping[str, Any]
    """The values that differ from the defaults of `LanguageConfig`, by field; for chorales, the
    depth and the budget of parameters.
    """
    test: float | None = None
    """The paper's test result, from tables 1 to 3 and figure 5(a): perplexity for words, bits per
    character for characters.
    """


def _dropout(embedding: float, input: float, hidden: float, output: float) -> dict[str, float]:
    return {
        "drop_embedding": embedding,
        "drop_input": input,
        "drop_hidden": hidden,
        "drop_output": output,
    }


PTB = {"corpus": "ptb", "weight_decay": 1e-7, **_dropout(0.25, 0.75, 0.25, 0.75)}
PTB_DEPTHS = {
    row.depth: PTB | {"depth": row.depth, "hidden_size": row.units} for row in PTB_BY_DEPTH
}
PTB_TIED = PTB_DEPTHS[10] | {"tied": True}
# with the weight decay that the paper names for it; the code's configuration of this name has 1e-7,
# which is `ptb-depth-10-tied`
PTB_SOTA = PTB_TIED | {"weight_decay": 1e-9}
PTB_BASELINE = PTB | {"transform_bias": None}
# only inputs and outputs are dropped, no words and no states
PLAIN = _dropout(0.0, 0.75, 0.0, 0.75)
ENWIK8 = {
    "corpus": "enwik8",
    "unit": "characters",
    "transform_bias": -4.0,
    "batch_size": 128,
    "window": 50,
    "lr_decay": 1.04,
    "decay_after": 5,
    "weight_decay": 1e-7,
    **_dropout(0.10, 0.30, 0.05, 0.30),
}
ENWIK8_SOTA = ENWIK8 | {
    "depth": 10,
    "hidden_size": 1500,
    "lr_decay": 1.03,
    **_dropout(0.10, 0.40, 0.10, 0.40),
}
# Both systems of the Torch7 code: a constant of -4 is added within the gates, and biases start
# uniform, as all weights do. That code has two biases at the first layer, here there is one: two
# start as the sum of two draws, and their sum moves twice as far in a step. The learning rate falls
# one epoch later than in the other codes.
TORCH7 = {
    "gate_masks": "separate",
    "weight_decay_form": "shrink",
    "transform_bias": None,
    "cell_options": {"gate_constant": -4.0},
    "epochs": 1000,
}
# A learning rate of 20, a gradient norm of 0.25 and a weight decay of 8e-7 for a mean loss over 35
# steps are 0.57, 8.75 and 2.8e-5 for a sum over them. Zero-state resets and recurrent dropout made
# the best RHN published (Melis et al. 2017). The dropout rates are guesses between those of DARTS
# and the paper: nothing here was tuned yet.
MODERN = PTB_SOTA | {
    "batch_size": 64,
    "vary_window": True,
    "learning_rate": 20 / 35,
    "gradient_norm": 0.25 * 35,
    "lr_decay": 1.0,
    "weight_decay": 8e-7 * 35,
    "averaging": 5,
    "temporal_activation_regularization": 1e-3,
    "reset_probability": 0.01,
    **_dropout(0.10, 0.65, 0.10, 0.70),
    "drop_candidate": 0.25,
}

BY_DEPTH = (
    "Penn Treebank with the paper's units for this depth, 1 to 10: 31.8 to 32.1 million "
    "parameters if untied."
)
OTHER_CELL = (
    "Another cell with as many parameters as `ptb-depth-10` and the rates of the RHN, "
    "not tuned for that cell."
)
SMALLER = "enwik8 with the paper's settings for the smaller networks."
RECIPE = (
    "A plain RHN of 23 million parameters with the recipe of later years: AWD-LSTM's "
    "(Merity et al. 2017) as DARTS used it."
)

LANGUAGE_PRESETS = {
    "ptb-sota": Preset("The paper's best word model.", PTB_SOTA, 65.4),
    **{
        f"ptb-depth-{row.depth}": Preset(BY_DEPTH, PTB_DEPTHS[row.depth], row.test)
        for row in PTB_BY_DEPTH
    },
    **{
        f"ptb-depth-{row.depth}-tied": Preset(
            BY_DEPTH, PTB_DEPTHS[row.depth] | {"tied": True}, row.test_tied
        )
        for row in PTB_BY_DEPTH
    },
    "ptb-torch7": Preset(
        "The Torch7 code's system: masks for each gate, weights that shrink after the step, a "
        "constant -4 within the gates.",
        PTB_DEPTHS[10] | TORCH7 | {"hidden_size": 1000, "decay_after": 21},
    ),
    # All biases but the transform gates' start uniform, as the weights do. The code's option of a
    # constant B is here `init="uniform:0.04,bias:B"`.
    "ptb-theano": Preset(
        "The Theano code's system: the best model's network for 300 epochs, with the weight "
        "decay 1e-7.",
        PTB_TIED | {"epochs": 300},
    ),
    "ptb-brainstorm": Preset(
        "`ptb-sota` as in the Brainstorm code: without dropout. As there, `activation` chooses "
        "the candidate's nonlinearity.",
        PTB_SOTA | _dropout(0, 0, 0, 0),
    ),
    "ptb-variational-lstm": Preset(
        OTHER_CELL, PTB_BASELINE | {"cell": "lstm", "layers": 2, "hidden_size": 916}
    ),
    # The sizes are those of Zaremba's large LSTM, which Gal and then Press & Wolf kept: 66 million
    # parameters, 51 million with tied weights. Rates and dropout are those of the RHN, so only the
    # cell differs; nobody tuned them for the LSTM.
    "ptb-variational-lstm-tied": Preset(
        "Two LSTM layers of 1500 units with tied weights: the paper's directly comparable "
        "baseline (Press & Wolf 2016).",
        PTB_BASELINE | {"cell": "lstm", "layers": 2, "hidden_size": 1500, "tied": True},
        73.2,
    ),
    "ptb-lstm": Preset(
        OTHER_CELL, PTB_BASELINE | PLAIN | {"cell": "lstm", "layers": 2, "hidden_size": 916}
    ),
    "ptb-gru": Preset(
        OTHER_CELL, PTB_BASELINE | PLAIN | {"cell": "gru", "layers": 2, "hidden_size": 995}
    ),
    "ptb-dt-rnn": Preset(
        OTHER_CELL, PTB_BASELINE | {"cell": "dt-rnn", "depth": 5, "hidden_size": 1175}
    ),
    "enwik8-5x1500": Preset(
        SMALLER, ENWIK8 | {"depth": 5, "hidden_size": 1500, "weight_decay": 0.0}, 1.31
    ),
    "enwik8-10x1000": Preset(SMALLER, ENWIK8 | {"depth": 10, "hidden_size": 1000}, 1.30),
    "enwik8-sota": Preset("The paper's best on enwik8.", ENWIK8_SOTA, 1.27),
    "enwik8-theano": Preset(
        "The Theano code's system for enwik8: the paper's best with an embedding as wide as "
        "the hidden state.",
        ENWIK8_SOTA | {"embedding_size": 1500},
    ),
    "enwik8-torch7": Preset(
        "The Torch7 code's system for enwik8: 10 x 1500, a constant -4 within the gates, no "
        "weight decay.",
        ENWIK8
        | TORCH7
        | {
            "depth": 10,
            "hidden_size": 1500,
            "embedding_size": 1500,
            "batch_size": 100,
            "weight_decay": 0.0,
            "decay_after": 6,
        },
    ),
    "text8-10x1000": Preset(
        "text8 with the paper's settings for the smaller network.",
        ENWIK8
        | {
            "corpus": "text8",
            "depth": 10,
            "hidden_size": 1000,
            "window": 100,
            "drop_embedding": 0.05,
        },
        1.29,
    ),
    "text8-sota": Preset("The paper's best on text8.", ENWIK8_SOTA | {"corpus": "text8"}, 1.27),
    "ptb-modern": Preset(RECIPE, MODERN | {"depth": 5, "hidden_size": 1042}),
    "ptb-modern-depth-10": Preset(RECIPE, MODERN),
}
CHORALES = (
    "JSB Chorales with 150,000 parameters a layer, the networks of the paper's optimisation study."
)
CHORALE_PRESETS = {
    f"jsb-depth-{depth}": Preset(
        CHORALES,
        {"depth": depth, BUDGET: PARAMETERS_PER_LAYER * depth}
        # found by trial: at 0.2 they diverge, while depth 10 learns little at 0.05
        | ({"learning_rate": 0.05} if 2 <= depth <= 5 else {}),
    )
    for depth in range(1, 11)
}
PRESETS: dict[str, Preset] = LANGUAGE_PRESETS | CHORALE_PRESETS


def preset(name: str, /, **changes: Any) -> ChoraleConfig | LanguageConfig:
    """Return the configuration of the preset `name`, with `changes` of its fields.

    changes: new values by field, such as cell="dts-rnn", cell_options={"skip": "last"}. Cell
    options are added to those of the preset. If `cell` is another cell, the cell options of the
    preset are dropped. A network for chorales has as many units as its budget of parameters allows,
    unless `hidden_size` is given.

    Raises InvalidInputError for an unknown name (the message has the nearest one) or a wrong value.

    >>> preset("jsb-depth-6").hidden_size, preset("jsb-depth-6", cell="dt-rnn").hidden_size
    (262, 372)
    """
    kind, base = _row(name)
    check_keywords("preset", changes, [f.name for f in fields(kind)])
    return _merged(kind, base, [changes])


def changed(
    config: ChoraleConfig | LanguageConfig, changes: Mapping[str, Any]
) -> ChoraleConfig | LanguageConfig:
    """Return a configuration with `changes` of its fields, by the rules of `preset`."""
    return _merged(type(config), {}, [asdict(config), changes])


def parameters(config: ChoraleConfig | LanguageConfig, vocabulary_size: int | None = None) -> int:
    """Return the number of parameters of a configuration's model.

    vocabulary_size: number of symbols of a language model. None: that of the configuration, or that
    of the published corpus.
    """
    import torch

    from rhn.training.ensemble import build_model

    size = None
    if isinstance(config, LanguageConfig):
        size = vocabulary_size or config.vocabulary_size
        size = size or data_set(config.corpus).counts["vocabulary"]
    with torch.device("meta"):
        return num_parameters(build_model(config, size, device="meta"))


def starting_point(
    name: str | None, file: Path | None, changes: Mapping[str, Any] = MappingProxyType({})
) -> ChoraleConfig | LanguageConfig:
    """Return the configuration of a preset with the values of a file and of `changes`, by the rules
    of `preset`. A value in the file replaces that of the preset, and a value in `changes` replaces
    both.

    A user's own cell is imported only if `changes` name it, never because a file names it. Raises
    InvalidInputError.
    """
    entries = {} if file is None else read_config(file)
    name = _preset_name(name, entries, file)
    entries = _without(entries, ("preset", *RUN_ENTRIES))
    kind, base = _row(name) if name else (_kind_without_preset(entries), {})
    _check(entries, kind, file)
    if "cell" not in changes:
        _require_known(entries.get("cell"), file)
    return _merged(kind, base, [entries, changes], file)


def config_class(name: str | None, file: Path | None) -> type[ChoraleConfig | LanguageConfig]:
    """Return the class of the configuration of a preset or a file; errors as for
    `starting_point`.
    """
    entries = {} if file is None else read_config(file)
    name = _preset_name(name, entries, file)
    return _row(name)[0] if name else _kind_without_preset(entries)


def _preset_name(name: str | None, entries: Mapping, file: Path | None) -> str | None:
    """Return the name of the preset to start from. Raises InvalidInputError if the file names
    another one.
    """
    own = entries.get("preset", name)
    if name not in (None, own):
        raise InvalidInputError(
            f'{file} starts from the preset {own}: leave out {name}, or remove "preset" from the '
            "file"
        )
    return own


def _kind_without_preset(entries: Mapping) -> type[ChoraleConfig | LanguageConfig]:
    """Return the class of a configuration by its entries: only that of a language model has
    "corpus".
    """
    return LanguageConfig if "corpus" in entries else ChoraleConfig


def _row(name: str) -> tuple[type[ChoraleConfig | LanguageConfig], dict]:
    """Return (class, values) of a preset. Raises InvalidInputError for an unknown name; the message
    has the nearest one.
    """
    if name in LANGUAGE_PRESETS:
        return LanguageConfig, {"cell": "rhn", **PRESETS[name].values}
    if name in CHORALE_PRESETS:
        own = {"cell": "rhn", **_of_cell(ChoraleConfig, "rhn")}
        return ChoraleConfig, {**own, **PRESETS[name].values}
    near = nearest(str(name), PRESETS)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InvalidInputError(f"there is no preset {name!r}{hint} (`rhn presets` lists them)")


def _merged(
    kind: type, base: dict[str, Any], layers: Iterable[Mapping], file: Path | None = None
) -> Any:
    """Merge values to one configuration. Later values replace earlier ones: the base, the values
    that follow from the cell, the layers, and last the number of units that the budget allows.

    If a layer changes the cell, the cell options of earlier layers are dropped. Raises
    InvalidInputError if the `file` of a layer, without a preset, lacks entries.
    """
    first, usual = base.get("cell"), base.get("cell_options", {})
    cell, over = first, dict[str, Any]()
    for layer in layers:
        given = _layer(layer)
        if given.get("cell", cell) != cell:
            cell, over = given["cell"], _without(over, OF_ONE_CELL)
        below = over.get("cell_options", usual if cell == first else {})
        over |= given | {"cell_options": below | given.get("cell_options", {})}
    cell = cell or "rhn"
    values = dict(base) if cell == first else base | _of_cell(kind, cell)
    values |= over | {"cell": cell, "cell_options": read_options(cell, over["cell_options"])}
    budget = values.pop(BUDGET, None)
    if "hidden_size" not in values and budget:
        options = values["cell_options"]
        values["hidden_size"] = hidden_size_for_budget(cell, budget, values["depth"], **options)
    required = [f.name for f in fields(kind) if default_of(f) is MISSING]
    if missing := [name for name in required if name not in values]:
        raise InvalidInputError(
            f"{file} lacks the entries {listed(missing, len(missing))}: add them, or an entry "
            '"preset" with the name of a preset to start from'
        )
    return kind(**values)


def _layer(given: Mapping) -> dict[str, Any]:
    """Return the entries of a layer, without a cell that is None. A transform bias among the
    options of the cell becomes the field `transform_bias`.

    Raises InvalidInputError for a cell or options of the wrong type, and for two transform biases.
    """
    given = {name: value for name, value in given.items() if (name, value) != ("cell", None)}
    for name, kind in (("cell", str), ("cell_options", dict)):
        if name in given and not fits(given[name], kind):
            raise InvalidInputError(f"{name} is {in_short(given[name])}, expected {expected(kind)}")
    options = given.get("cell_options", {})
    if BIAS not in options:
        return given
    if given.get(BIAS) is not None:
        raise InvalidInputError(f"{BIAS} is given twice, as itself and in cell_options: give one")
    bias = options[BIAS]
    with contextlib.suppress(ValueError):  # of a word that is no number: refused as the field
        bias = convert(bias, float) if isinstance(bias, str) else bias
    return given | {BIAS: bias, "cell_options": _without(options, (BIAS,))}


def _of_cell(kind: type, cell: str) -> dict[str, Any]:
    """Return the fields that follow from a cell. A cell without transform gates has no transform
    bias, and torch.nn's cells keep torch's initial weights. For chorales, a cell without recurrence
    depth has depth 1, and the learning rate is one at which the cell trains.
    """
    factory = resolve_cell(cell)
    gated, own_start = accepts(factory, "transform_bias"), hasattr(factory, "own_init")
    if kind is LanguageConfig:
        return ({} if gated else {"transform_bias": None}) | ({"init": None} if own_start else {})
    return {
        "learning_rate": getattr(factory, "learning_rate", 0.2),
        "init_std": None if own_start else 0.05,
        "transform_bias": -1.0 if gated else None,
    } | ({} if getattr(factory, "deep", True) else {"depth": 1})


def _without(given: Mapping, names: Collection[str]) -> dict:
    """Return the entries except those with these names."""
    return {name: value for name, value in given.items() if name not in names}


def _require_known(cell: str | None, file: Path | None) -> None:
    """Raise InvalidInputError if a file names a user's own cell that has not been imported."""
    if cell and ":" in cell and not is_known(cell):
        raise InvalidInputError(f"{file} names a cell of your own: add --cell {cell} to import it")


def load_corpus(
    config: ChoraleConfig | LanguageConfig, data: Path | None = None
) -> "Corpus | TextCorpus":
    """Load the data of a configuration from a file or folder. None: read a text from the folder of
    `rhn data get`, or rebuild the chorales. Raises DataError.
    """
    # here, because `--help` should not wait for NumPy
    from rhn.data import chorales, read_text

    if isinstance(config, ChoraleConfig):
        return chorales(data)
    unit = config.unit if config.corpus == "text" else "words"  # published texts have their own
    size = config.vocabulary_size
    return read_text(
        config.corpus, data, unit=unit, max_tokens=config.max_tokens, vocabulary_size=size
    )


MODELS = {LanguageConfig: "a language model", ChoraleConfig: "a model of chorales"}


def _check(given: dict, kind: type, file: Path | None) -> None:
    """Check that every entry is a field of the configuration with a value of the right type."""
    hints = get_type_hints(kind)
    for name, value in given.items():
        if name not in hints:
            near = nearest(name, [f.name for f in fields(kind)])
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidInputError(
                f"{file} has an unknown entry for {MODELS[kind]}, {name!r}{hint}"
            )
        if not fits(value, hints[name]):
            raise InvalidInputError(
                f"{file}: {name} is {json.dumps(value)}, expected {expected(hints[name])}"
            )
