"""A causal network of dilated convolutions over a sequence of 3 channels; it has no recurrent state."""
import torch
from torch import nn


class WindowNet(nn.Module):
    def __init__(self, n_in=3, n_channels=12, dilations=(1, 2, 4)):
        super().__init__()
        sizes = [n_in] + [n_channels] * len(dilations)
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, kernel_size=3, dilation=d) for a, b, d in zip(sizes, sizes[1:], dilations)
        )
        self.out = nn.Linear(n_channels, 1)

    def forward(self, x):  # x: sequences, 40 steps, 3 channels -> one number for each step
        h = x.transpose(1, 2)
        for layer in self.layers:
            h = torch.tanh(layer(nn.functional.pad(h, (2 * layer.dilation[0], 0))))
        return self.out(h.transpose(1, 2)).squeeze(-1)


def build():
    torch.manual_seed(20)
    return WindowNet()
