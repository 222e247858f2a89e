"""Outputs of an example that depend on the other examples of its minibatch."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trainability import check

T = 12


class Packed(nn.Module):
    """A packed GRU; it reads the last frame of the padded outputs, or the last state of each."""

    def __init__(self, reads):
        super().__init__()
        torch.manual_seed(1)
        self.reads = reads
        self.gru, self.out = nn.GRU(2, 12, batch_first=True), nn.Linear(12, 1)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, h = self.gru(packed)
        padded, _ = pad_packed_sequence(outputs, batch_first=True)
        return self.out(padded[:, -1] if self.reads == "padding" else h[-1])


def task():
    torch.manual_seed(0)
    lengths = torch.randint(3, T + 1, (1200,))  # of which 150 are held out
    x = torch.randn(1200, T, 2) * (torch.arange(T) < lengths[:, None])[..., None]
    return x, lengths, x[..., 0].sum(1, keepdim=True) / 3


@pytest.mark.parametrize("reads", ["padding", "states"])
def test_an_error_that_depends_on_the_minibatch_is_told_with_both_numbers(reads):
    x, lengths, y = task()
    model = Packed(reads)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(
        *(model, (x, lengths), y, nn.MSELoss(), adam),
        steps=200,
        seconds=30,
        progress=lambda _: None,
    )
    told = [cause for cause in found.causes if cause.name == "minibatch"]
    if reads == "states":
        assert found.outcome == "learns" and not told
        return
    assert found.part == "network" and "depend on its minibatch" in told[0].sentence
    trained, batch = Packed(reads), torch.Generator().manual_seed(5)  # the same by a plain loop
    adam = torch.optim.Adam(trained.parameters(), 0.01)
    for _ in range(200):
        rows = torch.randint(300, (32,), generator=batch)
        adam.zero_grad()
        nn.functional.mse_loss(trained(x[rows], lengths[rows]), y[rows]).backward()
        adam.step()

    @torch.no_grad()
    def error(size):
        parts = torch.arange(300, 400).split(size)
        outputs = torch.cat([trained(x[rows], lengths[rows]) for rows in parts])
        return float((outputs - y[300:400]).square().mean() / y[300:400].var(correction=0))

    evidence = told[0].evidence
    assert error(1) < 0.3 < 0.6 < error(7)
    assert evidence["alone"] < 0.3 < 0.6 < evidence["minibatch"]


def test_an_error_that_is_larger_one_at_a_time_is_marked():
    """Statistics of the minibatch in evaluation mode: no fault, but another error at each size."""

    class OwnStatistics(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.gru, self.out = nn.GRU(2, 12, batch_first=True), nn.Linear(12, 1)
            self.norm = nn.BatchNorm1d(12, track_running_stats=False)

        def forward(self, x):
            last = self.gru(x)[0][:, -1:].transpose(1, 2).expand(-1, -1, 2)
            return self.out(self.norm(last)[..., 0])

    torch.manual_seed(0)
    x = torch.randn(400, 5, 2)
    model = OwnStatistics()
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(
        *(model, x, x[:, -1, :1].clone(), nn.MSELoss(), adam),
        steps=100,
        seconds=20,
        progress=lambda _: None,
    )
    assert not [cause for cause in found.causes if cause.name == "minibatch"]
    words = " ".join(str(found).split())
    assert "depend on its minibatch" in words and "one at a time" in words
