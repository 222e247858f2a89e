"""Wrong input to any command is one sentence on stderr and exit code 2: nothing is printed, and no
file is written.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import for_each
from test_gersgorin_cli import language_model
from test_modules import Bomb

from gersgorin import Recorder
from gersgorin.cli.main import main
from gersgorin.recording import MOMENTS
from rhn.cells import RHN, RNN
from rhn.checkpoints import save_checkpoint
from rhn.models import PolyphonicModel

WRONG = {
    "analyze": "did you mean plot?",
    "lyapunow": "did you mean lyapunov?",
    "check --cell rnn": "did you mean trainability check?",
    "cure": "did you mean trainability cure?",
    "plot --cell ..:x": "expected package.module:factory",
    "plot --cell .cells:Mine": "expected package.module:factory",
    "plot --cell :x": "expected package.module:factory",
    "plot --cell cells:": "expected package.module:factory",
    "plot --cell rhm": "did you mean 'rhn'",
    "plot --cell torch.nn:LSTM --depth 2": "LSTM has no recurrence depth",
    "plot --cell gru --transform-bias 1": "has no option 'transform_bias'",
    "plot --hidden-size 200000": "GiB of memory",
    "plot --steps 100000": "it has 85 frames",
    "plot --steps 0": "--steps is 0, expected 1 or more",
    "plot --output nowhere/one.npz": "the folder nowhere does not exist",
    "plot --output novel.txt": "expected a name ending in .png",
    "plot --checkpoint missing.safetensors --output folder.png": "it is a folder",
    "plot --output moving.gif": "expected a name ending in .png or .svg or .pdf or .npz or .json "
    "or .csv",
    "plot --leading 0": "leading is 0: expected a whole number from 1 to 64",
    "plot --checkpoint chorales.safetensors --cell lstm": "holds a network of rnn, not of lstm",
    "influence --module one_step:step --steps 9": "give --state-size",
    "plot --checkpoint cell.safetensors --depth 4": "--depth cannot be given with --checkpoint",
    "plot --data bomb.pickle": "bomb.pickle",
    "plot --checkpoint language.safetensors": "holds a language model, which reads a text",
    "plot --checkpoint language.safetensors --input novel.txt --chorale bwv66.6": "--input and "
    "--chorale both name something to read",
    "plot --checkpoint language.safetensors --input novel.txt --layer 2": "layer is 2",
    "plot --checkpoint language.safetensors --input empty.txt": "holds no tokens",
    "plot --input novel.txt": "novel.txt is not a file of numbers",
    "lyapunov --hidden-size 6 --steps 12 --count 7": "count is 7: the state has 6 entries",
    "fixed-points --hidden-size 6 --steps 12 --starts 0": "starts is 0: expected at least 1",
    "fixed-points --hidden-size 6 --steps 12 --starts 1000000000000": "starts of 6 entries "
    "needs about",
    "influence --checkpoint cell.safetensors --of squared": "holds only an RHN: expected a network "
    "with an output",
    "influence --checkpoint cell.safetensors --layer 2": "--layer",
    "influence --module torch.nn:LSTM --of squared": "y (84, 1, 88) does not fit outputs "
    "(84, 1, 64) and the loss 'squared'",
    "influence --cell rnn --of hinge": "the loss is 'hinge': expected 'bernoulli'",
    "influence --cell rnn --batch-axis 2": "--batch-axis is for --module",
    "lyapunov --start-noise nan": "--start-noise is nan, expected 0 or more",
    "fixed-points --hold nan": "--hold is nan, expected a finite number",
    "fixed-points --period 300": "period is 300: ",
    "plot --cell=": "unknown cell ''",
    "influence --cell=": "unknown cell ''",
    "compare nothere": "there is no file of weights nothere: unknown cell 'nothere'",
    "compare nothere,rnn": "there is no file of weights nothere: unknown cell 'nothere'",
    "compare cell.safetensors,chorales.safetensors --hidden-size 3": "--hidden-size is of new "
    "cells",
    "plot --checkpoint evil.pt": "evil.pt is a torch.save file, which does not name its network: "
    "give gersgorin --module package.module:factory, or save the network with "
    "rhn.checkpoints.save_checkpoint",
    "compare": "there is no network to compare: name at least one",
    "compare rhn": "there is nothing to compare with rhn: name another network",
    "compare rhn --set depth=1": "there is nothing to compare with rhn",
    "compare rhn --set depth=1 depth=two": "--set depth=two: expected a whole number",
    "compare rhn --set width=3": "the cell rhn has no option 'width'",
    "compare rhn,rnn --set gru.depth=3": "--set gru.depth=3: gru is not among the new cells rhn, "
    "rnn",
    "compare lstm,gru --set depth=3": "--set depth=3: lstm, gru cannot be made deeper",
    "compare rhn --set depth": "--set depth: expected NAME=VALUE, such as depth=5",
    "compare rnn,a.safetensors": "there is no checkpoint at a.safetensors",
    f"compare rhn --set {' '.join(f'seed={k}' for k in range(30))}": "30 networks are too many for "
    "one figure: expected at most 24",
    "compare lstm,gru --before-training": "--before-training is for trained weights",
    "compare lstm,gru --module torch.nn:LSTM": "--module is for files of weights",
    "plot cell.safetensors": "cell.safetensors: expected nothing here, or the name of an option",
    "compare cell.safetensors --set depth=2": "--set depth=2 is for new cells",
    "compare rhn,rnn --analysis influence": "influence: expected one of spectra, products",
    "compare rhn --seeds 1000000000": "--seeds is 1000000000, expected 1 or more, at most 1000",
    "compare cell.safetensors --over seeds": "the weights of cell.safetensors are trained",
    "compare rhn --sequences 2 --chorale bwv66.6": "both name something to read",
    "compare rhn --over sequences --analysis pseudospectra": "bands over many runs are of the "
    "spectra",
    "compare language.safetensors,rnn --input novel.txt": "the new cell rnn cannot read a text",
    "compare language.safetensors --input novel.txt --sequences 40": "steps is 4000, "
    "beyond the end of the text",
    "recording run.npz --output figure.bmp": "expected a name ending in .png",
    "recording nowhere.npz": "nowhere.npz does not exist: expected a record written by "
    "gersgorin.Recorder",
    "recording .": "the folder . holds no record.npz: expected",
    "recording novel.txt": "novel.txt is not a record written by "
    "gersgorin.Recorder(path=FILE.npz) or rhn train --record",
    "recording lost.npz": "the record holds no finite number",
}


@pytest.fixture
def files(own_folder) -> Path:
    """A folder with networks, data and records, of which some cannot be used."""
    language_model()
    save_checkpoint("cell.safetensors", RHN(88, 4))
    save_checkpoint("chorales.safetensors", PolyphonicModel(hidden_size=4, cell="rnn"))
    Path("one_step.py").write_text("def step(x, s):\n    return s + x.sum()\n")
    torch.save({}, "evil.pt")
    Path("bomb.pickle").write_bytes(pickle.dumps(Bomb()))
    Path("empty.txt").write_text("")
    recording = Recorder(RNN(3, 4), torch.rand(5, 3)).recording
    recording.save("run.npz")
    lost = {name: getattr(recording, name) * np.nan for name in MOMENTS if name != "step"}
    type(recording)(**vars(recording) | lost).save("lost.npz")
    Path("folder.png").mkdir()
    return own_folder


@for_each("line", WRONG)
def test_wrong_input_is_one_sentence_and_writes_nothing(line, files, capsys):
    def written():
        return {path for path in files.rglob("*") if "__pycache__" not in path.parts}

    before = written()
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    said = captured.err.splitlines()
    assert WRONG[line] in said[-1] and said[-1].startswith("error: ") and not captured.out
    assert said[-1].count("--module") < 2
    assert written() == before
