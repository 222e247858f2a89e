"""The forms of a result in files: a .json file has its fields as numbers, texts, lists and
dictionaries, a .npz file the arrays apart.

Fields are numbers, texts, None, NumPy arrays, dataclasses of these, and tuples and dictionaries of
these.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from rhn.errors import DamagedError, DataError, first_line
from rhn.utils.io import RESULT_FIELD, arrays_of, begins_with, read_json

ARRAYS_FIELD, TABLE_FIELD = "arrays", "table"  # in a .json file


def content_of(path: str | Path, writer: str) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Read the name of the class, the other fields and the arrays of a file that `save` wrote.
    Raises DataError, with the name of the `writer`, and DamagedError for a damaged file.
    """
    arrays = dict[str, np.ndarray]()
    try:
        if Path(path).suffix.lower() == ".npz":
            with arrays_of(path, writer) as stored:
                arrays = {name: stored[name] for name in stored}
            found = json.loads(str(arrays["result"])) if "result" in arrays else arrays
        else:
            found = read_json(path)
        if "result" not in found and "kind" in found:
            raise DataError(f"{path} was written by version 0.6.0 or before: compute it again")
        found.pop(TABLE_FIELD, None)
        found |= found.pop(ARRAYS_FIELD, {})  # 0.7.0 wrote them among the other fields
        return str(found.pop("result")), found, arrays
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        is_json_text = isinstance(error, json.JSONDecodeError)
        if is_json_text and begins_with(Path(path), RESULT_FIELD):
            raise DamagedError(f"{path} is damaged: {first_line(error)}") from error
        raise DataError(f"{path} was not written by {writer}: {first_line(error)}") from error


def encoded(value: Any, arrays: dict[str, np.ndarray] | None = None) -> Any:
    """Return a value for JSON. Arrays are added to `arrays`; if this is None, they become lists."""
    if is_dataclass(value):
        return {f.name: encoded(getattr(value, f.name), arrays) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): encoded(each, arrays) for name, each in value.items()}
    if isinstance(value, np.ndarray) and arrays is not None:
        name = f"array {len(arrays)}"
        arrays[name] = value
        return name
    if isinstance(value, np.ndarray) and value.dtype.kind == "c":
        return {"real": encoded(value.real, None), "imag": encoded(value.imag, None)}
    if isinstance(value, tuple | list | np.ndarray):
        return [encoded(each, arrays) for each in value]
    return _plain(value.item() if isinstance(value, np.generic) else value)


def _plain(value: Any) -> Any:
    """Return a number or text for JSON, which has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def decoded(hint: Any, value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a field of the type `hint` from its form in a file."""
    if get_origin(hint) is not None:
        return _decoded_several(hint, value, arrays)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        known = {name: decoded(hints[name], each, arrays) for name, each in value.items()}
        return hint(**known)  # type: ignore[operator]
    if hint is not np.ndarray:
        return float(value) if hint is float else value
    if isinstance(value, Mapping):
        real, imag = (decoded(hint, value[part], arrays) for part in ("real", "imag"))
        complex_array = np.empty(real.shape, complex)  # a sum with 1j times inf would have NaN
        complex_array.real, complex_array.imag = real, imag
        return complex_array
    found = arrays[value] if isinstance(value, str) else np.asarray(value)
    return found.astype(float) if found.dtype.kind == "U" else found


def _decoded_several(hint: Any, value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a field that is a tuple, a dictionary, or of several types such as `float | None`."""
    origin, given = get_origin(hint), get_args(hint)
    if origin is dict:
        return {name: decoded(given[1], each, arrays) for name, each in value.items()}
    if origin is tuple:
        kinds = [given[0]] * len(value) if given[-1] is Ellipsis else given
        return tuple(decoded(h, v, arrays) for h, v in zip(kinds, value, strict=True))
    one = next(each for each in given if each is not type(None))
    return None if value is None else decoded(one, value, arrays)
