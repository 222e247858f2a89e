"""`rhn info` says of every kernel whether it is used here, and if not, why."""

import json

import pytest
import torch

from rhn.cli.main import main
from rhn.kernels import compiled, onednn, table


def told(capsys, *words) -> str:
    assert main(["info", *words]) == 0
    return capsys.readouterr().out


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_versions_devices_and_kernels_as_json(capsys, no_gpu):
    read = json.loads(told(capsys, "--json"))
    assert read["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert [device["name"] for device in read["devices"]] == ["cpu"]
    kernels = {kernel["name"]: kernel for kernel in read["kernels"]}
    assert kernels["fused"]["used"] and kernels["fused"]["reason"] is None


def test_what_torch_lacks_is_named(capsys, no_gpu, monkeypatch):
    monkeypatch.setattr(onednn, "_OPERATORS", None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(compiled, "library", lambda: None)
    said = told(capsys)
    assert "no: this torch has no such operators" in said
    assert said.count("no: it needs a C compiler") == 1
    monkeypatch.setenv("RHN_COMPILED", "0")
    assert told(capsys).count("no: turned off by RHN_COMPILED=0") == 1


def test_the_purposes_of_all_implementations_are_printed(capsys, no_gpu, monkeypatch):
    monkeypatch.setattr(compiled, "library", lambda: "a library")
    states = {state.name: state for state in table.kernel_states()}
    assert states["C"].used and "output and loss" in states["C"].purpose
    said = told(capsys)
    assert all(" ".join(state.purpose.split()) in " ".join(said.split()) for state in states.values())


def test_every_gpu_is_listed_with_the_kernels_that_run_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    states = {(state.name, state.device): state.reason for state in table.kernel_states()}
    assert states["fused", "cuda:0"] is states["fused", "cuda:1"] is None
    assert ("C", "cuda:0") not in states
