"""The base class of results: print, tabulate, plot, save and load the numbers of one analysis. This
module does not import torch.

A result is a frozen dataclass, whose fields are NumPy arrays, numbers, texts, dictionaries of
these, or None:

    @dataclass(frozen=True, kw_only=True, repr=False, eq=False)
    class Gains(Result, kind="gains"):
        input: np.ndarray
        finding: str                    # one clause, for a title
        def notes(self): ...            # at most five further sentences
        def table(self): ...            # rows of numbers
        def _draw(self, ax, ...): ...   # into axes of matplotlib, for `plot`
"""

import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args, get_origin, get_type_hints

import numpy as np

from rhn.errors import DataError, InvalidInputError
from rhn.utils.figures import our_style, save_figure
from rhn.utils.io import arrays_of, check_output, finite_json, write_arrays, write_json
from rhn.utils.old import (
    DRAWN,
    SUFFIXES,
    add_legend,
    counted,
    fold_to_axes,
    image,
    kinds_of,
    mark_step,
    remove_legends,
    rows_table,
    set_limit,
    write_rows,
)
from rhn.utils.validation import in_short, number, plain

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rhn.plotting.figure import Block

LINES, COLUMNS = 24, 100  # of a screen
FIRST = 6  # rows of numbers that a command prints without --all
KIND = "kind"  # key of a file that names the class


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Result:
    """The base class of results: the numbers of one analysis, and their origin."""

    classes: ClassVar[dict[str, type["Result"]]] = {}
    kind: ClassVar[str] = ""
    """The name of the class in files."""
    writer: ClassVar[str] = "the save() of a result"
    """The function or command that writes such files, for messages."""

    title: str = ""
    """The network, and the sequence if it matters: "rhn, depth 5, 64 units"."""
    about: str = ""
    """Initialisation, seed and data, for the footer of a figure."""
    doubt: str = ""
    """A sentence with a reason to doubt all numbers; "" if there is none."""
    run: Any = field(default=None, repr=False, compare=False, metadata={"saved": False})
    """The run from which the result was computed in this process, so that `result.run.states` has
    its states. None after loading, and for a result without a run.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "run"}

    def __init_subclass__(cls, kind: str = "", **keywords):
        super().__init_subclass__(**keywords)
        if kind:
            cls.kind = kind
            Result.classes[kind] = cls

    @property
    def finding(self) -> str:
        """The result in one clause, for the title of a figure; "" if there is none."""
        return ""

    def notes(self) -> list[str]:
        """Return at most five further sentences: the main numbers, and all doubts about them."""
        return []

    def sentences(self) -> Iterator[str]:
        """Yield the sentences that a command prints first: the finding, the notes and the doubt."""
        if self.finding:
            yield f"{self.finding}."
        yield from self.notes()
        if self.doubt:
            yield self.doubt

    def lines(self) -> Iterable[str]:
        """Return the lines of the table as text: the names of the columns, then the rows."""
        rows = self.table()
        return rows_table(rows).split("\n") if rows else []

    @property
    def step_count(self) -> int | None:
        """The number of time steps, one of which a figure can draw or mark; None if the result has
        no time steps.
        """
        return None

    def drawn_step(self, step: int | None = None) -> int | None:
        """Return the time step that `plot(step=step)` draws or marks; None if it draws none. Raises
        InvalidInputError for a step outside the run, and for any step if the result has no time
        steps.
        """
        T = self.step_count
        if step is None:
            return None
        if T is None:
            raise InvalidInputError(f"step is {step}: {self.kind or 'this result'} has no steps")
        step = plain(step)
        if type(step) is not int or not 0 <= step < T:
            raise InvalidInputError(f"step is {in_short(step)}: expected 0 to {T - 1}")
        return step

    def summary(self, *, whole: bool = True) -> str:
        """Return the result as text: the sentences, network and data, and the rows of numbers.

        whole: False for only the first rows.
        """
        heading, *lines = [*self.lines()] or [""]
        shown = lines[: None if whole else FIRST]
        if hidden := len(lines) - len(shown):
            shown.append(f"and {counted(hidden, 'more row')} with --all")
        behind = "\n".join(filter(None, (self.title, self.about, heading, *shown)))
        return "\n\n".join(filter(None, ("\n".join(self.sentences()), behind)))

    def table(self) -> list[dict[str, Any]]:
        """Return the table of the result: one row of numbers for each time step, point or
        quantity.
        """
        raise NotImplementedError

    def brief(self) -> dict[str, float]:
        """Return a few numbers by name for comparisons. If this is empty, comparisons use the means
        of the table over the time steps, or its first row.
        """
        return {}

    def to_frame(self) -> "pd.DataFrame":
        """Return the table as a data frame of pandas, with a column for each number."""
        import pandas as pd

        return pd.DataFrame(self.table())

    def _axes(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the axes of each array, by the name of the array."""
        return {}

    def to_xarray(self) -> "xr.Dataset | xr.DataTree":
        """Return the arrays with named axes, such as `step` and `eigenvalue`, as a dataset of
        xarray. A result without such names returns its table, with the axis `row`. Texts and
        numbers are attributes of the dataset.

        Raises InvalidInputError if xarray, which is optional, is not installed.
        """
        xr = optional_xarray()
        if not (axes := self._axes()):
            return xr.Dataset.from_dataframe(self.to_frame().rename_axis("row"))
        known = {name: value for name, value in vars(self).items() if value is not None}
        arrays = {name: (along, known[name]) for name, along in axes.items() if name in known}
        numbers = {k: v for k, v in known.items() if isinstance(v, str | int | float)}
        return xr.Dataset(arrays, attrs={KIND: self.kind} | numbers)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        step: int | None = None,
        limit: float | None = None,
        legend: bool = True,
        figure: str | float | None = None,
    ) -> "Axes":
        """Draw the result into matplotlib axes, or into a new figure. Returns the axes.

        Args:
            ax: the axes to draw into; None: those of a new figure.
            step: the time step to draw, or to mark in curves over time. None: the result chooses.
            limit: half the width of the drawn square of the complex plane, or the upper end of the
                value axis. None: chosen from the numbers.
            legend: whether to draw a legend.
            figure: width of a new figure, "column", "page", "slide" or inches. None: the result's
                own width.

        Raises InvalidInputError for a step outside the run, or a limit that cannot be drawn.
        """
        if ax is None:
            with our_style(figure):
                return self.figure(step=step, limit=limit, legend=legend).axes[0]
        if not hasattr(ax, "get_title"):
            raise InvalidInputError(
                f"ax is {in_short(ax)}: expected axes of matplotlib, or None for a new figure"
            )
        self.draw_panel(ax, self.drawn_step(step), checked_limit(limit))
        fold_to_axes(ax)
        if legend:
            add_legend(ax)
        else:
            remove_legends(ax)
        return ax

    def figure(
        self, *, step: int | None = None, limit: float | None = None, legend: bool = True
    ) -> "Figure":
        """Draw and return the whole figure of the result, which `save` writes.
        step, limit and legend are as for `plot`.
        """
        drawing = self._figure(self.drawn_step(step), checked_limit(limit))
        if not legend:
            remove_legends(drawing)
        return drawing

    def check_drawable(self) -> None:
        """Raise InvalidInputError if there is nothing to draw."""

    width: ClassVar[float] = 6.0
    """Width of the figure, in inches."""
    height: ClassVar[float] = 3.2
    """Height of a row of panels, in inches."""
    marks_step: ClassVar[bool] = True
    """True if a time step is marked in curves over time; False if `_draw` draws the step itself."""

    @property
    def origin(self) -> str:
        """Network, initialisation, seed and data, for the footer of a figure."""
        return "; ".join(filter(None, (self.title, self.about)))

    def _draw(self, ax: "Axes", *, step: int | None, limit: float | None) -> None:
        """Draw the result into axes, for `plot`."""
        raise NotImplementedError

    def draw_panel(self, ax: "Axes", step: int | None, limit: float | None) -> None:
        """Draw the result into axes, with a marked time step and a limit."""
        self._draw(ax, step=step, limit=limit)
        if step is not None and self.marks_step:
            mark_step(ax, step)
        if limit is not None:
            set_limit(ax, limit)

    def _blocks(self, panel: Callable[["Axes"], object]) -> "list[Block]":
        """Return the panels of the whole figure; `panel` draws the first of them."""
        from rhn.plotting.figure import Block

        return [Block([panel], self.height)]

    def _figure(self, step: int | None, limit: float | None) -> "Figure":
        """Draw and return the whole figure."""
        from rhn.plotting.figure import compose

        blocks = self._blocks(partial(self.draw_panel, step=step, limit=limit))
        return compose(self.finding, self.origin, *blocks, width=self.width)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, and the numbers derived from them, ready for JSON: complex numbers
        are [real, imaginary], NaN and infinity are None.
        """
        return finite_json(self._to_dict())

    def _to_dict(self) -> dict[str, Any]:
        """Return the same, but with NaN and infinity unchanged."""
        return _plain(self._saved()) | self.derived()

    def save(self, path: str | Path, *, figure: str | float | None = None) -> Path:
        """Write the result to a file, in the format of the suffix, and return the path. Formats:
        arrays as .npz (no pickle), numbers as .json (NaN and infinity become null), the table as
        .csv, the figure as .png, .svg or .pdf.

        figure: width of the figure, "column", "page", "slide" or inches.

        Writing is atomic. Only .npz files can be read again; the result of a training run cannot be
        written as .npz. Raises OutputError.
        """
        others = (".json", ".csv", *SUFFIXES)
        path = check_output(path, (".npz", *others) if self.kind else others)
        match path.suffix.lower():
            case ".npz":
                self._save_arrays(path)
            case ".json":
                write_json(path, {KIND: self.kind} | _plain(self._saved()) | self.derived())
            case ".csv":
                self._save_table(path)
            case _:
                save_figure(path, self.figure, figure)
        return path

    def _save_arrays(self, path: Path) -> None:
        saved = {name: value for name, value in self._saved().items() if value is not None}
        arrays = {name: _as_array(value) for name, value in saved.items()}
        write_arrays(path, {KIND: np.array(self.kind)} | arrays)

    def _save_table(self, path: Path) -> None:
        """Write the rows of the table. A row may lack some of the columns."""
        rows = self.table()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        write_rows(path, columns, ([row.get(name) for name in columns] for row in rows))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote. Raises DataError for any other file."""
        found = load_result(path, cls.writer)
        if not isinstance(found, cls):
            raise DataError(
                f"{path} holds the result {found.kind!r}: expected {cls.kind or 'another'!r}"
            )
        return found

    def derived(self) -> dict[str, Any]:
        """Return numbers that are computed from the fields, for .json files."""
        return {}

    def validate(self) -> None:
        """Raise ValueError for fields that do not fit each other. Called after a file was read."""

    def _saved(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in _saved_fields(self)}

    @classmethod
    def _of_file(cls, values: Mapping) -> Self:
        """Make a result from the arrays in a file."""
        hints, given = get_type_hints(cls), [f for f in _saved_fields(cls) if f.name in values]
        required = {
            f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING
        }
        if lacking := sorted(required - {*values}):
            raise ValueError(f"it lacks {', '.join(lacking)}")
        result = cls(**{f.name: _from_array(values[f.name], hints[f.name]) for f in given})
        result.validate()
        return result

    def __repr__(self) -> str:
        """Return the summary, cut to one screen."""
        lines = fitted(self.summary()).split("\n")
        return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], "..."])

    def _repr_html_(self) -> str:
        """Return the summary and the figure as HTML for a notebook, without references to other
        files.
        """
        return f"<pre>{html.escape(repr(self))}</pre>{image(self.figure, self.title or 'figure')}"


def optional_xarray() -> Any:
    """Import and return the module xarray. Raises InvalidInputError if it is not installed."""
    try:
        import xarray
    except ImportError:
        raise InvalidInputError(
            "to_xarray needs xarray, which is optional: install it with `pip install xarray`"
        ) from None
    return xarray


def checked_limit(limit: float | None) -> float | None:
    """Return the limit of a figure's axis. Raises InvalidInputError for a number that cannot be
    drawn.
    """
    return None if limit is None else number("limit", limit, **DRAWN)


def load_result(path: str | Path, writer: str = Result.writer) -> Result:
    """Read a result of any imported class from an .npz file. Raises DataError for other files; the
    message names the `writer`.
    """
    with arrays_of(path, writer) as arrays:
        if KIND not in arrays:
            raise ValueError("it does not name the kind of its result")
        kind = str(arrays[KIND])
        if kind not in Result.classes:
            raise ValueError(
                f"it holds {kind!r:.40}, expected one of {', '.join(sorted(Result.classes))}"
            )
        return Result.classes[kind]._of_file(arrays)


def _saved_fields(result: Result | type[Result]) -> list[Field]:
    return [f for f in fields(result) if f.metadata.get("saved", True)]


def _from_array(array: np.ndarray, hint: Any) -> Any:
    """Return a field's value from its array in a file; dictionaries, lists and tuples are read from
    JSON in it.
    """
    kinds = {get_origin(kind) or kind for kind in kinds_of(hint)}
    value = array.item() if array.ndim == 0 else None
    if isinstance(value, str) and not kinds.isdisjoint((dict, list, tuple)):
        return _from_json(json.loads(value), hint)
    return array if np.ndarray in kinds and not isinstance(value, str) else value


def _from_json(value: Any, hint: Any) -> Any:
    """Return a dictionary, list or tuple from its JSON value, with the arrays in it."""
    kinds = {get_origin(kind) or kind for kind in kinds_of(hint)}
    if get_origin(hint) is dict:
        return {key: _from_json(part, get_args(hint)[1]) for key, part in value.items()}
    if np.ndarray in kinds:
        return np.array(value)
    return tuple(value) if tuple in kinds else value


def _as_array(value: Any) -> np.ndarray:
    """Return a field's value as an array for an .npz file; dictionaries, lists and tuples become
    JSON.
    """
    if isinstance(value, dict | list | tuple):
        return np.array(json.dumps(_plain(value)))
    return np.asarray(value)


def _plain(value: Any) -> Any:
    """Return a field's value for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return (_parts(value) if np.iscomplexobj(value) else value).tolist()
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value._to_dict() if isinstance(value, Result) else value


def _parts(z: np.ndarray | np.generic) -> np.ndarray:
    """Return complex numbers as [real, imaginary]."""
    return np.stack((z.real, z.imag), -1)


def table_rows(**columns: Iterable | Mapping[str, Iterable]) -> list[dict[str, Any]]:
    """Return the rows of a table from its columns (R,). An array (R, L) becomes the columns name_1,
    ..., name_L; a dictionary of columns becomes the columns name_KEY.

    >>> table_rows(step=range(2), gain=np.array([0.5, 2.0]), norm={"least": [0.1, 0.2]})
    [{'step': 0, 'gain': 0.5, 'norm_least': 0.1}, {'step': 1, 'gain': 2.0, 'norm_least': 0.2}]
    """
    named: dict[str, list] = {}
    for name, values in columns.items():
        named |= _columns(name, values)
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def _columns(name: str, values: Iterable | Mapping[str, Iterable]) -> dict[str, list]:
    """Return columns by name: one column, or one for each layer or key.

    >>> _columns("gain", np.array([[0.5, 2.0]]))
    {'gain_1': [0.5], 'gain_2': [2.0]}
    """
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = {str(k): column for k, column in enumerate(values.T, 1)}
    if isinstance(values, Mapping):
        keys = [f"{name}_{key}".replace(" ", "_") for key in values]
        return dict(zip(keys, map(_plain_column, values.values()), strict=True))
    return {name: _plain_column(values)}


def _plain_column(values: Iterable) -> list:
    """Return the numbers of a column as Python numbers."""
    return values.tolist() if isinstance(values, np.ndarray) else [*values]


def fitted(text: str) -> str:
    """Wrap a text to the width of a screen."""

    def wrapped(line: str) -> str:
        return fill(line, COLUMNS, break_on_hyphens=False) if len(line) > COLUMNS else line

    return "\n".join(map(wrapped, text.split("\n")))
