"""Three kinds of movement (walk, run, stairs) from windows of an accelerometer, three folds."""
import copy

import torch
from torch import nn

torch.manual_seed(8)


class MovementNet(nn.Module):
    def __init__(self, n_in=3, n_hidden=32, n_classes=3):
        super().__init__()
        self.gru = nn.GRU(n_in, n_hidden, batch_first=True)
        self.out = nn.Linear(n_hidden, n_classes)

    def forward(self, x):
        return self.out(self.gru(x)[0].mean(1))


def load(n=900, steps=25):
    kind = torch.randint(0, 3, (n,))
    speed = torch.tensor([0.35, 0.8, 1.5])[kind][:, None]
    time = torch.arange(steps)[None] + 10 * torch.rand(n, 1)
    axes = [torch.sin(speed * time), torch.cos(speed * time), 0.5 * torch.sin(2 * speed * time)]
    return torch.stack(axes, 2) + 0.3 * torch.randn(n, steps, 3), kind


x, y = load()
loss_fn = nn.CrossEntropyLoss()


def error(model, x, y):
    model.eval()
    with torch.no_grad():
        return loss_fn(model(x), y).item()


if __name__ == "__main__":
    model = MovementNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    first = copy.deepcopy(model)  # each fold starts from the same weights
    for fold in range(3):
        held_out = torch.arange(len(x)) % 3 == fold
        x_train, y_train, x_valid, y_valid = x[~held_out], y[~held_out], x[held_out], y[held_out]
        model = copy.deepcopy(first)
        for epoch in range(15):
            model.train()
            for batch in torch.randperm(len(x_train)).split(50):
                optimizer.zero_grad()
                loss = loss_fn(model(x_train[batch]), y_train[batch])
                loss.backward()
                optimizer.step()
            if epoch % 5 == 4:
                print(f"fold {fold}  epoch {epoch + 1:3d}  train {error(model, x_train, y_train):.4f}  "
                      f"valid {error(model, x_valid, y_valid):.4f}")
