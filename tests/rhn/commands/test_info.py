"""`rhn info` says of every kernel whether it is used here, and if not, why."""

import json

import pytest
import torch

from rhn.cli.main import main
from rhn.kernels import packed, report


def told(capsys, *words) -> str:
    assert main(["info", *words]) == 0
    return capsys.readouterr().out


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_without_a_gpu_the_persistent_kernels_say_what_they_need(capsys, no_gpu, monkeypatch):
    read = json.loads(told(capsys, "--json"))
    assert read["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert [device["name"] for device in read["devices"]] == ["cpu"]
    kernels = {kernel["name"]: kernel for kernel in read["kernels"]}
    assert kernels["hand-derived"]["used"] and kernels["hand-derived"]["reason"] is None
    for name in ("persistent highway", "persistent transition"):
        assert not kernels[name]["used"] and kernels[name]["reason"] == "it needs a CUDA device"
    monkeypatch.setenv("RHN_PERSISTENT", "0")
    assert told(capsys).count("no: turned off by RHN_PERSISTENT=0") == 4


def test_what_torch_lacks_is_named(capsys, no_gpu, monkeypatch):
    monkeypatch.setattr(packed, "_OPERATORS", None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(report.build, "library", lambda: None)
    said = told(capsys)
    assert "no: this torch has no such operators" in said
    assert said.count("no: it needs a C compiler") == 2, "recurrence and update"
    monkeypatch.setenv("RHN_COMPILED", "0")
    assert told(capsys).count("no: turned off by RHN_COMPILED=0") == 2


def test_the_update_in_c_is_told_and_columns_stay_apart(capsys, no_gpu, monkeypatch):
    monkeypatch.setattr(report.build, "library", lambda: "a library")
    states = {state.name: state for state in report.kernel_states()}
    assert states["one-pass update"].used and states["compiled"].used
    said = told(capsys)
    assert all(" ".join(state.purpose.split()) in " ".join(said.split()) for state in states.values())


def test_each_gpu_is_asked_for_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        report, "refusal", lambda name, precision, device, check: None if device.index else f"{name} waits"
    )
    states = {(state.name, state.device): state.reason for state in report.kernel_states()}
    assert states["persistent highway", "cuda:0"] == "highway waits"
    assert states["persistent highway", "cuda:1"] is None
    assert states["hand-derived", "cuda:1"] is None
