"""How much the pollen count rises tomorrow, from 16 half-days of weather."""
import torch
from torch import nn

torch.manual_seed(10)


class PollenNet(nn.Module):
    def __init__(self, n_in=4, n_hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(n_in, n_hidden, batch_first=True)
        self.out = nn.Linear(n_hidden, 1)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def load(n=900, steps=16):
    """Temperature (K), humidity (%), wind (m/s), hours of light."""
    temperature = 287 + 5 * torch.randn(n, steps)
    humidity = 65 + 12 * torch.randn(n, steps)
    wind = 4 + 1.5 * torch.randn(n, steps).abs()
    light = 12 + 2 * torch.randn(n, steps)
    x = torch.stack([temperature, humidity, wind, light], dim=2)
    y = (temperature[:, -4:].mean(1) - 287) / 1.8 - (humidity[:, -1] - 65) / 18 + (light[:, -2] - 12) / 3
    return x, (y + 0.1 * torch.randn(n))[:, None]


x, y = load()
x_train, y_train = x[:750], y[:750]
x_valid, y_valid = x[750:], y[750:]
loss_fn = nn.MSELoss()


if __name__ == "__main__":
    model = PollenNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(40):
        total = 0.0
        for batch in torch.randperm(len(x_train)).split(50):
            optimizer.zero_grad()
            loss = loss_fn(model(x_train[batch]), y_train[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(batch)
        with torch.no_grad():
            valid = loss_fn(model(x_valid), y_valid).item()
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1:3d}  train {total / len(x_train):.4f}  valid {valid:.4f}")
