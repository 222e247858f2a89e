"""A checkpoint gives back the same bits, is whole or not there at all; loading a wrong one is
refused and runs nothing.
"""

import functools
import json
import os
import pickle
import stat
import sys

import pytest
import torch
from cases import SHALLOW_CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tables import for_each
from torch import nn

from rhn.cells import RHN, RNN
from rhn.checkpoints import load, read, save
from rhn.errors import CheckpointError, InvalidInputError
from rhn.files import checksum
from rhn.models import LanguageModel, PolyphonicModel

DTYPES = (torch.float64, torch.bfloat16, torch.float16)


@for_each(
    ("case", "dtype"),
    [
        *((case, torch.float32) for case in SHALLOW_CASES),
        *((SHALLOW_CASES[0], dtype) for dtype in DTYPES),
    ],
)
def test_a_round_trip_is_bit_exact(case, dtype, tmp_path):
    cell = case.build(dtype=dtype, batch_first=True, init="gaussian:0.1")
    with torch.no_grad():
        # signed zeros and subnormals too
        next(cell.parameters()).view(-1)[:2] = torch.tensor([-0.0, 1e-40]).to(dtype)
    path, before = (
        save(tmp_path / "cell.safetensors", cell, seed=7),
        torch.get_rng_state(),
    )
    again = load(path)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers"
    assert type(again) is type(cell) and again.config() == cell.config()
    for (name, p), (other, q) in zip(
        cell.named_parameters(), again.named_parameters(), strict=True
    ):
        assert name == other and p.dtype == q.dtype and q.requires_grad
        assert p.detach().view(torch.uint8).equal(q.detach().view(torch.uint8)), name
    x = torch.randn(3, 4, 5).to(dtype)
    assert torch.equal(again(x)[0], cell(x)[0])


def test_metadata_is_kept_and_read_without_the_weights(tmp_path):
    metadata = {"seed": 3, "metrics": {"nll": 8.5, "per epoch": [1.0, 2.0]}, "note": None, "ř": "š"}
    path = save(tmp_path / "a", RNN(2, 3), **metadata)
    header = read(path).header
    assert (header["metadata"], header["class"], header["format"]) == (metadata, "RNN", 1)
    assert header["versions"]["torch"] == torch.__version__ and header["config"]["hidden_size"] == 3


def test_others_may_read_the_file(tmp_path):
    """As any file a program writes: by the user's umask, not for the owner alone."""
    old = os.umask(0o022)
    path = save(tmp_path / "a", RNN(2, 3))
    os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


class Mine(nn.Module):
    """A user's module with a tied weight."""

    def __init__(self, n, *, device=None, dtype=None):
        super().__init__()
        self.n = n
        self.a = nn.Linear(n, n, device=device, dtype=dtype)
        self.b = nn.Linear(n, n, device=device, dtype=dtype)
        self.b.weight = self.a.weight
        self.register_buffer("scale", torch.ones(n, device=device, dtype=dtype))

    def config(self):
        return {"n": self.n}


def test_a_users_module_with_tied_weights_and_buffers(tmp_path):
    mine = Mine(4)
    mine.scale.mul_(3)
    path = save(tmp_path / "a", mine)
    with pytest.raises(CheckpointError, match=r"cell of .* is Mine: expected rnn, "):
        load(path)
    again = load(path, Mine)
    assert again.b.weight is again.a.weight
    assert torch.equal(again.a.weight, mine.a.weight)
    assert torch.equal(again.scale, mine.scale)


@pytest.fixture
def good(tmp_path):
    return save(tmp_path / "good.safetensors", RHN(3, 4, 2), seed=1)


def forge(good, *, config=None, drop=(), tensors=None, header=None, later=None):
    """A copy of a good checkpoint with wrong entries and their checksums, or changed later."""
    told = read(good).header
    told["config"] = {k: v for k, v in (told["config"] | (config or {})).items() if k not in drop}
    told |= header or {}
    weights = load_file(good) if tensors is None else tensors
    told["checksum"] = checksum(weights)
    others = {name: value for name, value in told.items() if name != "header_checksum"}
    told["header_checksum"] = checksum({}, json.dumps(others))
    path = good.with_name("forged.safetensors")
    save_file(weights, path, metadata={"rhn": json.dumps(told | (later or {}))})
    return path


def refused(path, match=None):
    """Loading ends in one sentence."""
    with pytest.raises(CheckpointError, match=match) as caught:
        load(path)
    assert len(str(caught.value)) < 600


@for_each(
    ("header", "match"),
    [
        ({"class": "os.system"}, "cell of .* is os.system: expected rnn, "),
        ({"class": 5}, "cell of .* is 5: expected rnn, "),
        ({"format": 2}, "format of .* is 2: expected 1"),
    ],
)
def test_a_header_that_does_not_fit(good, header, match):
    refused(forge(good, header=header), match=match)


def test_weights_that_are_missing_unknown_misshapen_or_not_finite(good):
    weights = load_file(good)
    refused(forge(good, drop=("depth",)), match="shape of .* expected")
    refused(forge(good, config={"hidden_size": 10**6}), match="shape of .* expected")
    refused(
        forge(good, tensors={k: v for k, v in weights.items() if k != "bias"}),
        match="shape of bias .* is None: expected",
    )
    refused(
        forge(good, tensors=weights | {"more": torch.zeros(1)}),
        match=r"shape of more .* is \(1,\): expected None",
    )
    refused(forge(good, tensors={}), match="shape of")
    weights["weight_hh"][1, 2, 3] = float("nan")
    refused(
        forge(good, tensors=weights),
        match="weight_hh in .* is NaN or infinite",
    )


def test_a_file_that_is_truncated_or_longer(good):
    data, path = good.read_bytes(), good.with_name("short.safetensors")
    for content in [*(data[:length] for length in (0, 7, 8, 20, 100, len(data) - 1)), data + b"\0"]:
        path.write_bytes(content)
        refused(path, match=r"is no complete \.safetensors file")


@settings(max_examples=60)
@given(where=st.integers(0, 10**6), value=st.integers(0, 255))
def test_one_changed_byte_is_refused_or_harmless(tmp_path_factory, where, value):
    """Never a traceback: either one sentence, or a cell of the promised shape with finite
    weights.
    """
    path = tmp_path_factory.mktemp("byte") / "a"
    save(path, RHN(3, 4, 2))
    data = bytearray(path.read_bytes())
    data[where % len(data)] = value
    path.write_bytes(data)
    try:
        cell = load(path)
    except CheckpointError:
        return
    assert all(torch.isfinite(p).all() for p in cell.parameters())


def test_loading_runs_nothing(tmp_path):
    """A pickle with a payload, renamed, is not opened as one."""
    witness = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {witness}",)

    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Payload()))
    torch.save({"weight_ih": Payload()}, tmp_path / "b.safetensors")
    for name in "ab":
        refused(tmp_path / f"{name}.safetensors", match=r"is no complete \.safetensors file")
    assert not witness.exists()


def test_a_path_that_cannot_be_read(good, monkeypatch):
    refused(good.parent / "nothing", match="does not exist: expected a checkpoint")
    refused("a" * 300, match="cannot be read: File name too long")

    def refuse(*_, **__):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    refused(good, match=r"good\.safetensors cannot be read: Permission denied$")


MODELS = [PolyphonicModel, functools.partial(LanguageModel, vocabulary_size=5)]


@pytest.mark.parametrize("build", MODELS)
def test_loading_imports_nothing_that_a_file_names(build, tmp_path, monkeypatch):
    good = save(tmp_path / "m.safetensors", build("rhn", hidden_size=4))
    (tmp_path / "intruder.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    refused(
        forge(good, config={"cell": "intruder:Cell"}),
        match="cell of .* is intruder:Cell: expected rnn",
    )
    assert "intruder" not in sys.modules
    with pytest.raises(InvalidInputError, match="layers"):
        load(forge(good, config={"layers": 10**6}))


def test_a_cell_that_is_gone_is_named_with_all_cells(tmp_path):
    good = save(tmp_path / "m.safetensors", PolyphonicModel("rhn", hidden_size=4))
    match = r"cell of .*forged\.safetensors is leaky: expected rnn, irnn, "
    refused(forge(good, config={"cell": "leaky"}), match=match)


def test_a_flipped_bit_of_the_weights_is_noticed(tmp_path):
    path = save(tmp_path / "a.safetensors", RNN(3, 4))
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^checksum of .*a\.safetensors is .*: expected"):
        load(path)


@for_each(
    "change",
    [
        {"config": {"activation": "relu"}},
        {"config": {"gate_constant": -1.0}},
        {"metadata": {"seed": 2}},
    ],
)
def test_a_changed_header_is_noticed_although_it_fits_the_weights(change, good):
    told = read(good).header
    ((entry, value),) = change.items()
    refused(forge(good, later={entry: told[entry] | value}), match="header_checksum of")


@for_each("without", ["header_checksum", "checksum"])
def test_a_file_without_one_of_its_checksums_is_refused(without, good):
    refused(forge(good, later={without: None}), match=f"{without} of .* is None: expected")


def test_metadata_that_json_changes_are_saved_and_loaded(tmp_path):
    """Tuples become lists, and numbers that are keys become texts."""
    metadata = {"a": (1, 2.5, -0.0, 1e-300), "b": {10: 1, 2: {True: None}}, "c": "ř\ud800\n"}
    path = save(tmp_path / "a.safetensors", RNN(2, 3), **metadata)
    assert load(path).hidden_size == 3
    assert read(path).header["metadata"]["b"] == {"10": 1, "2": {"true": None}}
    with pytest.raises(CheckpointError, match=r"header of .* is not JSON"):
        save(path, RNN(2, 3), seed={1, 2})
