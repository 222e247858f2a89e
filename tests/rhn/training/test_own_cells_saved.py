"""A cell of the user's own: what is trained can be loaded again, to the same loss."""

import numpy as np
import pytest
import torch
from torch import nn

import rhn
from rhn.checkpoints import load, save
from rhn.data import Corpus, Piece
from rhn.models import PolyphonicModel

RANDOM = np.random.default_rng(0)


def pieces(split: str) -> list[Piece]:
    return [
        Piece(RANDOM.integers(0, 2, (6, 88)), name=str(k), split=split, index=k) for k in range(3)
    ]


DATA = Corpus(pieces("train"), pieces("valid"), pieces("test"), "noise")


class Plain(rhn.cells.RNN):
    """The base of the cells below, with buffers of its own."""

    def buffers_of(self, n: int) -> dict:
        return {}

    def __init__(self, input_size, hidden_size, depth=1, **keywords):
        super().__init__(input_size, hidden_size, depth, **keywords)
        for name, value in self.buffers_of(hidden_size).items():
            self.register_buffer(name, value.to(self.bias.device))


class Indexed(Plain):
    """Reads its state through an integer buffer."""

    def buffers_of(self, n):
        return {"order": torch.arange(n).flip(0), "on": torch.ones(n, dtype=torch.bool)}

    def step(self, x, s):
        return super().step(x, torch.where(self.on, s[..., self.order], 0.0))


class Masked(Plain):
    """Attends to its units through a mask of -inf."""

    def buffers_of(self, n):
        mask = torch.zeros(n)
        mask[1:] = -torch.inf
        return {"mask": mask}

    def step(self, x, s):
        return super().step(x, s) * torch.softmax(self.mask, -1)


class Double(Plain):
    """A buffer in double precision, and a complex one."""

    def buffers_of(self, n):
        return {
            "scale": torch.full((n,), 1 + 2**-40, dtype=torch.float64),
            "phase": torch.full((n,), 1j, dtype=torch.complex64),
        }

    def step(self, x, s):
        turned = (self.phase * self.phase.conj()).real
        return super().step(x, (s * self.scale).to(s.dtype) * turned)


class Dropping(Plain):
    """Draws random numbers in every step."""

    def __init__(self, *sizes, **keywords):
        super().__init__(*sizes, **keywords)
        self.drop = nn.Dropout(0.5)

    def step(self, x, s):
        return super().step(x, self.drop(s))


def name_of(cell: type) -> str:
    return f"{__name__}:{cell.__name__}"


SMALL = {"hidden_size": 4, "epochs": 2, "learning_rate": 0.1}


@pytest.mark.parametrize("cell", [Indexed, Masked, Double])
def test_what_is_trained_is_loaded_to_the_same_loss(cell, tmp_path):
    name = name_of(cell)
    (found,) = rhn.train("jsb-depth-1", DATA, out=tmp_path / "run", cell=name, **SMALL)
    again = rhn.load(tmp_path / "run", name)
    assert rhn.evaluate(again, DATA, "valid").nll == pytest.approx(found.valid_nll, rel=1e-6)
    fresh = cell(3, 4)
    for key, buffer in again.cells[0].named_buffers():
        theirs = fresh.get_buffer(key)
        assert buffer.dtype == theirs.dtype and torch.equal(buffer, theirs)


@pytest.mark.parametrize("cell", [Indexed, Masked, Double])
def test_a_buffer_keeps_its_values_and_type_in_a_file(cell, tmp_path):
    model = PolyphonicModel(cell, hidden_size=4, dtype=torch.float64)
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.copy_(buffer.roll(1))
    path = save(tmp_path / "m.safetensors", model)
    again = rhn.load(path, name_of(cell))
    tensors = dict(model.named_buffers()) | dict(model.named_parameters())
    for key, t in (dict(again.named_buffers()) | dict(again.named_parameters())).items():
        assert t.dtype == tensors[key].dtype and torch.equal(t, tensors[key]), key
    x = torch.rand(5, 2, 88, dtype=torch.float64).round()
    assert torch.equal(again.nll(x[:, 0]), model.nll(x[:, 0]))
    alone = save(tmp_path / "cell.safetensors", model.cells[0])
    assert load(alone, cell).hidden_size == 4


def test_a_cell_that_draws_random_numbers_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="randomness error mode"):
        rhn.train("jsb-depth-1", DATA, out=tmp_path, cell=name_of(Dropping), **SMALL)


def test_a_cell_with_dropout_is_evaluated_without_it(tmp_path):
    model = PolyphonicModel(Dropping, hidden_size=4)
    losses = {rhn.evaluate(model, DATA).nll for _ in range(3)}
    assert len(losses) == 1
