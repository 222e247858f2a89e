"""A checkpoint gives back the same bits, is whole or not there at all, and is read without its weights."""

import os
import stat
import subprocess
import sys

import pytest
import torch
from cases import SHALLOW_CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import for_each
from torch import nn

from rhn.cells import RHN, RNN
from rhn.checkpoints import load_checkpoint, read_metadata, save_checkpoint
from rhn.errors import CheckpointError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


DTYPES = (torch.float64, torch.bfloat16, torch.float16)


@for_each(
    ("case", "dtype"),
    [*((case, torch.float32) for case in SHALLOW_CASES), *((SHALLOW_CASES[0], dtype) for dtype in DTYPES)],
)
def test_a_round_trip_is_bit_exact(case, dtype, tmp_path):
    cell = case.build(dtype=dtype, batch_first=True, init="gaussian:0.1")
    with torch.no_grad():
        next(cell.parameters()).view(-1)[:2] = torch.tensor([-0.0, 1e-40]).to(dtype)  # signed zeros and subnormals too
    path, before = save_checkpoint(tmp_path / "cell.safetensors", cell, seed=7), torch.get_rng_state()
    again = load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers"
    assert type(again) is type(cell) and again.config() == cell.config()
    for (name, p), (other, q) in zip(cell.named_parameters(), again.named_parameters(), strict=True):
        assert name == other and p.dtype == q.dtype and q.requires_grad
        assert p.detach().view(torch.uint8).equal(q.detach().view(torch.uint8)), name
    x = torch.randn(3, 4, 5).to(dtype)
    assert torch.equal(again(x)[0], cell(x)[0])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), depth=st.integers(1, 3), n=st.integers(1, 9), coupled=st.booleans())
def test_any_configuration_comes_back(tmp_path_factory, seed, depth, n, coupled):
    path = tmp_path_factory.mktemp("any") / "c.safetensors"
    cell = RHN(2, n, depth, coupled=coupled, transform_bias=seed / 1e9, init=f"uniform:{seed / 1e8!r}")
    again = load_checkpoint(save_checkpoint(path, cell))
    assert again.config() == cell.config()
    assert all(torch.equal(p, q) for p, q in zip(cell.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("name", ["plain", "Geršgorin ř.a.b", "-x\n"])
def test_awkward_names(tmp_path, name):
    path = save_checkpoint(tmp_path / name, RNN(2, 3))
    assert path == tmp_path / name
    assert isinstance(load_checkpoint(str(path)), RNN)
    assert names(tmp_path) == [name]


def test_strided_and_shared_weights(tmp_path):
    """A model taken out of a stack has weights that are views of it; the file holds no more than them."""
    cell, stack, flat = RNN(4, 3), torch.randn(2, 4, 3), torch.randn(100)
    cell.weight_ih = nn.Parameter(stack[1].T)
    cell.weight_hh, cell.bias = nn.Parameter(flat[:9].view(1, 3, 3)), nn.Parameter(flat[9:12].view(1, 3))
    again = load_checkpoint(save_checkpoint(tmp_path / "c", cell))
    assert all(torch.equal(p, q) for p, q in zip(cell.parameters(), again.parameters(), strict=True))
    assert (tmp_path / "c").stat().st_size < 2000


def test_metadata_is_kept_and_read_without_the_weights(tmp_path):
    metadata = {"seed": 3, "metrics": {"nll": 8.5, "per epoch": [1.0, 2.0]}, "note": None, "ř": "š"}
    path = save_checkpoint(tmp_path / "a", RNN(2, 3), **metadata)
    header = read_metadata(path)
    assert (header["metadata"], header["class"], header["format"]) == (metadata, "RNN", 1)
    assert header["versions"]["torch"] == torch.__version__ and header["config"]["hidden_size"] == 3


def test_others_may_read_the_file(tmp_path):
    """As any file a program writes: by the user's umask, not for the owner alone."""
    old = os.umask(0o022)
    path = save_checkpoint(tmp_path / "a", RNN(2, 3))
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
    path = save_checkpoint(tmp_path / "a", mine)
    with pytest.raises(CheckpointError, match=r"holds a Mine, .*load_checkpoint\(path, factory=Mine\)"):
        load_checkpoint(path)
    again = load_checkpoint(path, factory=Mine)
    assert again.b.weight is again.a.weight
    assert torch.equal(again.a.weight, mine.a.weight)
    assert torch.equal(again.scale, mine.scale)


def test_what_cannot_be_rebuilt_is_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot save Linear: it needs a config\(\)"):
        save_checkpoint(tmp_path / "a", nn.Linear(2, 3))
    for value in (float("nan"), float("inf"), {1, 2}, torch.zeros(2), object()):
        with pytest.raises(CheckpointError, match="not plain JSON"):
            save_checkpoint(tmp_path / "a", RNN(2, 3), value=value)
    assert names(tmp_path) == []


def test_a_writer_killed_before_the_rename_leaves_the_old_file(tmp_path):
    path = save_checkpoint(tmp_path / "a", RNN(2, 3), epoch=1)
    script = f"""
import os, pathlib, signal
from rhn.cells import RNN
from rhn.checkpoints import save_checkpoint
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
save_checkpoint({str(path)!r}, RNN(2, 3), epoch=2)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert read_metadata(path)["metadata"] == {"epoch": 1}
    load_checkpoint(path)
