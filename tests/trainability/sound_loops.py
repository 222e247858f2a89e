"""Training loops without a fault, written as their users write them.

Sequences are (B, T, m); a loop is a function without arguments that builds and trains its networks.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

LOOPS: dict[str, Callable[[], None]] = {}
N, T, M, BATCH = 64, 5, 3, 16


def loop(train: Callable[[], None]) -> Callable[[], None]:
    """Add a loop to LOOPS under its name."""
    LOOPS[train.__name__] = train
    return train


def sums() -> tuple[Tensor, Tensor]:
    """x (N, T, M), and y (N, 1), the sum of the first numbers of the last two time steps."""
    x = torch.randn(N, T, M)
    return x, x[:, -2:, 0].sum(1, keepdim=True)


def minibatches(epochs: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled minibatches of the sums, epoch after epoch."""
    loader = DataLoader(TensorDataset(*sums()), batch_size=BATCH, shuffle=True)
    for _ in range(epochs):
        yield from loader


class Reader(nn.Module):
    """A GRU, dropout, and a linear layer on the last output."""

    def __init__(self, outputs: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.GRU(M, 8, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.body(x)[0][:, -1]))


def mlp(inputs: int, outputs: int, *layers: nn.Module) -> nn.Sequential:
    """Two linear layers with a rectifier; more layers at the end."""
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs), *layers)


@loop
def plain() -> None:
    model = Reader(dropout=0.2)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def validation_in_evaluation_mode() -> None:
    model = Reader(dropout=0.2)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    x_val, y_val = sums()
    for _ in range(3):
        model.train()
        for x, y in minibatches(1):
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        scheduler.step()
        model.eval()
        F.mse_loss(model(x_val), y_val)


@loop
def accumulation() -> None:
    model = Reader()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for number, (x, y) in enumerate(minibatches(), 1):
        (F.mse_loss(model(x), y) / 4).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


@loop
def lbfgs() -> None:
    model = Reader()
    x, y = sums()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)


@loop
def head_alone() -> None:
    """In evaluation mode, which changes nothing: its dropout is 0."""
    model = Reader().eval()
    optimizer = torch.optim.Adam(model.head.parameters(), 0.01)
    for x, y in minibatches():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def frozen_body() -> None:
    model = Reader()
    model.body.requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def frozen_batch_norm() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(T * M, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    model.train()
    model[2].eval()
    for x, y in minibatches():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def grad_scaler() -> None:
    """The first scale is too large: the scaler skips steps."""
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    for x, y in minibatches():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.mse_loss(model(x), 10 * y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


@loop
def updates_by_hand() -> None:
    model = Reader()
    for x, y in minibatches():
        model.zero_grad()
        F.mse_loss(model(x), y).backward()
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-0.05)


@loop
def updates_by_hand_from_autograd_grad() -> None:
    model = Reader()
    for x, y in minibatches():
        gradients = torch.autograd.grad(F.mse_loss(model(x), y), [*model.parameters()])
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= 0.05 * g


@loop
def gradients_by_torch_func() -> None:
    model = mlp(M, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(torch.func.functional_call(model, weights, (x,)), y)

    for x, y in minibatches():
        gradients = torch.func.grad(loss)(dict(model.named_parameters()), x[:, -1], y)
        for name, p in model.named_parameters():
            p.grad = gradients[name]
        optimizer.step()


@loop
def gradients_set_by_hand() -> None:
    """Evolution strategies: the gradient is the mean of loss times noise."""
    model = mlp(M, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    x, y = sums()
    for _ in range(8):
        estimate = torch.zeros_like(vector)
        for noise in torch.randn(4, len(vector)):
            nn.utils.vector_to_parameters(vector + 0.1 * noise, model.parameters())
            with torch.no_grad():
                estimate += F.mse_loss(model(x[:, -1]), y) * noise / 0.4
        nn.utils.vector_to_parameters(vector, model.parameters())
        start = 0
        for p in model.parameters():
            p.grad = estimate[start : start + p.numel()].view_as(p).clone()
            start += p.numel()
        optimizer.step()
        vector = nn.utils.parameters_to_vector(model.parameters()).detach()


@loop
def step_inside_the_backward_pass() -> None:
    """Gradients of matrices are removed, those of biases are set to 0."""
    model = Reader()
    optimizers = {p: torch.optim.SGD([p], 0.05) for p in model.parameters()}

    def step(p: Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad(set_to_none=p.dim() > 1)

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    for x, y in minibatches():
        F.mse_loss(model(x), y).backward()


@loop
def sharpness_aware_minimisation() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for x, y in minibatches():
        F.mse_loss(model(x), y).backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        moves = [0.05 * p.grad / norm for p in model.parameters()]
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.add_(move)
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.sub_(move)
        optimizer.step()
        optimizer.zero_grad()


@loop
def nonfinite_losses_left_out() -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for number, (x, y) in enumerate(minibatches()):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y / (number % 3))
        if not torch.isfinite(loss):
            continue
        loss.backward()
        optimizer.step()


@loop
def adversarial_examples() -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches():
        x.requires_grad_()
        F.mse_loss(model(x), y).backward()
        worse = (x + 0.1 * x.grad.sign()).detach()
        optimizer.zero_grad()
        F.mse_loss(model(worse), y).backward()
        optimizer.step()


@loop
def recomputed_activations() -> None:
    """A chunk that a backward pass computes again is no further call with a state."""
    body, head = nn.LSTM(M, 8, batch_first=True), nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 0.01)
    state = None
    for _ in range(4):
        x = torch.randn(BATCH, T, M)
        optimizer.zero_grad()
        z, state = torch.utils.checkpoint.checkpoint(body, x, state, use_reentrant=False)
        state = tuple(part.detach() for part in state)
        F.mse_loss(head(z), x[..., :1]).backward()
        optimizer.step()


@loop
def state_carried_over_chunks() -> None:
    """A sample is drawn after each chunk, from the state of training."""
    body, head = nn.LSTM(M, 8, batch_first=True), nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 0.01)
    state = None
    for _ in range(12):
        x = torch.randn(BATCH, T, M)
        optimizer.zero_grad()
        z, state = body(x, state)
        state = tuple(part.detach() for part in state)
        F.mse_loss(head(z), x[..., :1]).backward()
        optimizer.step()
        with torch.no_grad():
            body(x, state)


@loop
def constant_gradient() -> None:
    """The loss is linear in the weights, and each gradient equals the one before."""
    weights = nn.Parameter(torch.randn(4))
    optimizer = torch.optim.SGD([weights], 0.05)
    for _ in range(12):
        optimizer.zero_grad()
        weights.sum().backward()
        optimizer.step()


@loop
def weights_freed_one_after_the_other() -> None:
    """The body joins the optimiser when the head has been trained."""
    model = Reader()
    model.body.requires_grad_(False)
    optimizer = torch.optim.Adam(model.head.parameters(), 0.01)
    for number, (x, y) in enumerate(minibatches()):
        if number == 8:
            model.body.requires_grad_(True)
            optimizer.add_param_group({"params": model.body.parameters()})
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def image_made_by_optimisation() -> None:
    model = mlp(M, 2).requires_grad_(False)
    image = torch.zeros(1, M, requires_grad=True)
    optimizer = torch.optim.Adam([image], 0.1)
    for _ in range(12):
        optimizer.zero_grad()
        F.cross_entropy(model(image), torch.tensor([1])).backward()
        optimizer.step()
