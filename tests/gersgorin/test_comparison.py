"""Medians and bands of many runs are those of runs measured one by one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import for_each

from gersgorin import compare
from gersgorin.analyses.spectra import spectra
from gersgorin.cli.compare import main
from gersgorin.cli.plot import main as plot
from gersgorin.comparison import KEPT, TABULATED
from gersgorin.results import Comparison
from gersgorin.run import Run
from rhn.cells import RHN, RNN
from rhn.checkpoints import save_checkpoint
from rhn.data import chorales
from rhn.data.jsb import music21_version
from rhn.errors import InvalidInputError

SMALL = ["--hidden-size", "4"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def results(capsys):
    """Runs `gersgorin compare` with --json and returns its object."""

    def read(*args) -> dict:
        assert main([*map(str, args), *SMALL, "--json", "--force"]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    return read


@pytest.fixture
def plotted(capsys):
    """Runs `gersgorin plot` with --json and returns its object."""

    def read(*args) -> dict:
        assert plot([*map(str, args), *SMALL, "--json", "--force"]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    return read


def networks(count: int = 3) -> list:
    generator = torch.Generator().manual_seed(1)
    return [RHN(5, 6, 2, init="gaussian:0.6", dtype=torch.float64, generator=generator) for _ in range(count)]


def sequences(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(T, 5, dtype=torch.float64, generator=generator) for T in lengths]


@pytest.mark.parametrize("discs", ["row", "column", "both"])
def test_one_sequence_and_one_network_are_the_plain_measurement_exactly(discs):
    (cell,), (x,) = networks(1), sequences(7)
    alone, found = spectra(Run.of(cell, x), discs=discs), compare(cell, x, discs=discs)
    assert found.runs_at.tolist() == [1] * 7
    for name in TABULATED:
        for share in (0, 0.1, 0.5, 0.9, 1):
            assert np.array_equal(found.quantile(name, share), getattr(alone, name))


def test_quantiles_are_numpy_s_over_the_runs_that_have_the_step():
    cells, pieces = networks(), sequences(4, 7, 5)
    found = compare(cells, pieces)
    alone = [spectra(Run.of(cell, x)) for cell in cells for x in pieces]
    assert found.runs_at.tolist() == [9] * 4 + [6] + [3] * 2
    assert found.last_exponent.tolist() == [record.finite_time_exponent[-1] for record in alone]
    for name in TABULATED:
        for t in range(7):
            values = [getattr(record, name)[t] for record in alone if len(record.norm) > t]
            row = found.table()[t][name]
            expected = np.quantile(values, [0.5, 0.1, 0.9, 0, 1])
            assert [row[key] for key in ("median", "p10", "p90", "min", "max")] == pytest.approx(expected, rel=1e-14)


def test_a_product_that_is_zero_has_a_median_and_ends_its_line():
    dead = RNN(5, 6, nonlinearity="relu", init="gaussian:0.5", dtype=torch.float64)
    torch.nn.init.constant_(dead.bias, -100.0)
    found = compare([*networks(2), dead, dead], sequences(5))
    low, median, high = (found.quantile("log_norm_product", share)[-1] for share in (0.1, 0.5, 0.9))
    assert low == median == -np.inf < high < np.inf
    ax = found.plot()
    assert [line.get_marker() for line in ax.lines].count("x") == 1
    assert "grows in 0" in found.summary()


def test_the_record_is_written_and_read(tmp_path):
    found = compare(networks(2), sequences(3, 5), title="mine", unit="days", discs="both")
    again = Comparison.load(found.save(tmp_path / "many.npz"))
    assert (again.title, again.unit, again.along) == ("mine", "days", "2 sequences")
    assert all(np.array_equal(getattr(again, name), getattr(found, name), equal_nan=True) for name in KEPT)
    told = json.loads(found.save(tmp_path / "many.json").read_text(), parse_constant=pytest.fail)
    assert told["norm"][0][3] is None and told["steps"][4]["runs"] == 2


def test_the_command_takes_the_test_split_and_seeds(results, plotted):
    result = results("--sequences", 2, "--seeds", 2, "--steps", 40, "--seed", 3, "--output", "many.npz")
    first, second = chorales().test[:2]
    assert [(run["sequence"], run["seed"]) for run in result["runs"]] == [
        (piece.name, seed) for seed in (3, 4) for piece in (first, second)
    ]
    alone = plotted("--chorale", second.name, "--seed", 4, "--steps", 40)["steps"]
    found = Comparison.load("many.npz")
    origin = f"the chorales of music21 {music21_version()}"
    assert (
        found.about
        == f"uniform:0.04, transform bias -2, seed 3 to seed 4; at most 40 steps of each of the first 2 of the test split of {origin}"
    )
    assert found.reach[3].tolist() == [step["reach"] for step in alone]
    assert result["figure"] == "gersgorin-rhn-hidden-size4-seed3-steps40-sequences2-seeds2-test.png"
    assert Path(result["figure"]).exists()


@pytest.mark.slow
def test_bands_of_each_if_networks_are_compared(results, plotted):
    result = results("depth=1,2", "--seeds", 3, "--steps", 5)
    both = [result, *result.pop("compare")]
    for depth, found in zip((1, 2), both, strict=True):
        alone = [plotted("--depth", depth, "--seed", seed, "--steps", 5)["steps"][-1]["norm"] for seed in range(3)]
        assert found["steps"][-1]["norm"]["median"] == pytest.approx(np.median(alone), rel=1e-14)


def test_sequences_of_a_file_and_a_checkpoint(capsys):
    save_checkpoint("trained.safetensors", networks(1)[0])
    np.save("mine.npy", torch.stack(sequences(6, 6, 6)).numpy())
    assert main(["--checkpoint", "trained.safetensors", "--input", "mine.npy", "--sequences", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 sequences of mine.npy, 1 seed, 2 runs of 6 steps" in out
    assert "gersgorin-trained-sequences2-mine.png" in out


@for_each(
    ("args", "words"),
    [
        (["--sequences", "0"], "--sequences is 0, expected 1 or more"),
        (["--seeds", "1000000000"], "--seeds is 1000000000, expected 1 or more, at most 1000"),
        (["--sequences", "2", "--chorale", "bwv66.6"], "two things to read"),
        (["--seeds", "2", "--checkpoint", "trained.safetensors"], "those of trained.safetensors are trained"),
        (["seed=0,1", "--seeds", "2"], "give one"),
        (["--sequences", "2", "--analysis", "pseudospectra"], "medians over many runs are of the spectra"),
        ([], "there is nothing to compare: name VARIANTS"),
    ],
)
def test_many_runs_that_cannot_be_are_one_sentence(args, words, capsys, tmp_path):
    save_checkpoint("trained.safetensors", networks(1)[0])
    np.save("mine.npy", torch.stack(sequences(6, 6, 6)).numpy())
    assert main(args) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and not [*tmp_path.glob("*.png")]


def test_in_python_too_what_cannot_run_is_refused():
    for networks_given, read in ((networks(1), []), ([], sequences(3))):
        with pytest.raises(InvalidInputError, match="there is nothing to run"):
            compare(networks_given, read)
    with pytest.raises(InvalidInputError, match="discs is 'rows', expected one of row, column, both"):
        compare(networks(1), sequences(3), discs="rows")
    with pytest.raises(InvalidInputError, match="there are 1 labels for 2 sequences"):
        compare(networks(2), sequences(3, 4), labels=["short"])
    with pytest.raises(InvalidInputError, match="NaN"):
        compare(networks(1), [torch.full((3, 5), torch.nan)])
