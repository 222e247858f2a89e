"""What a lesion does to a network, mode by mode, what the table says about it, and how often its
intervals contain the true difference.
"""

import copy
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import (
    GATED,
    SUBJECTS,
    UNGATED,
    V,
    check_table,
    edited,
    language_network,
    network,
    rolls,
    tokens,
)
from scipy import stats
from torch import nn

from analysis import Lesion, lesion, lesioned, paired_interval, refinement
from analysis.gates import gate_activity
from analysis.layer_by_layer import check_layer_by_layer
from analysis.lesions import _networks_at_once
from analysis.sequences import task_of
from rhn.cells import RHN
from rhn.errors import InvalidInputError

PIECES = SUBJECTS["chorales"][1]
COUPLED = GATED[0]
LESIONED = [
    *(("chorales", case, mode) for case in GATED for mode in ("bias", "carry")),
    *(("chorales", case, "carry") for case in UNGATED),
    *(("chorales", case, "blind") for case in (COUPLED, UNGATED[0])),
    *(("texts", COUPLED, mode) for mode in ("bias", "carry", "blind")),
]


def without(model, layers):
    """The network of chorales, step by step and layer by layer, without some layers."""

    def logits(x):
        for number, cell in enumerate(model.cells):
            s, outputs = x.new_zeros(x.shape[1], cell.state_size), []
            for x_t in x:
                y = s
                for layer in range(cell.depth):
                    if (number, layer) not in layers:
                        s = cell.run_layer(layer, x_t, s, y)
                outputs.append(cell.outputs_of(s))
            x = torch.stack(outputs)
        return model.output(x)

    return logits


@pytest.mark.parametrize(("kind", "case", "mode"), LESIONED, ids=str)
def test_each_row_is_of_copies_edited_by_hand(kind, case, mode, monkeypatch):
    build, data, nats_of = SUBJECTS[kind]
    model = build(*case, layers=2)
    if mode == "carry":
        monkeypatch.setattr("analysis.sequences.TEXT_BATCH_BYTES", 1)  # one text at once
    table = lesion(model, data, mode, pairs=True, at_once=3 if mode == "carry" else None)
    every = {f"{k + 1}.{layer + 1}": (k, layer) for k in (0, 1) for layer in range(case[1])}
    first = ["1.1", "2.1"]
    own = first if mode == "blind" else [*every]
    pairs = ["+".join(two) for two in combinations(own, 2)]
    rows = {"layer": own, "pair": pairs}
    if mode != "blind":
        rows |= {"blind": first, "beyond blind": first}
    assert table.label == tuple(label for labels in rows.values() for label in labels)
    assert table.row_kind == tuple(row for row in rows for _ in rows[row])
    by_hand = without if (kind, mode) == ("chorales", "carry") else edited
    check_table(table, model, data, every, nats_of, by_hand)
    number = [*every].index(own[-1]) + 1
    alone = nats_of(lesioned(model, Lesion(mode, (number,))), data)
    assert table.loss[len(own) - 1] == pytest.approx(alone.sum() / table.frames, rel=1e-12)


def test_as_many_networks_run_together_as_have_their_numbers_in_the_memory(monkeypatch):
    """A network keeps for each of 9 x 5 frames 88 logits, 2 x 7 gates of 3 layers, and 5 states of
    7: the first, one of each layer, and the output. All have 4 bytes.
    """
    model, mask = network(dtype=torch.float32), torch.ones(9, 5)
    for networks in (1, 2, 10):
        monkeypatch.setattr("analysis.lesions.CPU_BYTES", networks * 9 * 5 * 165 * 4)
        assert _networks_at_once(model, task_of(model), mask) == networks
    monkeypatch.setattr("analysis.lesions.CPU_BYTES", 1)
    assert _networks_at_once(model, task_of(model), mask) == 1, "one always runs"


def test_a_third_of_the_free_memory_of_a_gpu_is_for_networks_that_run_together(monkeypatch):
    of_gpu = SimpleNamespace(
        is_cuda=True, device="cuda:1", numel=lambda: 9 * 5, element_size=lambda: 4
    )
    monkeypatch.setattr("analysis.lesions.CPU_BYTES", 1)
    free = {"cuda:1": 3 * 4 * 9 * 5 * 165 * 4}
    monkeypatch.setattr("analysis.lesions.free_memory", free.get)
    model = network()
    found = _networks_at_once(model, task_of(model), of_gpu)
    assert (found, type(found)) == (4, int)
    free["cuda:1"] -= 1
    assert _networks_at_once(model, task_of(model), of_gpu) == 3


@pytest.mark.parametrize(
    ("limit", "rows"),
    [
        pytest.param(1 << 30, [4], id="all"),
        pytest.param(3 * 12 * V * 8, [3, 1], id="three of the longest"),
        pytest.param(3 * 12 * V * 8 - 1, [2, 2], id="not quite three"),
        pytest.param(1, [1, 1, 1, 1], id="one always runs"),
    ],
)
def test_as_many_texts_run_together_as_have_their_probabilities_in_the_memory(
    limit, rows, monkeypatch
):
    """Of the longest one with 12 tokens, V probabilities of 8 bytes each."""
    monkeypatch.setattr("analysis.sequences.TEXT_BATCH_BYTES", limit)
    task, like = task_of(language_network()), torch.zeros(1, dtype=torch.float64)
    batches = task.batches(tokens(4, 12, 9, 6), like)
    assert [batch.frames.shape[1] for batch in batches] == rows
    assert sum(int(batch.mask[1:].sum()) for batch in batches) == 3 + 11 + 8 + 5
    assert sum(batch.size for batch in batches) == 3 + 11 + 8 + 5


def test_at_most_64_texts_run_together():
    task, like = task_of(language_network()), torch.zeros(1, dtype=torch.float64)
    batches = task.batches(tokens(*[5] * 70), like)
    assert [batch.frames.shape[1] for batch in batches] == [64, 6]


@pytest.mark.parametrize("kind", SUBJECTS, ids=str)
def test_the_progress_counts_networks_and_batches(kind, monkeypatch):
    """Three layers, the blind control, and the network itself; five texts in three batches."""
    build, data, _ = SUBJECTS[kind]
    monkeypatch.setattr("analysis.sequences.TEXT_ROWS", 2)
    shown, batches = [], 1 if kind == "chorales" else 2
    lesion(build(), data, at_once=2, progress=lambda *counts: shown.append(counts))
    assert {total for _, total in shown} == {5 * batches}
    assert shown[-1][0] == 5 * batches and [done for done, _ in shown][:3] == [2, 4, 5]


@pytest.mark.parametrize(
    "mode", [pytest.param("bias", id="bias"), pytest.param("carry", id="carry")]
)
def test_how_many_networks_run_together_changes_no_bit(mode):
    model = network(dtype=torch.float32)
    one, *others = (lesion(model, PIECES, mode, pairs=True, at_once=k).loss for k in (None, 1, 3))
    assert all(one.tolist() == other.tolist() for other in others)


def test_the_network_given_is_left_as_it_was():
    model = network().train()
    before, text = copy.deepcopy(model.state_dict()), str(model)
    gate_activity(model, PIECES)
    for mode in ("bias", "carry"):
        lesion(model, PIECES, mode)
    assert model.training and str(model) == text
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(cell._forward_pre_hooks for cell in model.cells)


@pytest.mark.parametrize(
    ("mode", "layers", "words"),
    [
        pytest.param("Bias", (1,), "mode of RHN is Bias", id="mode"),
        pytest.param("bias", (), r"layers is \(\)", id="no layers"),
        pytest.param("bias", (0,), r"layers is \(0,\)", id="layer 0"),
        pytest.param("bias", (1, 9), r"layers is \(1, 9\).*some of \[1, 2, 3\]", id="layer 9"),
        pytest.param("bias", 1, "layers is 1: expected a tuple", id="no tuple"),
    ],
)
def test_a_lesion_that_a_network_does_not_have_is_refused(mode, layers, words):
    with pytest.raises(InvalidInputError, match=words):
        lesioned(network(), Lesion(mode, layers))


@pytest.mark.parametrize(
    "coupled", [pytest.param(True, id="coupled"), pytest.param(False, id="two gates")]
)
def test_a_shut_gate_has_minus_ten_thousand_as_the_sum_of_its_bias_and_its_constant(coupled):
    cell = RHN(3, 5, depth=2, coupled=coupled, gate_constant=0.75, dtype=torch.float64)
    shut = lesioned(cell, Lesion("bias", (2,)))
    assert (shut.bias[1, 5:10] + 0.75 == -1e4).all()
    if not coupled:
        assert (shut.bias[1, 10:] == 1e4).all()


def test_sequences_have_their_losses_in_the_order_given():
    """In batches the longest one is the first."""
    parts = tokens(3, 12, 1, 7, 2)
    table = lesion(language_network(), parts)
    assert table.lengths.tolist() == [2, 11, 6, 1]
    alone = [lesion(language_network(), part) for part in parts if len(part) > 1]
    np.testing.assert_allclose(table.loss_sums.T, [one.loss_sums[:, 0] for one in alone])
    np.testing.assert_allclose(table.baseline_sums, [one.baseline_sums[0] for one in alone])


def no_loss(model, sequence) -> float:
    return 0.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(
            lambda: lesion(network(), [PIECES[0] / 2]),
            r"number in sequence 0 is \[0\.5\]: expected 0 or 1",
            id="half a key",
        ),
        pytest.param(
            lambda: lesion(network(), rolls(1, 1)), "number of frames to predict is 0", id="frames"
        ),
        pytest.param(
            lambda: lesion(language_network(), tokens(1)), "of tokens to predict is 0", id="tokens"
        ),
        pytest.param(lambda: lesion(network(), []), "number of sequences is 0", id="sequences"),
        pytest.param(
            lambda: lesion(network(), [], loss=no_loss), "number of sequences is 0", id="own losses"
        ),
        pytest.param(
            lambda: lesion(network(), PIECES, loss=1.0),
            r"loss is float: expected a function \(model, sequence\)",
            id="loss",
        ),
        pytest.param(lambda: lesion(network(), PIECES, at_once=0), "at_once is 0", id="at_once"),
        pytest.param(lambda: lesion(network()), "data is None: expected sequences", id="no data"),
        pytest.param(
            lambda: lesion(network(), PIECES, cell="a:B"),
            "cell is a:B: expected none, beside a network",
            id="cell of a network",
        ),
        pytest.param(
            lambda: lesion(language_network(), tokens(9), length=5),
            "length is 5: expected none, beside sequences",
            id="length of arrays",
        ),
        pytest.param(
            lambda: lesion(language_network(), tokens(9), max_tokens=5),
            "max_tokens is 5: expected none, beside sequences",
            id="tokens of arrays",
        ),
        pytest.param(
            lambda: gate_activity(network(), PIECES, length=5, chorales=("0",)),
            r"chorales is \('0',\): expected none, beside sequences",
            id="chorales of arrays",
        ),
        pytest.param(lambda: lesion(PIECES, PIECES), "network is list: expected", id="network"),
        pytest.param(
            lambda: lesioned(network(), "bias"), "lesion is str: expected a Lesion", id="lesion"
        ),
        pytest.param(
            lambda: lesion(network(), [PIECES[0][:, :87]]), r"sequence 0 is .*\(9, 87\)", id="keys"
        ),
        pytest.param(
            lambda: lesion(network(), [PIECES[0][..., None]]),
            r"sequence 0 is .*\(9, 88, 1\)",
            id="three axes",
        ),
        pytest.param(
            lambda: lesion(network(), [PIECES[0].astype(str)]), "sequence 0 is <U", id="texts"
        ),
        pytest.param(
            lambda: lesion(network(), [*PIECES, np.where(np.eye(3, 88), np.nan, 0)]),
            "sequence 5 is float64",
            id="no number",
        ),
        pytest.param(
            lambda: lesion(language_network(), [np.array([-1, 2, 3])]), "sequence 0 is", id="id -1"
        ),
        pytest.param(
            lambda: lesion(language_network(), [np.array([0, V, 3])]), "sequence 0 is", id="id V"
        ),
        pytest.param(
            lambda: lesion(language_network(), [np.array([0.0, 2.0])]),
            "sequence 0 is float64",
            id="ids of floats",
        ),
    ],
)
def test_a_lesion_without_a_loss_or_a_network_is_refused(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()


def test_lesions_gates_and_refinement_are_the_same_with_two_threads():
    def measured():
        of_gates, of_layers = gate_activity(model, PIECES), refinement(model, PIECES)
        return lesion(model, PIECES, "carry").loss, of_gates.activity, of_layers.loss

    model = network(layers=2)
    torch.set_num_threads(2)
    try:
        found = measured()
    finally:
        torch.set_num_threads(1)
    for two, one in zip(found, measured(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind) for kind in SUBJECTS])
def test_the_loss_of_the_constant_predictor_is_an_entropy(kind):
    build, data, _ = SUBJECTS[kind]
    predicted = np.concatenate([part[1:] for part in data])
    if kind == "chorales":
        wanted = stats.entropy([predicted.mean(0), 1 - predicted.mean(0)]).sum()
    else:
        wanted = stats.entropy(np.bincount(predicted))
    assert lesion(build(), data).constant == pytest.approx(wanted, rel=1e-12)


def test_a_loss_that_is_not_finite_is_refused_without_lesions_and_a_row_with_them():
    """The weights of the output overflow as soon as the state of layer 1 is not replaced by 0."""
    model = network("rhn", 2, {"transform_bias": -2.0}, dtype=torch.float32)
    cell = model.cells[0]
    with torch.no_grad():
        cell.bias[1, 7:] = 1e4  # open
        cell.weight_hh[1, :7] = cell.bias[1, :7] = 0
        model.output.weight.fill_(3e38)
    found = lesion(model, rolls(6, 9))
    assert np.isinf(found.delta[:2]).tolist() == [False, True]
    assert np.isnan([found.low[:2], found.high[:2]]).tolist() == [[False, True]] * 2
    cell.bias.data[1, 7:] = -1e4
    with pytest.raises(InvalidInputError, match="not finite"):
        lesion(model, rolls(6, 9))


@torch.no_grad()
@pytest.mark.parametrize("measure", [lesion, refinement], ids=lambda measure: measure.__name__)
def test_a_loss_that_overflows_on_one_of_two_pieces_is_refused(measure):
    """A key in the second piece has a loss of 8e307 a frame after the last layer; before it 0.7."""
    model = network("dt-rnn", 2)
    for parameter in model.parameters():
        parameter.zero_()
    model.cells[0].bias[1] = 1
    model.output.weight[0, 0] = -1e308
    silent, played = np.zeros((2, 6, 88))
    played[:, 0] = 1
    with pytest.raises(InvalidInputError, match=r"^loss .* is not finite"):
        measure(model, [silent, played])


def test_losses_layer_by_layer_may_differ_by_a_rounding_of_the_largest():
    """In float64 by 1.5e-8 of it."""
    wanted = np.array([2.0, 0.0])
    check_layer_by_layer(network(), lambda: wanted, wanted + 2e-8)
    with pytest.raises(InvalidInputError, match=r"^loss by run_layer of RHN is 3\.0"):
        check_layer_by_layer(network(), lambda: wanted, wanted + 0.5)


LENGTHS = {
    "equal": lambda N: np.full(N, 200.0),
    "20 to 120": lambda N: np.random.default_rng(1).integers(20, 121, N).astype(float),
    "a short last one": lambda N: np.array([200.0] * (N - 1) + [50.0]),
}


@pytest.mark.parametrize("N", [pytest.param(N, id=f"{N}") for N in (2, 3, 4, 8, 12, 30)])
def test_the_interval_contains_the_true_difference_in_95_percent_of_simulations(N):
    rng, trials = np.random.default_rng(0), 20_000
    for length, lengths in LENGTHS.items():
        frames = lengths(N)
        hard = rng.normal(8, 2, (trials, N))  # the two networks find the same sequences hard
        more = 0.5 + rng.normal(0, 0.4, (trials, N))
        low, high = paired_interval(frames * (hard + more), frames * hard, frames)
        covered = np.mean((low <= 0.5) & (high >= 0.5))
        assert 0.92 < covered < 0.96, length
        skewed = rng.exponential(size=(trials, N))
        low, high = paired_interval(frames * skewed, np.zeros(N), frames)
        assert np.mean((low <= 1) & (high >= 1)) > 0.85, length


@pytest.mark.parametrize("N", [pytest.param(N, id=f"{N}") for N in (3, 4, 5, 8)])
def test_the_interval_of_sequences_of_very_unequal_length_covers_less(N):
    """The numbers that docs/guides/gates-lesions.md states."""
    rng, trials, frames = np.random.default_rng(0), 20_000, 10 * 3.0 ** np.arange(N)
    for more, least, most in (
        (1 + rng.normal(0, 0.4, (trials, N)), 0.84, 0.92),
        (rng.exponential(size=(trials, N)), 0.77, 0.87),
    ):
        low, high = paired_interval(frames * more, np.zeros(N), frames)
        assert least < np.mean((low <= 1) & (high >= 1)) < most


@pytest.mark.parametrize(
    ("nll", "reference", "frames", "words"),
    [
        pytest.param((3,), (3,), [1, 2, 3], "^shape of nll", id="one network without an axis"),
        pytest.param((2, 3, 1), (2, 3, 1), [[1], [2], [3]], "^shape of nll", id="three axes"),
        pytest.param((2, 3), (2, 3), [1, 2], "^shape of nll", id="two frames"),
        pytest.param((2, 3), (2,), [1, 2, 3], "^shape of nll", id="two references"),
        pytest.param((2, 3), (1, 3), [1, 2, 3], "^shape of nll", id="another reference"),
        pytest.param((2, 3), (3,), [1, 0, 3], "^frames is", id="no frame"),
        pytest.param((2, 3), (2, 3), [1, -1, 3], "^frames is", id="frames below 0"),
        pytest.param((2, 3), (2, 3), [1, np.inf, 3], "^frames is", id="infinite frames"),
        pytest.param((2, 3), (2, 3), [1, np.nan, 3], "^frames is", id="frames of no number"),
    ],
)
def test_sums_and_frames_that_do_not_fit_have_no_interval(nll, reference, frames, words):
    with pytest.raises(InvalidInputError, match=words):
        paired_interval(np.ones(nll), np.ones(reference), np.array(frames))


def test_one_sequence_has_no_interval():
    alone = paired_interval(np.ones((2, 1)), np.zeros(1), np.array([4.0]))
    assert np.isnan(alone).all() and np.shape(alone) == (2, 2)


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "mode"), [("chorales", "bias"), ("texts", "carry")])
def test_on_a_gpu_gates_and_lesions_are_the_same(kind, mode):
    build, data, _ = SUBJECTS[kind]
    model = build(depth=4, layers=2)
    ours, wanted = lesion(model, data, mode, device="cuda"), lesion(model, data, mode)
    assert ours.loss == pytest.approx(wanted.loss, rel=1e-10)
    ours, wanted = gate_activity(model, data, device="cuda"), gate_activity(model, data)
    assert np.allclose(ours.activity, wanted.activity, atol=1e-12)


@pytest.mark.parametrize(
    ("cell", "layer"),
    [pytest.param(RHN(3, 4, depth=2), 2, id="ours"), pytest.param(nn.GRU(3, 4), 1, id="torch")],
)
def test_a_cell_without_a_network_has_lesions_too(cell, layer):
    x = torch.rand(5, 2, 3)
    carried, shut = (lesioned(cell, Lesion(mode, (layer,))) for mode in ("carry", "bias"))
    torch.testing.assert_close(carried(x)[0], shut(x)[0])
