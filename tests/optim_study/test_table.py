"""Tables of trials, and what is read from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optim_study.reading import NEAR, read, summary
from optim_study.records import COLUMNS, Row, by_network, csv_text, read_csv, write_csv
from optim_study.tables import best_table, plan_table, reading_table, status_table
from rhn.errors import DataError, OutputError

PLATEAU = 11.13


def row(arch="rhn", depth=1, trial=0, train=8.0, **changes) -> Row:
    values = {
        "learning_rate": 0.1,
        "init_std": 1e-4,
        "transform_bias": -1.0,
        "hidden_size": 7,
        "best_valid_nll": train + 0.5,
    }
    values |= {"test_nll": train + 0.6, "epochs": 100, "diverged": False}
    return Row(arch=arch, depth=depth, trial=trial, best_train_nll=train, **(values | changes))


def network(arch, depth, losses, **changes) -> list[Row]:
    return [row(arch, depth, n, loss, **changes) for n, loss in enumerate(losses)]


def words(table: str) -> str:
    """The first line under the header, without its alignment."""
    return " ".join(table.splitlines()[1].split())


numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.builds(
        Row,
        arch=st.sampled_from(["rhn", "dt-rnn", "my_cells.deep:Cell"]),
        depth=st.integers(1, 99),
        trial=st.integers(0, 10**6),
        **dict.fromkeys(
            ("learning_rate", "init_std", "transform_bias", "best_train_nll", "best_valid_nll", "test_nll"), numbers
        ),
        **dict.fromkeys(("hidden_size", "epochs"), st.integers(0, 10**6)),
        diverged=st.booleans(),
    )
)


def test_the_columns_are_the_public_ones():
    names = "arch depth trial learning_rate init_std transform_bias hidden_size best_train_nll best_valid_nll test_nll epochs diverged"
    assert tuple(names.split()) == COLUMNS == tuple(csv_text([]).strip().split(","))


@given(rows)
def test_a_table_comes_back_to_the_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "trials.csv"
    write_csv(rows, path)
    assert read_csv(path) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lacks the column.*arch, depth"),
        ("a,b\n1,2\n", "lacks the column"),
        (csv_text([row()]).replace("8.0", "eight", 1), "line 2: best_train_nll is 'eight', expected a float"),
        (csv_text([row()]).replace("8.0", "nan", 1), "line 2: best_train_nll is nan, expected a finite number"),
        (csv_text([row()]).replace("False", "maybe"), "line 2: diverged is 'maybe', expected a bool"),
        (csv_text([row()])[:-10], "line 2: "),
        (b"\xff\xfe\x00", "no table of trials"),
        ("x" * 200_000, "no table of trials"),
    ],
)
def test_a_malformed_table_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "trials.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_csv(path)


def test_a_missing_table_and_an_impossible_place_are_errors_of_their_own(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(OutputError):
        write_csv([], tmp_path / "none" / "trials.csv")


def test_networks_keep_their_order_and_sort_depths_and_trials():
    mixed = [row("dt-rnn", 6, 1), row("rhn", 4), row("dt-rnn", 1), row("dt-rnn", 6, 0)]
    assert [(key, [r.trial for r in trials]) for key, trials in by_network(mixed).items()] == [
        (("dt-rnn", 1), [0]),
        (("dt-rnn", 6), [0, 1]),
        (("rhn", 4), [0]),
    ]


def test_the_share_near_the_best_is_counted_by_hand():
    losses = [7.0, 7.7, 7.71, 9.0, PLATEAU]  # 7.7 is 10 % above the best
    (reading,) = read(network("rhn", 4, losses, hidden_size=20))
    assert (reading.best, reading.best_trial, reading.reference, reading.median) == (7.0, 0, 7.0, 7.71)
    assert (reading.near, reading.share, reading.trials, reading.hidden_size) == (2, 0.4, 5, 20)
    assert reading.share_interval == (0.0, 0.8)  # binomial(5, 0.4): 2.5 % and 97.5 % points
    assert reading.best_interval[0] == 7.0 and reading.best_interval[1] >= 7.7


def test_a_network_stuck_on_the_plateau_is_not_near_its_own_best():
    stuck = network("dt-rnn", 1, [8.3, 9.0]) + network("dt-rnn", 4, [PLATEAU] * 60)
    assert [(r.depth, r.reference, r.share, r.share_interval) for r in read(stuck)] == [
        (1, 8.3, 1.0, (1.0, 1.0)),
        (4, 8.3, 0.0, (0.0, 0.0)),
    ]
    both = read(stuck + network("rhn", 4, [7.0] * 30 + [PLATEAU] * 30))
    assert [(r.arch, r.depth, r.reference, r.share) for r in both] == [
        ("dt-rnn", 1, 8.3, 1.0),
        ("dt-rnn", 4, 7.0, 0.0),
        ("rhn", 4, 7.0, 0.5),
    ]
    assert "dt-rnn: 2 of 2 at depth 1, 0 of 60 at depth 4" in summary(both) and "rhn: 30 of 60 at depth 4" in summary(
        both
    )


def test_the_bootstrap_interval_is_the_binomial_one_and_a_function_of_the_seed():
    losses = [7.0] * 15 + [PLATEAU] * 45
    low, high = read(network("rhn", 1, losses))[0].share_interval
    assert low == pytest.approx(0.15, abs=0.02) and high == pytest.approx(
        0.367, abs=0.02
    )  # scipy.stats.binom(60, 1 / 4)
    assert read(network("rhn", 1, losses), seed=3) == read(network("rhn", 1, losses), seed=3)


def test_the_validation_loss_can_be_read_too():
    rows = [row(trial=0, train=7.0, best_valid_nll=9.9), row(trial=1, train=8.0, best_valid_nll=8.5)]
    (reading,) = read(rows, "valid")
    assert (reading.best, reading.best_trial) == (8.5, 1) and NEAR * 8.5 < 9.9 and reading.near == 1


def test_the_printed_tables():
    text = reading_table(read(network("rhn", 4, [7.0, PLATEAU, 50.0], diverged=True)))
    assert words(text) == "rhn-depth4 7 3 3 7.000 11.130 33% 0% to 100%"
    plan = {
        "study": "rhn-depth6",
        "hidden_size": 262,
        "parameters": 896128,
        "budget": 900000,
        "trials": 60,
        "complete": 3,
    }
    text = plan_table([plan | {"fuse": 15, "memory_bytes": 3 << 29}])
    assert words(text) == "rhn-depth6 262 896,128 900,000 60 3 15 1.5 GiB"
    status = {"study": "a", "complete": 0, "trials": 2, "running": 1, "diverged": 0, "best": None}
    assert words(status_table([status])) == "a 0 of 2 1 0"
    best = {name: getattr(row(), name) for name in COLUMNS} | {"study": "rhn-depth1", "checkpoint": None}
    assert words(best_table([best])) == "rhn-depth1 0 0.1 0.0001 -1 8.000 8.500 8.600 missing"
