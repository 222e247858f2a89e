"""Results print one fixed table and are read back from files; long work prints what is done."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, ClassVar

import numpy as np
import pytest
from tables import for_each

from rhn.errors import DataError, OutputError
from rhn.utils import progress
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

    network: str = "rnn"
    sizes: Annotated[np.ndarray, "step"] = field(
        default_factory=lambda: np.array([1.0, 4.0, np.nan, 2.0])
    )
    half_life: float | None = 1.25
    modes: Annotated[np.ndarray, "step", "mode"] | None = None
    parts: tuple[Part, ...] = ()
    counts: dict[str, float] = field(default_factory=dict)

    def title(self):
        return [self.network]

    def table(self):
        return {"size of a step": self.sizes, "half-life (steps)": self.half_life}

    def notes(self):
        return {"sizes not finite": int(np.isnan(self.sizes).sum())}


def test_a_table_has_median_and_extremes_without_nan_and_a_note_counts_these():
    assert str(Sizes()) == (
        "rnn\n\n"
        "                    median   smallest   largest\n"
        "size of a step           2          1         4\n"
        "half-life (steps)     1.25\n"
        "note: sizes not finite: 1\n"
        "rows explained: docs/sizes.md"
    )
    lines = str(Sizes(sizes=np.array([3.0]), half_life=None)).splitlines()
    assert lines[-2].split()[-1] == "-" and "note" not in lines[-2]


@for_each("suffix", [".json", ".npz"])
def test_a_file_gives_back_every_field(suffix, tmp_path):
    parts = (Part("a", (1.0, np.inf)), Part("b", None, 3))
    saved = Sizes(parts=parts, counts={"x": 2.0}, modes=np.array([[1 + 2j, np.nan]]))
    found = Sizes.load(saved.save(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(found.sizes, saved.sizes)
    np.testing.assert_array_equal(found.modes, saved.modes)
    assert (found.parts, found.counts, found.half_life) == (parts, {"x": 2.0}, 1.25)
    assert str(found) == str(saved)
    if suffix == ".json":
        text = (tmp_path / "a.json").read_text()
        assert json.loads(text, parse_constant=pytest.fail)["sizes"] == [1.0, 4.0, "nan", 2.0]


def test_other_files_and_classes_are_refused(tmp_path):
    path = tmp_path / "a.json"
    for text in ("{}", "[1]", '{"result": "Other"}', "no json"):
        path.write_text(text)
        with pytest.raises(DataError, match="was not written by save"):
            Sizes.load(path)
    with pytest.raises(OutputError):
        Sizes().save(tmp_path / "a.csv")


@for_each(
    ("value", "text"),
    [(3, "3"), (True, "1"), (0.12345, "0.1235"), (np.float32(2), "2"), (np.nan, "-"), (None, "-")],
)
def test_a_number_has_four_digits_and_columns_are_aligned(value, text):
    assert formatted(value) == text
    rows = aligned([["a", "1", "*"], ["long name", "1,000"]])
    assert rows == ["a               1   *", "long name   1,000"]


def test_without_a_terminal_there_is_a_line_each_half_minute(monkeypatch, capsys):
    clock = iter((0, 29, 31, 40, 62))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with progress.progress_bars() as report:
        advance = report("a long one")
        for done, title in ((1, None), (2, None), (3, "another"), (4, None)):
            advance(done, 4, title)
    assert capsys.readouterr().err == "a long one: 2/4\nanother: 4/4\n"
