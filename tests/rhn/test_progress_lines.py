"""What long work says where stderr is no terminal."""

import time

from rhn.utils import progress
from rhn.utils.progress import line_of, progress_bars


def test_lines_tell_of_the_share_and_the_time_left():
    assert line_of("drawing", 12.0, 0, 0) == "drawing: 12 s so far"
    assert line_of("spectra", 12.0, 1, 4) == "spectra: 25 %, about 36 s left"
    assert line_of("all spectra", 12.0, 4, 4) == "all spectra: 100 %"


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
