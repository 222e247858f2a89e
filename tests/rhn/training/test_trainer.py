"""Trials trained side by side have the losses and weights of plain loops, end as they should, and
have the same bits alone, in any company and resumed.
"""

import copy
import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import others_slow
from torch.utils._pytree import tree_map

from rhn.cells import CELLS, RNN
from rhn.errors import InvalidInputError
from rhn.training import trainer
from rhn.training.evaluation import evaluate_chorales, score
from rhn.training.language import LanguageTask
from rhn.training.optimizers import Optimizer, make_optimizer
from rhn.utils.resources import weight_bytes
from rhn.utils.seeds import batch_order, weights_generator
from tests.rhn.pieces import chorale_trainer, shortest_chorales
from tests.rhn.texts import EVERYTHING, SMALL, finish, small_corpus, text_trainer

MUSIC = shortest_chorales(37, 6)  # the last batch has 5
TEXT = small_corpus(40)
VALID = 1  # column of a curve
TEXTS = {
    "paper": SMALL,
    "everything": replace(EVERYTHING, epochs=2),
    "adam": replace(SMALL, optimizer="adam", learning_rate=0.01, weight_decay=1e-3, epochs=2),
    "rmsprop": replace(SMALL, optimizer="rmsprop", learning_rate=0.01, momentum=0.5, epochs=2),
}
RATES = {0: 1.0, 1: 3.0, 2: 0.01, 3: 0.3, 4: 2.0}
begin_chorales = partial(chorale_trainer, corpus=MUSIC, patience=None)
begin_text = partial(text_trainer, SMALL, TEXT)


def assert_same(a, b, numbers, rounding=0.0):
    """Curves and best weights equal to the bit, but for the rounding of validation losses."""
    for n in numbers:
        one, other = a.curve(n).copy(), b.curve(n).copy()
        np.testing.assert_allclose(one[:, VALID], other[:, VALID], rtol=rounding, err_msg=f"{n}")
        one[:, VALID] = other[:, VALID] = 0
        np.testing.assert_array_equal(one, other, err_msg=f"{n}")
        pairs = zip(a.best_model(n).parameters(), b.best_model(n).parameters(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs), f"trial {n}"


class OnlyStep(RNN):
    """A user's cell, which has no kernel, and a second name of a weight."""

    def __init__(self, *sizes, **how):
        super().__init__(*sizes, **how)
        self.twin = self.weight_hh

    def step(self, x, s):
        return torch.tanh(x @ self.weight_ih.T + s @ self.twin[0].T + self.bias[0])


@pytest.mark.parametrize("cell", ["rhn", "dts-rnn", "gru", "only a step"])
def test_chorales_are_trained_by_torch_s_sgd_on_the_mean_loss_of_a_frame(cell, monkeypatch):
    monkeypatch.setitem(CELLS.data, "only a step", OnlyStep)
    how = {"corpus": MUSIC, "cell": cell, "dtype": torch.float64, "epochs": 2}
    training = chorale_trainer([0, 1], rates={0: 0.5, 1: 0.1}, **how)
    plain = training.model(1)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    pieces = sorted(MUSIC.train, key=len, reverse=True)
    groups, name = [pieces[:32], pieces[32:]], (0, cell, training.config.depth)
    for i in batch_order(*name, 1, 2) + batch_order(*name, 2, 2):
        optimizer.zero_grad()
        plain_nll(plain, groups[i]).backward()
        optimizer.step()
    with torch.no_grad():
        expected = [plain_nll(plain, pieces).item(), plain_nll(plain, MUSIC.valid).item()]
    np.testing.assert_allclose(finish(training).curve(1)[-1], expected, rtol=1e-10)
    loss = evaluate_chorales(plain, [MUSIC.train[0][:1], *MUSIC.valid])
    assert loss.nll == pytest.approx(expected[1], rel=1e-10)
    assert loss.predicted == sum(len(piece) - 1 for piece in MUSIC.valid)


def test_pieces_of_one_predicted_frame_are_trained_beside_long_ones():
    """Of a batch of 32 pieces a third have one step, the others all of theirs."""
    train = [piece[:2] if k % 3 == 0 else piece for k, piece in enumerate(MUSIC.train)]
    corpus = replace(MUSIC, train=train, valid=[MUSIC.valid[0][:2]])
    training = chorale_trainer([0], corpus, dtype=torch.float64, epochs=1, hidden_size=7)
    plain = training.model(0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.3, momentum=0.9)
    pieces = sorted(train, key=len, reverse=True)
    groups = [pieces[:32], pieces[32:]]
    assert {len(piece) for piece in groups[1]} == {2}
    for i in batch_order(0, "rhn", 2, 1, 2):
        optimizer.zero_grad()
        plain_nll(plain, groups[i]).backward()
        optimizer.step()
    with torch.no_grad():
        expected = [plain_nll(plain, pieces).item(), plain_nll(plain, corpus.valid).item()]
    np.testing.assert_allclose(finish(training).curve(0)[-1], expected, rtol=1e-10)


def plain_nll(model, pieces):
    """Nats a predicted frame, piece by piece with torch's own loss."""
    total = 0
    for piece in pieces:
        x = torch.from_numpy(np.asarray(piece)).double().unsqueeze(1)
        total = total + F.binary_cross_entropy_with_logits(model(x[:-1]), x[1:], reduction="sum")
    return total / sum(len(piece) - 1 for piece in pieces)


@pytest.mark.parametrize(
    ("text", "most", "window"),
    [
        pytest.param(TEXT, 1.5, 7, id="of seven steps"),
        pytest.param(small_corpus(12), 0.75, 1, id="of one step"),
    ],
)
def test_a_text_is_trained_by_a_plain_loop(text, most, window):
    """Decays of learning rate and weights, and clipping."""
    rates = {"learning_rate": 6.0, "weight_decay": 1e-3, "weight_decay_form": "shrink"}
    config = replace(EVERYTHING, epochs=4, gradient_norm=most, window=window, **rates)
    task = LanguageTask(config, text)
    plain = task.model(0).double()
    training = finish(trainer.Trainer(task, {0: copy.deepcopy(plain)}))
    curve = []
    for epoch in range(1, 5):
        rate, losses, norms, steps, carried = 6 / 1.5 ** (epoch - 1), [], [], 0, None
        for batch in task.batches(epoch):
            (tokens,), own = batch.inputs(plain, [0])
            masks = tree_map(lambda t: t[0], own)
            carried = carried and [s.detach() for s in carried]
            reading = plain(tokens[:-1], carried, masks)
            carried = reading.states
            nll = F.cross_entropy(reading.logits.mT, tokens[1:], reduction="none").mean(1).sum()
            plain.zero_grad()
            nll.backward()
            norms.append(torch.stack([p.grad.norm() for p in plain.parameters()]).norm().item())
            step = rate * min(1, most / norms[-1])
            losses.append(nll.item())
            steps += batch.length
            with torch.no_grad():
                for p in plain.parameters():
                    p.sub_(step * p.grad).mul_(1 - 1e-3)
        valid = score(plain, text.valid, batch_size=4).nll
        curve.append([sum(losses) / steps, valid, rate, np.mean(norms)])
    assert max(norms) > most > min(norms)
    np.testing.assert_allclose(training.curve(0), curve, rtol=1e-9)
    for name, p in training.model(0).named_parameters():
        torch.testing.assert_close(p, plain.get_parameter(name), rtol=1e-9, atol=1e-12)


SAME = {  # and the number of steps before a resume
    "rhn": (partial(begin_chorales, epochs=3), 3),
    "lstm": (partial(begin_chorales, cell="lstm", epochs=3), 1),
    "gru": (partial(begin_chorales, cell="gru"), 8),
    "dts-rnn": (partial(begin_chorales, cell="dts-rnn"), 0),
    "rhn, 90 units": (partial(begin_chorales, hidden_size=90, epochs=1), 1),
    "dts-rnn, 130 units": (partial(begin_chorales, cell="dts-rnn", hidden_size=130, epochs=1), 1),
    **{name: (partial(text_trainer, config, TEXT), 11) for name, config in TEXTS.items()},
}


@pytest.mark.parametrize("name", others_slow(SAME, "rhn", "lstm", "paper"))
def test_a_trial_is_the_same_resumed_alone_and_in_any_company(name):
    (begin, steps), numbers = SAME[name], (3, 1, 0, 4, 5, 9)
    whole, broken = finish(begin(numbers)), begin(numbers)
    for _ in range(steps):
        broken.run_step()
    saved, alone = {n: broken.state(n) for n in numbers}, begin([0])
    for _ in range(steps):
        alone.run_step()
    for key, array in alone.state(0).arrays.items():
        np.testing.assert_array_equal(saved[0].arrays[key], array, strict=True, err_msg=key)
    assert_same(finish(begin(numbers, saved=saved)), whole, numbers)
    # float32 sums of the validation loss of a text over another number of rows
    rounding = 1e-7 if name in TEXTS else 0.0
    for company in ([0], [4, 0], [3, 1, 0, 4, 5]):
        assert_same(finish(begin(company)), whole, company, rounding)
    resumed = finish(begin([9, 0], saved={n: saved[n] for n in (9, 0)}))
    assert_same(resumed, whole, [9, 0], rounding)
    assert (whole.curve(5) != whole.curve(0)).any(), "other seeds are other trainings"


def test_a_window_is_at_most_as_long_as_a_row_has_steps():
    steps = len(TEXT.train) // SMALL.batch_size - 1
    assert len(LanguageTask(replace(SMALL, window=steps), TEXT).batches(1)) == 1
    with pytest.raises(
        InvalidInputError, match=f"^window is {steps + 1}: expected at most {steps}$"
    ):
        LanguageTask(replace(SMALL, window=steps + 1), TEXT)


def test_a_weight_that_is_not_trained_stays_also_after_a_resume():
    task = begin_chorales([0]).task
    models = {0: task.model(0)}
    fixed = models[0].output.bias.requires_grad_(False)
    whole, broken = (trainer.Trainer(task, models) for _ in range(2))
    for _ in range(3):
        broken.run_step()
    resumed = trainer.Trainer(task, models, saved={0: broken.state(0)})
    assert_same(finish(resumed), finish(whole), [0])
    assert torch.equal(whole.model(0).output.bias, fixed)
    assert not torch.equal(whole.model(0).output.weight, models[0].output.weight)


def test_an_optimizer_may_be_given_beside_the_configuration():
    adam = begin_chorales([0], optimizer="adam", learning_rate=0.01)
    task = begin_chorales([0], learning_rate=0.01).task
    given = trainer.Trainer(task, {0: task.model(0)}, optimizer=make_optimizer(adam.config))
    for training in (adam, given):
        training.run_step()
    for p, q in zip(adam.model(0).parameters(), given.model(0).parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(("most", "known"), [(0.5, True), (None, False)], ids=str)
def test_the_norm_of_gradients_is_known_if_they_are_clipped(most, known):
    optimizer = Optimizer(name="sgd", clip=most)
    training = text_trainer(replace(SMALL, epochs=1), TEXT, optimizer=optimizer)
    training.run_epoch()
    assert training.task.columns[-1] == "gradient_norm"
    assert np.isfinite(training.curve(0)[-1, -1]) == known


def test_random_numbers_depend_on_seed_cell_depth_and_number():
    names = list(itertools.product((0, 1), ("rhn", "gru"), (1, 2), (1, 2)))
    orders = [batch_order(*name, 40) for name in names]
    weights = [torch.rand(4, generator=weights_generator(*name)).tolist() for name in names]
    assert len({*map(tuple, orders)}) == len({*map(tuple, weights)}) == len(names)


def test_a_stack_larger_than_the_cache_is_cut_without_a_trace(monkeypatch):
    whole = finish(begin_chorales(range(5), epochs=2))
    own = weight_bytes(whole.model(0))
    for limit, size, parts in (("CACHE_BYTES", 2 * own, [2, 2, 1]), ("PART_BYTES", 1, [1] * 5)):
        with monkeypatch.context() as patched:
            patched.setattr(f"rhn.training.ensemble.{limit}", size)
            cut = finish(begin_chorales(range(5), epochs=2))
            assert [len(part.numbers) for part in cut._parts] == parts
            assert_same(cut, whole, range(5))


@pytest.mark.parametrize(
    ("objective", "patience", "stays"), [("train", 1, False), ("valid", 3, True)]
)
def test_a_trial_ends_after_patience_epochs_without_a_better_loss_and_leaves_the_others_alone(
    objective, patience, stays, monkeypatch
):
    if stays:  # as on a GPU, in the ensemble, for a while
        monkeypatch.setattr(trainer.Trainer, "_drop_ended", lambda self: None)
    how = {"rates": RATES, "epochs": 12, "patience": patience, "objective": objective}
    together = finish(chorale_trainer(RATES, MUSIC, **how))
    for n in RATES:
        losses = together.curve(n)[:, 0 if objective == "train" else 1].tolist()
        ends = [
            epoch
            for epoch in range(len(losses))
            if epoch == 12 or epoch - losses.index(min(losses[: epoch + 1])) == patience
        ]
        assert len(losses) - 1 == ends[0]
        best = evaluate_chorales(together.best_model(n), getattr(MUSIC, objective)).nll
        assert best == min(losses)
        assert_same(finish(chorale_trainer([n], MUSIC, **how)), together, [n])
    assert len({len(together.curve(n)) for n in RATES}) > 2


@pytest.mark.parametrize(
    ("begin", "bias"),
    [
        pytest.param(begin_chorales, "output.bias", id="chorales"),
        pytest.param(begin_text, "output_bias", id="text"),
    ],
)
def test_a_trial_that_diverges_leaves_and_the_others_do_not_notice(begin, bias):
    untouched, training = finish(begin(range(3))), begin(range(3))
    training.run_step()
    training._trials.ensemble.weights[bias][1, 0] = torch.nan
    finish(training)
    assert training.numbers == [0, 2] and " in epoch 1, at a " in training.diverged(1)
    assert_same(training, untouched, [0, 2])
    assert all(p.isfinite().all() for p in training.best_model(1).parameters())
    resumed = begin(range(3), saved={n: training.state(n) for n in range(3)})
    assert resumed.diverged(1) == training.diverged(1)


@pytest.mark.parametrize("begin", [begin_chorales, begin_text], ids=["chorales", "text"])
def test_trials_resume_in_the_epoch_in_which_another_one_has_diverged(begin, monkeypatch):
    """Its curve is one row longer than theirs."""
    monkeypatch.setattr(trainer, "CHECK_EVERY", 1)
    training = begin(range(3))
    next(iter(training._trials.ensemble.weights.values()))[1] = torch.nan
    assert not training.run_step() and training.live() == [0, 2]
    resumed = begin(range(3), saved={n: training.state(n) for n in range(3)})
    assert (resumed.epoch, resumed.steps) == (training.epoch, training.steps)
    assert_same(finish(resumed), finish(training), [0, 2])


def test_a_trial_ends_if_a_weight_or_its_loss_before_training_is_not_finite(monkeypatch):
    training = begin_chorales([0, 1])
    for n in (1, 0):
        training._trials.ensemble.weights["cells.0.bias"][n, 0, 0] = torch.inf  # tanh of it is 1
        training.run_epoch()
        assert n not in training.live()
        monkeypatch.setattr(trainer, "CHECK_EVERY", 1)
    assert training.steps == 2 + 1, "an epoch of two steps, and one that ends at the first look"
    model = training.task.model(5)
    torch.nn.init.constant_(model.output.bias, 1e38)
    ended = trainer.Trainer(training.task, {5: model})
    assert ended.live() == [] and "not finite in epoch 0" in ended.diverged(5)


def test_a_text_that_diverges_at_its_first_step_has_no_numbers_in_its_epoch():
    training = begin_text([0, 1])
    training._trials.ensemble.weights["output_bias"][0, 0] = torch.nan
    training.run_epoch()
    assert np.isnan(training.curve(0)).all() and np.isfinite(training.curve(1)).all()
    assert training.live() == [1] and training.curve(0).shape == (1, len(training.task.columns))


def test_the_mean_norm_of_an_epoch_is_that_of_its_finite_norms():
    assert trainer._finite_mean([1.0, np.inf, 3.0, np.nan]) == 2
    assert np.isnan(trainer._finite_mean([np.inf]))
