"""Results print one fixed table, count facts in notes, and are read back from files."""

import json
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import pytest
from tables import for_each

from rhn.errors import DataError, OutputError
from rhn.utils.results import Result
from rhn.utils.tables import aligned, formatted


@dataclass(frozen=True)
class Part:
    name: str
    numbers: tuple[float, ...] | None
    steps: int | None = None


@dataclass(frozen=True, repr=False, eq=False)
class Sizes(Result):
    page: ClassVar[str] = "docs/sizes.md"
    texts: ClassVar[tuple[str, ...]] = ("size of a step", "half-life (steps)", "sizes not finite")

    network: str
    sizes: Annotated[np.ndarray, "step"]
    half_life: float | None = None
    modes: Annotated[np.ndarray, "step", "mode"] | None = None
    parts: tuple[Part, ...] = ()
    counts: dict[str, float] = field(default_factory=dict)

    def title(self):
        return [self.network]

    def table(self):
        return {"size of a step": self.sizes, "half-life (steps)": self.half_life}

    def notes(self):
        return {"sizes not finite": int(np.isnan(self.sizes).sum())}


def sizes(**changes):
    usual = {"network": "rnn", "sizes": np.array([1.0, 4.0, np.nan, 2.0]), "half_life": 1.25}
    return Sizes(**usual | changes)


def test_a_table_has_median_and_extremes_without_nan_and_a_note_counts_these():
    assert str(sizes()) == (
        "rnn\n\n"
        "                    median   smallest   largest\n"
        "size of a step           2          1         4\n"
        "half-life (steps)     1.25\n"
        "note: sizes not finite: 1\n"
        "rows explained: docs/sizes.md"
    )


def test_what_was_not_measured_is_a_dash_and_no_note_counts_zero():
    lines = str(sizes(sizes=np.array([3.0]), half_life=None)).splitlines()
    assert lines[-2].split()[-1] == "-" and "note" not in lines[-2]


@for_each("suffix", [".json", ".npz"])
def test_a_file_gives_back_every_field(suffix, tmp_path_factory):
    parts = (Part("a", (1.0, np.inf)), Part("b", None, 3))
    saved = sizes(parts=parts, counts={"x": 2.0})
    path = saved.save(tmp_path_factory.mktemp("results") / f"a{suffix}")
    found = Sizes.load(path)
    np.testing.assert_array_equal(found.sizes, saved.sizes)
    assert (found.parts, found.counts, found.half_life) == (parts, {"x": 2.0}, 1.25)
    assert str(found) == str(saved)


def test_json_has_numbers_by_field_and_no_nan(tmp_path):
    text = sizes().save(tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["sizes"] == [1.0, 4.0, "nan", 2.0]


def test_a_data_frame_has_the_numbers_of_each_row():
    pytest.importorskip("pandas", reason="pandas is in the extra frames")
    frame = sizes(half_life=None).to_frame()
    np.testing.assert_array_equal(frame["size of a step"], [1, 4, np.nan, 2])
    assert frame["half-life (steps)"].isna().all()
    assert sizes().to_frame()["half-life (steps)"].dropna().tolist() == [1.25]


def test_a_dataset_has_named_axes_and_the_numbers():
    pytest.importorskip("xarray", reason="xarray is optional")
    found = sizes().to_xarray()
    assert found.sizes == {"step": 4} and float(found["sizes"].sel(step=1)) == 4
    assert found.attrs == {"result": "Sizes", "network": "rnn", "half_life": 1.25}
    assert sizes(modes=np.ones((4, 2))).to_xarray()["modes"].dims == ("step", "mode")


def test_other_files_and_classes_are_refused(tmp_path):
    path = tmp_path / "a.json"
    for text in ("{}", "[1]", '{"result": "Other"}', "no json"):
        path.write_text(text)
        with pytest.raises(DataError, match="was not written by save"):
            Sizes.load(path)
    with pytest.raises(OutputError):
        sizes().save(tmp_path / "a.csv")


@for_each(
    ("value", "text"),
    [(3, "3"), (True, "1"), (0.12345, "0.1235"), (np.float32(2), "2"), (np.nan, "-"), (None, "-")],
)
def test_a_number_is_shown_in_four_digits(value, text):
    assert formatted(value) == text


def test_rows_are_aligned_and_short_rows_end_early():
    assert aligned([["a", "1", "*"], ["long name", "1,000"]]) == [
        "a               1   *",
        "long name   1,000",
    ]
