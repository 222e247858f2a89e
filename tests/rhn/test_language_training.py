"""Training language models: it learns, resumes to the bit, seeds do not notice each other, what diverges leaves."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from rhn.data.text import Tokens
from rhn.errors import DataError, DivergedError, InvalidInputError, OutputError
from rhn.language.averaging import Average
from rhn.language.config import LanguageConfig
from rhn.language.evaluation import score
from rhn.language.runs import train_language_model
from rhn.language.training import LanguageTraining
from rhn.language.windows import epoch_windows, training_rows, window_of
from rhn.models import LanguageModel
from rhn.training.folder import held
from rhn.training.stack import Stack
from tests.rhn.texts import small_corpus

CORPUS = small_corpus()
SMALL = LanguageConfig(
    corpus="text",
    depth=2,
    hidden_size=12,
    init="uniform:0.2",
    batch_size=4,
    window=7,
    epochs=3,
    drop_embedding=0.05,
    drop_input=0.1,
    drop_hidden=0.1,
    drop_output=0.1,
    weight_decay=1e-6,
)
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


def run(config=SMALL, seeds=(0,), *, corpus=CORPUS):
    training = LanguageTraining(config, corpus, seeds=seeds)
    while not training.finished:
        training.run_window()
    return training


def weights(training, seed):
    return {name: t.clone() for name, t in training.model(seed).state_dict().items()}


def test_it_learns_what_there_is_to_learn():
    training = run(replace(SMALL, epochs=12, depth=3, hidden_size=24))
    first, last = training.curve(0)[0], training.curve(0)[-1]
    assert last.valid_nll < first.valid_nll
    assert math.exp(last.valid_nll) < 3.0, "a guess at word frequencies has a perplexity of 8"


@pytest.mark.parametrize("config", [SMALL, EVERYTHING], ids=["paper", "everything"])
@pytest.mark.parametrize("windows", [1, 17, 40])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(config, windows):
    whole, broken = run(config), LanguageTraining(config, CORPUS, seeds=(0,))
    for _ in range(windows):
        broken.run_window()
    saved = broken.arrays()
    resumed = LanguageTraining(config, CORPUS, seeds=(0,))
    resumed.resume(saved)
    while not resumed.finished:
        resumed.run_window()
    assert resumed.curve(0) == whole.curve(0)
    assert all(torch.equal(t, weights(whole, 0)[name]) for name, t in weights(resumed, 0).items())


@pytest.mark.parametrize("config", [SMALL, EVERYTHING], ids=["paper", "everything"])
def test_a_seed_trains_alike_alone_and_beside_others(config):
    config = replace(config, vary_window=False, epochs=1)  # the lengths of windows are the program's, not a seed's
    together = run(config, (5, 0, 9))
    for seed in (5, 0, 9):
        alone = run(config, (seed,))
        assert all(torch.equal(t, weights(together, seed)[name]) for name, t in weights(alone, seed).items())
        for one, other in zip(alone.curve(seed), together.curve(seed), strict=True):
            assert one.train_nll == other.train_nll
            assert one.valid_nll == pytest.approx(other.valid_nll, rel=1e-7)  # float32 sums of another number of rows


def test_other_seeds_are_other_trainings():
    training = run(seeds=(0, 1))
    assert training.curve(0) != training.curve(1)


def test_the_training_loss_is_the_mean_over_the_epoch_as_it_went():
    training = LanguageTraining(replace(SMALL, epochs=1), CORPUS, seeds=(0,))
    nll = []
    while not training.finished:
        training.run_window()
        if not training.finished:
            nll.append(training.running()[0])
    assert training.curve(0)[0].train_nll == pytest.approx(nll[-1], rel=0.05)


def test_validation_reads_the_text_in_rows_without_dropout():
    training = run()
    found = score(training.model(0), CORPUS.valid, batch_size=SMALL.batch_size)
    assert training.curve(0)[-1].valid_nll == pytest.approx(found.nll, rel=1e-6)


def test_weights_that_are_averaged_are_those_that_are_measured():
    config = replace(SMALL, averaging=1, epochs=14, learning_rate=2.0)
    training = run(config)
    average = training.arrays()
    assert average["average_active"].item() == 1, "validation stalls at such a learning rate"
    assert not torch.equal(average["average.embedding"], average["weights.embedding"])
    found = score(training.model(0), CORPUS.valid, batch_size=SMALL.batch_size)
    assert training.curve(0)[-1].valid_nll == pytest.approx(found.nll, rel=1e-6)


def test_an_average_is_the_mean_of_all_weights_from_where_it_begins():
    models = [LanguageModel("rnn", vocabulary_size=3, hidden_size=2, dtype=torch.float64) for _ in range(2)]
    stack = Stack.of(models)
    average, seen = Average.of(stack), []
    for step in range(6):
        if step == 3:
            average.consider(0, [1.0, 2.0, 3.0], 1)
        stack.weights["embedding"].normal_(generator=torch.Generator().manual_seed(step))
        average.update(stack)
        seen.append(stack.weights["embedding"].clone())
    found = average.stack(stack).weights["embedding"]
    torch.testing.assert_close(found[0], torch.stack([s[0] for s in seen[2:]]).mean(0))
    assert torch.equal(found[1], seen[-1][1]), "the other model has not begun"


def test_what_diverges_leaves_and_the_others_do_not_notice():
    training = LanguageTraining(SMALL, CORPUS, seeds=(0, 1, 2))
    for _ in range(3):
        training.run_window()
    training._stack.weights["output_bias"][1, 0] = torch.nan
    while not training.finished:
        training.run_window()
    assert training.live == (0, 2)
    assert "step 4 of" in training.diverged[1]
    untouched = run(SMALL, (0, 1, 2))
    for seed in (0, 2):
        assert training.curve(seed) == untouched.curve(seed)


def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path):
    good = train_language_model(replace(SMALL, epochs=1), CORPUS, tmp_path)
    kept = (tmp_path / "best.safetensors").read_bytes()
    state = load_file(tmp_path / "state.safetensors")
    state["weights.output_bias"][:] = torch.nan
    training = LanguageTraining(SMALL, CORPUS, seeds=(0,))
    training.resume(state)
    training.run_window()
    with pytest.raises(DivergedError, match="not finite at step 1 of"):
        training.check()
    assert good[0].epochs == 1
    with pytest.raises(DivergedError, match=r"step \d+ of .* learning rate .* no epoch was finished"):
        train_language_model(replace(SMALL, learning_rate=1e30), CORPUS, tmp_path / "other")
    assert (tmp_path / "best.safetensors").read_bytes() == kept


def test_a_folder_goes_on_where_time_ran_out(tmp_path):
    whole = train_language_model(SMALL, CORPUS, tmp_path / "whole")
    for _ in range(500):
        (part,) = train_language_model(SMALL, CORPUS, tmp_path / "parts", max_minutes=1e-6)
        if part.finished:
            break
    for name in ("best.safetensors", "last.safetensors", "state.safetensors"):
        a, b = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert all(torch.equal(a[key], b[key]) for key in a), name
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "parts/metrics.jsonl").read_text()
    assert part == replace(whole[0], checkpoint=part.checkpoint)


def test_a_finished_training_may_go_on_for_more_epochs(tmp_path):
    train_language_model(replace(SMALL, epochs=2), CORPUS, tmp_path / "grown")
    train_language_model(SMALL, CORPUS, tmp_path / "grown")
    train_language_model(SMALL, CORPUS, tmp_path / "whole")
    assert (tmp_path / "grown/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


def test_several_seeds_have_a_folder_each(tmp_path):
    results = train_language_model(SMALL, CORPUS, tmp_path, seeds=(3, 4))
    for result in results:
        home = tmp_path / f"seed-{result.seed}"
        lines = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        assert lines[result.best_epoch - 1]["valid_perplexity"] == pytest.approx(math.exp(result.valid_nll))
        assert result.checkpoint == str(home / "best.safetensors")


def test_another_training_in_the_folder_is_refused(tmp_path):
    train_language_model(SMALL, CORPUS, tmp_path)
    for other, corpus in ((replace(SMALL, depth=3), CORPUS), (SMALL, small_corpus(train=90))):
        corpus = replace(corpus, checksum=str(len(corpus.train)))
        with pytest.raises(InvalidInputError, match="holds another training"):
            train_language_model(other, corpus, tmp_path)
    with held(tmp_path), pytest.raises(OutputError, match="another process"):
        train_language_model(SMALL, CORPUS, tmp_path)


def test_a_damaged_state_is_named(tmp_path):
    train_language_model(SMALL, CORPUS, tmp_path)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"state\.safetensors is damaged"):
        train_language_model(SMALL, CORPUS, tmp_path)


def test_a_text_shorter_than_a_window_is_refused(tmp_path):
    with pytest.raises(DataError, match="do not fill 4 rows"):
        train_language_model(replace(SMALL, window=1000), CORPUS, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@given(columns=st.integers(2, 400), window=st.integers(1, 50))
@settings(deadline=None, derandomize=True)
def test_fixed_windows_follow_each_other_and_leave_less_than_one(columns, window):
    windows = epoch_windows(columns, window)
    assert [start for start, _ in windows] == [k * window for k in range(len(windows))]
    assert 0 <= columns - 1 - len(windows) * window < window


@given(columns=st.integers(10, 2000), window=st.integers(5, 50), epoch=st.integers(1, 9))
@settings(deadline=None, derandomize=True)
def test_varying_windows_cover_the_text_without_gaps(columns, window, epoch):
    windows = epoch_windows(columns, window, vary=True, epoch=epoch)
    end = 0
    for start, steps in windows:
        assert start == end
        assert 5 <= steps <= 2 * window
        end += steps
    assert 0 <= columns - 1 - end < 5


def test_varying_windows_differ_from_epoch_to_epoch_around_their_mean():
    lengths = [n for epoch in range(20) for _, n in epoch_windows(3000, 35, vary=True, epoch=epoch)]
    assert epoch_windows(3000, 35, vary=True, epoch=1) != epoch_windows(3000, 35, vary=True, epoch=2)
    assert np.mean(lengths) == pytest.approx(0.95 * 35 + 0.05 * 17.5, abs=0.7)


def test_a_window_holds_the_text_side_by_side():
    rows = training_rows(Tokens(np.arange(20)), 2, 3)
    assert window_of(rows, 3, 2).tolist() == [[3, 13], [4, 14], [5, 15]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("config", [SMALL, EVERYTHING], ids=["paper", "everything"])
def test_a_gpu_trains_alike_with_its_graphs(config):
    """Without dropout and resets, whose draws are the device's own."""
    rates = {f"drop_{place}": 0.0 for place in ("embedding", "input", "hidden", "output", "candidate")}
    config = replace(config, **rates, reset_probability=0.0)
    expected, found = run(config).curve(0), LanguageTraining(config, CORPUS, seeds=(0, 1), device="cuda")
    while not found.finished:
        found.run_window()
    for one, other in zip(expected, found.curve(0), strict=True):
        assert other.train_nll == pytest.approx(one.train_nll, rel=1e-3)
        assert other.valid_nll == pytest.approx(one.valid_nll, rel=1e-3)
