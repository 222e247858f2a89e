"""The backend that trains networks: company and cuts change no trial, and files hold what was
measured.
"""

import math
import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch
from small_studies import drive
from tables import others_slow

from optim_study.backend import TorchBackend, models_of_trials, start_training
from optim_study.config import StudyConfig
from optim_study.folder import StudyFolder
from rhn.checkpoints import load, read
from rhn.data import Corpus, chorales
from rhn.errors import DataError
from rhn.training.chorales import constant_output_nll
from rhn.training.ensemble import batch_order
from rhn.training.evaluation import evaluate_chorales


@pytest.fixture(scope="module")
def corpus(tiny_data) -> Corpus:
    return chorales(tiny_data)


@pytest.fixture
def config(corpus):
    def make(**changes):
        usual = {
            "arch": "rhn",
            "depth": 2,
            "data": corpus.checksum,
            "trials": 4,
            "epochs": 6,
            "patience": 2,
        }
        return StudyConfig(**(usual | {"budget_scale": 0.01} | changes))

    return make


def finished(config, tiny_data, numbers, saved=None):
    """Train these trials to their ends; returns them and their rows."""
    backend = TorchBackend(tiny_data)
    fused = backend.start(config, {n: config.settings(n) for n in numbers}, saved or {})
    while fused.live():
        fused.run_epoch()
    return fused, {n: backend.row(config, fused, n) for n in numbers}


@pytest.mark.parametrize("arch", others_slow(["rhn", "dts-rnn"], "rhn"))
def test_curves_and_rows_do_not_depend_on_company_or_cuts(
    arch, config, tiny_data, corpus, tmp_path
):
    cfg, folder = config(arch=arch), StudyFolder(tmp_path, config(arch=arch))
    folder.make()
    together, rows = finished(cfg, tiny_data, range(4))
    cut = start_training(cfg, {n: cfg.settings(n) for n in range(4)}, {}, corpus)
    cut.run_epoch()
    for n in cut.live():
        folder.save_state(n, cut.state(n))
    resumed, resumed_rows = finished(
        cfg, tiny_data, cut.live()[::-1], {n: folder.load_state(n) for n in cut.live()}
    )
    for n in range(4):
        assert rows[n] == resumed_rows[n] == finished(cfg, tiny_data, [n])[1][n]
        np.testing.assert_array_equal(together.curve(n), resumed.curve(n))


@pytest.mark.parametrize("objective", ["train", "valid"])
def test_the_losses_of_an_outcome_are_those_of_the_kept_weights(
    objective, config, tiny_data, corpus, tmp_path
):
    """At a learning rate where training and validation loss are best in different epochs."""
    cfg = config(
        objective=objective,
        depth=1,
        budget_scale=0.03,
        epochs=60,
        patience=60,
        learning_rate=(0.5, 0.9),
    )
    fused, rows = finished(cfg, tiny_data, range(2))
    apart = [n for n in range(2) if np.unique(fused.curve(n).argmin(0)).size == 2]
    assert apart, "the test needs a trial whose best losses are not of one epoch"
    number, path = apart[0], tmp_path / "best.safetensors"
    outcome = rows[number]
    about = {"trial": number, "settings": asdict(cfg.settings(number)), "outcome": outcome.results}
    TorchBackend(tiny_data).write_best(path, fused, number, **about)
    model = load(path)
    measured = [
        evaluate_chorales(model, pieces).nll for pieces in (corpus.train, corpus.valid, corpus.test)
    ]
    assert measured == [outcome.train_nll, outcome.valid_nll, outcome.test_nll]
    assert fused.curve(number)[outcome.best_epoch].tolist() == measured[:2]
    assert outcome.loss(objective) == measured[0 if objective == "train" else 1]
    assert (
        [outcome.best_train_nll, outcome.best_valid_nll]
        == fused.curve(number).min(0).tolist()
        != measured[:2]
    )
    data = {"source": corpus.source, "checksum": corpus.checksum, "path": str(tiny_data)}
    assert read(path).header["metadata"] == {**about, "data": data}


def test_a_network_that_overflows_before_training_has_diverged_and_the_others_go_on(
    config, tiny_data, corpus, tmp_path
):
    settings = {
        "arch": "irnn",
        "depth": 1,
        "init_schemes": ("identity",),
        "init_std": (1e-3, 1e6),
        "trials": 6,
    }
    cfg = config(**settings, budget_scale=0.1, epochs=2)
    fused, rows = finished(cfg, tiny_data, range(6))
    over = [n for n in range(6) if not np.isfinite(fused.curve(n)[0]).all()]
    assert 0 < len(over) < 6, "the test needs both"
    for n, outcome in rows.items():
        told = (
            outcome.best_train_nll,
            outcome.valid_nll,
            outcome.test_nll,
            outcome.epochs,
            outcome.best_epoch,
        )
        assert (told == (*[88 * math.log(2)] * 3, 0, 0)) == (n in over) and (
            outcome.diverged or n not in over
        )
    drive(cfg, tmp_path, backend=TorchBackend(tiny_data), fuse=6)
    folder = StudyFolder(tmp_path, cfg)
    assert [folder.load_record(n) for n in range(6)] == list(rows.values())


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
def test_a_trial_is_a_plain_loop_with_the_optimizer_of_torch(optimizer, config, tiny_data, corpus):
    """Two trials as one program against a loop over batches with torch.optim, each model alone."""
    cfg = config(
        optimizer=optimizer, init_std=(0.05, 0.1), learning_rate=(3e-3, 1e-2), patience=6, epochs=3
    )
    fused, _ = finished(cfg, tiny_data, range(2))
    for number, settings in ((n, cfg.settings(n)) for n in range(2)):
        (model,) = models_of_trials(cfg, {number: settings}).values()
        descent = PLAIN[optimizer](model.parameters(), settings.learning_rate)
        losses = [evaluate_chorales(model, corpus.train).nll]
        pieces = [
            torch.as_tensor(piece).float() for piece in sorted(corpus.train, key=len, reverse=True)
        ]
        batches = [pieces[:32], pieces[32:]]
        for epoch in range(1, cfg.epochs + 1):
            for k in batch_order(cfg.seed, cfg.arch, cfg.depth, epoch, len(batches)):
                descent.zero_grad()
                torch.cat([model.nll(piece) for piece in batches[k]]).mean().backward()
                descent.step()
            losses.append(evaluate_chorales(model, corpus.train).nll)
        np.testing.assert_allclose(fused.curve(number)[:, 0], losses, rtol=2e-5)
        assert abs(losses[-1] - losses[0]) > 0.01, "the weights have moved"


def test_initial_weights_follow_the_scheme(config):
    cfg = config(arch="dt-rnn", budget_scale=1, init_schemes=("identity",), init_std=(1e-3, 1e-3))
    (model,) = models_of_trials(cfg, {0: cfg.settings(0)}).values()
    R = model.cells[0].weight_hh.detach()
    assert (R - torch.eye(model.hidden_size)).std().item() == pytest.approx(1e-3, rel=0.02)
    assert model.output.weight.std().item() == pytest.approx(1e-3, rel=0.02)


def test_another_data_set_than_the_study_s_is_refused(config, tiny_data):
    backend = pickle.loads(pickle.dumps(TorchBackend(tiny_data)))  # as a spawned worker gets it
    cfg = config(data="0" * 64)
    with pytest.raises(DataError, match="expected 000000000000"):
        backend.start(cfg, {0: cfg.settings(0)}, {})
