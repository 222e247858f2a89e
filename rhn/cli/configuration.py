"""What a training starts from: a preset, a configuration file, or a file on top of a preset."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

from rhn.errors import DataError, InvalidInputError
from rhn.presets import ChoraleConfig, LanguageConfig, preset
from rhn.training.config import without_precision
from rhn.utils.io import read_json
from rhn.utils.validation import expected, fits

CELL_OPTIONS = ("activation", "coupled", "gate_constant", "skip", "transform_bias")
RUN_ENTRIES = ("seeds", "text", "device", "data", "path")  # of a run's config.json, beside the configuration


def starting_point(
    name: str | None, file: Path | None, cell: str | None, options: Mapping | None = None
) -> ChoraleConfig | LanguageConfig:
    """The configuration of a preset, what a file says over it, for another cell where one is named.

    options: of the cell, as words or values; they are added to those of the file.

    A chorale preset gets the hidden size that its budget buys with that cell, and options that the cell does not have go.
    A cell of the user's own is imported only where `cell` names it, never because a file does. Raises InvalidInputError.
    """
    from rhn.cells import is_known, read_options

    told, given = (None, {}) if file is None else read_config(file)
    name, own = name or told, given.get("cell")
    if cell is None and isinstance(own, str) and ":" in own and not is_known(own):
        raise InvalidInputError(f"{file} names a cell of the user's own: add --cell {own} to import it")
    if name is None:
        kind = LanguageConfig if "corpus" in given else ChoraleConfig
    else:
        kind = type(preset(name))
    _check(given, kind, file)
    if cell is not None and cell != own:
        given.pop("cell_options", None)
    words = given.pop("cell_options", {}) | (options or {})
    given |= (
        {"cell_options": read_options(cell or own or (preset(name).cell if name else "rhn"), words)} if words else {}
    )
    if cell is not None:
        given = _own_start(cell, kind) | given | {"cell": cell, **_without_options(cell, kind)}
    elif "cell" in given:
        given = _without_options(own, kind) | given
    if name is not None:
        return replace(preset(name, cell or own, given.get("cell_options")), **given)
    try:
        return kind(**given)
    except TypeError as error:
        raise InvalidInputError(
            f'{file} is not a whole configuration ({error}): add "preset" with the name to start from'
        ) from error


def read_config(file: Path) -> tuple[str | None, dict]:
    """(preset to start from, fields) of a JSON file; raises InvalidInputError."""
    try:
        content = read_json(file)
    except DataError as error:
        raise InvalidInputError(str(error)) from error
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InvalidInputError(f"{file} is not JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("preset", ""), str):
        raise InvalidInputError(f'{file} is no configuration, expected an object such as {{"preset": "ptb-sota"}}')
    name = content.pop("preset", None)
    return name, {key: value for key, value in without_precision(content, file).items() if key not in RUN_ENTRIES}


def _check(given: dict, kind: type, file: Path | None) -> None:
    """See that every entry is a field of the configuration, with a value of its type."""
    hints = get_type_hints(kind)
    for name, value in given.items():
        if name not in hints:
            near = difflib.get_close_matches(name, [f.name for f in fields(kind)], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidInputError(f"{file}: a {kind.__name__} has no field {name!r}{hint}")
        if not fits(value, hints[name]):
            raise InvalidInputError(f"{file}: {name} is {json.dumps(value)}, expected {expected(hints[name])}")


def _own_start(cell: str, kind: type) -> dict:
    """torch.nn's cells start as torch does in a language model too, unless a file says otherwise."""
    from rhn.cells import resolve_cell

    return {"init": None} if kind is LanguageConfig and hasattr(resolve_cell(cell), "own_init") else {}


def _without_options(cell: str, kind: type) -> dict:
    """The options that a cell does not have, as if they had not been given."""
    from rhn.cells import accepts, resolve_cell

    usual = {field.name: field.default for field in fields(kind) if field.name in CELL_OPTIONS} | {
        "transform_bias": None
    }
    return {name: value for name, value in usual.items() if not accepts(resolve_cell(cell), name)}
