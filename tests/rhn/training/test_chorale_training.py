"""One training is the same bits in any company, cut and resumed; and it is plain SGD on the
chorales.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import randomize
from safetensors.numpy import load, save
from tables import others_slow

from rhn.cells import CELLS
from rhn.errors import DataError
from rhn.models import PolyphonicModel
from rhn.training.chorales import (
    STEP_ROWS,
    ChoraleTask,
    evaluation_batches,
)
from rhn.training.config import ChoraleConfig
from rhn.training.ensemble import batch_order, weight_bytes, weights_generator
from rhn.training.evaluation import evaluate_chorales
from rhn.training.state import TrialState
from rhn.training.trainer import Trainer
from tests.rhn.pieces import shortest_chorales

CONFIG = ChoraleConfig(
    cell="rhn",
    depth=2,
    hidden_size=6,
    learning_rate=1,
    init_std=1,
    transform_bias=None,
    epochs=3,
    objective="train",
)


@pytest.fixture(scope="module")
def corpus():
    """The shortest chorales, 37 to train on, so that the last batch has 5."""
    return shortest_chorales(37, 6)


def model(number=0, cell="rhn", *, depth=2, hidden_size=6, dtype=torch.float32, **options):
    made = PolyphonicModel(
        cell,
        hidden_size=hidden_size,
        depth=depth if CELLS[cell].deep else 1,
        dtype=dtype,
        **options,
    )
    randomize(made, number, gain=0.5)
    return made


def start(
    numbers,
    corpus,
    cell="rhn",
    *,
    rates=None,
    saved=None,
    dtype=torch.float32,
    hidden_size=6,
    **plan,
):
    """The trials of these numbers; the learning rate is 1 where nothing else is said."""
    models = {n: model(n, cell, hidden_size=hidden_size, dtype=dtype) for n in numbers}
    rates = dict.fromkeys(numbers, 1.0) if rates is None else {n: rates[n] for n in numbers}
    return trainer(models, rates, corpus, saved=saved, dtype=dtype, **plan)


def trainer(models, rates, corpus, saved=None, device="cpu", dtype=torch.float32, **plan):
    first = next(iter(models.values()))
    task = ChoraleTask(
        replace(CONFIG, cell=first.cell, depth=first.depth, **plan), corpus, device, dtype
    )
    return Trainer(task, models, rates, saved=saved, part_size=task.part_size(first))


def run(training, until=None):
    while training.live() and training.epoch != until:
        training.run_epoch()
    return training


def assert_same(a, b, numbers):
    """Curves and best weights equal to the bit."""
    for n in numbers:
        np.testing.assert_array_equal(a.curve(n), b.curve(n), err_msg=f"trial {n}")
        weights = zip(a.best_model(n).named_parameters(), b.best_model(n).parameters(), strict=True)
        assert all(torch.equal(p, q) for (_, p), q in weights), n


# ---- the same bits -------------------------------------------------------------------------------


FAMILIES = "rhn", "lstm", "gru"  # of kernels


@pytest.mark.parametrize("cell", others_slow([*FAMILIES, "dts-rnn"], *FAMILIES))
def test_a_trial_is_the_same_alone_and_in_any_company(cell, corpus):
    together = run(start(range(6), corpus, cell))
    for company in ([0], [4, 0], [3, 1, 0, 4, 5]):
        assert_same(run(start(company, corpus, cell)), together, company)


@pytest.mark.parametrize(
    ("cell", "hidden_size"), others_slow([("rhn", 90), ("dts-rnn", 130)], ("rhn", 90))
)
def test_so_it_is_where_large_products_take_another_way(cell, hidden_size, corpus):
    together = run(start(range(3), corpus, cell, hidden_size=hidden_size, epochs=1))
    assert_same(run(start([2], corpus, cell, hidden_size=hidden_size, epochs=1)), together, [2])


def test_a_stack_larger_than_the_cache_is_cut_without_a_trace(corpus, monkeypatch):
    whole = run(start(range(5), corpus))
    for limit, least in (("CACHE_BYTES", weight_bytes(model())), ("PART_BYTES", 1)):
        with monkeypatch.context() as patched:
            patched.setattr(f"rhn.training.ensemble.{limit}", 2 * least)
            assert_same(run(start(range(5), corpus)), whole, range(5))


RATES = {0: 1.0, 1: 3.0, 2: 0.01, 3: 0.3, 4: 2.0}


def test_trials_that_end_early_leave_the_others_as_they_are(corpus):
    plan = {"rates": RATES, "epochs": 12, "patience": 2}
    together = run(start(RATES, corpus, **plan))
    lengths = {len(together.curve(n)) for n in RATES}
    assert len(lengths) > 2  # some left in the middle
    for n in RATES:
        assert_same(run(start([n], corpus, **plan)), together, [n])


@pytest.mark.parametrize("cut", others_slow([0, 1, 4], 1))
def test_a_saved_trial_goes_on_as_if_nothing_had_happened(cut, corpus):
    plan = {"rates": RATES, "epochs": 7, "patience": 3}
    whole = run(start(RATES, corpus, **plan))
    first = run(start(RATES, corpus, **plan), until=cut)
    live = first.live()[::-1]
    saved = {n: TrialState(first.curve(n), load(save(dict(first.state(n).arrays)))) for n in live}
    assert_same(run(start(live, corpus, saved=saved, **plan)), whole, live)


# ---- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1e4, 3e38])
def test_a_diverging_trial_keeps_its_best_loss_and_disturbs_nobody(rate, corpus):
    rates = {0: 0.1, 1: rate, 2: 0.2}
    together = run(start(rates, corpus, "dt-rnn", rates=rates, epochs=4))
    alone = run(start([0], corpus, "dt-rnn", rates=rates, epochs=4))
    assert_same(alone, together, [0])
    curve = together.curve(1)
    if rate == 3e38:
        assert len(curve) < 5 and not np.isfinite(curve[-1]).all()
    assert (
        evaluate_chorales(together.best_model(1), corpus.train).nll
        == curve[np.isfinite(curve).all(1), 0].min()
    )


def test_weights_that_are_not_finite_end_a_trial_though_its_loss_is(corpus):
    training = start([0, 1], corpus)
    training._trials.ensemble.weights["cells.0.bias"][1, 0, 0] = torch.inf  # tanh of it is 1
    training.run_epoch()
    assert training.live() == [0]


@pytest.mark.parametrize(("objective", "patience"), [("train", 1), ("valid", 3)])
def test_a_trial_stops_after_patience_epochs_without_a_better_loss(objective, patience, corpus):
    training = run(
        start(RATES, corpus, rates=RATES, epochs=15, patience=patience, objective=objective)
    )
    for n in RATES:
        losses = training.curve(n)[:, 0 if objective == "train" else 1].tolist()
        ends = [
            epoch
            for epoch in range(len(losses))
            if epoch == 15 or epoch - losses.index(min(losses[: epoch + 1])) == patience
        ]
        assert len(losses) - 1 == ends[0]


def test_a_trial_whose_loss_is_not_finite_before_training_has_ended(corpus):
    m = model()
    with torch.no_grad():
        m.output.bias.fill_(1e38)
    ended = trainer({5: m}, {5: 1.0}, corpus)
    assert ended.live() == [] and "not finite in epoch 0" in ended.diverged(5)


# ---- it is plain SGD -----------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rhn", "dts-rnn", "gru"])
def test_it_is_torch_s_sgd_on_the_mean_loss_of_a_frame(cell, corpus):
    training = run(
        start([0, 1], corpus, cell, rates={0: 0.5, 1: 0.1}, dtype=torch.float64, epochs=2)
    )
    plain = model(1, cell, dtype=torch.float64, kernel="reference")
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    pieces = sorted(corpus.train, key=len, reverse=True)
    groups = [pieces[:32], pieces[32:]]
    for i in batch_order(0, cell, plain.depth, 1, 2) + batch_order(0, cell, plain.depth, 2, 2):
        optimizer.zero_grad()
        plain_nll(plain, groups[i]).backward()
        optimizer.step()
    with torch.no_grad():
        expected = [plain_nll(plain, pieces).item(), plain_nll(plain, corpus.valid).item()]
    np.testing.assert_allclose(training.curve(1)[-1], expected, rtol=1e-10)


def plain_nll(model, pieces):
    """Nats a predicted frame, piece by piece with torch's own loss."""
    total = 0
    for piece in pieces:
        x = torch.from_numpy(np.asarray(piece)).double().unsqueeze(1)
        total = total + F.binary_cross_entropy_with_logits(model(x[:-1]), x[1:], reduction="sum")
    return total / sum(len(piece) - 1 for piece in pieces)


# ---- batches and seeds ---------------------------------------------------------------------------


def test_pieces_of_one_frame_predict_nothing(corpus):
    one = [piece[:1] for piece in corpus.train[:3]]
    assert evaluate_chorales(model(), [*one, *corpus.valid]) == evaluate_chorales(
        model(), corpus.valid
    )
    with pytest.raises(DataError, match="nothing to predict"):
        evaluate_chorales(model(), one)


@pytest.mark.parametrize(
    "draw",
    [
        lambda *name: batch_order(*name, 40),
        lambda *name: torch.rand(4, generator=weights_generator(*name)).tolist(),
    ],
    ids=["order of batches", "initial weights"],
)
def test_what_is_random_is_named_by_seed_network_and_number(draw):
    names = list(itertools.product((0, 1), ("rhn", "gru"), (1, 2), (1, 2)))
    assert len({tuple(draw(*name)) for name in names}) == len(names)
    assert [draw(*name) for name in names] == [draw(*name) for name in names]
    assert sorted(batch_order(*names[0], 40)) == list(range(40))


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("cell", ["rhn", "dts-rnn"])
def test_a_gpu_trains_as_the_cpu_does(cell, corpus):
    models = {n: model(n, cell) for n in range(5)}
    rates = dict.fromkeys(models, 0.1)
    cpu, gpu = (run(trainer(models, rates, corpus, device=device)) for device in ("cpu", "cuda"))
    for n in models:
        np.testing.assert_allclose(gpu.curve(n), cpu.curve(n), rtol=1e-4)


@pytest.mark.gpu
def test_a_gpu_training_resumes(corpus):
    models, plan = {n: model(n) for n in RATES}, {"epochs": 8, "patience": 2, "device": "cuda"}
    whole, first = (
        run(trainer(models, RATES, corpus, **plan)),
        run(trainer(models, RATES, corpus, **plan), until=5),
    )
    live = first.live()
    saved = {n: first.state(n) for n in live}
    again = run(trainer({n: models[n] for n in live}, RATES, corpus, saved, **plan))
    for n in live:
        np.testing.assert_allclose(again.curve(n), whole.curve(n), rtol=1e-4)


# ---- how pieces are grouped where losses are measured --------------------------------------------


def test_a_loss_is_that_of_every_piece_alone_however_pieces_are_grouped(monkeypatch):
    corpus, network = shortest_chorales(3, 70), model()
    total = sum(
        network.nll(torch.from_numpy(np.array(piece)).float().unsqueeze(1)).double().sum()
        for piece in corpus.valid
    )
    shapes = []
    for rows in (0.0, 1e6):
        monkeypatch.setitem(STEP_ROWS, "cpu", rows)
        found = evaluate_chorales(network, corpus.valid)
        assert found.predicted == sum(map(len, corpus.valid)) - len(corpus.valid)
        assert found.nll * found.predicted == pytest.approx(total.item(), rel=1e-5)
        split = evaluation_batches(corpus.valid, device="cpu", dtype=torch.float32)
        shapes.append([batch.mask.shape[1] for batch in split])
    assert shapes == [[32, 32, 32], [64, 32]]
