"""What long work says where stderr is no terminal."""

import time

import pytest
from rich.progress import Progress

from rhn.utils import progress
from rhn.utils.progress import Pace, line_of, progress_bars


def test_lines_tell_of_the_share_and_the_time_left():
    assert line_of("drawing", 12.0, 0, 0) == "drawing: 12 s so far"
    assert line_of("spectra", 12.0, 1, 4, left=36.0) == "spectra: 25 %, about 36 s left"
    assert line_of("spectra", 12.0, 1, 4) == "spectra: 25 %"
    assert line_of("all spectra", 12.0, 4, 4) == "all spectra: 100 %"


def pace_of(*reports):
    pace = Pace()
    for seconds, done in reports:
        pace.add(seconds, done)
    return pace


def test_the_time_left_comes_from_the_pieces_after_the_first_report():
    # a minute of setting up, then ten pieces a second
    pace = pace_of(*[(60.0 + n / 10, 1 + n) for n in range(41)])
    assert pace.left(64.0, 401) == pytest.approx(36.0)
    assert pace.left(66.0, 401) == pytest.approx(34.0), "time goes on between two reports"
    assert pace.left(200.0, 401) is None, "it took longer than estimated"


def test_what_an_earlier_command_did_does_not_count_as_speed():
    # 600 of 1,000 steps were done before; then ten steps a second
    pace = pace_of(*[(2.0 + n / 10, 600 + n) for n in range(101)])
    assert pace.left(12.0, 1000) == pytest.approx(30.0)


def test_work_in_large_pieces_gets_no_time_left():
    """A study said "26 %, about 29 min left", and half a minute later "51 %, about 2 min left"."""
    assert pace_of().left(5.0, 100) is None
    assert pace_of((40.0, 25)).left(60.0, 100) is None
    assert pace_of((40.0, 25), (65.0, 26)).left(66.0, 100) is None
    assert pace_of((40.0, 25), (65.0, 26), (90.0, 51)).left(96.0, 100) is None
    assert pace_of((40.0, 25), (60.0, 45), (80.0, 65), (100.0, 85)).left(100.0, 100) == 15.0


def test_a_task_that_begins_again_forgets_its_pace():
    pace = pace_of(*[(float(n), 10 * n) for n in range(1, 10)])
    assert pace.left(9.0, 100) == 1.0
    pace.add(10.0, 5)
    assert pace.left(10.0, 100) is None


def test_a_bar_on_a_terminal_estimates_from_the_pieces_after_the_first_report(monkeypatch):
    now, shown = 0.0, []

    class Bars(Progress):
        def __init__(self, **options):
            super().__init__(**options, auto_refresh=False, get_time=lambda: now)
            shown.append(self)

    monkeypatch.setattr("rich.progress.Progress", Bars)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress_bars() as report:
        advance = report("training")
        for second in range(11):
            now = float(second)
            advance(600 + 10 * second, 1000)
        task = shown[0].tasks[0]
        assert task.percentage == 70 and task.time_remaining == 30


def test_without_a_terminal_a_line_comes_now_and_then_even_from_the_middle_of_a_call(
    monkeypatch, capsys
):
    monkeypatch.setattr(progress, "FIRST_LINE", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    said, deadline = "", time.monotonic() + 60
    with progress_bars() as report:
        report("a long one")
        while said.count("a long one: 0 s so far\n") < 2 and time.monotonic() < deadline:
            said += capsys.readouterr().err
    assert said.count("a long one: 0 s so far\n") >= 2
