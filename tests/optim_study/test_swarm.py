"""The torch trainer keeps the engine's promises: a trial does not depend on its company nor on where it was cut, and what is written is
what was measured."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from helpers import run_here

from optim_study.config import StudyConfig
from optim_study.states import StudyFolder
from optim_study.swarm import TorchSwarm, TorchTrainer, build_models, hidden_size
from optim_study.swarm_protocol import SavedState
from rhn.cells import num_parameters
from rhn.checkpoints import load_checkpoint, read_metadata
from rhn.chorales.evaluation import evaluate
from rhn.data import Corpus, chorales
from rhn.data.corpus import LOWEST_PITCH, SPLITS
from rhn.errors import DataError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of the shortest chorales: 37 to train on, so that the last batch has 5."""
    corpus, path = chorales(progress=False), tmp_path_factory.mktemp("data") / "short.json"
    short = {s: sorted(getattr(corpus, s), key=len)[: 37 if s == "train" else 3] for s in SPLITS}
    pitches = {s: [[(np.flatnonzero(f) + LOWEST_PITCH).tolist() for f in p] for p in ps] for s, ps in short.items()}
    path.write_text(json.dumps(pitches))
    return path


@pytest.fixture(scope="module")
def corpus(data) -> Corpus:
    return chorales(data)


@pytest.fixture
def config(corpus):
    def make(**changes):
        return StudyConfig(
            **{
                "arch": "rhn",
                "depth": 2,
                "data": corpus.checksum,
                "trials": 4,
                "epochs": 6,
                "patience": 2,
                "budget_scale": 0.01,
            }
            | changes
        )

    return make


def finished(config, corpus, numbers, saved=None):
    swarm = TorchSwarm(config, {n: config.settings(n) for n in numbers}, saved or {}, corpus)
    while swarm.live():
        swarm.run_epoch()
    return swarm


@pytest.mark.parametrize("arch", ["rhn", "dts-rnn"])
def test_curves_and_outcomes_do_not_depend_on_company_or_cuts(arch, config, corpus, tmp_path):
    cfg = config(arch=arch)
    together = finished(cfg, corpus, range(4))
    swarm, folder = TorchSwarm(cfg, {n: cfg.settings(n) for n in range(4)}, {}, corpus), StudyFolder(tmp_path, "here")
    swarm.run_epoch()
    for n in swarm.live():
        folder.save_state(n, SavedState(swarm.curve(n), swarm.state(n)))
    resumed = finished(cfg, corpus, swarm.live()[::-1], {n: folder.load_state(n) for n in swarm.live()})
    for n in range(4):
        assert together.outcome(n) == resumed.outcome(n) == finished(cfg, corpus, [n]).outcome(n)
        np.testing.assert_array_equal(together.curve(n), resumed.curve(n))


@pytest.mark.parametrize("objective", ["train", "valid"])
def test_the_written_model_has_the_losses_of_the_outcome(objective, config, corpus, tmp_path):
    cfg = config(objective=objective)
    swarm, folder = finished(cfg, corpus, [1, 2]), StudyFolder(tmp_path, "here")
    outcome = swarm.outcome(2)
    folder.offer_best(2, outcome.value(objective), lambda path, metadata: swarm.write_best(2, path, metadata))
    assert folder.best() == (outcome.value(objective), 2)
    model = load_checkpoint(tmp_path / "best.safetensors")
    assert evaluate(model, getattr(corpus, objective)).nll == outcome.value(objective)
    assert evaluate(model, corpus.test).nll == outcome.test_nll
    kept = read_metadata(tmp_path / "best.safetensors")["metadata"]
    assert (kept["trial"], kept["settings"]) == (2, vars(cfg.settings(2)))
    assert kept["outcome"] == vars(outcome)


def test_an_outcome_is_there_when_the_trial_has_ended_and_the_losses_before_training_count(config, corpus):
    cfg = config(space=type(config().space)(learning_rate=(3e38, 3e38)), patience=6)
    swarm = TorchSwarm(cfg, {0: cfg.settings(0)}, {}, corpus)
    assert swarm.outcome(0) is None
    before = swarm.curve(0)[0].tolist()
    while swarm.live():
        swarm.run_epoch()
    outcome = swarm.outcome(0)
    assert outcome.diverged
    assert [outcome.best_train_nll, outcome.best_valid_nll] == before
    assert np.isfinite(outcome.test_nll)


@pytest.mark.parametrize(
    ("arch", "options", "units"),
    [
        ("rhn", {}, [215, 242, 257, 262]),
        ("dt-rnn", {}, [308, 345, 365, 372]),
        ("dts-rnn", {}, [308, 287, 280, 277]),
        ("dts-rnn", {"skip": "last"}, [308, 287, 328, 345]),
    ],
)
def test_networks_are_as_large_as_their_budgets_allow(arch, options, units, config):
    for depth, expected in zip((1, 2, 4, 6), units, strict=True):
        cfg = config(arch=arch, depth=depth, budget_scale=1, options=options)
        assert hidden_size(cfg) == expected
    (model,) = build_models(cfg, {0: cfg.settings(0)}).values()
    assert num_parameters(model) <= 900_000


def test_initial_weights_follow_the_settings(config):
    cfg = config(budget_scale=1)
    for number, settings in ((n, cfg.settings(n)) for n in range(3)):
        (model,) = build_models(cfg, {number: settings}).values()
        n = model.hidden_size
        assert model.cells[0].weight_hh.std().item() == pytest.approx(settings.init_std, rel=0.02)
        assert model.output.weight.std().item() == pytest.approx(settings.init_std, rel=0.02)
        assert (model.cells[0].bias[:, n:] == settings.transform_bias).all()
        assert (model.cells[0].bias[:, :n] == 0).all()


def test_a_cell_of_the_user_s_own_is_trained_like_ours(config, corpus, tmp_path, monkeypatch):
    (tmp_path / "swarmcells.py").write_text("from rhn.cells import DTRNN\n\n\nclass Mine(DTRNN):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = config(arch="swarmcells:Mine")
    together = finished(cfg, corpus, range(3))
    np.testing.assert_array_equal(finished(cfg, corpus, [1]).curve(1), together.curve(1))


def test_a_worker_runs_a_whole_study_with_it(config, data, corpus, tmp_path):
    cfg = config(trials=3, epochs=2)
    run_here(cfg, tmp_path, make_swarm=TorchTrainer(data), fuse=2)
    folder = StudyFolder(tmp_path / cfg.name, cfg.fingerprint)
    alone = [finished(cfg, corpus, [n]) for n in range(3)]
    assert [folder.load_record(n).outcome for n in range(3)] == [alone[n].outcome(n) for n in range(3)]
    value, best = folder.best()
    assert value == min(alone[n].outcome(n).value("train") for n in range(3))
    model = load_checkpoint(tmp_path / cfg.name / "best.safetensors")
    assert evaluate(model, corpus.train).nll == value == alone[best].outcome(best).best_train_nll


def test_another_data_set_than_the_study_s_is_refused(config, data):
    trainer = pickle.loads(pickle.dumps(TorchTrainer(data)))  # as a spawned worker gets it
    cfg = config(data="0" * 64)
    with pytest.raises(DataError, match="give the study's own"):
        trainer(cfg, {0: cfg.settings(0)}, {})


def test_naming_the_trainer_loads_no_torch():
    code = "import sys, optim_study.swarm; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
