"""The table of `make bench`, and a row of it."""

import csv
from pathlib import Path

from benchmarks import dynamics  # noqa: F401 - it enrols its rows
from benchmarks.costs import COMMANDS
from benchmarks.registry import BENCHMARKS, Ratio, make_of_processor, write_rows

ROOT = Path(__file__).resolve().parents[2]
RATIO = Ratio(median=2.0, low=1.5, high=2.5, seconds=1.0)


def rows_of(path):
    return [*csv.reader(path.read_text().splitlines())]


def test_a_measured_row_replaces_its_own_on_this_make_of_processor_only(tmp_path):
    path = tmp_path / "speed.csv"
    write_rows(path, {("a", "b, c"): RATIO, ("d", "e"): RATIO}, "AMD")
    write_rows(path, {("a", "b, c"): RATIO}, "Intel")
    before = rows_of(path)
    write_rows(path, {("a", "b, c"): Ratio(median=3.0, low=3.0, high=3.0, seconds=1.0)}, "AMD")
    header, first, *others = rows_of(path)
    assert header == ["ratio", "range over pairs", "ours", "against", "on"]
    assert first == ["3.00x", "3.00 to 3.00", "a", "b, c", "AMD"]
    assert others == before[2:] and len(others) == 2


def test_the_make_of_a_processor_is_that_of_its_vendor(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nvendor_id : AuthenticAMD\n")
    assert make_of_processor(path) == "AMD"
    path.write_text("vendor_id : GenuineIntel\n")
    assert make_of_processor(path) == "Intel"


def test_the_row_of_fixed_points_finds_them_on_both_sides():
    (row,) = (b for b in BENCHMARKS if b.name.startswith("27 fixed points of a tanh RNN n=15"))
    ours, theirs, *_ = row.prepare("cpu")
    assert len(ours().states) == 27 <= len(theirs()[0])


def test_a_command_whose_time_is_measured_is_on_a_page():
    pages = [ROOT / "README.md", *(ROOT / "docs/guides").glob("*.md")]
    shown = "\n".join(page.read_text() for page in pages)
    assert [line for line in COMMANDS if line not in shown] == []
