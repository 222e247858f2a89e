"""What a lesion does to a network, mode by mode, what the table says about it, and how often its
intervals contain the true difference.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import GATED, SUBJECTS, UNGATED, name, network, rolls
from scipy import stats
from tables import for_each

from analysis import Lesion, lesion, lesioned, paired_interval
from analysis.gates import gate_activity
from analysis.network import places
from rhn.cells import RHN
from rhn.errors import InvalidInputError

PIECES = SUBJECTS["chorales"][1]
EVERY = [*GATED, *UNGATED]
every_kind = pytest.mark.parametrize("kind", SUBJECTS)
OTHERS = [kind for kind in SUBJECTS if kind != "chorales"]
"""A lesion changes parameters of a cell, whatever its task: every cell is lesioned on chorales, the
first one on every kind of data.
"""


def subjects(cases):
    return [*(("chorales", case) for case in cases), *((kind, cases[0]) for kind in OTHERS)]


def outputs(model, T=8):
    """Logits of a network on random frames, (T, 1, 88)."""
    with torch.no_grad():
        return model(torch.from_numpy(rolls(T)[0]).double().unsqueeze(1))


@pytest.mark.parametrize(("kind", "case"), subjects(GATED), ids=name)
def test_bias_and_carry_agree_to_rounding(kind, case):
    (build, data, _), layers = SUBJECTS[kind], 2
    model = build(*case, layers=layers)
    by_bias, carried = (lesion(model, data, mode) for mode in ("bias", "carry"))
    assert by_bias.label == carried.label and by_bias.row_kind.count("layer") == layers * case[1]
    assert by_bias.loss == pytest.approx(carried.loss, rel=1e-12)
    for column in ("delta", "low", "high"):
        assert getattr(by_bias, column) == pytest.approx(getattr(carried, column), abs=1e-11)


@for_each(("case", "mode"), [*((c, "carry") for c in EVERY), *((c, "bias") for c in GATED)])
def test_lesioning_every_layer_freezes_the_state(case, mode):
    model = network(*case)
    whole, frozen = (
        outputs(model),
        outputs(lesioned(model, Lesion(mode, tuple(range(1, case[1] + 1))))),
    )
    assert (frozen == model.output.bias).all(), "the state starts at zero and stays there"
    assert (whole - whole[0]).abs().max() > 0.1


COUPLED, UNCOUPLED, LSTM, GRU = GATED
PLAIN, SHORTCUTS, LAST_SHORTCUT, RELU = UNGATED
LESIONED = [  # every mode, and in `bias` every kind of gates
    *(("chorales", case, "bias") for case in GATED),
    *(("chorales", case, "carry") for case in (COUPLED, LSTM, SHORTCUTS, LAST_SHORTCUT)),
    *(("chorales", case, "blind") for case in (COUPLED, PLAIN)),
    *(("texts", COUPLED, mode) for mode in ("bias", "carry")),
]


@pytest.mark.parametrize(("kind", "case", "mode"), LESIONED, ids=name)
def test_every_row_is_the_loss_of_that_network_alone(kind, case, mode):
    build, data, loss = SUBJECTS[kind]
    model = build(*case, layers=2)
    table = lesion(model, data, mode, pairs=True)
    assert table.baseline == pytest.approx(loss(model, data), rel=1e-12)
    number = {place.label: k for k, place in enumerate(places(model), start=1)}
    for row_kind in ("layer", "pair", "blind"):
        for label, (nats, damage, *_) in [*table.of_kind(row_kind).items()][:6]:
            layers = tuple(number[name] for name in label.split("+"))
            alone = lesioned(model, Lesion("blind" if row_kind == "blind" else mode, layers))
            assert nats == pytest.approx(loss(alone, data), rel=1e-12), label
            assert damage == pytest.approx(nats - table.baseline, abs=1e-14)


@pytest.mark.parametrize("mode", ["bias", "carry"])
@every_kind
def test_neither_how_many_networks_nor_how_many_texts_run_together_changes_a_loss(
    kind, mode, monkeypatch
):
    build, data, _ = SUBJECTS[kind]
    chorales = kind == "chorales"
    model = build(dtype=torch.float32 if chorales else torch.float64)
    tables = [lesion(model, data, mode, pairs=True, at_once=k) for k in (None, 1, 3)]
    monkeypatch.setattr("analysis.sequences.TEXT_BATCH_BYTES", 1)
    tables.append(lesion(model, data, mode, pairs=True))
    losses = [table.loss.tolist() for table in tables]
    for found in losses:
        assert found == (losses[0] if chorales else pytest.approx(losses[0], rel=1e-13))


@for_each("case", EVERY)
def test_a_blind_network_does_not_see_its_input_but_keeps_its_recurrence(case):
    blind = lesioned(network(*case), Lesion("blind", (1,)))
    seen, unseen = outputs(blind), blind(torch.zeros(8, 1, 88, dtype=torch.float64))
    assert torch.equal(seen, unseen)
    assert (seen[1] - seen[0]).abs().max() > 1e-3, "the bias still moves the state"


def test_layers_of_stacked_cells_are_counted_through_and_labelled():
    model = network(depth=2, layers=2)
    assert [place.label for place in places(model)] == ["1.1", "1.2", "2.1", "2.2"]
    table = lesion(model, PIECES, pairs=True)
    kinds = ("layer", "blind", "beyond blind", "pair")
    found = {kind: [*table.of_kind(kind)] for kind in kinds}
    assert (
        found["layer"] == ["1.1", "1.2", "2.1", "2.2"]
        and found["blind"] == ["1.1", "2.1"] == found["beyond blind"]
    )
    assert found["pair"][-1] == "2.1+2.2" and len(found["pair"]) == 6
    changed = lesioned(model, Lesion("bias", (3,)))
    assert (changed.cells[1].bias[0, 7:] == -1e4).all() and torch.equal(
        changed.cells[0].bias, model.cells[0].bias
    )


@for_each(("case", "mode"), [*((c, "carry") for c in (*GATED, SHORTCUTS)), (COUPLED, "bias")])
def test_beyond_blind_is_reported_where_the_lesion_blinds(case, mode):
    model = network(*case)
    cut = lesioned(model, Lesion(mode, (1,)))
    assert torch.equal(outputs(cut), cut(torch.zeros(8, 1, 88, dtype=torch.float64)))
    assert lesion(model, PIECES, mode).of_kind("beyond blind")


def test_damages_and_intervals_are_those_of_a_loop_over_networks_and_sequences():
    model, pieces = network(depth=2), [piece for piece in PIECES if len(piece) > 1]
    table = lesion(model, pieces)

    def nats(network) -> np.ndarray:
        sums = []
        for piece in pieces:
            frames = torch.from_numpy(piece).double().unsqueeze(1)
            with torch.no_grad():
                logits = network(frames)[:-1]
            loss = torch.nn.functional.binary_cross_entropy_with_logits
            sums.append(float(loss(logits, frames[1:], reduction="sum")))
        return np.array(sums)

    whole = nats(model)
    blind, off = (nats(lesioned(model, Lesion(mode, (1,)))) for mode in ("blind", "bias"))
    differences = {"layer": off - whole, "blind": blind - whole, "beyond blind": off - blind}
    frames = [len(piece) - 1 for piece in pieces]
    for kind, more in differences.items():
        _, damage, *ends = table.of_kind(kind)["1"]
        assert damage == pytest.approx(more.sum() / sum(frames), rel=1e-9)
        assert ends == pytest.approx(jackknife(more, frames), rel=1e-7)


def jackknife(more, frames) -> tuple[float, float]:
    """The 95 % interval of sum(more) / sum(frames), from the ratios without one sequence each."""
    N, whole, squares = len(frames), sum(more) / sum(frames), 0.0
    for left_out in range(N):
        rest = [i for i in range(N) if i != left_out]
        ratio = sum(more[i] for i in rest) / sum(frames[i] for i in rest)
        squares += (ratio - whole) ** 2
    return stats.t.interval(0.95, N - 1, whole, np.sqrt((N - 1) / N * squares))


@every_kind
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


@for_each(
    ("mode", "layers", "words"),
    [
        ("Bias", (1,), "mode of RHN is Bias: expected bias, carry, blind"),
        *(
            ("bias", layers, "expected a tuple of some of [1, 2, 3]")
            for layers in ((), (0,), (1, 9), 1)
        ),
    ],
)
def test_a_lesion_that_a_network_does_not_have_is_refused(mode, layers, words):
    with pytest.raises(InvalidInputError) as error:
        lesioned(network(), Lesion(mode, layers))
    assert words in str(error.value)


@every_kind
def test_the_constant_predictor_is_the_best_constant(kind):
    """Its loss is the least that one vector of logits has on the predicted steps."""
    build, data, _ = SUBJECTS[kind]
    rows = torch.from_numpy(np.concatenate([np.asarray(part)[1:] for part in data]).astype(float))
    targets = rows if kind == "chorales" else rows.long()
    logits = torch.zeros(88 if kind == "chorales" else 11, dtype=torch.float64, requires_grad=True)
    loss_fn = F.binary_cross_entropy_with_logits if kind == "chorales" else F.cross_entropy
    steps = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        steps.zero_grad()
        value = loss_fn(logits.expand(len(rows), -1), targets, reduction="sum") / len(rows)
        value.backward()
        return value

    steps.step(loss)
    assert lesion(build(), data).constant == pytest.approx(float(loss()), abs=1e-3)


def test_a_loss_that_is_not_finite_is_refused():
    model = network()
    with torch.no_grad():
        model.output.weight.fill_(1e308)
    with pytest.raises(InvalidInputError, match="not finite"):
        lesion(model, PIECES)


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


def test_long_sequences_weigh_by_their_frames():
    more, frames = np.array([100.0, 0.0, 90.0]), np.array([1.0, 999.0, 10.0])
    low, high = paired_interval(more[None], np.zeros(3), frames)
    assert (low[0], high[0]) == pytest.approx(jackknife(more, frames))
    assert (low + high) / 2 == pytest.approx(190 / 1010)


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


def test_each_layer_has_one_tick_on_both_axes_of_pairs():
    table = lesion(network(depth=2), rolls(6, 9), pairs=True)
    figure = table.figure()
    figure.canvas.draw()
    (pairs,) = (ax for ax in figure.get_axes() if ax.get_images() and ax.get_xlabel() == "layer")
    for axis in (pairs.xaxis, pairs.yaxis):
        shown = [text.get_text() for text in axis.get_ticklabels()]
        assert [*filter(None, shown)] == ["1", "2"]
