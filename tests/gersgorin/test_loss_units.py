"""Every loss is told in what it is measured in, whoever tells it."""

import pytest
import torch
from gersgorin.analyses.credit import draw_credit
from taggers import Tagger
from torch import nn

from gersgorin import credit
from rhn.models import LanguageModel, PolyphonicModel


def absolute(outputs, targets):
    return (outputs - targets).abs().sum(-1)


def cases():
    torch.manual_seed(0)
    frames, ids = (torch.rand(8, 2, 3) < 0.4).double(), torch.randint(5, (8, 2))
    chorales = PolyphonicModel(
        "rnn", hidden_size=4, input_size=3, output_size=3, init="uniform:0.5"
    )
    yield chorales, frames, None, "nats a frame"
    yield (
        LanguageModel("rnn", vocabulary_size=5, hidden_size=4, tied=True),
        ids,
        None,
        "nats a token",
    )
    yield Tagger(nn.GRU(3, 4), 3), frames, "squared", "squared error a frame (halved)"
    yield Tagger(nn.GRU(3, 4), 3), frames, "mse", "squared error a frame (halved)"
    yield Tagger(nn.GRU(3, 4), 3), frames, absolute, "by the loss absolute"
    yield Tagger(nn.GRU(3, 4), 3), frames, lambda z, y: absolute(z, y), "by your loss"


@pytest.mark.parametrize(
    ("model", "x", "loss", "unit"),
    [*cases()],
    ids=["keys", "words", "squared", "mse", "named", "nameless"],
)
def test_a_loss_is_told_in_its_unit(model, x, loss, unit):
    record = credit(model, x[:-1], x[1:], loss=loss)
    (title,) = {
        " ".join(ax.get_title("left").split()) for ax in draw_credit({"now": record}).axes
    } - {""}
    assert title == f"now loss {record.loss:.3g} {unit}"
