"""Make a configuration: of a preset or a file, with changes of its fields; and load its data.

The values of a cell (bias, initial weights, learning rate) come first, then those of the preset, of
the file, and of the changes.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhn.cells.options import accepts, has_depth, read_options
from rhn.cells.registry import TORCH_CELLS, hidden_size_for_budget, is_known, resolve_cell
from rhn.errors import InvalidInputError, first_line
from rhn.training.config import ChoraleConfig, LanguageConfig, trainable
from rhn.training.presets import BUDGET, LANGUAGE_PRESETS, PRESETS
from rhn.utils.io import read_config
from rhn.utils.validation import check_fields, unexpected

if TYPE_CHECKING:
    from rhn.data import Corpus, TextCorpus

# entries of a run's config.json beside the configuration
RUN_ENTRIES = ("seeds", "text", "device", "data", "path")
BIAS = "transform_bias"


def preset(start: str | ChoraleConfig | LanguageConfig, /, **changes: Any) -> Any:
    """Return the configuration of the preset of this name, or `start`, with `changes` of fields.

    Cell options are added to those of `start`; with another `cell`, those and the transform bias of
    `start` are dropped. A preset for chorales has as many units as its budget of parameters allows,
    unless `hidden_size` is given. Raises InvalidInputError.

    >>> preset("jsb-depth-6").hidden_size, preset("jsb-depth-6", cell="dt-rnn").hidden_size
    (262, 372)
    """
    if isinstance(start, ChoraleConfig | LanguageConfig):
        if not changes:
            return start
        return _configured(type(start), {}, _layered(asdict(start), changes))
    return _configured(*_row(start), changes)


def read_preset(file: Path, name: str | None = None, /, **changes: Any) -> Any:
    """Return the configuration in a JSON file, with `changes` of its fields as for `preset`.

    The file is the config.json of a training run, or has fields that replace those of the preset
    `name`, or of the preset of its entry "preset". A user's own cell is imported only if `changes`
    name it, never because a file names it. Raises InvalidInputError.
    """
    stored = trainable(read_config(file))
    entries = {key: v for key, v in stored.items() if key not in RUN_ENTRIES}
    if name not in (None, entries.get("preset", name)):
        raise InvalidInputError(f"preset is {name}: expected {entries['preset']}, as in {file}")
    name = entries.pop("preset", name)
    kind: type = LanguageConfig if "corpus" in entries else ChoraleConfig
    kind, base = (kind, {}) if name is None else _row(name)
    given = _layered({"cell": base.get("cell"), **entries}, changes)
    cell = str(given["cell"])
    if not changes.get("cell") and ":" in cell and not is_known(cell):
        raise InvalidInputError(f"--cell is not given: expected {cell}, as in {file}")
    return _configured(kind, base, given)


def _row(name: str) -> tuple[Any, dict[str, Any]]:
    """Return (class, values) of a preset."""
    if str(name) not in PRESETS:
        raise InvalidInputError(f"preset is {name!r}: expected a name that `rhn presets` lists")
    values = {"cell": "rhn", **PRESETS[name].values}
    if name in LANGUAGE_PRESETS:
        return LanguageConfig, values
    return ChoraleConfig, {**_of_cell(ChoraleConfig, "rhn"), **values}


def _layered(entries: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries with changes. Another cell drops the options and bias of the first."""
    cell = entries.get("cell") if changes.get("cell") is None else changes["cell"]
    if cell != entries.get("cell"):
        entries = {key: v for key, v in entries.items() if key not in ("cell_options", BIAS)}
    options = {**_options(entries), **_options(changes)}
    return {**entries, **changes, "cell": cell, "cell_options": options}


def _options(given: Mapping[str, Any]) -> Mapping[str, Any]:
    options = given.get("cell_options", {})
    if not isinstance(options, Mapping):
        raise unexpected("cell_options", options, "a dictionary")
    return options


def _configured(kind: type, base: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Return the configuration of values that replace those of the cell, and those of a base."""
    first = base.get("cell")
    cell = next(name for name in (given.get("cell"), first, "rhn") if name is not None)
    kept, own = base.get("cell_options", {}), dict[str, Any]()
    if cell != first:
        kept, own = {}, _of_cell(kind, cell)
    values = {**base, **own, **given, "cell": cell}
    options = read_options(cell, {**kept, **_options(given)})
    if BIAS in options:
        values[BIAS] = options.pop(BIAS)
    budget = values.pop(BUDGET, None)
    if budget and "hidden_size" not in values:
        try:
            units = hidden_size_for_budget(cell, budget, values["depth"], **options)
        except TypeError as error:  # a user's factory with other arguments
            raise InvalidInputError(f"{cell} cannot be built: {first_line(error)}") from error
        values["hidden_size"] = units
    check_fields(kind, values)
    return kind(**values | {"cell_options": options})


def _of_cell(kind: type, cell: str) -> dict[str, Any]:
    """Return the fields that follow from a cell: bias, initial weights, rate for chorales."""
    factory = resolve_cell(cell)
    is_gated, has_own_start = accepts(factory, BIAS), cell in TORCH_CELLS
    values: dict[str, Any] = {}
    if kind is LanguageConfig:
        if not is_gated:
            values[BIAS] = None
        if has_own_start:
            values["init"] = None
        return values
    values["learning_rate"] = getattr(factory, "learning_rate", 0.2)
    values["init_std"] = None if has_own_start else 0.05
    values[BIAS] = -1.0 if is_gated else None
    if not has_depth(factory):
        values["depth"] = 1
    return values


def load_corpus(
    config: ChoraleConfig | LanguageConfig, data: Path | None = None
) -> "Corpus | TextCorpus":
    """Load the data of a configuration. Path and errors as for `load_data`."""
    if isinstance(config, ChoraleConfig):
        from rhn.data.jsb import chorales

        return chorales(data)
    from rhn.data.text import read_text

    limits: dict = {"max_tokens": config.max_tokens, "vocabulary_size": config.vocabulary_size}
    return read_text(config.corpus, data, unit=config.unit, **limits)
