"""`rhn info` prints versions, devices, and whether the compiled kernels are used."""

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
    assert read["compiled_kernels"] == (compiled.library() is not None)


def test_kernels_that_are_not_used_are_a_row(capsys, no_gpu, monkeypatch):
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert told(capsys).splitlines()[-1].split() == ["compiled", "kernels", "no"]
