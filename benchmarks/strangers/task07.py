"""Which of four devices is a spoken command for? The first word says it; up to 14 other words follow."""
import torch
from torch import nn

torch.manual_seed(7)

WORDS, STEPS, DEVICES = 20, 15, 4


class CommandNet(nn.Module):
    def __init__(self, n_embedding=16, n_hidden=48):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, n_embedding)
        self.cell = nn.GRUCell(n_embedding, n_hidden)
        self.out = nn.Linear(n_hidden, DEVICES)

    def forward(self, words):
        vectors = self.embedding(words)
        for t in range(words.shape[1]):
            h = self.cell(vectors[:, t])
        return self.out(h)


def load(n=1200):
    words = torch.randint(0, WORDS, (n, STEPS))
    return words, words[:, 0] % DEVICES


x, y = load()
x_train, y_train = x[:1000], y[:1000]
x_valid, y_valid = x[1000:], y[1000:]
loss_fn = nn.CrossEntropyLoss()


if __name__ == "__main__":
    model = CommandNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(30):
        order = torch.randperm(len(x_train))
        total = 0.0
        for start in range(0, len(order), 50):
            batch = order[start:start + 50]
            optimizer.zero_grad()
            loss = loss_fn(model(x_train[batch]), y_train[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(batch)
        with torch.no_grad():
            output = model(x_valid)
            valid = loss_fn(output, y_valid).item()
            right = (output.argmax(1) == y_valid).float().mean().item()
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1:3d}  train {total / len(order):.4f}  valid {valid:.4f}  right {right:.2f}")
