"""`rhn info` says of every kernel whether it is used here."""

import json

import pytest
import torch

from rhn.cli.main import main
from rhn.kernels import compiled


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
    assert kernels["fused"] == {"device": "cpu", "name": "fused", "used": True}


def test_c_is_not_used_without_a_library(capsys, no_gpu, monkeypatch):
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert [line.split() for line in told(capsys).splitlines()[-2:]] == [
        ["C", "cpu", "no"],
        ["fused", "cpu", "yes"],
    ]
