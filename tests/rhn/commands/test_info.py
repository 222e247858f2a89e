"""`rhn info` prints of every kernel whether it is used."""

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
    assert [*read["devices"]] == ["cpu"]
    kernels = {kernel["name"]: kernel for kernel in read["kernels"]}
    assert kernels["fused"] == {"device": "cpu", "name": "fused", "used": True}


def test_a_kernel_that_is_not_used_is_named(capsys, no_gpu, monkeypatch):
    monkeypatch.setattr(compiled, "library", lambda: None)
    used = {tuple(line.split()) for line in told(capsys).splitlines()}
    assert {("C", "cpu", "no"), ("fused", "cpu", "yes")} < used
