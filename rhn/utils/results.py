"""The base class of results: numbers in one table, notes that count facts, and files.

    @dataclass(frozen=True, repr=False, eq=False)
    class Gains(Result):
        page = "docs/guides/gains.md"           # explains the rows
        texts = ("gain of a step",)             # all strings that are printed
        gains: Annotated[np.ndarray, "step"]    # (T,), and the names of its axes

        def table(self):
            return {"gain of a step": self.gains}

        def blocks(self):
            return [[["gain of a step", *map(formatted, self.gains)]]]

Fields are numbers, texts, None, NumPy arrays, dataclasses of these, and tuples and dictionaries of
these. This module does not import torch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

import numpy as np

from rhn.errors import DamagedError, DataError, InvalidInputError, first_line
from rhn.utils.io import (
    RESULT_FIELD,
    SUFFIXES,
    arrays_of,
    begins_with,
    check_output,
    read_json,
    write_arrays,
    write_json,
)
from rhn.utils.lazy import import_extra
from rhn.utils.tables import EXPLAINED, aligned, formatted

STEP = "step"
COLUMNS = ("median", "smallest", "largest")
NOTE = "note: "
ARRAYS_FIELD, TABLE_FIELD = "arrays", "table"  # in a .json file
EXTRA = "frames"


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Numbers of one analysis."""

    page: ClassVar[str] = ""
    """The page that explains the rows."""
    texts: ClassVar[tuple[str, ...]] = ()
    """All labels, units and notes that a result of this class prints."""
    item: ClassVar[str] = ""
    """What each number of the arrays in the table belongs to; "": a step."""

    def title(self) -> list[str]:
        """Return the first lines: network, data, and how the numbers were measured."""
        return []

    def table(self) -> Mapping[str, Any]:
        """Return {row: array over steps, or one number}. The rows are always the same."""
        raise NotImplementedError

    def items(self) -> Sequence[Any]:
        """Return the name of each number of the arrays in the table: the row of the table that is
        named like the item, or numbers from 0.
        """
        table = self.table()
        longest = max((len(value) for value in table.values() if np.ndim(value)), default=0)
        return np.asarray(table.get(self.item, range(longest))).tolist()

    def listed(self) -> dict[str, Sequence[Any]]:
        """Return the arrays of the table as columns of equal length. The first column has the
        items, under their name.
        """
        arrays = {row: value for row, value in self.table().items() if np.ndim(value)}
        return {self.item or STEP: self.items()} | {
            row: np.asarray(value).tolist() for row, value in arrays.items()
        }

    def coordinates(self) -> Mapping[str, Any]:
        """Return {axis: names along it}, or {name: (axis, names)} for further ones."""
        return {}

    def variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return {name: (axes, array)}: the fields of a type such as Annotated[np.ndarray, "step"]
        that are known.
        """
        found = {}
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            axes = [get_args(h)[1:] for h in (hint, *get_args(hint)) if get_origin(h) is Annotated]
            value = getattr(self, name)
            if axes and value is not None:
                found[name] = axes[0], value
        return found

    def notes(self) -> Mapping[str, int]:
        """Return {fixed sentence: count}. A note is printed if its count is above 0."""
        return {}

    def blocks(self) -> list[list[list[str]]]:
        """Return the printed tables, each as rows of cells: the median, smallest and largest number
        of each array, and the single numbers.
        """
        arrays, single = [["", *COLUMNS]], list[list[str]]()
        for label, value in self.table().items():
            if np.ndim(value):
                arrays.append([label, *map(formatted, median_and_ends(value))])
            else:
                single.append([label, formatted(value)])
        return [arrays, single] if single else [arrays]

    def __str__(self) -> str:
        parts = [self.title(), *map(aligned, self.blocks())]
        parts[-1] += [f"{NOTE}{text}: {count}" for text, count in self.notes().items() if count]
        parts[-1].append(f"{EXPLAINED}{self.page}")
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as numbers, texts, lists and dictionaries, the class as "result", and
        the arrays below "arrays". NaN and infinity become "nan", "inf" and "-inf", complex arrays
        {"real": ..., "imag": ...}.
        """
        found = encoded(self)
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)]
        arrays = {name: found.pop(name) for name in names}
        return {"result": type(self).__name__, **found} | ({ARRAYS_FIELD: arrays} if arrays else {})

    def to_frame(self) -> Any:
        """Return the table as a data frame of pandas: a column for each array of the table, the
        steps or other items as the index, and the single numbers in `attrs`. Raises RhnError
        without pandas.
        """
        pandas = import_extra("pandas", EXTRA)
        columns = self.listed()
        index = pandas.Index(columns.pop(self.item or STEP), name=self.item or STEP)
        frame = pandas.DataFrame(columns, index, dtype=float)
        frame.attrs = {row: value for row, value in self.table().items() if not np.ndim(value)}
        return frame

    def to_xarray(self) -> Any:
        """Return the arrays as a dataset of xarray. Axes have names, and coordinates: the names
        along them, or numbers from 0. The attributes are the numbers and texts. Raises RhnError
        without xarray, and InvalidInputError without arrays.
        """
        arrays = self.variables()
        if not arrays:
            raise InvalidInputError(f"{type(self).__name__} has no arrays: expected to_frame()")
        xarray = import_extra("xarray", EXTRA)
        numbers = {
            axis: np.arange(size)
            for axes, array in arrays.values()
            for axis, size in zip(axes, array.shape, strict=True)
        }
        coordinates = numbers | {
            name: names
            for name, names in self.coordinates().items()
            if name in numbers or isinstance(names, tuple)
        }
        values = {name: array for name, array in arrays.items() if name not in coordinates}
        single = {field.name: getattr(self, field.name) for field in fields(self)}
        attributes = dict[str, Any](result=type(self).__name__)
        attributes |= {name: v for name, v in single.items() if isinstance(v, str | int | float)}
        return xarray.Dataset(values, coordinates, attributes)

    def save(self, path: str | Path) -> Path:
        """Write all fields to a file that ends in .json or .npz, which `load` reads. Raises
        OutputError.
        """
        path = check_output(path, SUFFIXES)
        if path.suffix.lower() == ".json":
            write_json(path, self.to_dict(), indent=1)
            return path
        arrays = dict[str, np.ndarray]()
        text = json.dumps({"result": type(self).__name__, **encoded(self, arrays)})
        return write_arrays(path, {"result": np.array(text), **arrays})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a result of this class from a file that `save` wrote. Raises DataError."""
        writer = f"save() of a {cls.__name__}"
        name, found, arrays = content_of(path, writer)
        if name != cls.__name__:
            raise DataError(f"{path} was not written by {writer}: it has a {name}")
        try:
            return _decoded(cls, found, arrays)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"fields differ, {first_line(error)}"
            raise DataError(f"{path} was written by another version: {reason}") from error


def median_and_ends(values: Any) -> list[Any]:
    """The median, smallest and largest of numbers, without NaN; three times None without any."""
    known = np.atleast_1d(np.asarray(values, float))
    known = known[~np.isnan(known)]
    return [np.median(known), known.min(), known.max()] if known.size else [None] * 3


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


def _decoded(hint: Any, value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a field of the type `hint` from its form in a file."""
    if get_origin(hint) is not None:
        return _decoded_several(hint, value, arrays)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        known = {name: _decoded(hints[name], each, arrays) for name, each in value.items()}
        return hint(**known)  # type: ignore[operator]
    if hint is np.ndarray and isinstance(value, Mapping):
        real, imag = (_decoded(hint, value[part], arrays) for part in ("real", "imag"))
        complex_array = np.empty(real.shape, complex)  # a sum with 1j times inf would have NaN
        complex_array.real, complex_array.imag = real, imag
        return complex_array
    if hint is np.ndarray:
        found = arrays[value] if isinstance(value, str) else np.asarray(value)
        return found.astype(float) if found.dtype.kind == "U" else found
    return float(value) if hint is float else value


def _decoded_several(hint: Any, value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a field that is a tuple, a dictionary, or of several types such as `float | None`."""
    origin, given = get_origin(hint), get_args(hint)
    if origin is dict:
        return {name: _decoded(given[1], each, arrays) for name, each in value.items()}
    if origin is tuple:
        kinds = [given[0]] * len(value) if given[-1] is Ellipsis else given
        return tuple(_decoded(h, v, arrays) for h, v in zip(kinds, value, strict=True))
    one = next(each for each in given if each is not type(None))
    return None if value is None else _decoded(one, value, arrays)
