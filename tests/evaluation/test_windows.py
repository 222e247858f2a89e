"""Training runs with windows shorter and longer than the printed one: training, rows, table."""

import math
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from evaluation import windows
from evaluation.windows import LOSSES, SEEDS, SHARES, Plan, Row

DOCS = Path(__file__).parents[2] / "docs"

SMALL = Plan(units=4, rows=3, steps=3, seconds=0.0, measured_steps=48, valid_steps=20)


@pytest.fixture
def text(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("to be or not to be " * 40)
    return windows.text_of(tmp_path, SMALL)


def row_of(seed, share, loss):
    return Row(
        seed=seed, share=share, window=4, initial_window_10=4.0, initial_window_1=math.nan,
        trained_window_10=8.0, trained_window_1=64.0, loss_after_steps=loss,
        loss_after_seconds=loss + 1, seconds_of_steps=2.5, steps_in_seconds=7,
    )  # fmt: skip


def rows_of_all():
    return [row_of(seed, share, seed + seed**2 * share) for seed in SEEDS for share in SHARES]


def test_training_carries_the_state_and_detaches_it(text):
    model, K = windows.initial_model(text, SMALL, 0), 5
    for _ in islice(windows.training(model, text.train, K), 2):
        pass
    plain, state = windows.initial_model(text, SMALL, 0), torch.zeros(1, SMALL.rows, SMALL.units)
    optimizer = torch.optim.Adam(plain.parameters(), 3e-3)
    for start in (0, K):
        x, y = text.train[start : start + K], text.train[start + 1 : start + K + 1]
        outputs, state = plain.layer(plain.embed(x), state.detach())
        loss = F.cross_entropy(plain.out(outputs).transpose(1, 2), y)
        plain.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_loss_of_a_text_is_that_of_one_pass(text):
    model = windows.initial_model(text, SMALL, 0)
    whole = windows.loss_of(model(text.valid[:-1])[0], text.valid[1:])
    assert windows.loss_of_text(model, text.valid, chunk=7) == pytest.approx(whole.item(), rel=1e-5)


def test_a_run_measures_at_both_ends(text):
    run = windows.TrainingRun(text, SMALL, seed=0, share=0.5, initial=(8.0, math.nan))
    for _ in range(SMALL.steps):
        assert not run.is_done
        run.advance()
    found = run.row()
    assert (found.window, found.steps_in_seconds) == (4, 1)
    assert found.loss_after_steps < found.loss_after_seconds
    assert (found.initial_window_10, found.trained_window_10 > 0) == (8.0, True)


class Counted:
    """A training run that needs three steps, of as many seconds as its share."""

    turns: ClassVar[list[float]] = []

    def __init__(self, text, plan, seed, share, initial):
        self.seed, self.share, self.seconds, self.is_done = seed, share, 0.0, False

    def advance(self):
        self.turns.append(self.share)
        self.seconds += self.share
        self.is_done = self.seconds >= 3 * self.share

    def row(self):
        return row_of(self.seed, self.share, 1.0)


def test_runs_that_a_file_has_are_not_repeated(text, tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    monkeypatch.setattr(windows, "TrainingRun", Counted)
    monkeypatch.setattr(windows, "windows_of", lambda *_: (4.0, math.nan))
    known = [row_of(0, 0.5, 3.0), row_of(2, 2.0, 3.0)]
    for row in known:
        windows.append(path, row)
    windows.run_all(text, SMALL, path)
    found = windows.read(path)
    pairs = [(row.seed, row.share) for row in found]
    assert sorted(pairs) == [(seed, share) for seed in SEEDS for share in SHARES]
    assert [*map(str, found[:2])] == [*map(str, known)]


def test_the_run_with_the_least_time_goes_on(tmp_path):
    runs = [Counted(None, SMALL, 0, share, None) for share in (2.0, 0.5)]
    Counted.turns.clear()
    windows.take_turns(runs, tmp_path / "rows.csv")
    assert Counted.turns == [2.0, 0.5, 0.5, 0.5, 2.0, 2.0]


def test_differences_to_the_printed_window_have_the_intervals_of_scipy():
    of = windows.column(rows_of_all(), "loss_after_steps")
    each = np.array([[seed**2 * (share - 1) for seed in SEEDS] for share in SHARES])
    np.testing.assert_allclose(of.difference, each.mean(1))
    for k in (0, 1, 3):
        wanted = scipy.stats.ttest_1samp(each[k], 0).confidence_interval()
        assert (of.low[k], of.high[k]) == pytest.approx((wanted.low, wanted.high))


def test_the_table_and_the_picture_have_every_share(tmp_path):
    rows = rows_of_all()
    found = windows.table(rows)
    for label in LOSSES:
        assert label in found
    for share in SHARES:
        assert f"\n{share:g} W" in found
    windows.draw(rows, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_the_page_has_the_numbers_of_the_stored_rows():
    rows = windows.read(DOCS / "results" / "windows.csv")
    page = (DOCS / "guides" / "truncation.md").read_text()
    lines = {line.split(" | ")[0]: line for line in page.splitlines()}
    columns = [windows.column(rows, name) for name in LOSSES.values()]
    for k, share in enumerate(SHARES):
        own = [row for row in rows if row.share == share]
        spans = [
            [getattr(row, name) for row in own]
            for name in ("initial_window_10", "trained_window_10")
        ]
        cells = [f"{min(values):g} to {max(values):g}" for values in spans]
        for of in columns:
            interval = f"{of.difference[k]:.4f} ({of.low[k]:.4f} to {of.high[k]:.4f})"
            cells.append("0" if share == 1.0 else interval)
        assert lines[f"| {share:g}"].split(" | ")[1:] == [*cells[:-1], f"{cells[-1]} |"]
