"""Complete trainings by name: `rhn train ptb-sota` trains with the configuration `preset("ptb-sota")`.

A preset is a function that returns a configuration; each name in `PRESETS` stands for one call of it. The chorales' are the networks of
the optimisation study; the language models' are those of the paper (Zilly et al. 2017, section 5.2, with the values of the official
code), and more recent ones.

Language models are named by corpus, then by depth, by depth x units, or by the official code (Torch7, Theano, Brainstorm) that
published the system; sota: the best of the paper. `ptb-modern` uses later methods and is no part of the reproduction.
"""

import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

from rhn.data.datasets import data_set
from rhn.errors import InvalidInputError
from rhn.published import PTB_BY_DEPTH
from rhn.training.config import ChoraleConfig, LanguageConfig

__all__ = ["PARAMETERS_PER_LAYER", "PRESETS", "ChoraleConfig", "LanguageConfig", "parameters", "preset"]

PARAMETERS_PER_LAYER = 150_000  # the budgets of the paper: 150,000 at depth 1, 900,000 at depth 6
PTB_BUDGET = 31_800_000  # parameters of ptb-depth-10


def preset(name: str, cell: str | None = None, options: Mapping | None = None) -> ChoraleConfig | LanguageConfig:
    """The configuration called `name`; a chorale one with another cell, or other options of it, of as many parameters.

    Raises InvalidInputError, with the nearest name, if there is none.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), PRESETS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidInputError(f"there is no preset {name!r}{hint} (`rhn presets` lists them)")
    changes = {"cell": cell} if cell else {}
    changes |= {"cell_options": options} if options else {}
    return PRESETS[name](**changes) if name in CHORALE_PRESETS else PRESETS[name]()


def parameters(config: ChoraleConfig | LanguageConfig, vocabulary_size: int | None = None) -> int:
    """Number of parameters of a configuration.

    vocabulary_size: of a language model. None: that of the configuration, or of the published corpus.
    """
    import torch

    from rhn.cells.make import num_parameters
    from rhn.training.build import build_model

    size = None
    if isinstance(config, LanguageConfig):
        size = vocabulary_size or config.vocabulary_size or data_set(config.corpus).counts["vocabulary"]
    with torch.device("meta"):
        return num_parameters(build_model(config, size, device="meta"))


def jsb_depth(depth: int, cell: str = "rhn", cell_options: Mapping | None = None) -> ChoraleConfig:
    """JSB Chorales with 150,000 parameters a layer, the networks of the paper's optimisation study.

    A cell without recurrence depth gets all parameters at depth 1.

    >>> jsb_depth(6).hidden_size, jsb_depth(6, "dt-rnn").hidden_size
    (262, 372)
    """
    from rhn.cells import accepts, hidden_size_for_budget, learning_rate, read_options, resolve_cell

    factory, options = resolve_cell(cell), read_options(cell, cell_options or {})
    layers = depth if getattr(factory, "deep", True) else 1
    return ChoraleConfig(
        cell=cell,
        depth=layers,
        hidden_size=hidden_size_for_budget(cell, PARAMETERS_PER_LAYER * depth, layers, **options),
        cell_options=options,
        learning_rate=learning_rate(cell),
        init_std=None if hasattr(factory, "own_init") else 0.05,
        transform_bias=-1.0 if accepts(factory, "transform_bias") else None,
    )


def ptb_depth(depth: int, tied: bool = False) -> LanguageConfig:
    """Penn Treebank with the paper's units for this depth, 1 to 10: 31.8 to 32.1 million parameters if untied."""
    return LanguageConfig(
        corpus="ptb",
        depth=depth,
        hidden_size=PTB_BY_DEPTH[depth - 1].units,
        tied=tied,
        weight_decay=1e-7,
        **_dropout(0.25, 0.75, 0.25, 0.75),
    )


def ptb_sota() -> LanguageConfig:
    """The paper's best word model."""
    # the weight decay that the paper names for it; the code's configuration of this name has 1e-7, which is `ptb-depth-10-tied`
    return replace(ptb_depth(10, tied=True), weight_decay=1e-9)


def ptb_torch7() -> LanguageConfig:
    """The Torch7 code's system: masks for each gate, weights that shrink after the step, a constant -4 within the gates."""
    return _torch7(replace(ptb_depth(10), hidden_size=1000))


def ptb_theano() -> LanguageConfig:
    """The Theano code's system: the best model's network for 300 epochs, with the weight decay 1e-7.

    All biases but the transform gates' start uniform, as the weights do. The code's option of a constant B is here
    `init="uniform:0.04,bias:B"`.
    """
    return replace(ptb_depth(10, tied=True), epochs=300)


def ptb_brainstorm() -> LanguageConfig:
    """`ptb-sota` as in the Brainstorm code: without dropout. As there, `activation` chooses the candidate's nonlinearity."""
    return replace(ptb_sota(), **_dropout(0, 0, 0, 0))


def ptb_baseline(cell: str, *, variational: bool, depth: int = 1, layers: int = 1) -> LanguageConfig:
    """Another cell with as many parameters as `ptb-depth-10` and the rates of the RHN, not tuned for that cell.

    Not `variational`: only inputs and outputs are dropped, no words and no states.
    """
    config = replace(ptb_depth(10), cell=cell, depth=depth, layers=layers, transform_bias=None)
    if not variational:
        config = replace(config, drop_embedding=0.0, drop_hidden=0.0)
    return _with_parameters(config, PTB_BUDGET)


def ptb_variational_lstm_tied() -> LanguageConfig:
    """Two LSTM layers of 1500 units with tied weights: the paper's directly comparable baseline (Press & Wolf 2016).

    The sizes are those of Zaremba's large LSTM, which Gal and then Press & Wolf kept: 66 million parameters, 51 million with tied
    weights. Rates and dropout are those of the RHN, so only the cell differs; nobody tuned them for the LSTM.
    """
    return replace(ptb_depth(10, tied=True), cell="lstm", depth=1, layers=2, hidden_size=1500, transform_bias=None)


def enwik8(depth: int, units: int) -> LanguageConfig:
    """enwik8 with the paper's settings for the smaller networks."""
    return LanguageConfig(
        corpus="enwik8",
        unit="characters",
        depth=depth,
        hidden_size=units,
        transform_bias=-4.0,
        batch_size=128,
        window=50,
        lr_decay=1.04,
        decay_after=5,
        weight_decay=0.0 if (depth, units) == (5, 1500) else 1e-7,
        **_dropout(0.10, 0.30, 0.05, 0.30),
    )


def enwik8_sota() -> LanguageConfig:
    """The paper's best on enwik8."""
    return replace(enwik8(10, 1500), lr_decay=1.03, **_dropout(0.10, 0.40, 0.10, 0.40))


def enwik8_theano() -> LanguageConfig:
    """The Theano code's system for enwik8: the paper's best with an embedding as wide as the hidden state."""
    return replace(enwik8_sota(), embedding_size=1500)


def enwik8_torch7() -> LanguageConfig:
    """The Torch7 code's system for enwik8: 10 x 1500, a constant -4 within the gates, no weight decay."""
    return _torch7(replace(enwik8(10, 1500), embedding_size=1500, batch_size=100, weight_decay=0.0))


def text8() -> LanguageConfig:
    """text8 with the paper's settings for the smaller network."""
    return replace(enwik8(10, 1000), corpus="text8", window=100, drop_embedding=0.05)


def text8_sota() -> LanguageConfig:
    """The paper's best on text8."""
    return replace(enwik8_sota(), corpus="text8")


def ptb_modern(depth: int = 5) -> LanguageConfig:
    """A plain RHN of 23 million parameters with the recipe of later years: AWD-LSTM's (Merity et al. 2017) as DARTS used it.

    Batch 64, windows of varying length, NT-ASGD, a penalty on the outputs' change, zero-state resets (Melis et al. 2017) and recurrent
    dropout, which made the best RHN published (Melis et al.). A learning rate of 20, a gradient norm of 0.25 and a weight decay of 8e-7
    for a mean loss over 35 steps are 0.57, 8.75 and 2.8e-5 for a sum over them. The dropout rates are guesses between those of
    DARTS and the paper: nothing here was tuned yet.
    """
    config = replace(
        ptb_sota(),
        depth=depth,
        batch_size=64,
        vary_window=True,
        learning_rate=20 / 35,
        gradient_norm=0.25 * 35,
        lr_decay=1.0,
        weight_decay=8e-7 * 35,
        averaging=5,
        temporal_activation_regularization=1e-3,
        reset_probability=0.01,
        **_dropout(0.10, 0.65, 0.10, 0.70),
        drop_candidate=0.25,
    )
    return _with_parameters(config, 23_500_000)


def _with_parameters(config: LanguageConfig, budget: int) -> LanguageConfig:
    """The configuration with the most units within a budget of parameters, at the published vocabulary of its corpus."""
    from rhn.cells.make import largest_within

    return replace(config, hidden_size=largest_within(lambda n: parameters(replace(config, hidden_size=n)), budget))


def _torch7(config: LanguageConfig) -> LanguageConfig:
    """The settings that both systems of the Torch7 code share.

    A constant of -4 is added within the gates; biases start uniform, as all weights do. The Torch7 code has two biases at the first
    layer, here there is one: two biases start as the sum of two draws, and their sum moves twice as far in a step. The learning rate
    falls one epoch later than in the other codes.
    """
    return replace(
        config,
        gate_masks="separate",
        weight_decay_form="shrink",
        transform_bias=None,
        gate_constant=-4.0,
        decay_after=config.decay_after + 1,
        epochs=1000,
    )


def _dropout(embedding: float, input: float, hidden: float, output: float) -> dict[str, float]:
    return {"drop_embedding": embedding, "drop_input": input, "drop_hidden": hidden, "drop_output": output}


CHORALE_PRESETS: dict[str, Callable[..., ChoraleConfig]] = {
    f"jsb-depth-{depth}": functools.partial(jsb_depth, depth) for depth in range(1, 11)
}
LANGUAGE_PRESETS: dict[str, Callable[[], LanguageConfig]] = {
    "ptb-sota": ptb_sota,
    **{f"ptb-depth-{depth}": functools.partial(ptb_depth, depth) for depth in range(1, 11)},
    **{f"ptb-depth-{depth}-tied": functools.partial(ptb_depth, depth, tied=True) for depth in range(1, 11)},
    "ptb-torch7": ptb_torch7,
    "ptb-theano": ptb_theano,
    "ptb-brainstorm": ptb_brainstorm,
    "ptb-variational-lstm": functools.partial(ptb_baseline, "lstm", variational=True, layers=2),
    "ptb-variational-lstm-tied": ptb_variational_lstm_tied,
    "ptb-lstm": functools.partial(ptb_baseline, "lstm", variational=False, layers=2),
    "ptb-gru": functools.partial(ptb_baseline, "gru", variational=False, layers=2),
    "ptb-dt-rnn": functools.partial(ptb_baseline, "dt-rnn", variational=True, depth=5),
    "enwik8-5x1500": functools.partial(enwik8, 5, 1500),
    "enwik8-10x1000": functools.partial(enwik8, 10, 1000),
    "enwik8-sota": enwik8_sota,
    "enwik8-theano": enwik8_theano,
    "enwik8-torch7": enwik8_torch7,
    "text8-10x1000": text8,
    "text8-sota": text8_sota,
    "ptb-modern": ptb_modern,
    "ptb-modern-depth-10": functools.partial(ptb_modern, 10),
}
PRESETS: dict[str, Callable[..., ChoraleConfig | LanguageConfig]] = LANGUAGE_PRESETS | CHORALE_PRESETS
