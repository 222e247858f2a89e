"""A batch whose inputs are a dictionary, for a model that takes them by name, or whole."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import gersgorin
from trainability.training import Training

torch.manual_seed(0)
X, MASK, Y = torch.randn(96, 6, 2), torch.rand(96, 6, 2).round(), torch.randn(96, 1)


class ByName(nn.Module):
    """A GRU that reads values and which of them are known, by name."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.gru, self.out = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, values, mask):
        return self.out(self.gru(torch.cat((values, mask), -1))[0][:, -1])


class Whole(ByName):
    """The same, from one dictionary."""

    def forward(self, batch):
        return super().forward(batch["values"], batch["mask"])


@pytest.mark.parametrize("model", [ByName(), Whole()], ids=["by name", "whole"])
def test_a_dictionary_is_passed_by_name_or_whole(model):
    x = {"values": X, "mask": MASK}
    examples = [({"values": v, "mask": m}, y) for v, m, y in zip(X, MASK, Y, strict=True)]
    training = Training(model, DataLoader(examples, 32), None, "mse", "adam", steps=2)
    expected = model.out(model.gru(torch.cat((X, MASK), -1))[0][:, -1])
    torch.testing.assert_close(training.output(x), expected)
    found = gersgorin.influence(model, {name: value[:1] for name, value in x.items()})
    assert found.influence.shape == (1, 6)
