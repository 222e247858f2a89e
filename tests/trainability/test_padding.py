"""Padding that the loss counts, beside plain loops over the targets in NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainability.padding import note_on_padding
from trainability.probe import Probe
from trainability.race import race_of
from trainability.training import Training

N, T, K = 120, 8, 5
G = torch.Generator().manual_seed(0)
LENGTHS = torch.randint(3, T + 1, (N,), generator=G)
REAL = torch.arange(T) < LENGTHS[:, None]
IDS = torch.randint(1, K, (N, T), generator=G)


class Told(nn.Module):
    """Outputs that know padding, and of all else nothing, or the input's own class."""

    def __init__(self, learned):
        super().__init__()
        self.learned, self.scale = learned, nn.Parameter(torch.ones(()))

    def forward(self, x):
        of_ids = F.one_hot(x, K).float() if x.dim() == 2 else x
        rest = 3 * of_ids if self.learned else torch.tensor([0.0, 1.0, 0.8, 0.6, 0.4])
        padding = (of_ids[..., :1] == 1) if x.dim() == 2 else (x == 0).all(-1, keepdim=True)
        return self.scale * torch.where(padding, 9 * F.one_hot(torch.tensor(0), K), rest)


def note(x, y, learned=False):
    def loss_fn(z, y):
        return F.cross_entropy(z.transpose(1, 2), y)

    training = Training(Told(learned), x, y, loss_fn, "sgd", batch_axis=0)
    return note_on_padding(training, race := race_of(training, Probe(training))), race


IDS_PADDED = IDS.masked_fill(~REAL, 0)
NUMBERS_PADDED = F.one_hot(IDS, K).float() * REAL[..., None]


@pytest.mark.parametrize("x", [IDS_PADDED, NUMBERS_PADDED], ids=["ids", "numbers"])
def test_a_network_that_only_tells_padding_from_the_rest_is_said_to(x):
    y = torch.randint(1, K, (N, T), generator=G).masked_fill(~REAL, 0)
    words, race = note(x, y)
    held = torch.cat([y for _, y in race.pairs]).numpy()
    of_held = [[t for t in row if t != 0] for row in held]
    wrong = np.mean([np.mean([t != 1 for t in row]) for row in of_held])  # the answer is class 1
    every = y.numpy().ravel()
    commonest = np.bincount(every[every != 0]).argmax()
    constant = np.mean([np.mean([t != commonest for t in row]) for row in of_held])
    assert words.startswith(f"{100 * np.mean(every == 0):.0f} % of the targets are class 0 where")
    assert f"the relative error is {wrong / constant:.2f}, loss " in words
    assert ("the input stays 0 to" in words) == (x.dim() == 2)


def test_nothing_is_said_if_the_other_targets_are_learned():
    assert note(IDS_PADDED, IDS_PADDED, learned=True)[0] == ""


def test_nothing_is_said_of_sequences_without_padding():
    y = torch.randint(1, K, (N, T), generator=G)
    assert note(IDS, y)[0] == ""
    assert note(IDS_PADDED, y)[0] == "", "targets there are of several classes"
    blank = torch.zeros(N, T).long()  # inputs that end alike, and a target at the last frame
    blank[:, 0] = IDS[:, 0]
    target = torch.zeros(N, T).long()
    target[:, -1] = IDS[:, 0]
    assert note(blank, target)[0] == ""
