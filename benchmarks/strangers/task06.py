"""Forecast of the hourly demand of a bakery from the last day (24 hours of 3 readings)."""
import torch
from torch import nn

torch.manual_seed(6)


class DemandNet(nn.Module):
    def __init__(self, n_in=3, n_hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(n_in, n_hidden, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(n_hidden, 1)

    def forward(self, x):
        states, _ = self.lstm(x)
        return self.out(self.dropout(states[:, -1]))


def rmse(prediction, target):
    return torch.sqrt(((prediction - target) ** 2).mean())


def load():
    """900 days: outside temperature, customers an hour, a holiday flag; the demand of the next hour."""
    n, hours = 900, 24
    temperature = torch.randn(n, hours)
    customers = torch.rand(n, hours) * 2 - 1
    holiday = (torch.rand(n, 1) < 0.3).float().expand(n, hours)
    x = torch.stack([temperature, customers, holiday], dim=2)
    y = 2.0 * customers[:, -6:].mean(1) + 1.2 * holiday[:, 0] - 0.5 * temperature[:, -1]
    return x, y + 0.05 * torch.randn(n)


x, y = load()
x_train, y_train = x[:700], y[:700]
x_valid, y_valid = x[700:], y[700:]


if __name__ == "__main__":
    model = DemandNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(30):
        model.train()
        order = torch.randperm(len(x_train))
        total = 0.0
        for start in range(0, len(order), 50):
            batch = order[start:start + 50]
            optimizer.zero_grad()
            loss = rmse(model(x_train[batch]), y_train[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        model.eval()
        with torch.no_grad():
            valid = rmse(model(x_valid), y_valid).item()
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1:3d}  train {total / len(order):.4f}  valid {valid:.4f}")
