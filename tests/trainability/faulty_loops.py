"""Training loops with one fault each, on the sums of `sound_loops`; each with its sound neighbour.

A loop is a function of whether it is repaired, which builds and trains its networks.
"""

from collections.abc import Callable

import torch
from sound_loops import BATCH, M, N, Reader, minibatches, sums
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

LOOPS: dict[str, Callable[[bool], None]] = {}
EPOCHS = 4


def loop(train: Callable[[bool], None]) -> Callable[[bool], None]:
    """Add a loop to LOOPS under its name."""
    LOOPS[train.__name__] = train
    return train


@loop
def no_zero_grad(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches(EPOCHS):
        if repaired:
            optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def no_zero_grad_with_momentum(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for x, y in minibatches(EPOCHS):
        if repaired:
            optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def optimiser_of_another_model(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam((model if repaired else Reader()).parameters(), 0.01)
    for x, y in minibatches(EPOCHS):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def half_of_the_weights(repaired: bool) -> None:
    model = Reader()
    held = model if repaired else model.head
    optimizer = torch.optim.Adam(held.parameters(), 0.01)
    for x, y in minibatches(EPOCHS):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def schedule_stepped_for_each_minibatch(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(EPOCHS):
        for x, y in minibatches(1):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
            if not repaired:
                scheduler.step()
        if repaired:
            scheduler.step()


@loop
def evaluation_mode_after_the_first_validation(repaired: bool) -> None:
    model = Reader(dropout=0.2)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x_val, y_val = sums()
    for _ in range(EPOCHS):
        for x, y in minibatches(1):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            F.mse_loss(model(x_val), y_val)
        if repaired:
            model.train()


@loop
def one_minibatch_again_and_again(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    loader = DataLoader(TensorDataset(*sums()), batch_size=BATCH)
    for _ in range(EPOCHS):
        batches = iter(loader)
        for _ in range(len(loader)):
            x, y = next(batches) if repaired else next(iter(loader))
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()


@loop
def output_detached(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches(EPOCHS):
        optimizer.zero_grad()
        out = model(x)
        if not repaired:
            out = out.detach().requires_grad_()
        F.mse_loss(out, y).backward()
        optimizer.step()


@loop
def zero_grad_after_backward(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches(EPOCHS):
        if repaired:
            optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        if not repaired:
            optimizer.zero_grad()
        optimizer.step()


@loop
def clipping_far_too_low(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for x, y in minibatches(EPOCHS):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0 if repaired else 1e-3)
        optimizer.step()


@loop
def one_step_an_epoch(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(EPOCHS):
        for x, y in minibatches(1):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            if repaired:
                optimizer.step()
        if not repaired:
            optimizer.step()


@loop
def weights_drawn_again_each_epoch(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(EPOCHS):
        for x, y in minibatches(1):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        if not repaired:
            model.body.reset_parameters()
            model.head.reset_parameters()


@loop
def new_optimiser_each_epoch(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(EPOCHS):
        if not repaired:
            optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for x, y in minibatches(1):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()


@loop
def new_optimiser_each_step(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches(EPOCHS):
        if not repaired:
            optimizer = torch.optim.Adam(model.parameters(), 0.01)
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def loss_not_finite(repaired: bool) -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for number, (x, y) in enumerate(minibatches(EPOCHS)):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        if number == 5 and not repaired:
            loss = loss / 0.0
        loss.backward()
        optimizer.step()


@loop
def state_lost_between_chunks(repaired: bool) -> None:
    body, head = nn.LSTM(M, 8, batch_first=True), nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 0.01)
    state = None
    for x in torch.randn(3, N, M).split(4, 1):
        optimizer.zero_grad()
        z, after = body(x, state)
        if repaired:
            state = tuple(part.detach() for part in after)
        F.mse_loss(head(z), x[..., :1]).backward()
        optimizer.step()


@loop
def gradients_of_the_critic_never_zeroed(repaired: bool) -> None:
    """The generator's loss leaves gradients in the critic."""
    generator, critic = nn.Linear(2, M), nn.Linear(M, 1)
    of_generator = torch.optim.Adam(generator.parameters(), 1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), 1e-3)
    for x, _ in minibatches(EPOCHS):
        if repaired:
            of_critic.zero_grad()
        made = generator(torch.randn(BATCH, 2))
        (critic(made.detach()) - critic(x[:, -1])).square().mean().backward()
        of_critic.step()
        of_generator.zero_grad()
        critic(made).square().mean().backward()
        of_generator.step()
