"""Long work prints what is done of what, in a terminal as bars."""

from types import SimpleNamespace

from rich.progress import Progress

from rhn.utils import progress
from rhn.utils.progress import progress_bars


def test_a_bar_on_a_terminal_shows_done_and_total(monkeypatch):
    shown = []

    class Bars(Progress):
        def __init__(self, *columns, **options):
            super().__init__(*columns, **options, auto_refresh=False)
            shown.append(self)

    monkeypatch.setattr("rich.progress.Progress", Bars)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress_bars() as report:
        report("drawing")
        advance = report("training")
        advance(600, 1000)
        advance(700, 1000, "epoch 3")
        tasks = [(task.description, task.completed, task.total) for task in shown[0].tasks]
    assert tasks == [("drawing", 0, None), ("epoch 3", 700, 1000)]


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch, capsys):
    clock = iter((0, 29, 31, 40, 62))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with progress_bars() as report:
        advance = report("a long one")
        advance(1, 4)
        advance(2, 4)
        advance(3, 4, "another")
        advance(4, 4)
    assert capsys.readouterr().err == "a long one: 2/4\nanother: 4/4\n"
