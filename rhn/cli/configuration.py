"""What a training starts from: a preset, a configuration file, or a file on top of a preset."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

from rhn.errors import DataError, InvalidInputError
from rhn.presets import ChoraleConfig, LanguageConfig, preset
from rhn.training.config import upgraded
from rhn.utils.io import read_json
from rhn.utils.validation import expected, fits

RUN_ENTRIES = ("seeds", "text", "device", "data", "path")  # of a run's config.json, beside the configuration


def starting_point(
    name: str | None, file: Path | None, cell: str | None, options: Mapping | None = None
) -> ChoraleConfig | LanguageConfig:
    """The configuration of a preset, with the entries of a file instead of its own, for another cell if one is named.

    options: of the cell, as words or values, instead of those of the file and of the preset.

    A chorale preset gets the hidden size that its budget buys with that cell. Another cell starts without the options of the first.
    A cell of the user's own is imported only if `cell` names it, never because a file does. Raises InvalidInputError.
    """
    from rhn.cells import is_known, read_options

    told, given = (None, {}) if file is None else read_config(file)
    name, own = name or told, given.get("cell")
    start = preset(name) if name else None
    kind = type(start) if start else LanguageConfig if "corpus" in given else ChoraleConfig
    _check(given, kind, file)
    if cell is None and own and ":" in own and not is_known(own):
        raise InvalidInputError(f"{file} names a cell of the user's own: add --cell {own} to import it")
    first = start.cell if start else "rhn"
    chosen = cell or own or first
    if chosen != (own or first):
        given = {entry: value for entry, value in given.items() if entry not in ("cell_options", "transform_bias")}
    words = (start.cell_options if start and chosen == first else {}) | given.get("cell_options", {}) | (options or {})
    given = _start_of(chosen, kind) | given | {"cell": chosen, "cell_options": read_options(chosen, words)}
    if name is not None:
        return replace(preset(name, chosen, given["cell_options"]), **given)
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
    given = upgraded(content, file)
    return given.pop("preset", None), {key: value for key, value in given.items() if key not in RUN_ENTRIES}


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


def _start_of(cell: str, kind: type) -> dict:
    """The fields that follow from a cell: no transform bias without transform gates, torch's own start of its cells."""
    from rhn.cells import accepts, resolve_cell

    factory = resolve_cell(cell)
    bias = {} if accepts(factory, "transform_bias") else {"transform_bias": None}
    return bias | ({"init": None} if kind is LanguageConfig and hasattr(factory, "own_init") else {})
