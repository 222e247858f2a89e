"""Energy that a house will use tomorrow (Wh), from 20 days of 4 readings."""
import torch
from torch import nn

torch.manual_seed(9)


class EnergyNet(nn.Module):
    def __init__(self, n_in=4, n_hidden=32):
        super().__init__()
        self.rnn = nn.LSTM(n_in, n_hidden)
        self.out = nn.Linear(n_hidden, 1)

    def forward(self, x):  # x: houses, days, readings
        states, _ = self.rnn(x.transpose(0, 1))  # days, houses, units
        return 3000 + 400 * self.out(states[-1]).squeeze(-1)  # a typical day, and how far houses differ


def load(n=900, days=20):
    x = torch.randn(n, days, 4)
    weights = 0.8 ** torch.arange(days - 1, -1, -1.0)
    y = 3000 + 400 * (x[:, :, 0] * weights).sum(1) / weights.norm() + 200 * torch.tanh(x[:, -2, 1])
    return x, y + 30 * torch.randn(n)


x, y = load()
x_train, y_train = x[:750], y[:750]
x_valid, y_valid = x[750:], y[750:]
loss_fn = nn.MSELoss()


if __name__ == "__main__":
    model = EnergyNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(40):
        total = 0.0
        for batch in torch.randperm(len(x_train)).split(50):
            optimizer.zero_grad()
            loss = loss_fn(model(x_train[batch]), y_train[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        with torch.no_grad():
            valid = loss_fn(model(x_valid), y_valid).item()
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1:3d}  train {total / len(x_train):.1f}  valid {valid:.1f}")
