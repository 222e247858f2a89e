"""Results print one fixed table and are read back from files; long work prints what is done."""

import json
import re
import sys
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Annotated, ClassVar

import numpy as np
import pytest

from rhn.cells import convert
from rhn.cells.conversion import from_torch
from rhn.errors import DamagedError, DataError, InvalidInputError
from rhn.utils.lazy import import_extra
from rhn.utils.old_names import warn
from rhn.utils.results import Result
from rhn.utils.tables import formatted


@dataclass(frozen=True, repr=False, eq=False)
class Sizes(Result):
    page: ClassVar[str] = "docs/sizes.md"

    sizes: Annotated[np.ndarray, "step"]
    half_life: float | None = 1.25
    modes: Annotated[np.ndarray, "step", "mode"] | None = None
    others: tuple[tuple[str, float], ...] = ()
    counts: dict[str, float] = field(default_factory=dict)

    def title(self):
        return ["rnn"]

    def table(self):
        return {"size of a step": self.sizes, "half-life (steps)": self.half_life}

    def notes(self):
        return {"sizes not finite": int(np.isnan(self.sizes).sum())}


SIZES = Sizes(np.array([1.0, 4.0, np.nan, 2.0]))


def test_a_table_has_median_and_extremes_without_nan_and_a_note_counts_these():
    assert str(SIZES) == (
        "rnn\n\n"
        "                 median   smallest   largest\n"
        "size of a step        2          1         4\n\n"
        "half-life (steps)   1.25\n"
        "note: sizes not finite: 1\n"
        "0 more rows: --whole, .csv; explained: docs/sizes.md"
    )
    assert SIZES.whole().endswith("note: sizes not finite: 1\nrows explained: docs/sizes.md")
    lines = str(Sizes(np.array([3.0]), None)).splitlines()
    assert lines[-2].split()[-1] == "-" and "note" not in lines[-2]
    shown = [formatted(value) for value in (3, True, 0.12345, np.float32(2), np.nan, None)]
    assert shown == ["3", "1", "0.1235", "2", "-", "-"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Lags(Result):
    page: ClassVar[str] = "docs/lags.md"
    item: ClassVar[str] = "lag"
    printed: ClassVar[tuple[str, ...]] = ("sum",)

    norms: Annotated[np.ndarray, "lag"]

    def table(self):
        return {"norm": self.norms, "sum": float(self.norms.sum()), "lags": len(self.norms)}


@pytest.mark.parametrize(
    ("count", "left"),
    [
        pytest.param(20, 1, id="20 lags"),
        pytest.param(25, 6, id="25 lags"),
    ],
)
def test_a_result_prints_20_items_and_the_named_rows_and_counts_the_others(count, left):
    found = Lags(norms=np.arange(float(count)))
    items = [[str(lag), str(lag)] for lag in range(count)]
    *short, last = str(found).splitlines()
    printed = [["lag", "norm"], *items[:20], [], ["sum", str(count * (count - 1) // 2)]]
    assert [line.split() for line in short] == printed
    assert last == f"{left} more rows: --whole, .csv; explained: docs/lags.md"
    *whole, last = found.whole().splitlines()
    printed = [["lag", "norm"], *items, [], printed[-1], ["lags", str(count)]]
    assert [line.split() for line in whole] == printed
    assert last == "rows explained: docs/lags.md"


def test_a_result_without_a_picture_says_so():
    for draw in (SIZES.plot, SIZES.figure):
        with pytest.raises(InvalidInputError, match=r"^Sizes has no picture: expected its table$"):
            draw()


def test_a_dataset_has_the_arrays_with_their_axes_and_the_other_values_as_attributes(monkeypatch):
    """A stand-in for xarray, which is optional, returns what it gets."""
    monkeypatch.setitem(sys.modules, "xarray", SimpleNamespace(Dataset=lambda *given: given))
    arrays, axes, attributes = SIZES.to_xarray()
    assert arrays.keys() == {"sizes"} and attributes == {"result": "Sizes", "half_life": 1.25}
    assert {axis: numbers.tolist() for axis, numbers in axes.items()} == {"step": [0, 1, 2, 3]}
    modes = np.ones((4, 2))
    arrays, axes, _ = replace(SIZES, modes=modes).to_xarray()
    assert axes["mode"].tolist() == [0, 1]
    assert {name: axes for name, (axes, _) in arrays.items()} == {
        "sizes": ("step",),
        "modes": ("step", "mode"),
    }
    assert arrays["sizes"][1] is SIZES.sizes and arrays["modes"][1] is modes


class Named(Sizes):
    """Names along an axis, further ones for an axis of an array, and those of no axis here."""

    def coordinates(self):
        return {"mode": ["a", "b"], "sizes": ("step", self.sizes), "unit": ["nats"]}


def test_the_names_along_axes_are_coordinates_and_no_variables(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", SimpleNamespace(Dataset=lambda *given: given))
    arrays, axes, _ = Named(SIZES.sizes, modes=np.ones((4, 2))).to_xarray()
    assert arrays.keys() == {"modes"} and axes.keys() == {"step", "mode", "sizes"}
    assert axes["mode"] == ["a", "b"] and axes["sizes"] == ("step", SIZES.sizes)


def test_a_table_is_a_data_frame_and_records(monkeypatch):
    """A stand-in for pandas, which is optional, keeps what it gets."""
    stand_in = SimpleNamespace(
        Index=lambda items, name: {name: items},
        DataFrame=lambda columns, index, dtype: SimpleNamespace(columns=columns, index=index),
    )
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    sizes, lags = Sizes(np.array([1.0, 4.0])), Lags(norms=np.array([2.0, 5.0, 0.5]))
    frame = sizes.to_frame()
    assert frame.index == {"step": [0, 1]} and frame.columns == {"size of a step": [1.0, 4.0]}
    assert frame.attrs == {"half-life (steps)": 1.25}
    frame = lags.to_frame()
    assert frame.index == {"lag": [0, 1, 2]} and frame.columns == {"norm": [2.0, 5.0, 0.5]}
    assert frame.attrs == {"sum": 7.5, "lags": 3}
    assert sizes.records() == [
        {"row": "size of a step", "median": 2.5, "smallest": 1.0, "largest": 4.0},
        {"row": "half-life (steps)", "value": 1.25},
    ]
    assert lags.records() == [
        {"lag": 0, "norm": 2.0},
        {"lag": 1, "norm": 5.0},
        {"lag": 2, "norm": 0.5},
        {"lag": "sum", "value": 7.5},
        {"lag": "lags", "value": 3},
    ]
    unknown = {"median": None, "smallest": None, "largest": None}
    assert Sizes(np.array([np.nan])).records()[0] == {"row": "size of a step", **unknown}
    assert replace(sizes, sizes=None).listed() == {"step": []}


def test_a_result_without_arrays_has_no_dataset():
    with pytest.raises(InvalidInputError, match=r"^Sizes has no arrays: expected to_frame\(\)$"):
        replace(SIZES, sizes=None).to_xarray()


def test_a_library_that_is_there_but_misses_another_one_is_not_called_missing(
    tmp_path, monkeypatch
):
    (tmp_path / "half_installed.py").write_text("import nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        import_extra("half_installed", "frames")


def test_a_warning_of_an_old_name_is_at_the_line_that_uses_it():
    with pytest.warns(DeprecationWarning, match=r"expected rhn\.cells\.conversion") as moved:
        assert convert.from_torch is from_torch

    def ours():
        warn("optim_study.run(quiet=)")

    with pytest.warns(DeprecationWarning, match=r"expected optim_study") as renamed:
        ours()
    assert [each.filename for each in (*moved, *renamed)] == [__file__] * 2


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_file_gives_back_every_field(suffix, tmp_path):
    more = {"others": (("a", np.inf), ("b", 3.0)), "counts": {"x": 2.0}}
    parts = [-np.inf, -0.0, 0.0, 1.5, np.inf, np.nan]
    modes = np.array([[complex(real, imag) for imag in parts] for real in parts])
    saved = replace(SIZES, modes=modes, **more)
    path = saved.save(tmp_path / f"a{suffix}")
    found = Sizes.load(path)
    np.testing.assert_array_equal(found.sizes, saved.sizes)
    np.testing.assert_array_equal(found.modes.view(float), modes.view(float))
    assert {name: getattr(found, name) for name in more} == more and str(found) == str(saved)
    if suffix == ".json":
        content = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert content["arrays"]["sizes"] == [1.0, 4.0, "nan", 2.0]
        for text in ("{}", "[1]", '{"result": "Other"}', "no json"):
            path.write_text(text)
            with pytest.raises(DataError, match="was not written by save"):
                Sizes.load(path)


@pytest.mark.parametrize(
    ("suffix", "change", "error", "message"),
    [
        pytest.param(".json", lambda c: c[:-9], DamagedError, "is damaged", id="cut json"),
        pytest.param(".npz", lambda c: c[:-9], DamagedError, "is damaged", id="cut npz"),
        pytest.param(".json", lambda c: b"", DamagedError, "is damaged", id="empty"),
        pytest.param(".json", lambda c: b"a,b", DataError, "was not written by", id="no json"),
        pytest.param(".npz", lambda c: b"a,b", DataError, "not a record written by", id="no npz"),
        pytest.param(
            ".json",
            lambda c: c.replace(b"half_life", b"half_time"),
            DataError,
            "by another version: fields differ, 'half_time'",
            id="fields",
        ),
        pytest.param(
            ".json",
            lambda c: re.sub(rb'"half_life": [^,]+', b'"half_life": 1' + b"0" * 400, c),
            DataError,
            "int too large to convert to float",
            id="a huge number",
        ),
        pytest.param(
            ".json",
            lambda c: b'{"result": "Sizes", "arrays": 3}',
            DataError,
            "was not written by",
            id="no arrays",
        ),
        pytest.param(
            ".json",
            lambda c: b'{"kind": "spectra"}',
            DataError,
            "by version 0.6.0 or before",
            id="0.6.0",
        ),
    ],
)
def test_a_file_is_damaged_old_or_of_another_format(suffix, change, error, message, tmp_path):
    path = SIZES.save(tmp_path / f"a{suffix}")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(error, match=message) as found:
        Sizes.load(path)
    assert type(found.value) is error
