"""Initial weights that are torch's already: a fresh draw of them is another seed, and no repair."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainability import Training
from trainability.conclusion import ANOTHER_DRAW, remedy_of
from trainability.swaps import are_drawn_as_by_default


class Tagger(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.embed, self.norm = nn.Embedding(20, 8), nn.LayerNorm(8)
        self.lstm, self.out = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 1)
        with torch.no_grad():
            self.lstm.weight_hh_l0.mul_(factor)

    def forward(self, x):
        return self.out(self.lstm(self.norm(self.embed(x)))[0][:, -1])


def training(factor, seed):
    torch.manual_seed(seed)
    model, x, y = Tagger(factor), torch.randint(20, (64, 5)), torch.randn(64, 1)
    return Training(model, x, y, nn.MSELoss(), torch.optim.Adam(model.parameters()), steps=9)


@pytest.mark.parametrize("factor", [1.0, 1.25, 0.8, 0.0])
def test_torchs_own_weights_are_known_by_their_size(factor):
    assert all(are_drawn_as_by_default(training(factor, k)) == (factor == 1) for k in range(5))


def test_another_draw_of_the_same_weights_is_called_so():
    row = SimpleNamespace(
        what="torch's initial weights", version=SimpleNamespace(remedy="Keep it.")
    )
    words = [remedy_of(SimpleNamespace(training=training(f, 0)), row) for f in (1.0, 2.0)]
    assert words == [ANOTHER_DRAW, "Keep it."]
