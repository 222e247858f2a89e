"""Tables of trials, exact shares and tests of them, and the two figures."""

import csv
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from operator import attrgetter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.legend import Legend
from scipy.stats import beta, fisher_exact

from optim_study.backend import finished_row
from optim_study.config import SCHEMES, StudyConfig
from optim_study.figures import _divided, plot_map, plot_swarm, swarm
from optim_study.results import (
    TrialRow,
    by_network,
    constant_of,
    csv_text,
    distinct_trials,
    read_csv,
    write_csv,
)
from optim_study.shares import (
    REGIONS,
    holm,
    share_block,
    short_table,
    training_shares,
    whole_table,
)
from rhn.errors import DataError, InvalidInputError

PLATEAU = 11.13


def row(arch="rhn", depth=1, trial=0, train=8.0, **changes) -> TrialRow:
    settings = {"learning_rate": 0.1, "init_std": 1e-4, "transform_bias": -1.0}
    best = {"best_train_nll": train, "best_valid_nll": train + 0.5, "test_nll": train + 0.6}
    usual = {"constant_nll": 11.16, "epochs": 100, "best_epoch": 90, "diverged": train > 30}
    own = {"arch": arch, "depth": depth, "trial": trial, "hidden_size": len(arch)}
    return TrialRow(**(own | settings | best | usual | changes))


def network(arch, depth, losses, **changes) -> list[TrialRow]:
    return [row(arch, depth, n, loss, **changes) for n, loss in enumerate(losses)]


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.builds(
            row,
            arch=st.sampled_from(["rhn", "my_cells.deep:Cell"]),
            train=numbers,
            learning_rate=st.floats(1e-30, 1e6),
            transform_bias=st.none() | numbers,
            init_scheme=st.sampled_from(SCHEMES),
            left_epoch=st.none() | st.integers(0, 10**6),
            diverged=st.booleans(),
        )
    )
)
def test_a_table_comes_back_to_the_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "trials.csv"
    write_csv(rows, path)
    assert read_csv(str(path)) == rows


def test_a_test_loss_that_overflowed_is_missing_and_not_the_largest_float(tmp_path):
    """0.7.0 wrote the largest float, which a mean would use."""
    path = tmp_path / "trials.csv"
    text = csv_text([row()])
    assert text.count(",8.6,") == 1
    path.write_text(text.replace(",8.6,", f",{sys.float_info.max!r},"))
    (found,) = read_csv(path)
    assert found == row(test_nll=None) and found.test_nll is None
    write_csv([found], path)
    (line,) = csv.DictReader(path.read_text().splitlines())
    assert line["test_nll"] == "", "which pandas reads as NaN"


@pytest.mark.parametrize("test_nll", [np.inf, np.nan])
def test_the_row_of_a_trial_whose_best_weights_overflow_on_the_test_pieces(test_nll):
    study = StudyConfig(arch="rnn", depth=1, data="toy")
    found = finished_row(study, 3, np.array([[11.0, 11.5], [9.0, 9.5]]), 8, test_nll, 11.16)
    assert (found.test_nll, found.train_nll, found.valid_nll) == (None, 9.0, 9.5)


@pytest.mark.parametrize(
    ("losses", "epoch"),
    [
        pytest.param([11.16, 10.94], None, id="never"),
        pytest.param([11.16, 0.98 * 11.16], None, id="just at it"),
        pytest.param([11.16, 11.0, 10.93, 11.1, 9.0], 2, id="twice"),
        pytest.param([10.0], 0, id="before training"),
    ],
)
def test_a_trial_leaves_its_plateau_below_98_percent_of_the_constant_predictor(losses, epoch):
    study = StudyConfig(arch="rnn", depth=1, data="toy")
    curve = np.array([losses, [9.0] * len(losses)]).T  # validation losses say nothing about it
    assert finished_row(study, 0, curve, 8, 9.6, 11.16).left_epoch == epoch


def test_a_trial_whose_validation_loss_overflows_has_diverged_and_the_losses_of_other_epochs():
    study = StudyConfig(arch="rnn", depth=1, data="toy")
    curve = np.array([[11.0, 11.5], [9.0, np.inf], [10.0, 10.5]])
    found = finished_row(study, 0, curve, 8, 9.6, 11.16)
    assert (found.diverged, found.best_epoch, found.epochs) == (True, 2, 2)
    assert (found.best_train_nll, found.train_nll, found.best_valid_nll) == (10.0, 10.0, 10.5)


@pytest.mark.parametrize(
    ("arch", "biases"),
    [pytest.param("rhn", "0 -1 -2 -3", id="gated"), pytest.param("rnn", None, id="without gates")],
)
def test_a_row_has_the_biases_of_its_study_if_the_cell_has_gates(arch, biases):
    study = StudyConfig(arch=arch, depth=1, data="toy")
    assert finished_row(study, 0, np.array([[9.0, 9.5]]), 8, 9.6, 11.16).transform_biases == biases


@pytest.mark.parametrize(
    ("scheme", "deviation"),
    [pytest.param("scaled", 8**-0.5, id="1 / sqrt(n)"), pytest.param("gaussian", None, id="drawn")],
)
def test_a_row_has_the_settings_and_the_protocol_of_its_study(scheme, deviation):
    study = StudyConfig(
        arch="dts-rnn", depth=3, data="0123456789abcdef", init_schemes=(scheme,), seed=5
    )
    found = finished_row(study, 7, np.array([[9.0, 9.5], [8.0, 8.25]]), 8, 9.6, 11.16)
    settings = study.settings(7)
    assert found == TrialRow(
        arch="dts-rnn", depth=3, trial=7, learning_rate=settings.learning_rate,
        init_std=deviation or settings.init_std, init_scheme=scheme, hidden_size=8,
        best_train_nll=8.0, best_valid_nll=8.25, best_epoch=1, train_nll=8.0, valid_nll=8.25,
        test_nll=9.6, constant_nll=11.16, epochs=1, left_epoch=0, diverged=False,
        learning_rate_range="0.0001 1", init_std_range="1e-08 0.01", init_schemes=scheme,
        objective="train", batch_size=32, momentum=0.9, max_epochs=1000, patience=100,
        budget_scale=1.0, data="0123456789ab", seed=5, fingerprint=study.fingerprint,
        toolkit_version=found.toolkit_version, torch_version=found.torch_version,
    )  # fmt: skip


def test_an_older_table_lacks_columns_and_a_malformed_one_is_refused_with_its_place(tmp_path):
    path, (head, values) = tmp_path / "trials.csv", csv_text([row()]).splitlines()
    path.write_text(f"{head.replace('init_schemes,objective', 'a,b')}\n{values}\n")
    assert read_csv(path) == [row()]
    wrong = {f"a{head}\n{values}\n": "line 2: .*'arch'", "x" * 200_000: "no table"}
    wrong |= {"": "no table of trials: expected a column arch", "a,b\n": "expected a column arch"}
    names = ("depth", "learning_rate", "init_scheme", "best_train_nll", "diverged", "seed")
    for name, damaged in product(names, ("x", "nan")):
        cells = values.split(",")
        cells[head.split(",").index(name)] = damaged
        wrong[f"{head}\n{','.join(cells)}\n"] = f"line 2: {name}|line 2: .*'{damaged}'"
    for text, message in wrong.items():
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_csv(path)


# shares


@pytest.mark.parametrize(
    ("count", "message"),
    [
        pytest.param(lambda: distinct_trials([]), "there are 0 trials: expected", id="no trials"),
        pytest.param(lambda: distinct_trials([1]), "a row is 1: expected a TrialRow", id="row"),
        pytest.param(lambda: training_shares([row()], "test"), "loss is 'test'", id="loss"),
        pytest.param(
            lambda: training_shares([row()], regions=["all"]), "region is 'all'", id="region"
        ),
    ],
)
def test_what_has_no_shares_is_refused(count, message):
    with pytest.raises(InvalidInputError, match=message):
        count()


def test_trials_are_of_one_network_if_their_studies_differ_in_the_seed_only():
    """A name has what differs between studies of its architecture, depth and optimizer."""
    usual = row(max_epochs=4, patience=3, hidden_size=3)
    draws = {"seed": 0, "fingerprint": "a"}, {"seed": 1, "fingerprint": "b"}
    seeds = [replace(usual, trial=trial, **draw) for trial, draw in enumerate(draws)]
    longer, deep = replace(usual, max_epochs=9), replace(usual, depth=4, max_epochs=7)
    other, wide = (replace(usual, arch="gru", hidden_size=size) for size in (3, 5))
    adam = replace(usual, optimizer="adam", batch_size=5)
    found = by_network([adam, deep, *seeds[::-1], other, wide, longer])
    assert list(found.items()) == [
        ("rhn, depth 1, adam", [adam]),
        ("rhn, depth 1, max epochs 4", seeds),
        ("rhn, depth 1, max epochs 9", [longer]),
        ("rhn, depth 4", [deep]),
        ("gru, depth 1, hidden size 3", [other]),
        ("gru, depth 1, hidden size 5", [wide]),
    ]


def test_a_constant_predictor_is_that_of_all_rows_or_none():
    rows = [row(), row(trial=1)]
    assert constant_of(rows, "train") == 11.16
    assert constant_of(rows, "valid") is None, "its loss is that of the training pieces"
    assert constant_of([*rows, row(constant_nll=9.0)], "train") is None


def test_the_table_of_known_shares(snapshot):
    rows = network("rhn", 4, [7.0] * 15 + [9.5] + [PLATEAU] * 44, hidden_size=20)
    rows += network("dt-rnn", 4, [9.4, *[PLATEAU] * 58, 60.5], transform_bias=None)
    assert whole_table(share_block(training_shares(rows), rows, "train", 9.5)) == snapshot
    assert (
        short_table(share_block(training_shares(rows, "valid", 9.95), rows, "valid", 9.95))
        == snapshot
    )
    assert "11.16" not in whole_table(share_block([], [*rows, row(constant_nll=9.0)], "train", 9.5))


@given(st.lists(st.sampled_from([1e-9, 0.01, 0.01, 0.2, 0.5]) | st.floats(0, 1), max_size=9))
def test_holms_method_is_a_chain_of_bonferroni_corrections(p):
    """By definition: the largest of min(1, p[j] times the number of tests with p >= p[j]) over the
    tests j with p[j] <= p[k].
    """

    def alone(value):
        return min(1.0, value * sum(other >= value for other in p))

    expected = [max(alone(other) for other in p if other <= value) for value in p]
    assert holm(p) == pytest.approx(expected)


CHOICES = {
    "arch": ["rhn", "dt-rnn"],
    "depth": [1, 4],
    "optimizer": ["sgd", "adam"],
    "max_epochs": [4, 9],
    "seed": [0, 1],
    "init_scheme": ["gaussian", "orthogonal"],
    "init_std": [9e-9, 1e-8, 1e-2, 0.011],
    "learning_rate": [9e-6, 1e-5, 1e-4, 0.1, 1.0, 1.1],
    "train": [7.0, 9.4, 9.5, 60.5],
}
alike = attrgetter("depth", "optimizer", "max_epochs")
WHOLE = "all settings"


def region(r: TrialRow) -> str:
    inside = 1e-4 <= r.learning_rate <= 1.0 and 1e-8 <= r.init_std <= 1e-2
    if r.init_scheme != "gaussian":
        return r.init_scheme
    return "paper's range" if inside else "outside the paper's range"


@given(st.randoms(use_true_random=True), st.sampled_from(["train", "valid"]))
def test_shares_are_counted_and_compared_by_hand(random, loss):
    """All trials of a network are compared with those of the RHN that differs from it in nothing
    else but the size; the regions are only counted.
    """
    some = {name: random.sample(all, random.randint(1, len(all))) for name, all in CHOICES.items()}
    rows = [row(trial=k, **{n: random.choice(some[n]) for n in some}) for k in range(60)]
    bad = random.choice(["none", "rhn", "dt-rnn"])
    rows = [replace(r, best_train_nll=60.5) if r.arch == bad else r for r in rows]
    found, networks, tested = training_shares(rows, loss, 9.5, REGIONS), by_network(rows), []
    counts = Counter((r.arch, alike(r), name) for r in rows for name in (WHOLE, region(r)))
    keys = {key for key, n in counts.items() if WHOLE in key or n < counts[*key[:2], WHOLE]}
    assert len({(share.network, share.region) for share in found}) == len(found) == len(keys)
    for share in found:
        here = [r for r in rows if share.region in (WHOLE, region(r))]
        own = [r for r in here if r in networks[share.network]]
        ((arch, protocol),) = {(r.arch, alike(r)) for r in own}
        assert (arch, protocol, share.region) in keys
        assert share.seeds.split() == sorted({str(r.seed) for r in own})
        rhns = [r for r in here if r.arch == "rhn" and alike(r) == protocol]
        losses, others = (np.array([r.loss(loss) for r in each]) for each in (own, rhns))
        k, n, j, m = (losses < 9.5).sum(), len(losses), (others < 9.5).sum(), len(others)
        assert (share.hidden_size, share.trials, share.below) == (len(arch), n, k)
        assert (share.diverged, share.share) == (sum(r.diverged for r in own), k / n)
        assert (share.best, share.median) == (losses.min(), np.median(losses))
        low = np.nan_to_num(beta.ppf(0.025, k, n - k + 1))  # Clopper and Pearson
        high = np.nan_to_num(beta.ppf(0.975, k + 1, n - k), nan=1)
        assert (share.low, share.high) == pytest.approx((low, high), rel=1e-6)
        if share.region != WHOLE or arch == "rhn" or not rhns:
            assert share.p is share.p_holm is None
        else:
            tested.append(share)
            assert share.p == pytest.approx(fisher_exact([[k, n - k], [j, m - j]]).pvalue)
    assert [share.p_holm for share in tested] == holm([share.p for share in tested])


def test_an_architecture_is_compared_with_the_rhn_of_its_depth_and_protocol_only():
    """Two tests are corrected together, whatever regions are counted beside all settings."""
    rows = network("rhn", 1, [7.0] * 9 + [PLATEAU], max_epochs=4)
    rows += network("gru", 1, [7.0] + [PLATEAU] * 9, max_epochs=4)
    rows += network("rhn", 4, [7.0] * 5 + [PLATEAU] * 5, max_epochs=4)
    rows += network("gru", 4, [PLATEAU] * 10, max_epochs=4)
    rows += network("gru", 1, [7.0] * 3, max_epochs=9)
    one = fisher_exact([[1, 9], [9, 1]]).pvalue
    four = fisher_exact([[0, 10], [5, 5]]).pvalue
    assert 2 * one < four
    wanted = {"gru, depth 1, max epochs 4": (one, 2 * one), "gru, depth 4": (four, four)}
    rows[0] = replace(rows[0], init_std=0.1)
    for regions in (REGIONS[:1], REGIONS[:3], REGIONS[2::-1]):
        found = training_shares(rows, regions=regions)
        tests = {(s.network, s.region): (s.p, s.p_holm) for s in found if s.p is not None}
        assert len(found) == 5 + 2 * (len(regions) > 1) and len(tests) == len(wanted)
        assert share_block(found, rows, "train", 9.5).title == "Holm over 2 tests against rhn"
        for name, values in wanted.items():
            assert tests[name, WHOLE] == pytest.approx(values)


def test_no_network_is_compared_with_one_of_several_rhns():
    """The RHN has gate biases, of which other architectures have none."""
    rows = network("gru", 1, [PLATEAU] * 9) + network("rhn", 1, [7.0] * 9, transform_biases="-1")
    assert [share.p is None for share in training_shares(rows)] == [False, True]
    rows += network("rhn", 1, [7.0] * 9, transform_biases="-2")
    assert [share.p for share in training_shares(rows)] == [None, None, None]


def test_a_region_with_all_trials_of_a_network_is_left_out_beside_all_settings():
    rows = network("rhn", 1, [7.0] * 3) + network("gru", 1, [7.0] * 3, init_std=0.1)
    inside, outside = REGIONS[1:3]
    shares = [(share.network, share.region) for share in training_shares(rows, regions=REGIONS)]
    assert shares == [("rhn, depth 1", WHOLE), ("gru, depth 1", WHOLE)]
    shares = [(s.network, s.region) for s in training_shares(rows, regions=(inside, outside))]
    assert shares == [("rhn, depth 1", inside), ("gru, depth 1", outside)]


def test_the_seeds_of_pooled_trials_are_named():
    rows = network("gru", 1, [7.0] * 2, seed=10) + network("gru", 1, [8.0] * 2, seed=9)
    rows += [replace(r, arch="rhn", seed=None) for r in rows]
    assert [share.seeds for share in training_shares(rows)] == ["9 10", None]


def test_a_trial_counts_once_however_often_it_is_there(caplog):
    """A copy, a run of the same study again with other bits, another seed and another budget."""
    without = network("dt-rnn", 2, [PLATEAU] * 12) + network("rhn", 2, [8.0] * 3 + [PLATEAU] * 9)
    rows = [replace(r, fingerprint=f"of {r.arch}") for r in without]
    for once, again in ((without, without[::-1]), (rows, [replace(rows[12], test_nll=8.1), *rows])):
        caplog.clear()
        assert distinct_trials(once + again) == once
        assert caplog.messages == [f"repeated trials left out: {len(again)}"]
        assert training_shares(once + again) == training_shares(once)
    others = [{"fingerprint": "b"}, {"seed": 1}, {"hidden_size": 8}, {"learning_rate": 0.2}]
    joined = [row(), *(row(**change) for change in others), row(trial=1), row(depth=2)]
    assert distinct_trials(iter(joined)) == joined


# figures

AREA = [
    replace(r, init_std=10.0**-r.trial, init_scheme=SCHEMES[r.trial % 2])
    for arch, depth in product(("rhn", "dt-rnn"), (1, 4))
    for r in network(arch, depth, [7.0, 9.5, 9.5, 60.5, 7.0, 60.5])
]


def test_every_trial_is_a_point_at_its_loss_with_its_median_and_counts():
    axes, groups = plot_swarm(AREA, size=2.0).axes, by_network(AREA)
    columns = [points for ax in axes for points in ax.collections]
    medians = [line for ax in axes for line in ax.lines if line.get_gid() == "median"]
    names = [label.get_text() for ax in axes for label in ax.get_xticklabels()]
    assert {line.get_ydata()[0] for line in axes[0].lines if len(line.get_ydata())} >= {9.5, 11.16}
    for points, line, name, own in zip(columns, medians, names, groups.values(), strict=True):
        losses, k = [r.best_train_nll for r in own], line.get_xdata().mean()
        offsets = np.asarray(points.get_offsets())
        np.testing.assert_allclose(offsets[:, 1], losses, rtol=1e-9)
        assert (np.abs(offsets[:, 0] - k) <= 0.5).all(), "a column's points stay in it"
        assert line.get_ydata()[0] == np.median(losses)
        assert "2 of 6 best 7" in name.replace("\n", " ")
        hollow = [(color == 1).all() for color in points.get_facecolor()]
        assert hollow == [r.diverged for r in own]


@pytest.mark.parametrize(
    ("most", "lines"),
    [
        pytest.param(4, ["1 2 3 4"], id="all"),
        pytest.param(3, ["1 2 3", "4"], id="by architecture"),
        pytest.param(2, ["1 2", "3", "4"], id="as many as fit"),
    ],
)
def test_the_columns_of_a_swarm_are_on_one_line_or_each_architecture_is(most, lines):
    networks = [row(depth=1), row(depth=2), row(depth=4), row("gru")]
    columns = {str(number): [one] for number, one in enumerate(networks, 1)}
    assert _divided(columns, most) == [line.split() for line in lines]


@given(st.lists(st.sampled_from([0.0, 1.0, 1.5]) | st.floats(0, 9), max_size=40), st.booleans())
def test_a_swarm_stays_near_the_middle_and_within_its_room(heights, narrow):
    heights, room = np.array(heights), 3.0 if narrow else 50.0
    places = swarm(heights, 1.0, room)
    assert (np.abs(places) <= room).all()
    # a point is in the middle, or as far from it as another point pushes it
    gaps = np.hypot(places[:, None] - places, heights[:, None] - heights)
    np.fill_diagonal(gaps, 9.0)
    nearest = gaps.min(1, initial=9.0)
    assert ((np.abs(places) < 1e-12) | (nearest < 1.0 + 1e-6)).all()
    assert narrow or (nearest > 1 - 1e-6).all(), "no point covers another"


@pytest.mark.parametrize(
    ("heights", "room", "places"),
    [
        pytest.param([0.0] * 5, 9.0, [0, -1, 1, -2, 2], id="side by side, on both sides"),
        pytest.param([0.0] * 5, 1.5, [0, -1, 1, -1.5, 1.5], id="within the room"),
        pytest.param([0.0, 0.6], 9.0, [0, -0.8], id="at a distance of one"),
        pytest.param([0.6, 0.0, 0.6], 9.0, [-0.8, 0, 0.8], id="from below"),
        pytest.param([0.0, 1.0, 2.0], 9.0, [0, 0, 0], id="above each other"),
    ],
)
def test_points_of_size_one_are_beside_each_other(heights, room, places):
    assert swarm(np.array(heights), 1.0, room) == pytest.approx(places)


@pytest.mark.parametrize(("loss", "kind"), [("train", "training"), ("valid", "validation")])
def test_the_title_and_legend_of_a_map_name_its_axes_and_the_loss_of_filled_symbols(loss, kind):
    figure = plot_map(AREA, loss=loss, size="slide")
    assert figure.get_suptitle() == "Learning rate and initial standard deviation of 24 trials"
    labels = [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]
    assert f"filled: {kind} loss below 9.5" in labels


def test_the_map_shows_every_setting_its_scheme_and_whether_it_trained():
    for ax, own in zip(plot_map(AREA).axes, by_network(AREA).values(), strict=True):
        found = [
            (points.get_gid(), len(points.get_facecolors()) > 0, *place)
            for points in ax.collections
            for place in np.asarray(points.get_offsets()).tolist()
        ]
        wanted = [(r.init_scheme, r.best_train_nll < 9.5, r.learning_rate, r.init_std) for r in own]
        assert sorted(found) == sorted(wanted)
        (box,) = ax.patches
        assert box.get_bbox().extents.tolist() == pytest.approx([1e-4, 1e-8, 1, 1e-2])
