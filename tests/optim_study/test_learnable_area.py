"""The learnable area: every setting is counted once in its region, drawn where it is, and the border solves what it says."""

import json
import math

import pytest
from helpers import config
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from test_trial_results import PLATEAU, row

from optim_study.border import BorderPoint, border_points, border_rate, read_border, write_border
from optim_study.cli import main
from optim_study.map_plot import plot_area
from optim_study.results import write_csv
from optim_study.shares import LARGER, PAPERS_BOX, WHOLE, area_table, learnable_area, region
from rhn.errors import DataError, InvalidInputError


@pytest.fixture(scope="module")
def rows():
    """By hand: in the paper's box 2 of 3 RHNs and 0 of 2 DT-RNNs train, above it 1 of 1 and 1 of 2, orthogonal 0 of 1 and 2 of 2."""
    settings = {
        "rhn": [(1e-8, 7.0), (1e-2, 8.0), (1e-4, PLATEAU), (0.5, 9.4), ("orthogonal", PLATEAU)],
        "dt-rnn": [(1e-8, PLATEAU), (1e-2, 9.5), (0.011, 9.0), (1.0, 60.5), ("orthogonal", 8.0), ("orthogonal", 8.1)],
    }
    return [
        row(arch, 4, n, loss, **({"init_scheme": at, "init_std": 0.2} if isinstance(at, str) else {"init_std": at}))
        for arch, trials in settings.items()
        for n, (at, loss) in enumerate(trials)
    ]


def test_regions_are_counted_by_hand(rows):
    found = {(a.arch, a.region): a for a in learnable_area(rows)}
    assert {key: (a.learned, a.trials) for key, a in found.items()} == {
        ("rhn", WHOLE): (3, 5),
        ("rhn", PAPERS_BOX): (2, 3),
        ("rhn", LARGER): (1, 1),
        ("rhn", "orthogonal"): (0, 1),
        ("dt-rnn", WHOLE): (3, 6),
        ("dt-rnn", PAPERS_BOX): (0, 2),
        ("dt-rnn", LARGER): (1, 2),
        ("dt-rnn", "orthogonal"): (2, 2),
    }
    assert found["dt-rnn", LARGER].best == 9.0 and found["dt-rnn", LARGER].share == 0.5
    low, high = found["rhn", LARGER].interval
    assert (low, high) == (pytest.approx(0.025), 1.0), "1 of 1: p^1 = 0.025"
    p = {key: a.p for key, a in found.items() if a.p is not None}
    assert set(p) == {("dt-rnn", name) for name in (WHOLE, PAPERS_BOX, LARGER, "orthogonal")}
    assert p["dt-rnn", PAPERS_BOX] == pytest.approx(fisher_exact([[0, 2], [2, 1]]).pvalue)
    assert found["dt-rnn", PAPERS_BOX].p_holm == pytest.approx(min(1, 4 * min(p.values())))
    table = [" ".join(line.split()) for line in area_table(learnable_area(rows)).splitlines()]
    assert "dt-rnn-depth4, orthogonal sgd 2 8.000 2 100 % 16 to 100 % 0.3 1" in table


def test_regions_but_the_whole_are_disjoint_and_leave_nothing_out(rows):
    found = learnable_area(rows, below=9.6)
    for arch in ("rhn", "dt-rnn"):
        whole, *parts = (a for a in found if a.arch == arch)
        assert (whole.trials, whole.learned) == (sum(a.trials for a in parts), sum(a.learned for a in parts))
    assert region(row(learning_rate=2.0)) == region(row(init_std=1e-9)) == LARGER
    assert (region(row(learning_rate=0.5)), region(row(learning_rate=0.5, optimizer="adam"))) == (PAPERS_BOX, LARGER)


def test_the_area_shows_every_setting_its_scheme_and_whether_it_learned(rows):
    line = [BorderPoint(arch="rhn", depth=4, init_scheme="gaussian", transform_bias=-3.0, init_std=s, learning_rate=r)
            for s, r in ((1e-8, None), (1e-4, 0.1), (1.0, 0.01))]  # fmt: skip
    figure = plot_area(rows, border=line)
    panels = {ax.get_title(): ax for ax in figure.axes}
    assert list(panels) == ["rhn, depth 4: 3 of 5", "dt-rnn, depth 4: 3 of 6"]
    ax = panels["dt-rnn, depth 4: 3 of 6"]
    marks = {c.get_gid(): c for c in ax.collections}
    assert marks["gaussian"].get_offsets().tolist() == [[0.1, 1e-8], [0.1, 1e-2], [0.1, 0.011], [0.1, 1.0]]
    assert marks["orthogonal"].get_offsets().tolist() == [[0.1, 0.2]] * 2
    assert [color[3] for color in marks["gaussian"].get_facecolors()] == [0, 0, 1, 0], "full where it learned"
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert all(left < r.learning_rate < right and bottom < r.init_std < top for r in rows)
    (box,) = ax.patches
    assert box.get_bbox().extents.tolist() == pytest.approx([1e-4, 1e-8, 1, 1e-2])
    assert not ax.lines
    (border,) = panels["rhn, depth 4: 3 of 5"].lines
    assert border.get_xydata().tolist() == [[0.1, 1e-4], [0.01, 1.0]]
    with pytest.raises(InvalidInputError, match="no complete trial"):
        plot_area([])


@given(st.floats(-3, 6), st.floats(0.6, 1.4))
def test_the_border_is_where_the_time_is_all_epochs(log_time, power):
    asked = []

    def escape(rate):
        asked.append(rate)
        return 10**log_time * rate**-power

    found = border_rate(escape, 400, 1e-4, 1.0)
    assert all(1e-4 <= rate <= 1 for rate in asked) and len(asked) <= 13
    if found is None:
        assert escape(1.0) > 400
    elif found in (1e-4, 1.0):
        assert found == 1.0 or escape(found) < 421
    else:
        assert 0.95 * 400 <= escape(found) <= 1.05 * 400


def test_too_high_and_too_low_rates_hide_no_border():
    for settles in ((1e-4, 0.1), (5e-3, 1), (0.02, 1)):  # in the last the border itself is not seen: the law has to do

        def escape(rate, settles=settles):
            return 4 / rate if settles[0] <= rate <= settles[1] else math.inf

        assert border_rate(escape, 400, 1e-4, 1) == pytest.approx(0.01, rel=0.05)
    steep = border_rate(lambda rate: 76 if rate > 0.2 else 150 / rate, 400, 1e-4, 1)
    assert steep == pytest.approx(0.2, rel=0.06), "the time falls at once, and no learning rate takes 400 epochs"
    assert border_rate(lambda rate: math.inf, 400, 1e-4, 1) is None


def test_a_border_has_a_line_for_each_scheme_and_for_the_ends_of_the_transform_bias(tmp_path):
    asked, reported = [], []

    def escape_of(model, study):
        asked.append(model.cells[0].weight_hh.std().item())
        return lambda rate: 0.1 / (asked[-1] * rate)

    study = config(init_schemes=("gaussian", "scaled"), init_std=(1e-6, 0.1))
    points = border_points(study, escape_of, lambda *told: reported.append(told))
    lines = {(p.init_scheme, p.transform_bias) for p in points}
    assert lines == {(scheme, bias) for scheme in ("gaussian", "scaled") for bias in (-3.0, 0.0)}
    assert asked == pytest.approx([p.init_std for p in points], rel=0.02) and reported[-1] == (4, 4)
    first, *_, least = (p for p in points if (p.init_scheme, p.transform_bias) == ("gaussian", 0.0))
    assert first.init_std == 0.1 and first.learning_rate == pytest.approx(1 / study.epochs, rel=0.06)
    assert least.learning_rate is None and least.init_std == pytest.approx(0.1 * 10 ** (-5 * 3 / 8)), (
        "the line ends there"
    )
    (shallow,) = {p.transform_bias for p in border_points(config(arch="dt-rnn", init_schemes=("scaled",)), escape_of)}
    assert shallow is None
    write_border(points, tmp_path / "border.csv")
    assert read_border(tmp_path / "border.csv") == points


@pytest.mark.parametrize(
    "content",
    [
        "garbage",
        "a,b\n1,2\n",
        "\xff",
        "arch,depth,init_scheme,transform_bias,init_std,learning_rate\nrhn,four,gaussian,,1,1",
    ],
)
def test_a_file_that_is_no_border_is_refused(tmp_path, content):
    (tmp_path / "border.csv").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=r"no table of a border"):
        read_border(tmp_path / "border.csv")


def test_the_command_draws_and_counts_the_area(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv(rows, tmp_path / "trials.csv")
    words = ["plot", "--csv", "trials.csv", "--kind", "area", "--output", "area.png"]
    write_border([], tmp_path / "border.csv")
    assert main([*words, "--border", "border.csv"]) == 0
    assert capsys.readouterr().out.startswith(area_table(learnable_area(rows))) and (tmp_path / "area.png").exists()
    for kind, region_or_none, lines in (("area", "all settings", 8), ("swarm", None, 2)):
        assert main([*words, "--kind", kind, "--json", "--force"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told[0]["share"], told[0].get("region"), len(told)) == (3 / 5, region_or_none, lines)
    assert main([*words, "--border", "missing.csv", "--force"]) == 2
    assert "a table of trials is not enough to compute it: give --out DIR" in capsys.readouterr().err
    assert main([*words[:3], "--border", "border.csv"]) == 2
    assert "give --kind area" in capsys.readouterr().err
