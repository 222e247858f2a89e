"""The backend that trains networks: company and cuts change no trial, and files hold what was
measured.
"""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from optim_study.backend import TorchBackend, models_of_trials
from optim_study.config import StudyConfig
from optim_study.folder import StudyFolder
from rhn.checkpoints import load, read
from rhn.data import Corpus, chorales
from rhn.errors import DataError
from rhn.training.ensemble import batch_order
from rhn.training.evaluation import evaluate_chorales
from rhn.training.rolls import constant_output_nll


@pytest.fixture(scope="module")
def corpus(tiny_data) -> Corpus:
    return chorales(tiny_data)


@pytest.fixture
def config(corpus):
    usual = {"arch": "rhn", "depth": 2, "epochs": 6, "patience": 2, "budget_scale": 0.01}
    return lambda **changes: StudyConfig(**({"data": corpus.checksum} | usual | changes))


@pytest.fixture
def finished(tiny_data):
    """Train these trials to their ends, or for some epochs; returns them and their rows."""

    def train(config, numbers, saved=None, epochs=99):
        backend = TorchBackend(tiny_data)
        fused = backend.start(config, {n: config.settings(n) for n in numbers}, saved or {})
        while fused.live() and fused.epoch < epochs:
            fused.run_epoch()
        return fused, {n: backend.row(config, fused, n) for n in numbers}

    return train


@pytest.mark.parametrize("arch", ["rhn", pytest.param("dts-rnn", marks=pytest.mark.slow)])
def test_curves_and_rows_do_not_depend_on_company_or_cuts(arch, config, finished, tmp_path):
    study = config(arch=arch)
    together, rows = finished(study, range(4))
    cut, _ = finished(study, range(4), epochs=1)
    folder, live = StudyFolder(tmp_path, study), cut.live()[::-1]
    folder.trials.mkdir(parents=True)
    for n in live:
        folder.save_state(n, cut.state(n))
    resumed, resumed_rows = finished(study, live, {n: folder.load_state(n) for n in live})
    assert live == [3, 2, 1, 0]
    for n in range(4):
        assert rows[n] == resumed_rows[n] == finished(study, [n])[1][n]
        np.testing.assert_array_equal(together.curve(n), resumed.curve(n))


@pytest.mark.parametrize("objective", ["train", "valid"])
def test_the_losses_of_an_outcome_are_those_of_the_kept_weights(
    objective, config, finished, tiny_data, corpus, tmp_path
):
    """At a learning rate where training and validation loss are best in different epochs."""
    changes = {"depth": 1, "budget_scale": 0.03, "epochs": 60, "patience": 60}
    study = config(objective=objective, learning_rate=(0.5, 0.9), **changes)
    fused, rows = finished(study, range(2))
    apart = [n for n in range(2) if np.unique(fused.curve(n).argmin(0)).size == 2]
    assert apart, "the test needs a trial whose best losses are not of one epoch"
    number, path = apart[0], tmp_path / "best.safetensors"
    row, curve = rows[number], fused.curve(number)
    about = {"trial": number, "settings": asdict(study.settings(number)), "outcome": row.results}
    TorchBackend(tiny_data).write_best(path, fused, number, **about)
    model, parts = load(path), (corpus.train, corpus.valid, corpus.test)
    measured = [evaluate_chorales(model, pieces).nll for pieces in parts]
    assert measured == [row.train_nll, row.valid_nll, row.test_nll]
    assert curve[row.best_epoch].tolist() == measured[:2]
    assert row.loss(objective) == measured[0 if objective == "train" else 1]
    assert [row.best_train_nll, row.best_valid_nll] == curve.min(0).tolist() != measured[:2]
    constant = constant_output_nll(corpus)
    left = next((k for k, loss in enumerate(curve[:, 0]) if loss < 0.98 * constant), None)
    assert (row.constant_nll, row.left_epoch, row.epochs) == (constant, left, 60)
    data = {"source": corpus.source, "checksum": corpus.checksum, "path": str(tiny_data)}
    assert read(path).header["metadata"] == {**about, "data": data}


def test_a_network_that_overflows_before_training_has_diverged_and_the_others_go_on(
    config, finished
):
    starts = {"init_schemes": ("identity",), "init_std": (1e-3, 1e6), "budget_scale": 0.1}
    study = config(arch="irnn", depth=1, epochs=2, **starts)
    fused, rows = finished(study, range(6))
    over = [n for n in range(6) if not np.isfinite(fused.curve(n)[0]).all()]
    assert 0 < len(over) < 6, "the test needs both"
    for n, row in rows.items():
        losses = {row.best_train_nll, row.best_valid_nll, row.train_nll, row.valid_nll}
        silent = losses | {row.test_nll} == {88 * math.log(2)}
        assert (silent and row.epochs == row.best_epoch == 0) == (n in over)
        assert row.diverged or n not in over


def test_the_constant_output_is_the_plateau_of_the_rebuilt_chorales(corpus):
    assert constant_output_nll(chorales()) == pytest.approx(11.163, abs=5e-4)
    frames = np.concatenate([piece[1:] for piece in corpus.train]).astype(float)
    logits = np.log((frames.mean(0) + 1e-12) / (1 - frames.mean(0) + 1e-12))
    nll = (np.log1p(np.exp(logits)) - logits * frames).sum(1).mean()
    assert constant_output_nll(corpus) == pytest.approx(nll)


PLAIN = {
    "sgd": lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9),
    "adam": torch.optim.Adam,
}


@pytest.mark.parametrize("optimizer", PLAIN)
def test_a_trial_is_a_plain_loop_with_the_optimizer_of_torch(optimizer, config, finished, corpus):
    """Two trials as one program against a loop over batches with torch.optim, each model alone."""
    ranges = {"init_std": (0.05, 0.1), "learning_rate": (3e-3, 1e-2)}
    study = config(optimizer=optimizer, patience=6, epochs=3, **ranges)
    fused, _ = finished(study, range(2))
    pieces = sorted(corpus.train, key=len, reverse=True)
    tensors = [torch.as_tensor(piece).float() for piece in pieces]
    batches = [tensors[:32], tensors[32:]]
    for number, settings in ((n, study.settings(n)) for n in range(2)):
        (model,) = models_of_trials(study, {number: settings}).values()
        descent = PLAIN[optimizer](model.parameters(), settings.learning_rate)
        losses = [evaluate_chorales(model, corpus.train).nll]
        for epoch in range(1, study.epochs + 1):
            for k in batch_order(study.seed, study.arch, study.depth, epoch, len(batches)):
                descent.zero_grad()
                torch.cat([model.nll(piece) for piece in batches[k]]).mean().backward()
                descent.step()
            losses.append(evaluate_chorales(model, corpus.train).nll)
        np.testing.assert_allclose(fused.curve(number)[:, 0], losses, rtol=2e-5)
        assert abs(losses[-1] - losses[0]) > 0.01, "the weights have moved"


def test_initial_weights_follow_the_scheme(config):
    study = config(arch="dt-rnn", budget_scale=1, init_schemes=("identity",), init_std=(1e-3, 1e-3))
    (model,) = models_of_trials(study, {0: study.settings(0)}).values()
    R = model.cells[0].weight_hh.detach()
    assert (R - torch.eye(model.hidden_size)).std().item() == pytest.approx(1e-3, rel=0.02)
    assert model.output.weight.std().item() == pytest.approx(1e-3, rel=0.02)


def test_another_data_set_than_the_study_s_is_refused(config, finished):
    with pytest.raises(DataError, match="expected 000000000000"):
        finished(config(data="0" * 64), [0])
