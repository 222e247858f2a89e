"""Every command that reads a trained network reads the folder of several seeds: all of them, or one
by --seed, as the folder of one alone.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import gersgorin
import rhn
from rhn.errors import CheckpointError


@pytest.fixture(scope="module")
def two_seeds(music, tmp_path_factory) -> Path:
    """The folder of a recorded training run with the seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("seeds") / "two"
    assert music.train(folder, "--seeds 2 --record 50") == 0
    return folder


@pytest.fixture
def two(two_seeds, own_folder) -> Path:
    """A copy of the folder in the current one, beside a folder that the user made."""
    copy = Path(shutil.copytree(two_seeds, "two"))
    (copy / "seed-1-copy").mkdir()
    return copy


OF_ONE_NETWORK = [
    pytest.param("gersgorin plot --steps 6 --checkpoint", id="plot"),
    pytest.param("gersgorin fixed-points --steps 6 --starts 4 --checkpoint", id="fixed points"),
    pytest.param("gersgorin recording", id="recording"),
    pytest.param("rhn-analyze gates", id="gates"),
    pytest.param("rhn-analyze lesion", id="lesions"),
]


@pytest.mark.parametrize("line", OF_ONE_NETWORK)
def test_numbers_and_files_of_all_seeds_are_those_of_each(line, two, command, own_folder):
    each = [command(f"{line} two/seed-{k} --json --output {k}.npz --csv {k}.csv") for k in (0, 1)]
    assert [found.code for found in each] == [0, 0] and each[0].out != each[1].out
    one = command(f"{line} two --seed 1 --json --output one.npz")
    assert (one.code, one.out) == (0, each[1].out)
    every = command(f"{line} two --json --output all.npz --csv all.csv")
    assert (every.code, every.out) == (0, "".join(found.out for found in each)), every.err
    for k in (0, 1):
        table = own_folder / f"all-seed-{k}.csv"
        assert table.read_bytes() == (own_folder / f"{k}.csv").read_bytes()
        assert (own_folder / f"all-seed-{k}.npz").exists()


def test_tables_and_figures_have_the_seed_in_their_names(two, command, own_folder):
    shown = command("rhn-analyze gates two").out.splitlines()
    for k in (0, 1):
        assert {f"checkpoint: two/seed-{k}", f"figure: gates-seed-{k}.png"} <= {*shown}
        assert (own_folder / f"gates-seed-{k}.png").exists()


def test_evaluate_has_a_row_for_each_seed(two, answer, command):
    each = [answer(f"rhn evaluate two/seed-{k}") for k in (0, 1)]
    rows = [{"seed": k, **found} for k, found in enumerate(each)]
    assert answer("rhn evaluate two") == {"seeds": rows}
    assert answer("rhn evaluate two --seed 1") == rows[1]
    assert command("rhn evaluate two").out.splitlines() == [
        f"seed {k}, nll {found['nll']:.6g}, split test, frames {found['frames']}"
        for k, found in enumerate(each)
    ]


def test_compare_has_all_seeds_in_one_row(two, answer):
    x = np.random.default_rng(0).integers(0, 2, (6, 88)).astype(float)
    np.save("x.npy", x)
    networks = [rhn.load(f"two/seed-{k}") for k in (0, 1)]
    wanted = gersgorin.compare({"two": networks}, x, data="x.npy").to_dict()
    assert answer("gersgorin compare two --input x.npy") == json.loads(json.dumps(wanted))


def test_a_chorale_is_sampled_from_one_seed(two, command, refused):
    refused("rhn sample two --output a.mid", says="two has 2 seeds: expected one of two/seed-0")
    refused("rhn sample two --seed 2 --output a.mid", says="seed is 2: expected 0, 1, the seeds in")
    for path, name in (("two --seed 1", "a"), ("two/seed-1", "b"), ("two/seed-0", "c")):
        line = f"rhn sample {path} --temperature 9 --length 2 --output {name}.mid"
        assert command(line).code == 0
    one, same, other = (Path(f"{name}.mid").read_bytes() for name in "abc")
    assert one == same != other


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "curves", "others"),
    [
        pytest.param("two", 2, ["seed-0", "seed-1"], id="all"),
        pytest.param("two/seed-1", 1, [], id="the folder of one"),
    ],
)
def test_the_page_of_a_folder_has_the_parts_of_each_seed(words, curves, others, two, command):
    assert command(f"rhn-analyze report {words}").code == 0
    page = Path("report.html").read_text()
    assert page.count("<h2>Spectra") == page.count("<h2>Gates") == max(1, len(others))
    assert [f"<h2>Lesions, {name}</h2>" in page for name in others] == [True] * len(others)
    assert page.count("seed-0  ") + page.count("seed-1  ") == curves


@pytest.mark.parametrize(
    "line",
    [
        "gersgorin recording",
        "gersgorin plot --checkpoint",
        "rhn-analyze gates",
        "rhn-analyze report",
    ],
)
def test_a_seed_beside_the_folder_of_one_is_refused(line, two, refused):
    refused(f"{line} two/seed-1 --seed 1", says="seed is 1: expected none")


def test_the_losses_of_a_seed_are_drawn_alone_or_beside_the_others(two, command):
    for path in ("two", "two/seed-1"):
        assert command(f"rhn report {path} --output {Path(path).name}.csv").code == 0
    tables = []
    for name in ("two", "seed-1"):
        with Path(f"{name}.csv").open() as file:
            tables.append([*csv.reader(file)][1:])
    every, one = tables
    assert [row[1:] for row in every if row[0] == "two, seed-1"] == [row[1:] for row in one]
    assert len(every) == 2 * len(one) > 0


def test_a_run_is_written_for_each_seed(two, command, own_folder):
    assert command("gersgorin run --checkpoint two --steps 3").code == 0
    assert {path.name for path in own_folder.glob("*.npz")} == {"run-seed-0.npz", "run-seed-1.npz"}


def test_python_reads_one_seed(two):
    with pytest.raises(CheckpointError, match="two has 2 seeds: expected one of two/seed-0, two/s"):
        rhn.load("two")
    assert rhn.load("two/seed-0").config() == rhn.load("two/seed-1").config()
    assert json.loads((two / "config.json").read_text())["seeds"] == [0, 1]
