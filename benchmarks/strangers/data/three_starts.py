"""One tanh RNN (4 inputs, 64 units) with three ways to start its recurrent matrix."""
import torch
from torch import nn


def start(kind):
    torch.manual_seed(5)
    rnn = nn.RNN(4, 64, batch_first=True)
    with torch.no_grad():
        if kind == "orthogonal":
            nn.init.orthogonal_(rnn.weight_hh_l0)
        elif kind == "gaussian":
            nn.init.normal_(rnn.weight_hh_l0, std=0.2)
        elif kind != "default":
            raise ValueError(kind)
    return rnn


KINDS = ["default", "orthogonal", "gaussian"]
