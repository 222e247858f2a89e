"""The base class of results: numbers in one table, notes that count facts, a picture, and files.

    @dataclass(frozen=True, kw_only=True, repr=False, eq=False)
    class Gains(Result):
        page = "docs/guides/gains.md"           # explains the rows
        texts = ("gain of a step",)             # all strings that are printed
        gains: Annotated[np.ndarray, "step"]    # (T,), and the names of its axes

        def table(self):
            return {"gain of a step": self.gains}

Fields are those of `rhn.utils.result_files`. This module does not import torch, and matplotlib only
for a picture.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Self,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from rhn.errors import DataError, InvalidInputError, first_line
from rhn.utils.io import SUFFIXES, check_output, write_arrays, write_json, write_rows
from rhn.utils.lazy import import_extra
from rhn.utils.result_files import ARRAYS_FIELD, TABLE_FIELD, content_of, decoded, encoded
from rhn.utils.tables import EXPLAINED, Block, below_shortened, formatted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

STEP, TIME_STEPS = "step", "time steps"
COLUMNS = ("median", "smallest", "largest")
NOTE = "note: "
ROW, VALUE = "row", "value"  # columns of a .csv file
EXTRA = "frames"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Result:
    """Numbers of one analysis."""

    page: ClassVar[str] = ""
    """The page that explains the rows."""
    texts: ClassVar[tuple[str, ...]] = ()
    """All labels, units and notes that a result of this class prints."""
    item: ClassVar[str] = ""
    """What each number of the arrays in the table belongs to; "": a step."""
    printed: ClassVar[tuple[str, ...]] = ()
    """The rows that are printed, at most ten; (): all, of which there are ten or a list."""
    digits: ClassVar[str] = ".4g"
    """The format of printed numbers."""

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
        count = next((len(value) for value in table.values() if np.ndim(value)), 0)
        return np.asarray(table.get(self.item, range(count))).tolist()

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

    def blocks(self) -> list[Block]:
        """Return the whole table as text: a row for each item, or for each array with its median,
        smallest and largest number; and below the single numbers.
        """
        table = self.table()
        if self.item:
            columns = self.listed()
            rows = [
                [str(item), *map(self.number_as_text, numbers)]
                for item, *numbers in zip(*columns.values(), strict=True)
            ]
            first = Block(rows, heads=[[*columns]], is_list=True)
        else:
            arrays = {row: value for row, value in table.items() if np.ndim(value)}
            ends = {row: median_and_ends(value) for row, value in arrays.items()}
            rows = [[row, *map(self.number_as_text, numbers)] for row, numbers in ends.items()]
            first = Block(rows, heads=[["", *COLUMNS]])
        single = {row: value for row, value in table.items() if not np.ndim(value)}
        return [first, Block([[row, self.number_as_text(value)] for row, value in single.items()])]

    def number_as_text(self, value: Any) -> str:
        """Return a number as it is printed."""
        return formatted(value, self.digits)

    def short(self) -> list[Block]:
        """Return the tables as they are printed: the rows that `printed` names, and the first 20 of
        a list.
        """
        return [block.shortened(self.printed) for block in self.blocks()]

    def whole(self) -> str:
        """Return the whole table as text."""
        return self._as_text(self.blocks(), EXPLAINED + self.page)

    def __str__(self) -> str:
        short = self.short()
        return self._as_text(short, below_shortened(self.blocks(), short, self.page))

    __repr__ = __str__

    def _as_text(self, blocks: Sequence[Block], last: str) -> str:
        """Return the title, the tables, the notes and a last line as text."""
        notes = [f"{NOTE}{text}: {count}" for text, count in self.notes().items() if count]
        parts = [self.title(), *(block.lines() for block in blocks if block.rows or block.feet)]
        parts[-1] = [*parts[-1], *notes, last]
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def records(self) -> list[dict[str, Any]]:
        """Return the whole table as lines {column: number}: a line for each item, or for each row
        with its median, smallest and largest number; and a line for each single number.
        """
        lines = list[dict[str, Any]]()
        if self.item:
            columns = self.listed()
            each = zip(*columns.values(), strict=True)
            lines += [dict(zip(columns, numbers, strict=True)) for numbers in each]
        for row, value in self.table().items():
            if not np.ndim(value):
                lines.append({self.item or ROW: row, VALUE: value})
            elif not self.item:
                ends = zip(COLUMNS, median_and_ends(value), strict=True)
                lines.append({ROW: row, **dict(ends)})
        return lines

    def by_step(self) -> Mapping[str, Sequence[Any]]:
        """Return what goes over steps as columns of equal length, one of which is "step"."""
        return self.listed()

    def csv(self, path: str | Path) -> Path:
        """Write the whole table to a .csv file, one row a line. Raises OutputError."""
        path, lines = check_output(path, (".csv",)), self.records()
        columns = [*dict.fromkeys(column for line in lines for column in line)]
        return write_rows(path, columns, [[line.get(name) for name in columns] for line in lines])

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as numbers, texts, lists and dictionaries, the class as "result", the
        lines of the whole table below "table", and the arrays below "arrays". NaN and infinity
        become "nan", "inf" and "-inf", complex arrays {"real": ..., "imag": ...}.
        """
        found = {
            "result": type(self).__name__,
            TABLE_FIELD: encoded(self.records()),
            **encoded(self),
        }
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)]
        arrays = {name: found.pop(name) for name in names}
        return found | ({ARRAYS_FIELD: arrays} if arrays else {})

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

    def figure(
        self, title: str | None = None, *, size: str | float = "page", source: str = "", **how: Any
    ) -> "Figure":
        """Draw the result in a figure of its own. Raises InvalidInputError for a result without a
        picture.

        title: may have mathematics between two $; None: network, data, and at most two numbers.
        size: "page", "column", "slide", or the width in inches. source: the footer. how: arguments
        of `draw`.
        """
        from rhn.utils.composer import composed  # loads matplotlib
        from rhn.utils.figures import call_text

        title = self.figure_title().replace("$", r"\$") if title is None else title
        call = call_text(f"{type(self).__name__}.figure", size=size, **how)
        return composed(partial(self.draw, **how), title, size, source, call)

    def figure_title(self) -> str:
        """Return the usual title of the figure."""
        return "\n".join(self.title())

    def draw(self, part: "SubFigure", *args: Any, **how: Any) -> float:
        """Draw all panels into a part of a figure. Returns the height that they need, in inches."""
        from rhn.utils.composer import one_panel  # loads matplotlib

        return one_panel(part, self.plot)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the main panel into these axes or new ones. Raises InvalidInputError for a result
        without a picture.
        """
        raise InvalidInputError(f"{type(self).__name__} has no picture: expected its table")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a result of this class from a file that `save` wrote. Raises DataError."""
        writer = f"save() of a {cls.__name__}"
        name, found, arrays = content_of(path, writer)
        if name != cls.__name__:
            raise DataError(f"{path} was not written by {writer}: it has a {name}")
        try:
            return decoded(cls, found, arrays)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            reason = f"fields differ, {first_line(error)}"
            raise DataError(f"{path} was written by another version: {reason}") from error


def median_and_ends(values: Any) -> list[Any]:
    """The median, smallest and largest of numbers, without NaN; three times None without any."""
    known = np.atleast_1d(np.asarray(values, float))
    known = known[~np.isnan(known)]
    return [np.median(known), known.min(), known.max()] if known.size else [None] * 3
