"""The training loop of language models: it learns, resumes to the bit, seeds do not notice each
other, what diverges leaves.
"""

from dataclasses import replace

import pytest
import torch

from rhn.errors import DataError, InvalidInputError
from rhn.models import LanguageModel
from rhn.training.ensemble import Ensemble
from rhn.training.evaluation import score
from rhn.training.optimizers import OPTIMIZERS, update_average
from rhn.training.trainer import Trainer
from tests.rhn.texts import SMALL, finish, small_corpus, text_trainer

CORPUS = small_corpus()
TRAIN, VALID, NORM = 0, 1, 3  # columns of a curve
EVERYTHING = replace(
    SMALL,
    vary_window=True,
    averaging=1,
    reset_probability=0.2,
    activation_regularization=0.1,
    temporal_activation_regularization=0.1,
    drop_candidate=0.1,
    lr_decay=1.5,
    decay_after=1,
    layers=2,
)


def run(config=SMALL, seeds=(0,)):
    return finish(text_trainer(config, CORPUS, seeds))


def weights(training, seed):
    return {name: t.clone() for name, t in training.model(seed).state_dict().items()}


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        pytest.param(SMALL, 40, id="paper"),
        pytest.param(EVERYTHING, 1, id="everything"),
        pytest.param(SMALL, 1, id="paper, at once", marks=pytest.mark.slow),
        pytest.param(EVERYTHING, 40, id="everything, later", marks=pytest.mark.slow),
    ],
)
def test_stopped_anywhere_it_goes_on_to_the_same_bits(config, windows):
    whole, broken = run(config), text_trainer(config, CORPUS)
    for _ in range(windows):
        broken.run_step()
    resumed = text_trainer(config, CORPUS, saved={0: broken.state(0)})
    assert (finish(resumed).curve(0) == whole.curve(0)).all()
    assert all(torch.equal(t, weights(whole, 0)[name]) for name, t in weights(resumed, 0).items())


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(EVERYTHING, id="everything"),
        pytest.param(SMALL, id="paper", marks=pytest.mark.slow),
    ],
)
def test_a_seed_trains_alike_alone_and_beside_others(config):
    config = replace(config, epochs=1)
    together = run(config, (5, 0, 9))
    for seed in (5, 0, 9):
        alone = run(config, (seed,))
        assert all(
            torch.equal(t, weights(together, seed)[name])
            for name, t in weights(alone, seed).items()
        )
        for one, other in zip(alone.curve(seed), together.curve(seed), strict=True):
            assert (one[TRAIN], one[NORM]) == (other[TRAIN], other[NORM])
            # float32 sums of another number of rows
            assert one[VALID] == pytest.approx(other[VALID], rel=1e-7)
    assert (together.curve(5) != together.curve(0)).any(), "other seeds are other trainings"


def test_rows_start_a_window_from_zero_with_the_reset_probability_or_from_their_last_state():
    dropless = {f"drop_{place}": 0.0 for place in ("embedding", "input", "hidden", "output")}
    trainer = text_trainer(replace(SMALL, **dropless, reset_probability=0.3, batch_size=8), CORPUS)
    for _ in range(3):
        trainer.run_step()
    model, batch = trainer.model(0), trainer._batches[3]
    (tokens,), (_, keep) = batch.inputs(model, [0])
    assert 0 < keep.sum() < 8, "the test needs rows of both kinds"
    last = trainer._carry[0][0][0].clone()
    states = torch.where(keep[0] == 1, last, torch.zeros_like(last))
    expected = model(tokens[:-1], (states,), targets=tokens[1:]).nll.detach().double().mean(1).sum()
    trainer.run_step()
    assert trainer._log[3, 0, 0].item() == pytest.approx(expected.item(), rel=1e-6)
    drawn = torch.cat(
        [replace(batch, step=step).inputs(model, [0])[1][1].flatten() for step in range(250)]
    )
    assert drawn.eq(0).double().mean().item() == pytest.approx(0.3, abs=0.04), (
        "four standard deviations of 2000 draws"
    )


@pytest.mark.parametrize(
    "more", [{}, {"averaging": 1, "epochs": 14, "learning_rate": 2.0}], ids=["last", "averaged"]
)
def test_validation_reads_the_text_in_rows_without_dropout_by_the_averaged_weights_if_there_are_any(
    more,
):
    training = run(replace(SMALL, **more))
    found = score(training.model(0), CORPUS.valid, batch_size=SMALL.batch_size)
    assert training.curve(0)[-1, VALID] == pytest.approx(found.nll, rel=1e-6)
    if more:
        average = training.state(0).arrays
        assert average["average_active"] == 1, "validation stalls at such a learning rate"
        assert (average["average.embedding"] != average["weights.embedding"]).any()


def test_an_average_is_the_mean_of_all_weights_from_where_it_begins():
    models = [
        LanguageModel("rnn", vocabulary_size=3, hidden_size=2, dtype=torch.float64)
        for _ in range(2)
    ]
    stack = Ensemble.of(models)
    average, seen = OPTIMIZERS["sgd"](averaging=1).start(stack.weights), []
    for step in range(6):
        if step == 3:
            average["average_active"][0] = 1
        stack.weights["embedding"].normal_(generator=torch.Generator().manual_seed(step))
        update_average(average, stack.weights)
        seen.append(stack.weights["embedding"].clone())
    found = average["average.embedding"]
    torch.testing.assert_close(found[0], torch.stack([s[0] for s in seen[2:]]).mean(0))
    assert torch.equal(found[1], seen[-1][1]), "the other model has not begun"


def test_what_diverges_leaves_and_the_others_do_not_notice():
    training, untouched = text_trainer(SMALL, CORPUS, (0, 1, 2)), run(SMALL, (0, 1, 2))
    for _ in range(3):
        training.run_step()
    training._trials.ensemble.weights["output_bias"][1, 0] = torch.nan
    finish(training)
    assert training.numbers == [0, 2] and "in epoch 1, at" in training.diverged(1)
    assert all((training.curve(seed) == untouched.curve(seed)).all() for seed in (0, 2))
    resumed = text_trainer(SMALL, CORPUS, (0, 1, 2), saved={n: training.state(n) for n in range(3)})
    assert resumed.diverged(1) == training.diverged(1)


def test_an_ended_seed_that_keeps_its_place_cannot_diverge(monkeypatch):
    """On a GPU ended trials stay in the ensemble for a while."""
    monkeypatch.setattr(Trainer, "_drop_ended", lambda self: None)
    trainer = text_trainer(
        replace(SMALL, patience=1, epochs=12, learning_rate=2.0), CORPUS, seeds=(0, 1, 2)
    )
    while trainer.live() == [0, 1, 2]:
        trainer.run_step()
    ended = min({0, 1, 2} - set(trainer.live()))
    curve = trainer.curve(ended)
    trainer._trials.ensemble.weights["output_bias"][ended] = torch.nan
    trainer.run_epoch()
    assert trainer.curve(ended) is curve and not trainer.diverged(ended)


def test_a_seed_that_occurs_twice_is_refused():
    with pytest.raises(
        InvalidInputError, match=r"seeds is \[0, 0\]: expected one or more distinct"
    ):
        text_trainer(SMALL, CORPUS, (0, 0))


def test_a_validation_text_too_short_is_an_error():
    with pytest.raises(DataError, match="batch size is 4: expected at most 2"):
        text_trainer(SMALL, replace(CORPUS, valid=CORPUS.valid[:5]))


@pytest.mark.gpu
@pytest.mark.parametrize("config", [SMALL, EVERYTHING], ids=["paper", "everything"])
def test_a_gpu_trains_alike_with_its_graphs(config):
    """Without dropout and resets, whose draws are the device's own."""
    rates = {
        f"drop_{place}": 0.0 for place in ("embedding", "input", "hidden", "output", "candidate")
    }
    config = replace(config, **rates, reset_probability=0.0)
    expected, found = run(config).curve(0), text_trainer(config, CORPUS, (0, 1), device="cuda")
    finish(found)
    for one, other in zip(expected, found.curve(0), strict=True):
        assert other[:2] == pytest.approx(one[:2], rel=1e-3)
