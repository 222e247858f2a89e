"""Checkpoints that are damaged, lie, or cost too much are refused in a sentence; loading runs and imports nothing."""

import functools
import json
import os
import pickle
import struct
import subprocess
import sys
import unittest.mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tables import for_each

from rhn.cells import RHN
from rhn.checkpoints import load_checkpoint, read_metadata, save_checkpoint
from rhn.errors import CheckpointError
from rhn.models import LanguageModel, PolyphonicModel


def test_loading_leaves_the_callers_random_numbers_alone(good):
    before = torch.get_rng_state()
    load_checkpoint(good)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def good(tmp_path):
    return save_checkpoint(tmp_path / "good.safetensors", RHN(3, 4, 2), seed=1)


def forge(good, *, config=None, drop=(), tensors=None, header=None, text=None):
    """A copy of a good checkpoint that lies in one respect."""
    told = read_metadata(good)
    told["config"] = {k: v for k, v in (told["config"] | (config or {})).items() if k not in drop}
    told |= header or {}
    weights = load_file(good) if tensors is None else tensors
    path = good.with_name("forged.safetensors")
    save_file(weights, path, metadata={"rhn": json.dumps(told) if text is None else text})
    return path


def refused(path, match=None):
    """Loading says one sentence."""
    with pytest.raises(CheckpointError, match=match) as caught:
        load_checkpoint(path)
    return str(caught.value)


LIES = {
    "hidden_size": [10**12, 10**30, 5, 0, -4, "4", 4.0, None, [4]],
    "input_size": [10**18, True],
    "depth": [10**9, 3, -1, {"a": 1}],
    "coupled": [False, "no"],
    "batch_first": ["yes"],
    "transform_bias": ["-2", []],
    "kernel": ["cuda", ["manual"], {}],
    "init": ["uniform:1e308", "exec:1", None, {"scheme": "uniform"}],
    "device": ["cuda"],
    "dtype": ["float64", None],
    "generator": [None, "seed"],
    "self": [1],
    "": [1],
    "__class__": ["os.system"],
    "junk": [[[[[{"a": [1, 2, {"b": None}]}]]]]],
}


@for_each(("name", "value"), [(name, value) for name, values in LIES.items() for value in values])
def test_a_configuration_that_lies(good, name, value):
    message = refused(forge(good, config={name: value}), match="forged")
    assert len(message) < 600


@for_each("key", ["input_size", "hidden_size", "depth"])
def test_a_configuration_that_leaves_something_out(good, key):
    refused(forge(good, drop=(key,)))


HEADERS = [
    ({"class": "LSTM"}, "its configuration does not describe a LSTM"),
    ({"class": "RNN"}, "its configuration does not describe a RNN"),
    ({"class": "os.system"}, "holds a os.system, none of ours"),
    *[({"class": value}, "does not say which class") for value in (5, None, ["RHN"])],
    *[({"config": value}, "does not say which class") for value in ([], "rm -rf")],
    *[({"metadata": value}, "does not say which class") for value in ([], "text", 3, None)],
    *[({"format": value}, f"has format {value!r}") for value in (2, None, "1")],
]


@for_each(("header", "match"), HEADERS)
def test_a_header_that_lies(good, header, match):
    refused(forge(good, header=header), match=match)


NO_HEADERS = ["", "{", "null", "5", '"RHN"', "[]", "{}", "\ud83d".encode("utf-16", "surrogatepass").hex()]
NO_HEADERS += ["[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000]


@for_each("text", NO_HEADERS)
def test_a_header_that_is_no_json_of_ours(good, text):
    refused(forge(good, text=text), match="header")


def test_no_header_of_ours(tmp_path):
    for metadata in (None, {"format": "pt"}):
        save_file({"weight_ih": torch.zeros(2)}, tmp_path / "x.safetensors", metadata=metadata)
        refused(tmp_path / "x.safetensors", match="was not written by this toolkit")


def test_missing_extra_and_misshapen_tensors(good):
    weights = load_file(good)
    refused(forge(good, tensors={k: v for k, v in weights.items() if k != "bias"}), match="it lacks bias")
    refused(forge(good, tensors=weights | {"weight_skip": torch.zeros(1)}), match="has an unknown weight_skip")
    other = forge(good, tensors={"other": torch.zeros(1)})
    refused(other, match="lacks bias, weight_hh, weight_ih and has an unknown other")
    refused(forge(good, tensors={}), match="lacks")
    for shape in ((8, 4, 2), (16, 4), (2, 8, 4, 1), (0,), ()):
        wrong = weights | {"weight_hh": torch.zeros(shape)}
        refused(forge(good, tensors=wrong), match="weight_hh has shape .*, its header promises \\(2, 8, 4\\)")


@for_each("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_dtypes_that_are_no_weights(good, dtype):
    weights = load_file(good)
    refused(forge(good, tensors={name: t.to(dtype) for name, t in weights.items()}), match="expected weights of one")
    mixed = weights | {"bias": weights["bias"].double()}
    refused(forge(good, tensors=mixed), match="one floating-point type .*found torch.float32, torch.float64")


@for_each("value", [float("nan"), float("inf"), -float("inf")])
def test_a_diverged_training_is_named(good, value):
    weights = load_file(good)
    weights["weight_hh"][1, 2, 3] = value
    refused(forge(good, tensors=weights), match="weight_hh holds NaN .*: the training that wrote it had diverged")


def test_truncated_anywhere_or_longer(good):
    data, path = good.read_bytes(), good.with_name("short.safetensors")
    lengths = {*range(0, len(data), 97), *range(24), *range(len(data) - 12, len(data))}
    for content in [*(data[:length] for length in sorted(lengths)), data + b"\0"]:
        path.write_bytes(content)
        refused(path, match=r"is not a whole \.safetensors file")


@settings(max_examples=60)
@given(where=st.integers(0, 10**6), value=st.integers(0, 255))
def test_one_changed_byte_is_refused_or_harmless(tmp_path_factory, where, value):
    """Never a traceback: either one sentence, or a cell of the promised shape with finite weights."""
    path = tmp_path_factory.mktemp("byte") / "a"
    save_checkpoint(path, RHN(3, 4, 2))
    data = bytearray(path.read_bytes())
    data[where % len(data)] = value
    path.write_bytes(data)
    try:
        cell = load_checkpoint(path)
    except CheckpointError:
        return
    assert all(torch.isfinite(p).all() for p in cell.parameters())


@for_each("declared", [2**63, 2**40, 10**9, 5])
def test_a_header_length_that_lies(good, declared):
    good.write_bytes(struct.pack("<Q", declared) + good.read_bytes()[8:])
    refused(good, match=r"is not a whole \.safetensors file")


def test_tensor_offsets_that_lie(good):
    data = good.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for change in (
        lambda h: h["bias"].update(data_offsets=[0, 10**15]),
        lambda h: h["bias"].update(data_offsets=[-4, 8]),
        lambda h: h["bias"].update(shape=[10**9, 10**9]),
        lambda h: h["bias"].update(shape=[-1]),
        lambda h: h["bias"].update(dtype="PICKLE"),
        lambda h: h["bias"].update(data_offsets=h["weight_hh"]["data_offsets"]),
        lambda h: h.update(bias=[]),
    ):
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        good.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
        refused(good, match=r"is not a whole \.safetensors file")


def test_loading_runs_nothing(tmp_path):
    """A pickle with a payload, renamed, is not opened as one."""
    witness = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {witness}",)

    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Payload()))
    torch.save({"weight_ih": Payload()}, tmp_path / "b.safetensors")
    for name, words in (("a", r"is not a whole \.safetensors file"), ("b", "is a torch.save file")):
        refused(tmp_path / f"{name}.safetensors", match=words)
    assert not witness.exists()


def test_what_is_no_file(tmp_path):
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", match=r"is not a whole \.safetensors file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", match="is a pipe, a device or a socket")
    for path in (tmp_path / "nothing", tmp_path / ("a" * 300), "", "\0"):
        refused(path, match="there is no checkpoint at")


def test_a_file_that_may_not_be_read_is_not_called_damaged(good, monkeypatch):
    refuse = unittest.mock.Mock(side_effect=PermissionError(13, os.strerror(13)))
    monkeypatch.setattr("rhn.checkpoints.safe_open", refuse)
    refused(good, match=r"good\.safetensors cannot be read: Permission denied$")


def test_a_lie_costs_no_memory(good):
    """A gigabyte-sized promise is refused in a process that may not have a gigabyte more."""
    path = forge(good, config={"hidden_size": 30_000, "depth": 50})
    script = f"""
import resource
from rhn.checkpoints import load_checkpoint
from rhn.errors import CheckpointError
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
try:
    load_checkpoint({str(path)!r})
except CheckpointError as error:
    print("refused")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "refused\n"


MODELS = [PolyphonicModel, functools.partial(LanguageModel, vocabulary_size=5)]


@pytest.mark.parametrize("build", MODELS)
def test_loading_imports_nothing_that_a_file_names_and_a_promise_of_a_million_layers_costs_nothing(
    build, tmp_path, monkeypatch
):
    good = save_checkpoint(tmp_path / "m.safetensors", build("rhn", hidden_size=4))
    (tmp_path / "intruder.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    refused(forge(good, config={"cell": "intruder:Cell"}), match="none of ours")
    assert "intruder" not in sys.modules
    refused(forge(good, config={"layers": 10**6}), match="at most")


@pytest.mark.parametrize("build", MODELS)
def test_a_file_keeps_the_options_that_were_defaults_when_it_was_written(build, tmp_path):
    assert build("irnn", hidden_size=4).config()["nonlinearity"] == "relu"
    tanh = build("irnn", hidden_size=4, nonlinearity="tanh")
    good = save_checkpoint(tmp_path / "m.safetensors", tanh)
    older = load_checkpoint(forge(good, drop=("nonlinearity",)))  # as files were written when an IRNN was tanh
    assert older.config() == tanh.config()


def test_a_factory_that_fails_is_one_sentence(good):
    broken = unittest.mock.Mock(side_effect=KeyError("anything"))
    with pytest.raises(CheckpointError, match="its configuration does not describe a RHN"):
        load_checkpoint(good, factory=broken)
