"""Running averages that do not come to the statistics of the data."""

import pytest
import torch
from torch import nn

from trainability import check


class Normed(nn.Module):
    """A GRU on inputs that a layer normalises with running averages."""

    def __init__(self, momentum):
        super().__init__()
        torch.manual_seed(1)
        self.norm = nn.BatchNorm1d(2, momentum=momentum)
        self.gru, self.out = nn.GRU(2, 12, batch_first=True), nn.Linear(12, 1)

    def forward(self, x):
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.out(self.gru(x)[0][:, -1])


@pytest.mark.parametrize("momentum", [0.001, 0.1], ids=["too small", "torch's"])
def test_running_averages_that_lag_behind_are_told_from_inputs_at_fault(momentum):
    torch.manual_seed(0)
    x = 50 + 4 * torch.randn(400, 6, 2)
    y = (x[:, -1, :1] - 50) / 4
    model = Normed(momentum)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(model, x, y, nn.MSELoss(), adam, steps=200, seconds=30, progress=lambda _: None)
    averages = [cause for cause in found.causes if cause.name == "running averages"]
    if momentum == 0.1:
        assert found.outcome == "learns" and not averages
        return
    assert found.part == "network" and "in evaluation mode" in found.verdict
    trained, batch = Normed(momentum), torch.Generator().manual_seed(5)  # the same by a plain loop
    adam = torch.optim.Adam(trained.parameters(), 0.01)
    for _ in range(200):
        rows = torch.randint(300, (32,), generator=batch)
        adam.zero_grad()
        nn.functional.mse_loss(trained(x[rows]), y[rows]).backward()
        adam.step()
    with torch.no_grad():
        modes = trained.train(True)(x[300:]), trained.train(False)(x[300:])
    errors = [float((output - y[300:]).square().mean()) for output in modes]
    assert errors[0] < 0.2 < 1 < errors[1]
    assert averages[0].evidence["minibatch"] < 0.3 < 1 < averages[0].evidence["evaluation"]
