"""The comparison of all cells: what it reads, what it measures, and that its tables and figure say it."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import scipy.stats
import torch

from benchmarks.cells import figure, networks, studies, summary
from optim_study.presets import small, smoke
from optim_study.results import Row
from optim_study.runner import run
from rhn.cells import CELLS
from rhn.data import chorales
from rhn.errors import DataError, InvalidInputError
from rhn.models import PolyphonicModel
from rhn.plotting.figures import our_style
from rhn.utils.file_marks import made_with
from rhn.utils.io import write_json
from tests.readable import readable
from tests.rhn.pieces import shortest_chorales

NETWORK = networks.Network(
    cell="rnn",
    seed=0,
    moment="initial",
    hidden_size=11,
    state_size=11,
    parameters=2200,
    learning_rate=0.1,
    init_std=0.01,
    epoch=0,
    train_nll=10.0,
    valid_nll=10.5,
    radius=0.5,
    bulk=0.1,
    exponent=-0.7,
    half_life=1.0,
    input_gain=2.0,
    looseness=3.0,
)
ROW = Row(
    arch="rnn",
    depth=1,
    trial=0,
    learning_rate=0.1,
    init_std=0.01,
    transform_bias=0.0,
    hidden_size=11,
    best_train_nll=9.0,
    best_valid_nll=9.5,
    test_nll=9.5,
    constant_nll=11.163,
    epochs=120,
    left_epoch=40,
    diverged=False,
)


def of_two_cells():
    """(studies, networks) of two cells, the second the better one, one of its settings on the plateau."""
    config = small(arch=("rnn", "lru"), depth=(1,)).studies("x")
    rows = [ROW, replace(ROW, trial=1, best_train_nll=20.0, left_epoch=None)]
    found, each = {}, {}
    for study, loss in zip(config, (9.0, 8.0), strict=True):
        found[study.arch] = studies.Study(study, rows)
        pairs = [replace(NETWORK, cell=study.arch, seed=k, train_nll=loss + k / 10) for k in range(5)]
        each[study.arch] = [replace(n, moment=m, epoch=m == "trained") for n in pairs for m in summary.MOMENTS]
    each["lru"][2] = replace(each["lru"][2], exponent=-math.inf, half_life=0.0)
    return found, each


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [8.9, 8.7, 9.1, 8.8, 9.4]])
def test_the_interval_over_seeds_is_students(values):
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
    assert summary.over_seeds(values) == pytest.approx(summary.Interval(np.mean(values), low, high))


def test_the_tables_rank_by_the_mean_over_seeds_and_count_what_left():
    found, each = of_two_cells()
    assert summary.ranked(found, each) == ["lru", "rnn"]
    first, second = summary.losses_table(found, each).splitlines()[2:]
    assert first.startswith("| lru | 11 | 2,200 | 9.00 | 1 of 2 (1 to 99 %) | 8.20 (8.00 to 8.40) |")
    assert second.startswith("| rnn |")
    assert "| -0.7 · -0.7 · -0.7 |" in summary.spectra_table(found, each)
    each["rnn"] = [replace(n, epoch=0, train_nll=61.0) if n.moment == "trained" and n.seed else n for n in each["rnn"]]
    assert "| 9.00, 1 of 5 seeds: the others diverged |" in summary.losses_table(found, each)


def test_the_figure_shows_every_setting_and_every_network():
    with our_style():
        drawn = figure.draw(*of_two_cells(), "title")
        readable(drawn)
    assert drawn.get_suptitle().startswith("title\nrandom search") and made_with() in drawn.get_suptitle()
    axes = drawn.axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["lru, 11 units", "rnn, 11 units"]
    dots = [[line.get_xdata() for line in ax.get_lines() if line.get_marker() in "oD^"] for ax in axes]
    assert sum(map(len, dots[0])) == 2 * (2 + 5), "two settings and five seeds of each cell"
    assert all(sum(map(len, each)) == 30 for each in dots[2:])
    assert min(map(min, dots[4])) == figure.VANISHED


def test_studies_of_another_protocol_and_missing_ones_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "CELLS", {"rnn": CELLS["rnn"]})
    run(smoke(arch=("rnn",), depth=(1,), out=tmp_path, device="cpu", jobs=1), quiet=True)
    data = chorales(progress=False).checksum
    with pytest.raises(InvalidInputError, match=r"budget_scale 0\.015 here, 0\.01 in the study"):
        studies.find_studies([tmp_path], data)
    monkeypatch.setattr(studies, "CELLS", {"lru": CELLS["lru"]})
    with pytest.raises(DataError, match=r"no whole study of lru in .*: run optim-study run --preset small --depth 1"):
        studies.find_studies([tmp_path], data)
    monkeypatch.setattr(studies, "small", smoke)
    monkeypatch.setattr(studies, "CELLS", {"rnn": CELLS["rnn"]})
    study = studies.find_studies([tmp_path], data)["rnn"]
    assert len(study.rows) == 4 and study.best.best_train_nll == min(row.best_train_nll for row in study.rows)


def test_networks_are_trained_once_and_measured_along_the_chorale(tmp_path):
    (config,) = small(arch=("rnn",), depth=(1,), epochs=3).studies("x")
    study, path = studies.Study(config, [ROW]), tmp_path / "rnn.json"
    corpus, x = shortest_chorales(8), torch.rand(5, 88, generator=torch.Generator().manual_seed(0)).round()
    seen = []
    found = networks.networks(study, corpus, x, path, lambda *now: seen.append(now))
    assert [(n.seed, n.moment) for n in found] == [(k, m) for k in range(5) for m in ("initial", "trained")] and len(
        seen
    ) == 3
    assert len({n.train_nll for n in found}) == 10 and all(n.epoch == 0 for n in found[::2])
    assert networks.networks(study, corpus, x, path, None) == found, "read again, not trained"
    usual = networks.usual_starts(study, x)
    assert [n.moment for n in usual] == ["usual"] * 5 and usual[0].input_gain > 10 * found[0].input_gain


def test_a_gradient_that_vanished_is_kept_as_such(tmp_path):
    found, path = of_two_cells(), tmp_path / "lru.json"
    study, each = found[0]["lru"], found[1]["lru"]
    made_from = {"study": study.config.fingerprint, "trial": study.best.trial, "seeds": networks.SEEDS}
    write_json(path, {"made_from": made_from, "networks": [asdict(n) for n in each]})
    assert networks.networks(study, None, None, path, None) == each and each[2].exponent == -math.inf


def test_measures_are_what_they_say():
    """An RNN without bias and input: s = 0, so that A = R at every step."""
    model = PolyphonicModel("rnn", hidden_size=6, init="gaussian:0.3")
    found = networks.measures(model, torch.zeros(4, 88))
    R, W = (getattr(model.cells[0], name).detach().double() for name in ("weight_hh", "weight_ih"))
    values, norm = np.linalg.eigvals(R[0]), np.linalg.norm(np.linalg.matrix_power(R[0].numpy(), 4), 2)
    assert found["radius"] == pytest.approx(abs(values).max()) and found["bulk"] == pytest.approx(R[0].trace() / 6)
    assert found["exponent"] == pytest.approx(math.log(norm) / 4) == -math.log(2) / found["half_life"]
    assert found["input_gain"] == pytest.approx(np.linalg.norm(W, 2))
    assert found["looseness"] == pytest.approx(R[0].abs().sum(1).max() / abs(values).max())
