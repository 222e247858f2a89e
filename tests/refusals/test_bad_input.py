"""Wrong values for every option of every command, and for arguments of public functions: one line,
exit 2, nothing written. Sound values are never refused.
"""

import contextlib
import os
import re
import shutil
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import hypothesis
import numpy as np
import objects
import pytest
import torch
from cases import others_slow
from commands import MAINS
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from torch import nn
from wrong_values import wrong_values, wrong_words

import analysis
import gersgorin
import optim_study
import rhn
import trainability
from rhn.errors import RhnError

SMALL = "--cell rnn --hidden-size 3 --steps 5 --output a.json"
STUDY = (
    "--preset smoke --arch rnn --depth 1 --trials 1 --epochs 1 --jobs 1 --set budget_scale=0.003"
)
TRAIN = "--data chorales.json --epochs 1 --hidden-size 2"
OF_CELLS = ("--cell rhn --depth 2 --transform-bias -1", "--cell dts-rnn --cell-option skip=last",
            "--cell lstm --init gaussian:0.1", "--seed 9", "--hidden-size 1")  # fmt: skip
OF_RESULTS = ("--json", "--csv a.csv", "--figure 6.5", "--title ∂s", "--device cpu")
CURVES = "--curves b.csv"
OF_DATA = ("--chorale bwv66.6", "--data chorales.json --chorale test-0 --steps 4", "--steps 2")
OF_STEPS = OF_CELLS + OF_RESULTS + OF_DATA
OF_TRAINED = (*OF_RESULTS, "--split train", "--chorale 0")
LINES = {  # command: (a sound line, further words that are sound)
    "gersgorin plot": (SMALL, (*OF_STEPS, CURVES, "--leading 1", "--step 0", "--limit 2")),
    "gersgorin products": (SMALL, (*OF_STEPS, CURVES)),
    "gersgorin gains": (SMALL, (*OF_STEPS, CURVES)),
    "gersgorin gates": (SMALL, (*OF_STEPS, CURVES)),
    "gersgorin influence": (SMALL, (*OF_STEPS, "--of outputs", "--feature 87", "--probes 0")),
    "gersgorin fixed-points": (SMALL, (*OF_STEPS, "--starts 1", "--period 2", "--margin 1")),
    "gersgorin lyapunov": (SMALL, (*OF_STEPS, CURVES, "--count 1", "--warmup 1", "--repeat 2")),
    "gersgorin pseudospectra": (SMALL, (*OF_STEPS, "--side 3")),
    "gersgorin compare": (SMALL,
        (*OF_STEPS, CURVES, "--cell rnn gru", "--seeds 2", "--panels reach")),
    "gersgorin run": (SMALL.replace("json", "npz"), (*OF_CELLS, *OF_DATA, "--jacobians")),
    "gersgorin recording": ("run.npz --output a.json", OF_RESULTS[:-1]),
    "trainability check": ("train.py:parts --steps 8", ("--seed 7",)),
    "trainability cure": ("train.py:parts --steps 8", ("--output a.npz",)),
    "rhn train": (f"jsb-depth-1 --out new {TRAIN}", ("--seeds 2", "--record 1",
        "--cell gru", "--optimizer adam", "--max-minutes inf", "--init-std 1e-8")),
    "rhn resume": ("trained", ("--epochs 2", "--json", "--threads 1")),
    "rhn evaluate": ("trained", ("--split valid", "--json", "--seed 5")),
    "rhn generate": ("language --length 3",
        ("--prompt the", "--temperature 1e-3", "--top-k 1", "--seed 5")),
    "rhn sample": ("trained --output a.mid --length 1", ("--temperature 9",)),
    "rhn report": ("trained --output a.csv", ("--figure 2", "--figure column")),
    "rhn presets": ("", ("--json",)),
    "rhn info": ("", ("--json",)),
    "rhn data show": ("text --data words", ("--json", "--unit characters")),
    "optim-study run": (f"{STUDY} --data chorales.json --out new",
        ("--dry-run", "--transform-bias 3", "--learning-rate 1e-9 1e-3", "--json")),
    "optim-study status": ("study", ("--json",)),
    "optim-study plot": ("study --output a.csv",
        ("--below -1", "--objective valid", "--kind map", "--depth 1", "--title x", "--csv b.csv",
        "--json")),
    "optim-study export": ("study", ("--json",)),
    "rhn-analyze gates": ("gated.safetensors --data chorales.json --output a.json",
        (*OF_TRAINED, CURVES)),
    "rhn-analyze lesion": ("gated.safetensors --data chorales.json --output a.json",
        (*OF_TRAINED, "--mode carry", "--pairs")),
    "rhn-analyze report": ("trained --output a.html", ()),
}  # fmt: skip
PARTS = """
import torch
from torch import nn
x = torch.arange(300.0).reshape(100, 3) / 300
model = nn.Linear(3, 1)
parts = dict(model=model, x=x, y=x[:, :1], loss_fn=nn.MSELoss(),
             optimizer=torch.optim.SGD(model.parameters(), 1e-2))
"""
quietly = hypothesis.settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
fewer = hypothesis.settings(quietly, max_examples=quietly.max_examples // 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The current folder, with files of all kinds, training runs and a study."""
    path = tmp_path_factory.mktemp("bad")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        objects.files()
        Path("train.py").write_text(PARTS)
        os.mkfifo("pipe")
        chorales, words = rhn.data.chorales("chorales.json"), rhn.data.read_text("text", "words")
        rhn.train("jsb-depth-1", chorales, out="trained", epochs=1, hidden_size=2,
                  about={"path": str(path / "chorales.json")})  # fmt: skip
        rhn.train(objects.TEXT, words, out="language", epochs=1, max_tokens=300)
        optim_study.run(optim_study.smoke(arch="rnn", depth=1, trials=1, epochs=1, jobs=1,
            budget_scale=0.003, data="chorales.json", out="study"), progress=False)  # fmt: skip
        yield path


@cache
def options_of(line: str) -> dict[str, tuple[str, ...]]:
    """The options of a command, with words that are wrong for them."""
    program, *names = line.split()
    app = import_module(MAINS[program]).COMMANDS
    for name in names:
        app = app[name]
    arguments = [a for a in app.assemble_argument_collection() if not a.children]
    words = {a.names[0]: wrong_words(a.names[0], a.hint, line) for a in arguments}
    return {option: wrong for option, wrong in words.items() if wrong}


def given_in(words: str) -> dict[str, str]:
    """Options with their values, as words; the argument without an option is that of ""."""
    argument = re.match(r"((?!--)\S+)?", words)[0]
    options = re.findall(r"(--[a-z-]+)((?: (?!--)\S+)*)", words)
    return {"": argument} | {name: name + values for name, values in options}


def files_there() -> set:
    paths = [path for path in Path().rglob("*") if "__pycache__" not in path.parts]
    return {(path, None if path.is_dir() else path.lstat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("line", LINES)
@fewer
@given(data=st.data())
def test_a_wrong_word_is_refused_in_one_line_and_nothing_is_written(line, data, folder, command):
    wrong = options_of(line)
    option = data.draw(st.sampled_from([*wrong]))
    word = data.draw(st.sampled_from(wrong[option]))
    sound = given_in(LINES[line][0])
    named = option.startswith("--")
    sound.pop(option if named else "", None)
    before = files_there()
    found = command(" ".join([line, *sound.values()]), f"{option}={word}" if named else word)
    assert (found.code, found.out) == (2, ""), found
    assert found.err.startswith("error: ") and found.err.count("\n") == 1, found.err
    assert not files_there() ^ before


def kind_of_words(words: str) -> str:
    """Words of one kind exclude each other."""
    if words in OF_CELLS or words.startswith("--cell"):
        return "network"
    return "data" if words in OF_DATA else words.split()[0]


@pytest.mark.parametrize("line", others_slow(LINES, *(LINES.keys() - {"rhn-analyze report"})))
@hypothesis.settings(quietly, max_examples=2)
@given(data=st.data(), unread=st.booleans())
def test_sound_words_are_not_refused(line, data, unread, folder, command):
    given, more = given_in(LINES[line][0]), LINES[line][1]
    chosen = st.lists(st.sampled_from(more), unique_by=kind_of_words, max_size=3)
    for words in data.draw(chosen) if more else ():
        given |= {k: v for k, v in given_in(words).items() if k}
    shutil.rmtree("new", ignore_errors=True)
    with unread_output() if unread else contextlib.nullcontext():
        found = command(" ".join([line, *given.values()]))
    assert found.code == 0 and "error" not in found.err, found


@contextlib.contextmanager
def unread_output():
    """The reader of the standard output has ended."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream, contextlib.redirect_stdout(stream):
        yield


def training(**more):
    x, model = torch.rand(100, 3), nn.Linear(3, 1)
    sgd = torch.optim.SGD(model.parameters(), 0.01)
    parts = {"model": model, "x": x, "y": x[:, :1], "loss_fn": nn.MSELoss(), "optimizer": sgd}
    return {**parts, "steps": 8, **more}


def along(**more):
    return {"network": nn.RNN(3, 4), "x": torch.rand(6, 3), "s0": None, **more}


def at(**more):
    return {"cell": rhn.make_cell("rnn", 3, 4), "s": torch.rand(6, 4), **more}


def chorales():
    return rhn.data.chorales("chorales.json")


X = torch.rand(6, 3)
CALLS = {  # function: its arguments, which are wrong one at a time
    gersgorin.spectra: lambda: along(leading=2, state_size=None, layer=None),
    gersgorin.products: along,
    gersgorin.gains: along,
    gersgorin.gates: lambda: along(of=None),
    gersgorin.lyapunov: lambda: along(count=1, warmup=0, repeat=1, seed=0),
    gersgorin.pseudospectra: lambda: along(side=5, steps=None),
    gersgorin.fixed_points: lambda: along(starts=2, period=1, margin=0.5, seed=0),
    gersgorin.influence: lambda: {"model": nn.RNN(3, 4), "x": X, "of": "outputs", "lengths": None,
        "feature": 0, "probes": 2, "seed": 0},
    gersgorin.compare: lambda: {"networks": {"a": nn.RNN(3, 4)}, "x": X, "panels": ["discs"]},
    gersgorin.open_run: lambda: along(state_size=None, layer=None),
    gersgorin.layer_inputs: lambda: {"model": nn.Sequential(nn.RNN(3, 4)), "x": X, "layer": "0"},
    partial(gersgorin.layers_as_steps, s0=X): lambda: {"layers": [nn.Tanh()]},
    partial(gersgorin.temporal_jacobian, x=X): lambda: at(method="analytic"),
    partial(gersgorin.input_jacobian, x=X): lambda: at(method="jacrev"),
    partial(gersgorin.layer_jacobians, x=X): lambda: at(method="analytic"),
    gersgorin.norm_bound: lambda: {"cell": rhn.make_cell("rnn", 3, 4)},
    gersgorin.eigenvalues: lambda: {"A": torch.rand(3, 3), "workers": 1},
    gersgorin.gersgorin_discs: lambda: {"A": torch.rand(3, 3), "axis": "row"},
    gersgorin.jacobian_product: lambda: {"A": torch.rand(1, 3, 3)},
    gersgorin.load: lambda: {"path": "run.npz"},
    gersgorin.Recorder: lambda: {"model": nn.RNN(3, 4), "x": X, "every": 1, "path": None,
        "start": 0, "positions": 2, "constant": None},
    rhn.make_cell: lambda: {"name": "rhn", "input_size": 3, "hidden_size": 4, "depth": 1,
        "init": None, "kernel": "manual"},
    rhn.from_torch: lambda: {"module": nn.RNN(3, 4), "layer": 0},
    rhn.load: lambda: {"path": "chorales.safetensors", "cell": None},
    rhn.save: lambda: {"path": "a.safetensors", "model": rhn.make_cell("rnn", 3, 4)},
    partial(rhn.preset, "jsb-depth-1"): lambda: {"hidden_size": 3, "cell": "rnn"},
    rhn.load_data: lambda: {"name": "jsb", "path": "chorales.json"},
    rhn.evaluate: lambda: {"model": objects.MUSIC, "data": chorales(), "split": "test",
        "device": "cpu"},
    rhn.sample: lambda: {"model": objects.MUSIC, "bars": 1, "temperature": 1.0, "seed": 0},
    rhn.train: lambda: {"config": "jsb-depth-1", "data": chorales(), "out": "new", "threads": 1,
        "device": "cpu", "max_minutes": 0.0},
    trainability.check: lambda: training(batch_size=32, clip_norm=1.0, scheduler=None, seed=0,
        predict=None, batch_axis=0, validation=None, seconds=None),
    trainability.cure: training,
    trainability.assert_learns: lambda: training(below=10.0),
    optim_study.smoke: lambda: {"depth": 1, "trials": 2, "jobs": 1, "learning_rate": (1e-3, 1.0),
        "init_std": (1e-3, 1.0), "epochs": 1, "device": "cpu", "engine": "processes"},
    optim_study.run: lambda: {"config": None},
    optim_study.read_csv: lambda: {"path": "study/trials.csv"},
    optim_study.write_csv: lambda: {"rows": [objects.TRIAL], "path": "a.csv"},
    optim_study.training_shares: lambda: {"rows": [objects.TRIAL], "loss": "train", "below": 9.0},
    optim_study.plot_swarm: lambda: {"rows": [objects.TRIAL], "loss": "train", "size": "page"},
    optim_study.plot_map: lambda: {"rows": [objects.TRIAL], "loss": "train", "size": "page"},
    analysis.gate_activity: lambda: {"model": objects.MUSIC, "batch": objects.CHORALES,
        "cell": None, "device": None},
    analysis.lesion: lambda: {"model": objects.MUSIC, "batch": objects.CHORALES, "mode": "bias",
        "loss": None, "cell": None, "device": None, "at_once": 2},
    analysis.refinement: lambda: {"model": objects.MUSIC, "batch": objects.CHORALES, "cell": None,
        "device": None},
    analysis.lesioned: lambda: {"model": objects.MUSIC, "lesion": analysis.Lesion("bias", (1,))},
    partial(analysis.paired_interval, np.ones((1, 3)), np.ones(3)): lambda: {"frames": np.ones(3)},
    analysis.stretches: lambda: {"tokens": np.arange(9), "length": 3, "max_tokens": 9},
}  # fmt: skip


TYPES_OF_PYTHON = ("rows",)
"""Arguments of which Python itself refuses a wrong type, with a TypeError."""


def name_of(function) -> str:
    """The name of a function, also with some arguments given."""
    return getattr(function, "func", function).__name__


@pytest.mark.parametrize("function", [pytest.param(call, id=name_of(call)) for call in CALLS])
def test_each_wrong_argument_of_a_function_is_refused_and_nothing_is_written(
    function, folder, subtests
):
    for name in CALLS[function]():
        errors = (RhnError, TypeError) if name in TYPES_OF_PYTHON else RhnError
        for value in wrong_values(name):
            arguments = {**CALLS[function](), name: value}
            before = files_there()
            with subtests.test(f"{name}={value!r}"):
                with pytest.raises(errors):
                    function(**arguments)
                assert not files_there() ^ before
