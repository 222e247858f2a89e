"""A recurrent network with eight tanh layers in each step. It does not learn as it is."""
import torch
from torch import nn


class DeepNet(nn.Module):
    def __init__(self, n_in=3, n_hidden=32, depth=8):
        super().__init__()
        self.n_hidden = n_hidden
        self.read = nn.Linear(n_in, n_hidden)
        self.layers = nn.ModuleList(nn.Linear(n_hidden, n_hidden) for _ in range(depth))
        self.out = nn.Linear(n_hidden, 1)
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, x):  # x: sequences, 10 steps, 3 inputs
        h = x.new_zeros(len(x), self.n_hidden)
        for t in range(x.shape[1]):
            h = h + self.read(x[:, t])
            for layer in self.layers:
                h = torch.tanh(layer(h))
        return self.out(h)


def data(n=800):
    generator = torch.Generator().manual_seed(19)
    x = torch.randn(n, 10, 3, generator=generator)
    y = x[:, -1, 0] + x[:, -2, 1] - x[:, -3, 2]
    return x, y[:, None]


def train(model, learning_rate, steps=600):
    """The last error on 200 held-out sequences; that of a constant is near 3."""
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    for step in range(steps):
        batch = torch.randint(0, 600, (50,))
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x[batch]), y[batch])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        return nn.functional.mse_loss(model(x[600:]), y[600:]).item()


if __name__ == "__main__":
    torch.manual_seed(0)
    print("error on held-out sequences:", train(DeepNet(), 0.01))
