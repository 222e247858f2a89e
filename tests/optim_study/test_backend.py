"""The backend that trains networks: company and cuts change no trial, and files hold what was
measured.
"""

import math
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch
from small_studies import MELODIES

from optim_study.backend import (
    TorchBackend,
    models_of_trials,
    start_training,
)
from optim_study.config import StudyConfig
from optim_study.folder import StudyFolder
from rhn.checkpoints import load, read
from rhn.data import Corpus, Piece, chorales
from rhn.errors import DataError
from rhn.training.batches import constant_output_nll
from rhn.training.evaluation import evaluate_chorales
from rhn.training.trainer import Trainer
from rhn.utils.seeds import batch_order

CORPUS = chorales(MELODIES)  # 37 to train on: the last batch has 5


def config(**changes) -> StudyConfig:
    usual = {"arch": "rhn", "depth": 2, "epochs": 6, "patience": 2, "budget_scale": 0.01}
    return StudyConfig(**({"data": CORPUS.checksum} | usual | changes))


def finished(config, numbers, saved=None, epochs=99):
    """Train these trials to their ends, or for some epochs; returns them and their rows."""
    backend = TorchBackend(MELODIES)
    fused = backend.start(config, {n: config.settings(n) for n in numbers}, saved or {})
    while fused.live() and fused.epoch < epochs:
        fused.run_epoch()
    return fused, {n: backend.row(config, fused, n) for n in numbers}


def test_curves_and_rows_do_not_depend_on_company_or_cuts(tmp_path):
    study = config(init_schemes=("gaussian", "orthogonal"))
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
    assert rows[0].init_std == rows[0].hidden_size ** -0.5, "orthogonal"
    assert rows[1].init_std == study.settings(1).init_std
    with pytest.raises(DataError, match="expected 000000000000"):
        finished(config(data="0" * 64), [0])


def test_a_resumed_trial_continues_at_its_epoch_and_not_from_the_start(tmp_path):
    """From the start it would have the same results, later."""
    study, folder = config(), StudyFolder(tmp_path, config())
    cut, _ = finished(study, range(3), epochs=2)
    folder.trials.mkdir(parents=True)
    for n in range(3):
        folder.save_state(n, cut.state(n))
    settings = {n: study.settings(n) for n in range(3)}
    states = {n: folder.load_state(n) for n in range(3)}
    resumed = TorchBackend(MELODIES).start(study, settings, states)
    assert resumed.epoch == cut.epoch == 2
    for n in range(3):
        np.testing.assert_array_equal(resumed.curve(n), cut.curve(n))


def started(pieces) -> Trainer:
    """Three trials that train with these piano rolls."""
    train = [Piece(x, name=f"{k}", split="train", index=k) for k, x in enumerate(pieces)]
    corpus = Corpus(train, CORPUS.valid, CORPUS.test, "pieces")
    study = config(data=corpus.checksum, epochs=3)
    return start_training(study, {n: study.settings(n) for n in range(3)}, {}, corpus)


def curves_of(pieces) -> np.ndarray:
    """The curves (K, epochs + 1, 2) of three trials that train with these piano rolls."""
    fused = started(pieces)
    while fused.live():
        fused.run_epoch()
    return np.array([fused.curve(n) for n in range(3)])


@pytest.mark.parametrize(
    ("usual", "short"),
    [
        pytest.param(37, 1, id="one of the last minibatch"),
        pytest.param(32, 3, id="a minibatch of their own"),
    ],
)
def test_pieces_of_one_frame_which_predict_nothing_change_no_curve(usual, short):
    pieces = [np.asarray(piece) for piece in CORPUS.train[:usual]]
    wanted = curves_of(pieces)
    assert (np.diff(wanted, axis=1) != 0).all()
    np.testing.assert_array_equal(curves_of([*pieces, *[np.eye(88)[[40]]] * short]), wanted)


def test_the_longest_minibatch_decides_how_many_trials_share_a_step(monkeypatch):
    """Pieces of 40 frames, and of 11 in a second minibatch, are padded to 32 rows."""
    positions, frames = [], [np.ones((n, 88)) for n in [11] * 8 + [40] * 32]
    monkeypatch.setattr(
        "optim_study.backend.part_size", lambda model, steps, device: positions.append(steps)
    )
    started(frames)
    assert positions == [40 * 32]


def test_trials_have_the_same_curves_with_two_threads():
    pieces = [np.asarray(piece) for piece in CORPUS.train]
    one = curves_of(pieces)
    torch.set_num_threads(2)
    try:
        np.testing.assert_allclose(curves_of(pieces), one, rtol=1e-5)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("objective", ["train", "valid"])
def test_the_losses_of_an_outcome_are_those_of_the_kept_weights(objective, tmp_path):
    """At a learning rate where training and validation loss are best in different epochs."""
    changes = {"depth": 1, "budget_scale": 0.03, "epochs": 40, "patience": 40}
    study = config(objective=objective, learning_rate=(0.5, 0.9), **changes)
    fused, rows = finished(study, range(2))
    apart = [n for n in range(2) if np.unique(fused.curve(n).argmin(0)).size == 2]
    assert apart, "the test needs a trial whose best losses are not of one epoch"
    number, path = apart[0], tmp_path / "best.safetensors"
    row, curve = rows[number], fused.curve(number)
    about = {"trial": number, "settings": asdict(study.settings(number)), "outcome": row.results}
    TorchBackend(MELODIES).write_best(path, fused, number, **about)
    model, parts = load(path), (CORPUS.train, CORPUS.valid, CORPUS.test)
    measured = [evaluate_chorales(model, pieces).nll for pieces in parts]
    assert measured == [row.train_nll, row.valid_nll, row.test_nll]
    assert curve[row.best_epoch].tolist() == measured[:2]
    assert row.loss(objective) == measured[0 if objective == "train" else 1]
    assert [row.best_train_nll, row.best_valid_nll] == curve.min(0).tolist() != measured[:2]
    constant = constant_output_nll(CORPUS.train)
    left = next((k for k, loss in enumerate(curve[:, 0]) if loss < 0.98 * constant), None)
    assert (row.constant_nll, row.left_epoch, row.epochs) == (constant, left, 40)
    data = {"source": CORPUS.source, "checksum": CORPUS.checksum, "path": str(MELODIES)}
    assert read(path).header["metadata"] == {**about, "data": data}


def test_a_network_that_overflows_before_training_has_diverged_and_the_others_go_on():
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


@pytest.mark.parametrize(
    ("optimizer", "plain"),
    [("sgd", partial(torch.optim.SGD, momentum=0.9)), ("adam", torch.optim.Adam)],
)
def test_a_trial_is_a_plain_loop_with_the_optimizer_of_torch(optimizer, plain):
    """Two trials as one program against a loop over batches with torch.optim, each model alone."""
    ranges = {"init_std": (0.05, 0.1), "learning_rate": (3e-3, 1e-2)}
    study = config(optimizer=optimizer, patience=6, epochs=3, **ranges)
    fused, _ = finished(study, range(2))
    pieces = sorted(CORPUS.train, key=len, reverse=True)
    tensors = [torch.as_tensor(piece).float() for piece in pieces]
    batches = [tensors[:32], tensors[32:]]
    for number, settings in ((n, study.settings(n)) for n in range(2)):
        (model,) = models_of_trials(study, {number: settings}).values()
        assert (model.cells[0].bias[:, model.hidden_size :] == settings.transform_bias).all()
        descent = plain(model.parameters(), settings.learning_rate)
        losses = [evaluate_chorales(model, CORPUS.train).nll]
        for epoch in range(1, study.epochs + 1):
            for k in batch_order(study.seed, study.arch, study.depth, epoch, len(batches)):
                descent.zero_grad()
                torch.cat([model.nll(piece) for piece in batches[k]]).mean().backward()
                descent.step()
            losses.append(evaluate_chorales(model, CORPUS.train).nll)
        np.testing.assert_allclose(fused.curve(number)[:, 0], losses, rtol=2e-5)
        assert abs(losses[-1] - losses[0]) > 0.01, "the weights have moved"


def test_a_backend_of_a_gpu_makes_it_the_current_device(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr("optim_study.backend.start_training", lambda *given: given[-1])
    assert TorchBackend(MELODIES, "cuda:1").start(config(), {}, {}) == "cuda:1"
    assert current == ["cuda:1"]
