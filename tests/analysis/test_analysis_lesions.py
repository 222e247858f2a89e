"""What a lesion does to a network, mode by mode, what the table says about it, and how often its
intervals contain the true difference.
"""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from networks import GATED, SHUT, SUBJECTS, UNGATED, network, rolls
from scipy import stats
from tables import for_each

from analysis import Lesion, lesion, lesioned, paired_interval
from analysis.gates import gate_activity
from rhn.cells import RHN
from rhn.errors import InvalidInputError

COUPLED, UNCOUPLED, LSTM, GRU = GATED
LESIONED = [
    *(("chorales", case, mode) for case in GATED for mode in ("bias", "carry")),
    *(("chorales", case, "carry") for case in UNGATED),
    *(("chorales", case, "blind") for case in (COUPLED, UNGATED[0])),
    *(("texts", COUPLED, mode) for mode in ("bias", "carry", "blind")),
]


def edited(model, kind, mode, layers):
    """A network without some layers, each a (cell, layer) counted from 1: its weights by hand, or
    a loop over the steps and layers of one without gates.
    """
    model = copy.deepcopy(model)
    if mode != "blind" and kind not in SHUT:
        return lambda x: loop(model, x, layers)
    with torch.no_grad():
        for number, layer in layers:
            cell = model.cells[number - 1]
            if mode == "blind":
                cell.weight_ih.zero_()
            else:
                for block, value in SHUT[kind].items():
                    bias = cell.bias.view(cell.depth, -1)[layer - 1]
                    bias[7 * block : 7 * block + 7] = value
    return model


def loop(model, x, without):
    for number, cell in enumerate(model.cells, start=1):
        s, outputs = x.new_zeros(x.shape[1], cell.state_size), []
        for x_t in x:
            y = s
            for layer in range(cell.depth):
                if (number, layer + 1) not in without:
                    s = cell.run_layer(layer, x_t, s, y)
            outputs.append(cell.outputs_of(s))
        x = torch.stack(outputs)
    return model.output(x)


@pytest.mark.parametrize(("kind", "case", "mode"), LESIONED, ids=str)
def test_each_row_is_of_copies_edited_by_hand(kind, case, mode):
    (build, data, nats_of), (cell, depth, _) = SUBJECTS[kind], case
    model = build(*case, layers=2)
    table, whole = lesion(model, data, mode, pairs=True), nats_of(model, data)
    frames = [len(part) - 1 for part in data if len(part) > 1]
    every = [(k, layer) for k in (1, 2) for layer in range(1, depth + 1)]
    own = [place for place in every if mode != "blind" or place[1] == 1]
    first = [] if mode == "blind" else [(1, 1), (2, 1)]
    rows = [("layer", [place]) for place in own] + [("pair", [*two]) for two in combinations(own, 2)]
    rows += [(row, [place]) for row in ("blind", "beyond blind") for place in first]
    names = ["+".join(f"{k}.{layer}" for k, layer in layers) for _, layers in rows]
    assert [*zip(table.row_kind, table.label, strict=True)] == [
        (row, name) for (row, _), name in zip(rows, names, strict=True)
    ]
    assert (table.sequences, table.frames) == (4, sum(frames))
    assert table.baseline == pytest.approx(whole.sum() / sum(frames), rel=1e-12)
    found = np.stack([table.loss, table.delta, table.low, table.high], 1)
    for (row, layers), (loss, *difference) in zip(rows, found, strict=True):
        off = nats_of(edited(model, cell, "blind" if row == "blind" else mode, layers), data)
        other = nats_of(edited(model, cell, "blind", layers), data) if "beyond" in row else whole
        assert loss == pytest.approx(off.sum() / sum(frames), rel=1e-12)
        wanted = [(off - other).sum() / sum(frames), *jackknife(off - other, frames)]
        assert difference == pytest.approx(wanted, rel=1e-9, abs=1e-11)
    number = every.index(own[-1]) + 1
    alone = nats_of(lesioned(model, Lesion(mode, (number,))), data)
    assert found[len(own) - 1, 0] == pytest.approx(alone.sum() / sum(frames), rel=1e-12)


def jackknife(more, frames) -> tuple[float, float]:
    """The 95 % interval of sum(more) / sum(frames), from the ratios without one sequence each."""
    N, whole, squares = len(frames), sum(more) / sum(frames), 0.0
    for left_out in range(N):
        rest = [i for i in range(N) if i != left_out]
        ratio = sum(more[i] for i in rest) / sum(frames[i] for i in rest)
        squares += (ratio - whole) ** 2
    return stats.t.interval(0.95, N - 1, whole, np.sqrt((N - 1) / N * squares))


@for_each(("kind", "mode"), [(kind, mode) for kind in SUBJECTS for mode in ("bias", "carry")])
def test_neither_how_many_networks_nor_how_many_texts_run_together_changes_a_loss(kind, mode):
    build, data, _ = SUBJECTS[kind]
    chorales = kind == "chorales"
    model = build(dtype=torch.float32 if chorales else torch.float64)
    tables = [lesion(model, data, mode, pairs=True, at_once=k) for k in (None, 1, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.sequences.TEXT_BATCH_BYTES", 1)
        tables.append(lesion(model, data, mode, pairs=True))
    losses = [table.loss.tolist() for table in tables]
    for found in losses:
        assert found == (losses[0] if chorales else pytest.approx(losses[0], rel=1e-13))


@for_each("kind", SUBJECTS)
def test_the_network_given_is_left_as_it_was(kind):
    build, data, _ = SUBJECTS[kind]
    model = build().train()
    before, modules = copy.deepcopy(model.state_dict()), [name for name, _ in model.named_modules()]
    gate_activity(model, data)
    for mode in ("bias", "carry"):
        lesion(model, data, mode)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [name for name, _ in model.named_modules()] == modules
    assert not any(cell._forward_pre_hooks for cell in model.cells)


@for_each("lesion", [Lesion("Bias", (1,)), *(Lesion("bias", k) for k in ((), (0,), (1, 9), 1))])
def test_a_lesion_that_a_network_does_not_have_is_refused(lesion):
    with pytest.raises(InvalidInputError, match=r"mode of RHN is Bias|some of \[1, 2, 3\]"):
        lesioned(network(), lesion)


@for_each("kind", SUBJECTS)
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
    assert not np.isfinite(found.delta[1]) and np.isnan(found.low[1])
    cell.bias.data[1, 7:] = -1e4
    with pytest.raises(InvalidInputError, match="not finite"):
        lesion(model, rolls(6, 9))


LENGTHS = {
    "equal": lambda N: np.full(N, 200.0),
    "20 to 120": lambda N: np.random.default_rng(1).integers(20, 121, N).astype(float),
    "a short last one": lambda N: np.array([200.0] * (N - 1) + [50.0]),
}


@for_each("N", [2, 3, 4, 8, 12, 30])
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


@for_each("N", [2, 3, 12])
def test_the_interval_of_sequences_of_equal_length_is_student_s(N):
    more = np.random.default_rng(N).exponential(size=(1, N))
    low, high = paired_interval(60 * more, np.zeros(N), np.full(N, 60.0))
    student = stats.ttest_1samp(more[0], 0).confidence_interval(0.95)
    assert (low[0], high[0]) == pytest.approx(student, rel=1e-12)


def test_one_sequence_or_an_infinite_loss_has_no_interval():
    alone = paired_interval(np.ones((2, 1)), np.zeros(1), np.array([4.0]))
    assert np.isnan(alone).all() and np.shape(alone) == (2, 2)
    infinite = np.array([[1.0, np.inf, 2.0], [1.0, 1.0, 2.0]])
    low, high = paired_interval(infinite, np.zeros(3), np.full(3, 4.0))
    assert np.isnan([low[0], high[0]]).all() and np.isfinite([low[1], high[1]]).all()


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "mode"), [("chorales", "bias"), ("texts", "carry")])
def test_on_a_gpu_gates_and_lesions_are_the_same(kind, mode):
    build, data, _ = SUBJECTS[kind]
    model = build(depth=4, layers=2)
    ours, wanted = lesion(model, data, mode, device="cuda"), lesion(model, data, mode)
    assert ours.loss == pytest.approx(wanted.loss, rel=1e-10)
    ours, wanted = gate_activity(model, data, device="cuda"), gate_activity(model, data)
    assert np.allclose(ours.activity, wanted.activity, atol=1e-12)


def test_a_cell_without_a_network_has_lesions_too():
    cell, x = RHN(3, 4, depth=2), torch.rand(5, 2, 3)
    carried, shut = (lesioned(cell, Lesion(mode, (2,))) for mode in ("carry", "bias"))
    torch.testing.assert_close(carried(x)[0], shut(x)[0])
