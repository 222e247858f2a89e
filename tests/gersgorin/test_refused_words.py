"""Words that the commands of gersgorin refuse, before any work."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from gersgorin import open_run, spectra
from rhn.cells import RHN
from rhn.checkpoints import save
from tests.gersgorin.test_commands_of_gersgorin import (
    NETS,
    SMALL,
    TABLE,
    cell_of,
    run,
    x_of,
)

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def no_work(monkeypatch):
    """Every analysis fails."""

    def fails(*_, **__):
        raise AssertionError("the analysis has begun")

    monkeypatch.setattr("gersgorin.cli.networks.open_run", fails)
    for name in TABLE:
        if name not in ("run", "recording"):
            analysis = TABLE[name].analysis
            module = import_module(f"gersgorin.{analysis.module}")
            monkeypatch.setattr(module, analysis.function, fails)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", [name for name in TABLE if name != "recording"])
def test_a_file_that_cannot_be_written_is_refused_first(name, capsys):
    for output in ("missing/a.npz", "a.mine", "/proc/a.npz", "/dev/full", f"{'a' * 300}.npz"):
        assert run(name, "--cell", "rnn", *SMALL, "--output", output) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "cannot write" in error and error.count("\n") == 1


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("plot --steps 500", "steps is 500: expected 1 to 85, the steps of bwv269"),
        ("plot --hidden-size 1000000", "a state of 1000000 over 85 steps needs about"),
        ("plot --cell-option skip=last", "option of rhn is 'skip'"),
        ("plot --checkpoint a.safetensors --depth 4", "--depth is 4: expected none, beside checkp"),
        ("plot --module nets.py:make --depth 4", "--depth is 4: expected none, beside module"),
        ("plot --layer rnn", "--layer is rnn: expected none, beside cell"),
        ("plot --input none.npy --chorale bwv269", "--chorale is bwv269: expected none, beside"),
        (
            "compare --cell rhn rnn --transform-bias=-1",
            "option of rnn is 'transform_bias': expected",
        ),
        ("compare --cell rhn --layer rnn", "--layer is rnn: expected none, beside cell"),
        ("compare --cell rhn rhn", "cell is rhn rhn: expected each once"),
        ("compare --cell rhn --before-training", "--before-training is True: expected a network"),
        ("compare a.safetensors --seeds 2", "--seeds is 2: expected a network that it changes"),
        ("compare --cell rhn --depth 1 0", "depth is 0: expected a whole number from 1"),
        ("compare --cell rhn --seeds 0", "seeds is 0: expected a whole number from 1"),
        ("compare --steps 5", "networks is none: expected --cell, a file"),
        ("plot --csv a.txt", "cannot write a.txt: expected a name ending in .csv"),
    ],
)
def test_wrong_words_are_refused_before_the_work(words, said, capsys):
    Path("nets.py").write_text(NETS)
    save("a.safetensors", RHN(88, 4, 2))
    assert run(*words.split()) == 2, words
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error.splitlines()[0], error


def test_wrong_numbers_beside_a_network_are_refused(capsys):
    np.save("sine.npy", np.zeros(9))
    save("a.safetensors", RHN(88, 4, 2))
    for words, said in {
        ("plot", *SMALL, "--step", 7): "step is 7: expected a whole number from 0 to 6",
        ("plot", "--input", "sine.npy", "--checkpoint", "a.safetensors"): "rhn takes no step from",
        ("plot", *SMALL, "--leading", 9): "leading",
    }.items():
        assert run(*words) == 2
        shown = capsys.readouterr()
        assert said in shown.err and shown.out == ""


def test_names_in_a_strangers_file_change_no_terminal(capsys):
    np.savez("theirs.npz", x=np.eye(4), name="\x1b[31m7\x07")
    assert run("products", "--cell", "rnn", "--input", "theirs.npz", "--output", "a.json") == 0
    shown = capsys.readouterr()
    assert "\\x1b[31m7\\x07" in shown.out
    assert not set(map(chr, range(32))) - {"\n"} & {*shown.out, *shown.err}


def test_progress_counts_the_steps(monkeypatch):
    monkeypatch.setattr("gersgorin.run.BLOCK", 5 * 6**2)
    done = []
    spectra(replace(open_run(cell_of(), x_of(12)), progress=lambda *step: done.append(step)))
    assert done == [(5, 12), (10, 12), (12, 12)]
    done.clear()
    run = replace(open_run(cell_of(), x_of(12)), progress=lambda *step: done.append(step))
    seen = [len(done) for _ in run.blocks()]
    assert seen == [0, 1, 2], "a block counts when the work on it is over"


def test_progress_counts_the_pieces_of_a_block_of_large_jacobians(monkeypatch):
    expected, done = spectra(open_run(cell_of(), x_of(12))), []
    monkeypatch.setattr("gersgorin.linalg.threads.PIECE", 0)
    monkeypatch.setattr("gersgorin.linalg.threads.cores", lambda: 1)
    run = replace(open_run(cell_of(), x_of(12)), progress=lambda *step: done.append(step))
    found = spectra(run)
    assert done == [(4, 12), (8, 12), (12, 12)]
    np.testing.assert_array_equal(found.eigenvalues, expected.eigenvalues)
    np.testing.assert_array_equal(found.norm, expected.norm)
