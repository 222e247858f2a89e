"""What `--compare` asks for, which panels follow, and that ten of them can be read."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context

from gersgorin.analyses.spectra import Spectra, measure_spectra
from gersgorin.cli.plot import main
from gersgorin.comparison.plots import draw_comparison
from gersgorin.comparison.variants import MOST, Variants, parse_variants
from gersgorin.plotting.spectra import line_style
from rhn.cells import RHN, RNN
from rhn.checkpoints import save_checkpoint
from rhn.data.text import Vocabulary
from rhn.figures import STYLE
from rhn.language.build import build_model
from rhn.language.config import LanguageConfig
from tests.readable import readable

SMALL = ["--hidden-size", "4", "--steps", "4"]


@pytest.fixture
def results(tmp_path, monkeypatch, capsys):
    """Runs the command with --json in a folder of its own; the networks that it printed, the first one first."""
    monkeypatch.chdir(tmp_path)

    def read(*args, small=SMALL) -> list[dict]:
        assert main([*map(str, args), *small, "--json", "--force"]) == 0
        first = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        return [first, *first.pop("compare", [])]

    return read


def exponents(result: dict) -> list[float]:
    return [step["finite_time_exponent"] for step in result["steps"]]


@given(st.lists(st.integers(1, MOST), min_size=1))
def test_whole_numbers_come_back_each_once_and_in_order(depths):
    found = parse_variants("depth=" + ",".join(map(str, depths)))
    assert found == Variants("depth", tuple(dict.fromkeys(depths)))


@given(
    st.lists(st.tuples(st.sampled_from(["uniform:0.5", "orthogonal:2"]), st.sampled_from(["", ",bias:3", ",bias:-1"])))
)
def test_an_initialisation_keeps_the_comma_before_its_bias(schemes):
    written = ["".join(scheme) for scheme in schemes] or ["scaled:1"]
    assert parse_variants("init=" + ", ".join(written)).values == tuple(dict.fromkeys(written))


def test_kinds_and_their_synonyms():
    assert parse_variants("transform-bias=-1,-2.5") == parse_variants("bias=-1, -2.5") == Variants("bias", (-1.0, -2.5))
    assert parse_variants("hidden-size=8") == parse_variants("Hidden_Size=8") == Variants("hidden_size", (8,))
    assert parse_variants("irnn,a.b:make") == Variants("cell", ("irnn", "a.b:make"))
    assert parse_variants("runs/lr=0.1,b.safetensors").kind == "checkpoint"
    assert parse_variants("init=orthogonal,orthogonal:1").values == ("orthogonal:1",)


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (["--compare", "depth=1,3"], [1, 3]),
        (["--depth", "2", "--compare", "depth=1,3"], [2, 1, 3]),
        (["--cell", "irnn", "--compare", "rnn,irnn"], ["rnn", "irnn"]),
        (["--compare", "rnn"], ["rhn", "rnn"]),
    ],
)
def test_the_network_of_the_options_is_first_unless_it_is_among_the_others(results, args, shown):
    assert [result[key] for result in results(*args) for key in ("cell", "depth") if result[key] in shown] == shown


@pytest.mark.parametrize(
    ("cell", "compare", "alone"),
    [
        ("rhn", "depth=1,2", ["--depth", "2"]),
        ("rhn", "bias=-2,-4", ["--transform-bias", "-4"]),
        ("rnn", "init=uniform:0.04,orthogonal", ["--init", "orthogonal"]),
        ("gru", "seed=0,7", ["--seed", "7"]),
    ],
)
def test_what_varies_is_measured_as_if_it_were_alone(results, cell, compare, alone):
    base, other = results("--cell", cell, "--compare", compare)
    named = {"figure": base["figure"]}
    assert base == results("--cell", cell)[0] | named
    assert other == results("--cell", cell, *alone)[0] | named
    assert exponents(base) != exponents(other)


def test_of_an_lstm_the_forget_gate_s_bias_varies(results):
    grows = [exponents(result)[-1] for result in results("--cell", "lstm", "--compare", "bias=0,2,4")]
    assert len(grows) == 4 and sorted(grows[1:]) == grows[1:]  # the first has its biases as drawn


def test_files_beside_each_other(results):
    for seed, name in enumerate(("one", "two")):
        Path("runs", name).mkdir(parents=True)
        generator = torch.Generator().manual_seed(seed)
        save_checkpoint(f"runs/{name}/best.safetensors", RHN(88, 6, 2 + seed, generator=generator))
    one, two = results("--compare", "runs/one,runs/two/best.safetensors", small=["--steps", "4"])
    assert [one["depth"], two["depth"]] == [2, 3]
    again = results(
        "--checkpoint", "runs/two", "--compare", "runs/one,runs/one/best.safetensors", small=["--steps", "4"]
    )
    assert [exponents(result) for result in again] == [exponents(two), exponents(one)]
    assert again[0]["figure"] != one["figure"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["depth=1,two"], "--compare depth=two: expected whole numbers of at least 1"),
        (["depth=0"], "expected whole numbers of at least 1"),
        (["depth="], "expected whole numbers of at least 1"),
        (["seed=99999999999999999999"], "expected a whole number from 0"),
        (["bias=nan"], "--compare bias=nan: expected finite numbers"),
        (["init=normal"], "expected gaussian:STD"),
        (["width=3"], "width cannot vary; expected cells (rnn,lstm)"),
        (["depth=1,seed=2"], "expected one kind of thing that varies"),
        (["rnn,depth=2"], "expected one kind of thing that varies"),
        (["rnn,a.safetensors"], "a.safetensors is a file and rnn a cell"),
        (["rnn,,lstm"], "a value is missing"),
        (["seed=" + ",".join(map(str, range(30)))], "with 30 values: expected at most 24"),
        (["depth=1"], "--compare depth=1: nothing to compare with: expected something else than rhn, 4 units, depth 1"),
        (["rhn"], "expected something else than rhn"),
        (["nowhere.safetensors"], "expected at least two files"),
        (["bias=1", "--cell", "rnn"], "cells with gates whose bias can be set"),
        (["depth=2", "--cell", "lstm"], "LSTM has no recurrence depth"),
        (["depth=2", "--checkpoint", "nowhere.safetensors"], "--compare depth=... is for new cells"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_compared_is_one_sentence(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [] if "--checkpoint" in args or args[0].endswith("safetensors") else SMALL
    assert main(["--compare", *args, *small]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out and not [*tmp_path.iterdir()]


def records(count: int) -> list:
    x = torch.rand(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return [
        measure_spectra(
            (RHN, RNN)[k % 2](5, 6, init=f"gaussian:{0.05 * (k + 1)}", dtype=torch.float64),
            x,
            name="cell",
            chorale="noise",
            title=f"number {k} with a name as long as those of folders become, rhn, 6 units",
        )
        for k in range(count)
    ]


@pytest.mark.parametrize("count", [2, 5, 7, 10])
def test_panels_can_be_read(count):
    with rc_context(STYLE):
        figure = draw_comparison(records(count))
        readable(figure, least=30)


def test_lines_differ_in_colour_or_dashes():
    assert len({str(line_style(k)) for k in range(28)}) == 28


def language_models() -> None:
    """Two of one vocabulary and one of another, as `rhn train` writes them, and a text."""
    words = ("the", "<eos>", "cat", "dog", "sees", "<unk>"), ("the", "<eos>", "cat", "<unk>")
    config = LanguageConfig(corpus="text", cell="rhn", hidden_size=6)
    for name, vocabulary in zip(("one", "two", "other"), (words[0], words[0], words[1]), strict=True):
        model = build_model(replace(config, seed=len(name)), len(vocabulary))
        about = {"train": asdict(config), "vocabulary": Vocabulary("words", vocabulary).to_json()}
        save_checkpoint(f"{name}.safetensors", model, **about)
    Path("novel.txt").write_text("the cat sees the dog\n" * 20)


def test_language_models_of_one_vocabulary_are_compared_along_a_text(results, capsys):
    language_models()
    text = ["--text", "novel.txt"]
    both = results("--compare", "one.safetensors,two.safetensors", *text, small=["--steps", "7"])
    assert len(both) == 2 and both[1]["chorale"] == "novel.txt"
    (parts,) = results("--checkpoint", "one.safetensors", *text, "--sequences", 3, small=["--steps", "7"])
    assert [run["sequence"] for run in parts["runs"]] == [f"novel.txt, part {k}" for k in (1, 2, 3)]
    assert parts["along"] == "3 parts of novel.txt" and parts["runs"][0]["exponent"] == exponents(both[0])[-1]
    for args, said in {
        (
            "--compare",
            "one.safetensors,other.safetensors",
        ): "expected networks that read numbers, or language models of one",
        ("--checkpoint", "one.safetensors", "--compare", "rnn"): "--compare is for chorales",
        ("--checkpoint", "one.safetensors", "--sequences", "40"): "--steps 4000 is beyond the end of novel.txt",
    }.items():
        assert main([*args, *text]) == 2
        assert said in capsys.readouterr().err


def test_one_network_by_two_paths_is_one_and_a_cell_s_name_stays_a_cell_s(results, capsys):
    Path("rnn").mkdir()
    save_checkpoint("rnn/best.safetensors", RHN(88, 6))
    assert parse_variants("rnn,lstm").kind == "cell" and parse_variants("rnn/").kind == "checkpoint"
    assert main(["--compare", "rnn/,rnn/best.safetensors"]) == 2
    assert "expected at least two files" in capsys.readouterr().err
    titled = results("--checkpoint", "rnn", "--compare", "rhn", "--save-data", "d.npz", small=["--steps", "2"])
    assert len(titled) == 2
    assert [Spectra.load(f"d{k}.npz").title for k in ("", "-2")] == ["rnn: rhn, 6 units", "rhn, 64 units"]
