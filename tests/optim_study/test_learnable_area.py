"""The learnable area: every setting is counted once in its region, and drawn where it is."""

import json

import pytest
from scipy.stats import fisher_exact
from test_trial_results import PLATEAU, row

from optim_study.cli import main
from optim_study.map_plot import plot_area
from optim_study.results import write_csv
from optim_study.shares import LARGER, PAPERS_BOX, WHOLE, area_table, learnable_area, region
from rhn.errors import InvalidInputError


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
    figure = plot_area(rows)
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
    with pytest.raises(InvalidInputError, match="no complete trial"):
        plot_area([])


def test_the_command_draws_and_counts_the_area(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv(rows, tmp_path / "trials.csv")
    words = ["plot", "--csv", "trials.csv", "--kind", "area", "--output", "area.png"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(area_table(learnable_area(rows))) and (tmp_path / "area.png").exists()
    for kind, region_or_none, lines in (("area", "all settings", 8), ("swarm", None, 2)):
        assert main([*words, "--kind", kind, "--json", "--force"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told[0]["share"], told[0].get("region"), len(told)) == (3 / 5, region_or_none, lines)
