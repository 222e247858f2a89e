"""A checkpoint gives back the same bits, is whole or not there at all; loading a wrong one is
refused and runs nothing.
"""

import json
import os
import pickle
import stat
import sys
from pathlib import Path

import pytest
import torch
from cases import CELL_CASES, randomize
from safetensors.torch import load_file, save_file

from rhn.cells import GRU, RNN
from rhn.checkpoints import load, read, save
from rhn.errors import CheckpointError
from rhn.files import checksum
from rhn.models import PolyphonicModel
from rhn.state_dict import read_weights
from rhn.utils.seeds import weights_generator

OLDER = Path(__file__).with_name("older")  # files that older versions wrote
DTYPES = (torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        *((case, torch.float32) for case in CELL_CASES),
        *((CELL_CASES[0], dtype) for dtype in DTYPES),
    ],
    ids=str,
)
def test_a_round_trip_is_bit_exact(case, dtype, tmp_path):
    cell = case.build(dtype=dtype, batch_first=True, init="gaussian:0.1")
    with torch.no_grad():
        # signed zeros and subnormals too
        next(cell.parameters()).view(-1)[:2] = torch.tensor([-0.0, 1e-40]).to(dtype)
    path, before = save(tmp_path / "cell.safetensors", cell, seed=7), torch.get_rng_state()
    again = load(path)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers"
    assert type(again) is type(cell) and again.config() == cell.config()
    pairs = zip(cell.named_parameters(), again.named_parameters(), strict=True)
    for (name, p), (other, q) in pairs:
        assert name == other and p.dtype == q.dtype and q.requires_grad
        assert p.detach().view(torch.uint8).equal(q.detach().view(torch.uint8)), name
    x = torch.randn(3, 4, 5).to(dtype)
    assert torch.equal(again(x)[0], cell(x)[0])


def test_metadata_are_those_of_json_and_others_may_read_the_file(tmp_path):
    old = os.umask(0o022)
    path = save(tmp_path / "a", RNN(2, 3), a=(1, -0.0, 1e-300), b={10: {True: None}}, ř="\ud800\n")
    os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    header = read(path).header
    wanted = {"a": [1, -0.0, 1e-300], "b": {"10": {"true": None}}, "ř": "\ud800\n"}
    assert (header["metadata"], header["class"], header["format"]) == (wanted, "RNN", 1)
    assert header["versions"]["torch"] == torch.__version__ and load(path).hidden_size == 3
    with pytest.raises(CheckpointError, match=r"header of .* is not JSON"):
        save(path, RNN(2, 3), seed={1, 2})


@pytest.fixture
def good(tmp_path):
    return save(tmp_path / "good.safetensors", PolyphonicModel(hidden_size=4, depth=2), seed=1)


def test_the_cell_of_a_file_may_be_named(good, tmp_path):
    assert load(good, "rhn").cell == "rhn"
    assert load(save(tmp_path / "gru.safetensors", GRU(3, 4)), "gru").hidden_size == 4


@pytest.mark.parametrize(
    ("metadata", "trial"),
    [
        pytest.param({"train": {"seed": 3, "cell": "gru", "depth": 1}}, 0, id="a training run"),
        pytest.param(
            {"study": {"seed": 3, "arch": "gru", "depth": 1}, "trial": 2}, 2, id="a trial"
        ),
    ],
)
def test_the_initial_weights_of_a_file_are_drawn_again(metadata, trial, tmp_path):
    def drawn():
        generator = weights_generator(3, "gru", 1, trial)
        return PolyphonicModel("gru", hidden_size=4, generator=generator)

    randomize(trained := drawn())
    path = save(tmp_path / "a.safetensors", trained, **metadata)
    for model, wanted in ((load(path, before_training=True), drawn()), (load(path), trained)):
        assert all(map(torch.equal, model.parameters(), wanted.parameters()))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"lr": 0.1}, id="a number"),
        pytest.param({"W": torch.zeros(2), "lr": 0.1}, id="a tensor and a number"),
    ],
)
def test_a_file_of_torch_with_other_things_than_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"is damaged or of another kind"):
        read_weights(tmp_path / "a.pt")


def forge(good, *, config=None, drop=(), tensors=None, header=None, later=None):
    """A copy of a good checkpoint with wrong entries and their checksums, or changed later."""
    found = read(good).header
    found["config"] = {k: v for k, v in (found["config"] | (config or {})).items() if k not in drop}
    found |= header or {}
    weights = load_file(good) | (tensors or {})
    weights = {name: t for name, t in weights.items() if t is not None}
    found["checksum"] = checksum(weights)
    others = {name: value for name, value in found.items() if name != "header_checksum"}
    found["header_checksum"] = checksum({}, json.dumps(others))
    found |= later or {}
    path = good.with_name("forged.safetensors")
    save_file(weights, path, metadata={"rhn": json.dumps(found)})
    return path


def refused(path, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        load(path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(
            {"header": {"class": "this"}}, "cell of .* is rhn: expected rnn, ", id="a class"
        ),
        pytest.param(
            {"config": {"cell": "this:Cell"}},
            "cell of .* is this:Cell: expected rnn, ",
            id="a path as a cell",
        ),
        pytest.param(
            {"config": {"cell": "leaky"}},
            "cell of .* is leaky: expected rnn, ",
            id="an unknown cell",
        ),
        pytest.param(
            {"header": {"format": 2}},
            "format of .* is 2: expected 1; another version",
            id="another format",
        ),
        pytest.param({"drop": ("depth",)}, "shape of .* expected", id="no depth"),
        pytest.param({"config": {"hidden_size": 10**6}}, "shape of .* expected", id="more units"),
        pytest.param(
            {"tensors": {"output.bias": None}},
            "shape of output.bias .* is None: expected",
            id="a tensor missing",
        ),
        pytest.param(
            {"tensors": {"more": torch.zeros(1)}},
            r"shape of more .* is \(1,\): expected None",
            id="one tensor more",
        ),
        pytest.param(
            {"tensors": {"output.bias": torch.arange(88.0).log().sqrt()}},
            "output.bias .* is NaN or infinite",
            id="NaN",
        ),
        pytest.param(
            {"tensors": {"output.bias": torch.arange(88.0).log()}},
            "output.bias .* is NaN or infinite",
            id="infinite",
        ),
        pytest.param(
            {"tensors": {"output.bias": torch.zeros(88).long()}},
            "cannot be built: Only Tensors of",
            id="whole numbers",
        ),
        pytest.param(
            {"config": {"more": 1}},
            "cannot be built: .* unexpected keyword argument 'more'",
            id="an unknown option",
        ),
        pytest.param(
            {"header": {"metadata": [1]}},
            r"metadata of .* is \[1\]: expected dict",
            id="metadata as a list",
        ),
        pytest.param(
            {"later": {"metadata": {"seed": 2}}},
            "header_checksum of .*; the file is damaged",
            id="metadata changed later",
        ),
        pytest.param(
            {"later": {"header_checksum": None}},
            "header_checksum of .* is None: expected",
            id="no checksum of the header",
        ),
        pytest.param(
            {"later": {"checksum": None}}, "checksum of .* is None: expected", id="no checksum"
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_imports_nothing(change, match, good):
    refused(forge(good, **change), match)
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("version", "checksums"), [("0.4.0", set()), ("0.5.0", {"checksum"})], ids=str
)
def test_files_of_versions_that_wrote_fewer_checksums_are_read(version, checksums):
    path = OLDER / f"{version}.safetensors"
    header, stored = read(path).header, load_file(path)
    assert header["versions"]["rhn"] == version
    assert header.keys() & {"checksum", "header_checksum"} == checksums
    own = load(path).state_dict()
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[name], stored[name]) for name in stored)


def test_a_flipped_bit_in_a_file_with_one_checksum_is_refused(tmp_path):
    content = bytearray((OLDER / "0.5.0.safetensors").read_bytes())
    content[-1] ^= 1
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(content)
    refused(path, "^checksum of")


def test_loading_runs_nothing(tmp_path):
    """A pickle, renamed, is not opened as one."""
    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {ran}",)

    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Payload()))
    torch.save({"weight_ih": Payload()}, tmp_path / "b.safetensors")
    save_file({"weight_ih": torch.zeros(2)}, tmp_path / "c.safetensors")  # without metadata
    for name in "abc":
        refused(tmp_path / f"{name}.safetensors", r"is of another format: expected \.safetensors")
    assert not ran.exists()
