"""Tables of trials, and what is read from them: exact shares and tests."""

from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, fisher_exact
from tables import for_each

from optim_study.config import OPTIMIZERS, SCHEMES
from optim_study.results import TrialRow, csv_text, distinct_trials, read_csv, write_csv
from optim_study.shares import (
    ALL_TRIALS,
    OUTSIDE,
    PAPERS_RANGE,
    REGIONS,
    holm,
    region,
    share_table,
    training_shares,
)
from rhn.errors import DataError

PLATEAU = 11.13


def row(arch="rhn", depth=1, trial=0, train=8.0, **changes) -> TrialRow:
    settings = {"learning_rate": 0.1, "init_std": 1e-4, "transform_bias": -1.0, "hidden_size": 7}
    best = {"best_train_nll": train, "best_valid_nll": train + 0.5, "test_nll": train + 0.6}
    usual = {"constant_nll": 11.16, "epochs": 100, "best_epoch": 90, "diverged": False}
    own = {"arch": arch, "depth": depth, "trial": trial}
    return TrialRow(**(own | settings | best | usual | changes))


def network(arch, depth, losses, **changes) -> list[TrialRow]:
    return [row(arch, depth, n, loss, **changes) for n, loss in enumerate(losses)]


numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.builds(
        row,
        arch=st.sampled_from(["rhn", "dt-rnn", "my_cells.deep:Cell"]),
        train=numbers,
        learning_rate=st.floats(1e-30, 1e6),
        transform_bias=st.none() | numbers,
        constant_nll=st.none() | numbers,
        optimizer=st.sampled_from(OPTIMIZERS),
        init_scheme=st.sampled_from(SCHEMES),
        left_epoch=st.none() | st.integers(0, 10**6),
        diverged=st.booleans(),
    )
)


@given(rows)
def test_a_table_comes_back_to_the_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "trials.csv"
    write_csv(rows, path)
    assert read_csv(str(path)) == rows


def test_an_older_table_lacks_columns_and_a_malformed_one_is_refused_with_its_place(tmp_path):
    path, (head, values) = tmp_path / "trials.csv", csv_text([row()]).splitlines()
    path.write_text(f"{head.replace('init_schemes,objective', 'a,b')}\n{values}\n")
    assert read_csv(path) == [row()]
    for name in ("depth", "learning_rate", "init_scheme", "best_train_nll", "diverged", "seed"):
        for damaged in ("x", "nan"):
            cells = values.split(",")
            cells[head.split(",").index(name)] = damaged
            path.write_text(f"{head}\n{','.join(cells)}\n")
            with pytest.raises(DataError, match=f"line 2: {name}|line 2: .*'{damaged}'"):
                read_csv(path)
    for text, message in (
        (f"a{head}\n{values}\n", "line 2: .*'arch'"),
        ("x" * 200_000, "no table"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_csv(path)


# shares


def test_the_rows_of_the_table_are_those_by_hand(snapshot):
    rhns = [7.0] * 15 + [9.5] + [PLATEAU] * 44
    rows = network("rhn", 4, rhns, hidden_size=20)
    rows += network("dt-rnn", 4, [9.4, *[PLATEAU] * 58, 60.5], transform_bias=None)
    rows[-1] = replace(rows[-1], diverged=True)
    rhn, other = found = training_shares(rows)
    assert (rhn.below, rhn.trials, rhn.share, rhn.best, rhn.median) == (15, 60, 0.25, 7.0, PLATEAU)
    assert (rhn.hidden_size, rhn.diverged, rhn.p, rhn.p_holm) == (20, 0, None, None)
    assert (other.below, other.hidden_size, other.diverged) == (1, 7, 1)
    # Clopper and Pearson by quantiles of the beta distribution
    assert (rhn.low, rhn.high) == pytest.approx(
        (beta.ppf(0.025, 15, 46), beta.ppf(0.975, 16, 45)), rel=1e-6
    )
    assert other.p == other.p_holm == pytest.approx(fisher_exact([[15, 45], [1, 59]]).pvalue)
    assert share_table(found, rows, "train", 9.5) == snapshot
    valid = training_shares(rows, "valid", 9.95)
    assert [s.below for s in valid] == [15, 1] and valid[0].best == 7.5
    assert share_table(valid, rows, "valid", 9.95) == snapshot


@given(st.lists(st.sampled_from([1e-9, 0.01, 0.01, 0.2, 0.5]) | st.floats(0, 1), max_size=9))
def test_holms_method_is_a_chain_of_bonferroni_corrections(p):
    """By definition: the largest of min(1, p[j] times the number of tests with p >= p[j]) over the
    tests j with p[j] <= p[k].
    """

    def alone(value):
        return min(1.0, value * sum(other >= value for other in p))

    expected = [max(alone(other) for other in p if other <= value) for value in p]
    assert holm(p) == pytest.approx(expected)


def test_a_network_is_compared_with_the_rhn_of_its_optimizer_and_depth():
    rows = [
        r
        for optimizer, depth, learned in (("adam", 4, 9), ("sgd", 4, 0), ("sgd", 6, 9))
        for arch, trained in (("rhn", 9), ("dt-rnn", learned))
        for r in network(
            arch, depth, [7.0] * trained + [PLATEAU] * (9 - trained), optimizer=optimizer
        )
    ]
    found = {share.network: (share.below, share.p) for share in training_shares(rows)}
    assert found == {
        "rhn, depth 4, adam": (9, None),
        "dt-rnn, depth 4, adam": (9, 1.0),
        "rhn, depth 4": (9, None),
        "rhn, depth 6": (9, None),
        "dt-rnn, depth 4": (0, pytest.approx(2 / comb(18, 9))),
        "dt-rnn, depth 6": (9, 1.0),
    }


PROTOCOL = {"max_epochs": 9, "objective": "train", "data": "a"}


@for_each(
    ("changes", "names"),
    [
        ({"hidden_size": 5}, ["hidden size 7", "hidden size 5"]),
        ({"max_epochs": 4, "data": "b"}, ["max epochs 9, data a", "max epochs 4, data b"]),
    ],
)
def test_studies_that_differ_in_anything_but_the_seed_are_two_networks(changes, names):
    study = network("rhn", 1, [8.0] * 3, fingerprint="a", seed=0, **PROTOCOL)
    seeds = network("rhn", 1, [8.0], fingerprint="c", seed=1, **PROTOCOL)
    other = network("rhn", 1, [8.0] * 3, fingerprint="b", seed=0, **PROTOCOL | changes)
    found = {share.network: share.trials for share in training_shares(study + other + seeds)}
    assert found == {
        f"rhn, depth 1, {name}": count for name, count in zip(names, (4, 3), strict=True)
    }
    compared = [replace(r, arch="dt-rnn", transform_bias=None) for r in other]
    rhn, share = training_shares(study + compared)
    assert (rhn.network, share.network) == ("rhn, depth 1", "dt-rnn, depth 1")
    assert (share.p is None) == ("hidden_size" not in changes), "compared in one protocol"


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


def placed(arch: str, scheme: str, *trials: tuple[float, float]) -> list[TrialRow]:
    """Trials of one scheme at depth 4: their standard deviations and losses."""
    rows = network(arch, 4, [loss for _, loss in trials], init_scheme=scheme)
    return [replace(r, init_std=std) for r, (std, _) in zip(rows, trials, strict=True)]


AREA = [
    *placed("rhn", "gaussian", (1e-8, 7.0), (1e-2, 8.0), (1e-4, PLATEAU), (0.5, 9.4)),
    *placed("rhn", "orthogonal", (0.2, PLATEAU)),
    *placed("dt-rnn", "gaussian", (1e-8, PLATEAU), (1e-2, 9.5), (0.011, 9.0), (1.0, 60.5)),
    *placed("dt-rnn", "orthogonal", (0.2, 8.0), (0.21, 8.1)),
]


def test_regions_are_counted_by_hand():
    by_hand = {  # trained and other trials, of the RHN and the DT-RNN
        ALL_TRIALS: ((3, 2), (3, 3)),
        PAPERS_RANGE: ((2, 1), (0, 2)),
        OUTSIDE: ((1, 0), (1, 1)),
        "orthogonal": ((0, 1), (2, 0)),
    }
    rhns, others = {}, {}
    for share in training_shares(AREA, regions=REGIONS):
        (rhns if share.p is None else others)[share.region] = share
    p = {name: fisher_exact(counts).pvalue for name, counts in by_hand.items()}
    for name, counts in by_hand.items():
        pair = rhns[name], others[name]
        assert tuple((share.below, share.trials - share.below) for share in pair) == counts
        assert others[name].p == pytest.approx(p[name])
    corrected = dict(zip(p, holm(list(p.values())), strict=True))
    assert {name: share.p_holm for name, share in others.items()} == pytest.approx(corrected)
    edges = [{}, {"optimizer": "adam"}, {"init_std": 1e-9}, {"learning_rate": 1e-5}]
    inside = [region(row(**{"learning_rate": 1.0} | edge)) == PAPERS_RANGE for edge in edges]
    assert inside == [True, True, False, False]
    assert region(row(optimizer="adam", learning_rate=1e-5)) == OUTSIDE


def test_regions_with_the_same_trials_are_one_test():
    rows = network("rhn", 4, [7.0] * 6) + network("dt-rnn", 4, [PLATEAU] * 6)
    whole, box = training_shares(rows, regions=(ALL_TRIALS, PAPERS_RANGE))[2:]
    assert whole.p == whole.p_holm == box.p == box.p_holm == pytest.approx(2 / comb(12, 6))
