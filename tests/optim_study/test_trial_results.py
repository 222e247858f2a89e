"""Tables of trials, and what is read from them: exact shares and tests."""

from dataclasses import replace
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, fisher_exact
from tables import for_each

from optim_study.config import OPTIMIZERS, SCHEMES
from optim_study.results import (
    TRIAL_COLUMNS,
    TrialRow,
    by_network,
    csv_text,
    distinct_trials,
    read_csv,
    write_csv,
)
from optim_study.shares import (
    ALL_TRIALS,
    OUTSIDE,
    PAPERS_RANGE,
    REGIONS,
    region,
    share_table,
    training_shares,
)
from rhn.errors import DataError

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
PLATEAU = 11.13


def row(arch="rhn", depth=1, trial=0, train=8.0, **changes) -> TrialRow:
    settings = {"learning_rate": 0.1, "init_std": 1e-4, "transform_bias": -1.0, "hidden_size": 7}
    losses = {
        "best_train_nll": train,
        "best_valid_nll": train + 0.5,
        "train_nll": train,
        "valid_nll": train + 0.7,
    }
    others = {
        "test_nll": train + 0.6,
        "constant_nll": 11.16,
        "epochs": 100,
        "best_epoch": 90,
        "diverged": False,
    }
    return TrialRow(arch=arch, depth=depth, trial=trial, **(settings | losses | others | changes))


def network(arch, depth, losses, **changes) -> list[TrialRow]:
    return [row(arch, depth, n, loss, **changes) for n, loss in enumerate(losses)]


numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.builds(
        row,
        arch=st.sampled_from(["rhn", "dt-rnn", "my_cells.deep:Cell"]),
        train=numbers,
        learning_rate=st.floats(1e-30, 1e6),
        transform_bias=numbers,
        constant_nll=st.none() | numbers,
        optimizer=st.sampled_from(OPTIMIZERS),
        init_scheme=st.sampled_from(SCHEMES),
        left_epoch=st.none() | st.integers(0, 10**6),
        diverged=st.booleans(),
    )
)


def test_what_a_cell_does_not_have_is_empty_in_a_table(tmp_path):
    """Depths and biases are those of the rows: no name of a cell is read."""
    rows = [row("rhn", 2), row("gru-deep", 2), row("lstm", 1, transform_bias=None)]
    lines = [line.split(",") for line in csv_text(rows).splitlines()[1:]]
    found = [
        (line[TRIAL_COLUMNS.index("depth")], line[TRIAL_COLUMNS.index("transform_bias")])
        for line in lines
    ]
    assert found == [("2", "-1.0"), ("2", "-1.0"), ("1", "")]
    assert list(by_network(rows)) == ["rhn, depth 2", "gru-deep, depth 2", "lstm, depth 1"]
    write_csv(rows, tmp_path / "trials.csv")
    assert read_csv(str(tmp_path / "trials.csv")) == rows


def test_a_table_of_an_older_version_lacks_columns(tmp_path):
    path = tmp_path / "trials.csv"
    path.write_text(csv_text([row()]).replace("init_schemes,objective", "a,b"))
    assert read_csv(path) == [row()]


@given(rows)
def test_a_table_comes_back_to_the_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "trials.csv"
    write_csv(rows, path)
    assert read_csv(path) == rows


@for_each(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "line 2: .*'arch', 'depth'"),
        (csv_text([row()]).replace("8.0", "eight", 1), "line 2: .*'eight'"),
        (csv_text([row()]).replace("8.0", "nan", 1), "line 2: best_train_nll is nan"),
        (csv_text([row()]).replace("gaussian", "xavier"), "line 2: init_scheme is 'xavier'"),
        (csv_text([row()]).replace("0.1", "0.0", 1), "line 2: learning_rate is 0.0"),
        (csv_text([row()]).replace("False", "no"), "line 2: diverged is 'no'"),
        (csv_text([row()]).replace("rhn,1", "rhn,"), "line 2: .*'depth'"),
        ("x" * 200_000, "no table of trials"),
    ],
)
def test_a_malformed_table_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "trials.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_csv(path)


def test_networks_of_several_optimizers_are_apart_and_compared_under_their_own():
    rows = [
        r
        for optimizer, learned in (("adam", 9), ("sgd", 0))
        for arch, losses in (
            ("rhn", [7.0] * 9),
            ("dt-rnn", [7.0] * learned + [PLATEAU] * (9 - learned)),
        )
        for r in network(arch, 4, losses, optimizer=optimizer)
    ]
    found = training_shares(rows)
    assert [s.below for s in found] == [9, 9, 9, 0]
    assert found[1].p == 1 and found[3].p == pytest.approx(2 / comb(18, 9))
    names = [share.network for share in found]
    assert names == [
        *("rhn, depth 4, adam", "dt-rnn, depth 4, adam"),
        *("rhn, depth 4", "dt-rnn, depth 4"),
    ]


def test_the_printed_table_has_every_share_and_the_constant_predictor():
    rows = network("rhn", 4, [7.0] * 15 + [PLATEAU] * 45) + network("dt-rnn", 4, [PLATEAU] * 60)
    found = training_shares(rows)
    head, first, second, constant, page = share_table(found, rows, "train", 9.5).splitlines()
    assert head.split("  ")[0] == "network" and "below 9.5" in head
    assert first.split()[-10:] == [
        *("60", "0", "7", "11.13", "15"),
        *("0.25", "0.1472", "0.3786", "-", "-"),
    ]
    p = f"{fisher_exact([[0, 60], [15, 45]]).pvalue:.4g}"
    assert second.split()[-2:] == [p, p]
    assert "11.16" in constant.split() and page == "rows explained: docs/guides/study.md"
    assert "11.16" not in share_table(found, rows, "valid", 9.5)


def test_shares_are_counted_below_the_threshold_and_their_intervals_are_exact():
    assert training_shares(network("rhn", 1, [PLATEAU] * 60))[0].high == pytest.approx(
        0.0596, abs=1e-4
    )
    (share,) = training_shares(
        network("rhn", 4, [7.0] * 15 + [9.5] + [PLATEAU] * 44, hidden_size=20)
    )
    assert (share.below, share.trials, share.share, share.best) == (15, 60, 0.25, 7.0)
    assert (share.median, share.hidden_size, share.p) == (PLATEAU, 20, None)
    # by definition: 15 or more, or 15 or fewer, have a chance of 2.5 % each
    low, high = share.low, share.high
    assert binom.sf(14, 60, low) == pytest.approx(0.025) and binom.cdf(
        15, 60, high
    ) == pytest.approx(0.025)
    assert training_shares(network("rhn", 4, [9.4, 9.6]), below=9.3)[0].below == 0


def test_architectures_are_compared_with_the_rhn_of_their_depth():
    """The committed small study: Fisher's exact test, Holm's correction over its eight tests."""
    shares = training_shares(read_csv(RESULTS / "small-study.csv"))
    names = [share.network.split(", depth ") for share in shares]
    found = {(arch, int(d)): s for (arch, d), s in zip(names, shares, strict=True)}
    p = {key: share.p for key, share in found.items() if key[0] != "rhn"}
    assert [p["dt-rnn", d] for d in (2, 4, 6)] == pytest.approx([0.683, 2.25e-5, 5.91e-4], rel=2e-3)
    assert all(found["rhn", d].p is None for d in (1, 2, 4, 6))
    assert found["dt-rnn", 4].p_holm == pytest.approx(8 * p["dt-rnn", 4])
    assert max(found[arch, d].p_holm for arch in ("dt-rnn", "dts-rnn") for d in (4, 6)) < 0.01


@pytest.fixture(scope="module")
def area():
    """By hand: in the paper's box 2 of 3 RHNs and 0 of 2 DT-RNNs train, above it 1 of 1 and 1 of 2,
    orthogonal 0 of 1 and 2 of 2.
    """
    settings = {
        "rhn": [(1e-8, 7.0), (1e-2, 8.0), (1e-4, PLATEAU), (0.5, 9.4), ("orthogonal", PLATEAU)],
        "dt-rnn": [
            (1e-8, PLATEAU),
            (1e-2, 9.5),
            (0.011, 9.0),
            (1.0, 60.5),
            ("orthogonal", 8.0),
            ("orthogonal", 8.1),
        ],
    }
    return [
        row(
            arch,
            4,
            n,
            loss,
            **({"init_scheme": at, "init_std": 0.2} if isinstance(at, str) else {"init_std": at}),
        )
        for arch, trials in settings.items()
        for n, (at, loss) in enumerate(trials)
    ]


def test_a_trial_counts_once_however_often_it_is_there(caplog):
    """A copy, a run of the same study again with other bits, another seed and another budget."""
    study = network("dt-rnn", 2, [PLATEAU] * 12) + network("rhn", 2, [8.0] * 3 + [PLATEAU] * 9)
    for of_version in ({}, {"fingerprint": "of "}):
        rows = [
            replace(r, **{name: value + r.arch for name, value in of_version.items()})
            for r in study
        ]
        again = [replace(rows[12], best_train_nll=8.01), *rows[:12], *rows[13:]]
        caplog.clear()
        share = training_shares(rows + again)[0]
        assert (share.trials, share.p) == (
            12,
            pytest.approx(fisher_exact([[0, 12], [3, 9]]).pvalue),
        )
        assert distinct_trials(rows + again) == rows
        assert caplog.messages[0] == "repeated trials left out: 24"
    others = [{"fingerprint": "b"}, {"seed": 1}, {"hidden_size": 8}, {"learning_rate": 0.2}]
    joined = [row(), *(row(**change) for change in others), row(trial=1), row(depth=2)]
    caplog.clear()
    assert distinct_trials(iter(joined)) == joined and not caplog.messages


@for_each(
    ("changes", "names"),
    [
        ({"hidden_size": 5}, ["hidden size 7", "hidden size 5"]),
        (
            {"max_epochs": 4, "patience": 2},
            ["max epochs 9, patience 3", "max epochs 4, patience 2"],
        ),
        ({"objective": "valid"}, ["objective train", "objective valid"]),
        ({"init_schemes": "scaled"}, ["init schemes gaussian", "init schemes scaled"]),
        ({"data": "b"}, ["data a", "data b"]),
    ],
)
def test_studies_that_differ_in_anything_but_the_seed_are_two_networks(changes, names):
    protocol = {"max_epochs": 9, "patience": 3, "objective": "train", "init_schemes": "gaussian"}
    protocol |= {"data": "a", "seed": 0}
    study = network("rhn", 1, [8.0] * 3, fingerprint="a", **protocol)
    other = network("rhn", 1, [8.0] * 3, fingerprint="b", **protocol | changes)
    found = training_shares(study + other)
    assert [s.trials for s in found] == [3, 3]
    assert [s.network for s in found] == [f"rhn, depth 1, {name}" for name in names]
    seeds = [replace(r, seed=1) for r in network("rhn", 1, [8.0], fingerprint="c", **protocol)]
    assert [s.trials for s in training_shares(study + seeds)] == [4]
    networks = [replace(r, arch="dt-rnn", transform_bias=None) for r in other]
    found = training_shares(study + networks)
    assert [s.network for s in found] == ["rhn, depth 1", "dt-rnn, depth 1"]
    assert (found[1].p is None) == ("hidden_size" not in changes), "compared in one protocol"


def test_regions_with_the_same_trials_are_one_test():
    rows = [
        r
        for arch, train in (("rhn", 7.0), ("dt-rnn", PLATEAU))
        for r in network(arch, 4, [train] * 6)
    ]
    whole, box = training_shares(rows, regions=(ALL_TRIALS, PAPERS_RANGE))[2:]
    assert whole.p == whole.p_holm == box.p == box.p_holm == pytest.approx(2 / comb(12, 6))


def test_regions_are_counted_by_hand(area):
    shares = training_shares(area, regions=REGIONS)
    found = {(s.network.split(",")[0], s.region): s for s in shares}
    assert {key: (s.below, s.trials) for key, s in found.items()} == {
        ("rhn", ALL_TRIALS): (3, 5),
        ("rhn", PAPERS_RANGE): (2, 3),
        ("rhn", OUTSIDE): (1, 1),
        ("rhn", "orthogonal"): (0, 1),
        ("dt-rnn", ALL_TRIALS): (3, 6),
        ("dt-rnn", PAPERS_RANGE): (0, 2),
        ("dt-rnn", OUTSIDE): (1, 2),
        ("dt-rnn", "orthogonal"): (2, 2),
    }
    p = {key: s.p for key, s in found.items() if s.p is not None}
    assert set(p) == {
        ("dt-rnn", name) for name in (ALL_TRIALS, PAPERS_RANGE, OUTSIDE, "orthogonal")
    }
    assert p["dt-rnn", PAPERS_RANGE] == pytest.approx(fisher_exact([[0, 2], [2, 1]]).pvalue)
    assert found["dt-rnn", PAPERS_RANGE].p_holm == pytest.approx(min(1, 4 * min(p.values())))
    assert (region(row(learning_rate=0.5)), region(row(learning_rate=0.5, optimizer="adam"))) == (
        PAPERS_RANGE,
        OUTSIDE,
    )
