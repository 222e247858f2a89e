"""What the gradient of a start sees, against differences and a network whose gradient is known."""

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin.checking.reach import Reach, measure_reach
from gersgorin.training.training import Training

FRAMES = 12


class Leaky(nn.Module):
    """h[t] = r h[t-1] + w x[t]; the output is the last state, or every state."""

    def __init__(self, r, last=True):
        super().__init__()
        self.r, self.last = r, last
        self.w, self.out = nn.Parameter(torch.ones(1)), nn.Linear(1, 1)

    def forward(self, x):
        h, states = x.new_zeros(len(x), 1), []
        for frame in x.unbind(1):
            h = self.r * h + self.w * frame
            states.append(h)
        return self.out(h if self.last else torch.stack(states, 1))


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("r", [0.3, 0.9])
def test_the_gradient_of_a_leaky_sum_falls_as_its_leak(r, last):
    torch.manual_seed(0)
    x = torch.randn(64, FRAMES, 1)
    y = x.sum(1) if last else x.cumsum(1)
    loop = Training(Leaky(r, last), x, y, "mse", "adam", learning_rate=1e-3, batch_axis=0)
    found = measure_reach(loop, loop.model)
    assert found.norms / found.norms[0] == pytest.approx(r ** np.arange(FRAMES), rel=1e-4)
    assert found.blind == (r == 0.3) and not found.explodes
    assert found.share[6] == pytest.approx(
        np.linalg.norm(found.norms[6:]) / np.linalg.norm(found.norms), rel=1e-6
    )


def test_the_last_frame_with_a_loss_counts():
    x = torch.randn(64, FRAMES, 1, generator=torch.Generator().manual_seed(0))

    def early(output, y):
        return (output[:, :8] - y[:, :8]).square().mean()

    loop = Training(
        Leaky(0.9, last=False), x, x.cumsum(1), early, "adam", learning_rate=1e-3, batch_axis=0
    )
    assert measure_reach(loop, loop.model).frames == 8


def test_the_axis_of_frames_in_the_output_is_found():
    class Turned(Leaky):
        def forward(self, x):
            return super().forward(x).transpose(1, 2)

    torch.manual_seed(0)
    x, nets = torch.randn(64, FRAMES, 1), (Leaky(0.5, last=False), Turned(0.5, last=False))
    nets[1].load_state_dict(nets[0].state_dict())
    sgd = {"optimizer": "sgd", "learning_rate": 1e-3, "batch_axis": 0}
    first, second = (Training(net, x, x.reshape(net(x).shape), "mse", **sgd) for net in nets)
    found = measure_reach(first, first.model)
    assert (
        found.norms == pytest.approx(measure_reach(second, second.model).norms)
        and found.seen < FRAMES
    )


def test_symbols_are_seen_through_their_embedding():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.rnn, self.out = (
                nn.Embedding(5, 3),
                nn.GRU(3, 4, batch_first=True),
                nn.Linear(4, 5),
            )

        def forward(self, x):
            return self.out(self.rnn(self.table(x))[0][:, -1])

    torch.manual_seed(0)
    x = torch.randint(0, 5, (64, FRAMES))
    loop = Training(Words(), x, x[:, -1], "cross-entropy", "adam", learning_rate=1e-3, batch_axis=0)
    found = measure_reach(loop, loop.model)
    assert found.frames == FRAMES and (np.diff(found.norms[:4]) < 0).all()


def test_blindness_and_explosions_are_told():
    blind = Reach(np.array([1.0, 0.5, *[0.0] * 8]))
    assert blind.warning.startswith(
        "At the initial weights the gradient of the last output comes only from the last 2 of "
        "10 steps: "
    )
    assert "explodes towards earlier steps" in Reach(10.0 ** np.arange(10)).warning
    assert not Reach(np.ones(10)).warning
    assert (
        Reach(np.array([1.0, np.inf])).explodes and Reach(np.array([1.0, 0.0])).unevenness == np.inf
    )
    assert Reach(np.ones(10)).unevenness == pytest.approx(0)


def test_a_model_may_change_its_input_in_place_and_need_not_read_it():
    class InPlace(Leaky):
        def forward(self, x):
            x.mul_(2)
            return super().forward(x)

    class Deaf(Leaky):
        def forward(self, x):
            return super().forward(torch.zeros_like(x))

    x = torch.randn(64, FRAMES, 1, generator=torch.Generator().manual_seed(0))
    norms = {}
    for kind in (InPlace, Deaf):
        loop = Training(kind(0.9), x, x.sum(1), "mse", "adam", learning_rate=1e-3, batch_axis=0)
        norms[kind] = measure_reach(loop, loop.model).norms
    assert norms[InPlace] / norms[InPlace][0] == pytest.approx(0.9 ** np.arange(FRAMES), rel=1e-4)
    assert not norms[Deaf].any()


def test_what_has_no_steps_has_no_reach():
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    loop = Training(nn.Linear(5, 1), x, x[:, :1], "mse", "adam", learning_rate=1e-3, batch_axis=0)
    assert measure_reach(loop, loop.model) is None
