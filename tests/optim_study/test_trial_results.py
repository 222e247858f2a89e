"""Tables of trials, and what is read from them: exact shares and tests."""

from dataclasses import replace
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, fisher_exact
from tables import for_each

from optim_study.map_plot import plot_area, plot_map
from optim_study.protocol import OPTIMIZERS, SCHEMES, StudyConfig
from optim_study.results import (
    TRIAL_COLUMNS,
    StudyNetwork,
    TrialRow,
    csv_text,
    distinct_trials,
    protocol_words,
    read_csv,
    study_about,
    write_csv,
)
from optim_study.shares import (
    ALL_TRIALS,
    OUTSIDE,
    PAPERS_BOX,
    REGIONS,
    region,
    share_table,
    training_shares,
)
from optim_study.swarm_plot import plot_swarm
from rhn.errors import DataError, InvalidInputError

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
    rows = [row("rhn", 2), row("dts-rnn-skip-last", 2), row("lstm", 1), row("my_cells:Mine", 2)]
    lines = [line.split(",") for line in csv_text(rows).splitlines()[1:]]
    found = [
        (line[TRIAL_COLUMNS.index("depth")], line[TRIAL_COLUMNS.index("transform_bias")])
        for line in lines
    ]
    assert found == [("2", "-1.0"), ("2", ""), ("1", ""), ("2", "-1.0")]
    assert [r.to_dict()["depth"] for r in rows] == [2, 2, 1, 2]
    assert [StudyNetwork(r.arch, r.depth).title for r in rows[1:3]] == [
        "dts-rnn-skip-last, depth 2",
        "lstm",
    ]
    write_csv(rows, tmp_path / "trials.csv")
    assert read_csv(str(tmp_path / "trials.csv")) == rows


@given(rows)
def test_a_table_comes_back_to_the_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "trials.csv"
    write_csv(rows, path)
    assert read_csv(path) == rows


@for_each(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "lacks the columns .*arch, depth"),
        (csv_text([row()]).replace("8.0", "eight", 1), "line 2: best_train_nll: .* got 'eight'"),
        (csv_text([row()]).replace("8.0", "nan", 1), "line 2: best_train_nll is nan"),
        (csv_text([row(init_scheme="xavier")]), "line 2: init_scheme: .* got 'xavier'"),
        (csv_text([row(learning_rate=0.0)]), "line 2: learning_rate is 0.0"),
        ("x" * 200_000, "not a table of trials"),
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
    adam = [("rhn", "adam", 9), ("dt-rnn", "adam", 9)]
    sgd = [("rhn", "sgd", 9), ("dt-rnn", "sgd", 0)]
    assert [(s.arch, s.optimizer, s.below) for s in found] == adam + sgd
    assert found[1].p == 1 and found[3].p == pytest.approx(2 / comb(18, 9))
    assert "dt-rnn-depth4 adam " in " ".join(share_table(found).split())
    assert "whose lowest training loss is below 9.5" in share_table(found)
    assert "whose lowest validation loss is below 9.5" in share_table(found, loss="valid")


def test_the_foot_of_a_figure_has_the_space_of_the_search_and_the_sizes_of_the_trials():
    configs = [StudyConfig(arch=arch, depth=1, data="toy") for arch in ("rhn", "dt-rnn")]
    foot = study_about(
        network("rhn", 1, [8.0]) + network("dt-rnn", 1, [8.0], hidden_size=9),
        protocol_words(configs),
    )
    assert (
        "; 7 and 9 units; " in foot
        and "; transform bias -3 to 0; " in foot
        and foot.count("bias") == 1
    )
    assert "bias" not in protocol_words(configs[1:])


def test_shares_are_counted_below_the_threshold_and_their_intervals_are_exact():
    assert training_shares(network("rhn", 1, [PLATEAU] * 60))[0].interval == pytest.approx(
        (0, 0.0596), abs=1e-4
    )
    (share,) = training_shares(
        network("rhn", 4, [7.0] * 15 + [9.5] + [PLATEAU] * 44, hidden_size=20)
    )
    assert (share.below, share.trials, share.share, share.best, share.best_trial) == (
        15,
        60,
        0.25,
        7.0,
        0,
    )
    assert (share.median, share.hidden_size, share.p) == (PLATEAU, 20, None)
    # by definition: 15 or more, or 15 or fewer, have a chance of 2.5 % each
    low, high = share.interval
    assert binom.sf(14, 60, low) == pytest.approx(0.025) and binom.cdf(
        15, 60, high
    ) == pytest.approx(0.025)
    assert training_shares(network("rhn", 4, [9.4, 9.6]), below=9.3)[0].below == 0


def test_architectures_are_compared_with_the_rhn_of_their_depth():
    """The committed small study: Fisher's exact test, Holm's correction over its eight tests."""
    found = {(s.arch, s.depth): s for s in training_shares(read_csv(RESULTS / "small-study.csv"))}
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
        assert caplog.messages[0] == (
            "24 repeated trials left out, equal to others in all settings, seed and number; "
            "the losses differ in 1, and the first ones count"
        )
    others = [{"fingerprint": "b"}, {"seed": 1}, {"hidden_size": 8}, {"learning_rate": 0.2}]
    joined = [row(), *(row(**change) for change in others), row(trial=1), row(depth=2)]
    caplog.clear()
    assert distinct_trials(iter(joined)) == joined and not caplog.messages


@for_each(
    ("changes", "words"),
    [
        ({"hidden_size": 5}, r"hidden size \(7 and 5\): draw"),
        ({"max_epochs": 4, "patience": 2}, r"max epochs \(9 and 4\), patience \(3 and 2\): draw"),
        ({"learning_rate_range": "0.1 1"}, r"learning rate range \(0.01 1 and 0.1 1\): draw"),
        ({}, "the objective, the initialisation schemes or the data: draw"),
    ],
)
def test_trials_of_one_network_and_two_protocols_are_not_put_together(changes, words):
    protocol = {"max_epochs": 9, "patience": 3, "learning_rate_range": "0.01 1", "seed": 0}
    study = network("rhn", 1, [8.0] * 3, fingerprint="a", **protocol)
    other = network("rhn", 1, [8.0] * 3, fingerprint="b", **protocol | changes)
    for use in (training_shares, plot_swarm, plot_map, plot_area):
        with pytest.raises(
            InvalidInputError, match=f"the trials of rhn, depth 1 differ in {words}"
        ):
            use(study + other)
    seeds = [replace(r, seed=1) for r in network("rhn", 1, [8.0], fingerprint="c", **protocol)]
    assert [s.trials for s in training_shares(study + seeds)] == [4]
    networks = [replace(r, arch="dt-rnn", transform_bias=None) for r in other]
    assert [s.trials for s in training_shares(study + networks)] == [3, 3]


def test_a_copy_of_a_trial_without_a_finite_loss_has_the_same_losses(caplog):
    copies = [row(test_nll=float("nan"), diverged=True) for _ in range(2)]
    assert len(distinct_trials(copies)) == 1
    assert caplog.messages and "differ" not in caplog.messages[0]


def test_regions_with_the_same_trials_are_one_test():
    rows = [
        r
        for arch, train in (("rhn", 7.0), ("dt-rnn", PLATEAU))
        for r in network(arch, 4, [train] * 6)
    ]
    whole, box = training_shares(rows, regions=(ALL_TRIALS, PAPERS_BOX))[2:]
    assert whole.p == whole.p_holm == box.p == box.p_holm == pytest.approx(2 / comb(12, 6))


def test_regions_are_counted_by_hand(area):
    shares = training_shares(area, regions=REGIONS)
    found = {(s.arch, s.region): s for s in shares}
    assert {key: (s.below, s.trials) for key, s in found.items()} == {
        ("rhn", ALL_TRIALS): (3, 5),
        ("rhn", PAPERS_BOX): (2, 3),
        ("rhn", OUTSIDE): (1, 1),
        ("rhn", "orthogonal"): (0, 1),
        ("dt-rnn", ALL_TRIALS): (3, 6),
        ("dt-rnn", PAPERS_BOX): (0, 2),
        ("dt-rnn", OUTSIDE): (1, 2),
        ("dt-rnn", "orthogonal"): (2, 2),
    }
    p = {key: s.p for key, s in found.items() if s.p is not None}
    assert set(p) == {("dt-rnn", name) for name in (ALL_TRIALS, PAPERS_BOX, OUTSIDE, "orthogonal")}
    assert p["dt-rnn", PAPERS_BOX] == pytest.approx(fisher_exact([[0, 2], [2, 1]]).pvalue)
    assert found["dt-rnn", PAPERS_BOX].p_holm == pytest.approx(min(1, 4 * min(p.values())))
    table = " ".join(share_table(shares).split())
    assert "dt-rnn-depth4, orthogonal sgd 7 2 0 8 8.05 2 100 % 16 to 100 % 0.3333 1" in table
    assert (region(row(learning_rate=0.5)), region(row(learning_rate=0.5, optimizer="adam"))) == (
        PAPERS_BOX,
        OUTSIDE,
    )
