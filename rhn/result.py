"""The base of every result: printed, it fits a screen. Without torch."""

import reprlib
from dataclasses import fields, is_dataclass
from textwrap import wrap

import numpy as np

LINES, COLUMNS = 24, 100  # of a screen

_short = reprlib.Repr()
_short.maxdict, _short.maxlist, _short.maxtuple, _short.maxstring, _short.maxother = 3, 4, 4, 90, 90


class Result:
    """A dataclass of numbers whose `repr` shows arrays by their shape and range; for `@dataclass(repr=False)`.

    >>> from dataclasses import dataclass
    >>> @dataclass(repr=False)
    ... class Found(Result):
    ...     title: str
    ...     norm: np.ndarray
    >>> Found("rhn, depth 5", np.linspace(0.5, 2, 85))
    Found
      title  'rhn, depth 5'
      norm   float64 (85,), 0.5 to 2
    """

    def __repr__(self) -> str:
        shown = [f.name for f in fields(self) if f.repr]
        left_out = shown[LINES - 2 :] if len(shown) > LINES - 1 else []
        shown = shown[: len(shown) - len(left_out)]
        width = max(map(len, shown))
        lines = [f"  {name:<{width}}  {in_short(getattr(self, name))}" for name in shown]
        lines = [line if len(line) <= COLUMNS else line[: COLUMNS - 3] + "..." for line in lines]
        lines += [f"  and {len(left_out)} more: {', '.join(left_out)}"[:COLUMNS]] * bool(left_out)
        return "\n".join([type(self).__name__, *lines])


def fitted(text: str) -> str:
    """A text in lines that fit a screen."""
    return "\n".join(
        part
        for line in text.split("\n")
        for part in (wrap(line, COLUMNS, break_on_hyphens=False) if len(line) > COLUMNS else [line])
    )


def in_short(value) -> str:
    """A value in one line: an array by its shape and range, another result by its name, several by their number.

    >>> in_short(np.array([[1, 2], [3, 4]])), in_short(np.array(0.25)), in_short((1, 2)), in_short([])
    ('int64 (2, 2), 1 to 4', '0.25', '(1, 2)', '[]')
    """
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu().resolve_conj()
        value = (value if value.dtype.itemsize > 2 else value.float()).numpy()
    if isinstance(value, np.ndarray | np.generic):
        return _array(np.asarray(value))
    if isinstance(value, float):
        return f"{value:.6g}"
    if is_dataclass(value):
        return type(value).__name__
    if isinstance(value, list | tuple) and value and (is_dataclass(value[0]) or isinstance(value[0], np.ndarray)):
        return f"{len(value)} of {type(value[0]).__name__}"
    if isinstance(value, dict) and value and all(isinstance(v, float) for v in value.values()):
        value = {key: float(f"{v:.4g}") for key, v in value.items()}
    return " ".join(_short.repr(value).split())


def _array(array: np.ndarray) -> str:
    """ "float64 (85, 64), 0.5 to 2, 3 not finite"; of complex numbers the moduli."""
    if array.ndim == 0:
        return _short.repr(array.item()) if array.dtype.kind not in "fc" else f"{array.item():.6g}"
    about = f"{array.dtype} {array.shape}" if array.dtype.kind in "fciub" else f"{array.shape} {array.dtype.kind}"
    if array.dtype.kind not in "fciu" or not array.size:
        return about if array.dtype.kind in "fciub" else f"texts {array.shape}"
    sizes = np.abs(array) if array.dtype.kind == "c" else array
    known = sizes[np.isfinite(sizes)]
    moduli = "moduli " * (array.dtype.kind == "c")
    span = [f"{moduli}{known.min():.4g} to {known.max():.4g}"] if known.size else []
    span += [f"{sizes.size - known.size} not finite"] if known.size < sizes.size else []
    return ", ".join([about, *span])
