"""Training loops without a fault that have several networks, optimisers or threads.

A loop is added to LOOPS of `sound_loops`.
"""

import copy
import threading

import torch
from loops import SignSteps
from sound_loops import BATCH, LOOPS, M, N, Reader, T, loop, minibatches, mlp, plain
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LOOPS"]


def blend(target: nn.Module, source: nn.Module, share: float) -> None:
    """Move the weights of a target network towards those of another."""
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.data.copy_(share * new.data + (1 - share) * old.data)


@loop
def sparse_gradients() -> None:
    table, head = nn.Embedding(50, 8, sparse=True), nn.Linear(8, 1)
    sparse = torch.optim.SparseAdam(table.parameters(), 0.01)
    dense = torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(12):
        ids = torch.randint(50, (BATCH,))
        sparse.zero_grad()
        dense.zero_grad()
        F.mse_loss(head(table(ids)), ids[:, None] / 50).backward()
        sparse.step()
        dense.step()


@loop
def three_heads_in_turn() -> None:
    """The gradients of the heads that rest are zeros, which nothing writes again."""
    body, heads = nn.Linear(M, 8), [nn.Linear(8, 1), nn.Linear(8, 1), nn.Linear(8, 1)]
    every = [body, *heads]
    optimizer = torch.optim.SGD([p for part in every for p in part.parameters()], 0.05)
    for number, (x, y) in enumerate(minibatches()):
        head = heads[number % 3]
        F.mse_loss(head(body(x[:, -1])), y).backward()
        optimizer.step()
        body.zero_grad(set_to_none=False)
        head.zero_grad(set_to_none=False)


@loop
def one_part_after_the_other() -> None:
    """Each part has an optimiser of its own; the second begins when the first has ended."""
    model = Reader()
    for part in (model.head, model.body):
        optimizer = torch.optim.Adam(part.parameters(), 0.01)
        for x, y in minibatches(2):
            model.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()


@loop
def new_sgd_each_epoch() -> None:
    """SGD without momentum has no state to lose."""
    model = Reader()
    for epoch in range(4):
        optimizer = torch.optim.SGD(model.parameters(), 0.1 / (1 + epoch))
        for x, y in minibatches(1):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()


@loop
def averaged_weights() -> None:
    """Evaluated with averaged weights, which are swapped in and out again."""
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    for x, y in minibatches():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        for name, p in model.named_parameters():
            average[name].lerp_(p.data, 0.1)
        own = copy.deepcopy(model.state_dict())
        model.load_state_dict(average)
        model.eval()
        with torch.no_grad():
            model(x)
        model.load_state_dict(own)
        model.train()


@loop
def averaged_model_of_torch() -> None:
    model = Reader()
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        average.update_parameters(model)
    with torch.no_grad():
        average(x)


@loop
def dcgan() -> None:
    generator, critic = mlp(2, M), mlp(M, 1)
    of_generator = torch.optim.Adam(generator.parameters(), 2e-4, betas=(0.5, 0.999))
    of_critic = torch.optim.Adam(critic.parameters(), 2e-4, betas=(0.5, 0.999))
    real, fake = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
    for x, _ in minibatches():
        critic.zero_grad()
        F.binary_cross_entropy_with_logits(critic(x[:, -1]), real).backward()
        made = generator(torch.randn(BATCH, 2))
        F.binary_cross_entropy_with_logits(critic(made.detach()), fake).backward()
        of_critic.step()
        generator.zero_grad()
        F.binary_cross_entropy_with_logits(critic(made), real).backward()
        of_generator.step()


@loop
def wgan_with_clipping() -> None:
    generator, critic = mlp(2, M), mlp(M, 1)
    of_generator = torch.optim.RMSprop(generator.parameters(), 5e-5)
    of_critic = torch.optim.RMSprop(critic.parameters(), 5e-5)
    one = torch.tensor(1.0)
    for number, (x, _) in enumerate(minibatches(), 1):
        critic.requires_grad_(True)
        for p in critic.parameters():
            p.data.clamp_(-0.01, 0.01)
        critic.zero_grad()
        critic(x[:, -1]).mean().backward(one)
        critic(generator(torch.randn(BATCH, 2)).detach()).mean().backward(-one)
        of_critic.step()
        if number % 5 == 0:
            critic.requires_grad_(False)
            generator.zero_grad()
            critic(generator(torch.randn(BATCH, 2))).mean().backward(one)
            of_generator.step()


@loop
def wgan_with_gradient_penalty() -> None:
    generator, critic = mlp(2, M), mlp(M, 1)
    of_generator = torch.optim.Adam(generator.parameters(), 1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), 1e-3)
    for number, (x, _) in enumerate(minibatches(), 1):
        of_critic.zero_grad()
        real, made = x[:, -1], generator(torch.randn(BATCH, 2)).detach()
        between = torch.lerp(real, made, torch.rand(BATCH, 1)).requires_grad_()
        slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
        penalty = (slope.norm(dim=1) - 1).square().mean()
        (critic(made).mean() - critic(real).mean() + 10 * penalty).backward()
        of_critic.step()
        if number % 2 == 0:
            of_generator.zero_grad()
            (-critic(generator(torch.randn(BATCH, 2))).mean()).backward()
            of_generator.step()


@loop
def dqn_with_target_network() -> None:
    policy = mlp(M, 2, nn.Dropout(0.1))
    target = copy.deepcopy(policy).eval()
    optimizer = torch.optim.AdamW(policy.parameters(), 1e-3, amsgrad=True)
    state = torch.randn(1, M)
    memory = []
    for number in range(24):
        with torch.no_grad():
            action = policy(state).argmax(1)
        following = torch.roll(state, 1) + action
        memory.append((state, action, following, -following.abs().sum()[None]))
        state = following
        if len(memory) < 8:
            continue
        drawn = [memory[i] for i in torch.randint(len(memory), (8,))]
        s, a, later, reward = (torch.cat(part) for part in zip(*drawn, strict=True))
        value = policy(s).gather(1, a[:, None])
        with torch.no_grad():
            best = target(later).max(1).values
        loss = F.smooth_l1_loss(value[:, 0], reward + 0.9 * best)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(policy.parameters(), 100)
        optimizer.step()
        if number % 4 == 0:
            target.load_state_dict(policy.state_dict())


@loop
def sac_with_a_bare_parameter() -> None:
    actor, critic = mlp(M, 2), mlp(M + 1, 1)
    target = copy.deepcopy(critic)
    log_alpha = torch.zeros(1, requires_grad=True)
    of_actor = torch.optim.Adam(actor.parameters(), 3e-4)
    of_critic = torch.optim.Adam(critic.parameters(), 3e-4)
    of_alpha = torch.optim.Adam([log_alpha], 3e-4)

    def action_of(s: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = actor(s).chunk(2, 1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        action = normal.rsample()
        return action, normal.log_prob(action)

    for x, reward in minibatches():
        s, later = x[:, 0], x[:, 1]
        with torch.no_grad():
            a, log_p = action_of(later)
            goal = reward + 0.9 * (target(torch.cat([later, a], 1)) - log_alpha.exp() * log_p)
        of_critic.zero_grad()
        F.mse_loss(critic(torch.cat([s, x[:, 0, :1]], 1)), goal).backward()
        of_critic.step()
        a, log_p = action_of(s)
        of_actor.zero_grad()
        (log_alpha.exp().detach() * log_p - critic(torch.cat([s, a], 1))).mean().backward()
        of_actor.step()
        of_alpha.zero_grad()
        (-log_alpha.exp() * (log_p + 1).detach()).mean().backward()
        of_alpha.step()
        blend(target, critic, 0.05)


@loop
def ppo_with_several_epochs_a_rollout() -> None:
    policy = mlp(M, 2)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-3)
    for _ in range(3):
        with torch.no_grad():
            s = torch.randn(N, M)
            old = torch.distributions.Categorical(logits=policy(s))
            a = old.sample()
            gain = (a * s[:, 0])[:, None]
        for _ in range(3):
            for i in torch.randperm(N).split(BATCH):
                new = torch.distributions.Categorical(logits=policy(s[i]))
                ratio = (new.log_prob(a[i]) - old.log_prob(a)[i]).exp()[:, None]
                worst = torch.min(ratio * gain[i], ratio.clamp(0.8, 1.2) * gain[i])
                optimizer.zero_grad()
                (-worst.mean()).backward()
                optimizer.step()


@loop
def encoder_and_decoder() -> None:
    """Two networks with an optimiser each; the decoder is called once for each output."""
    encoder, decoder = nn.GRU(M, 8, batch_first=True), nn.GRU(1, 8, batch_first=True)
    head = nn.Linear(8, 1)
    of_encoder = torch.optim.SGD(encoder.parameters(), 0.01)
    of_decoder = torch.optim.SGD([*decoder.parameters(), *head.parameters()], 0.01)
    for x, _ in minibatches():
        of_encoder.zero_grad()
        of_decoder.zero_grad()
        state = encoder(x)[1]
        last, loss = torch.zeros(len(x), 1, 1), 0.0
        for t in range(T):
            z, state = decoder(last, state)
            out = head(z)
            loss = loss + F.mse_loss(out[:, 0], x[:, t, :1])
            last = x[:, t : t + 1, :1] if t % 2 else out.detach()
        loss.backward()
        of_encoder.step()
        of_decoder.step()


@loop
def frozen_critic_in_evaluation_mode() -> None:
    """A loss through a network that no optimiser holds, as a perceptual loss."""
    model, critic = Reader(outputs=M), mlp(M, 4, nn.Dropout(0.5)).eval()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, _ in minibatches():
        optimizer.zero_grad()
        F.mse_loss(critic(model(x)), critic(x[:, 0])).backward()
        optimizer.step()


@loop
def two_optimisers_of_the_same_weights() -> None:
    model = Reader(outputs=2)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    sgd = torch.optim.SGD(model.parameters(), 0.01)
    for x, y in minibatches():
        for optimizer, column in ((adam, 0), (sgd, 1)):
            optimizer.zero_grad()
            F.mse_loss(model(x)[:, column], y[:, 0]).backward()
            optimizer.step()


@loop
def gradients_copied_to_a_shared_network() -> None:
    """A3C: a local network computes gradients, an optimiser holds the shared one."""
    shared, local = Reader(), Reader()
    optimizer = torch.optim.Adam(shared.parameters(), 0.01)
    for x, y in minibatches():
        local.load_state_dict(shared.state_dict())
        local.zero_grad()
        F.mse_loss(local(x), y).backward()
        for p, own in zip(shared.parameters(), local.parameters(), strict=True):
            p.grad = own.grad
        optimizer.step()


@loop
def gradients_copied_in_place() -> None:
    """The numbers of all gradients are new at each step, their tensors stay."""
    shared, local = Reader(), Reader()
    optimizer = torch.optim.Adam(shared.parameters(), 0.01)
    for p in shared.parameters():
        p.grad = torch.zeros_like(p)
    for x, y in minibatches():
        local.load_state_dict(shared.state_dict())
        local.zero_grad()
        F.mse_loss(local(x), y).backward()
        for p, own in zip(shared.parameters(), local.parameters(), strict=True):
            p.grad.copy_(own.grad)
        optimizer.step()


@loop
def two_threads() -> None:
    """Each thread trains a network of its own; the second begins when the first has ended."""
    other = threading.Thread(target=plain)
    other.start()
    other.join()
    plain()


@loop
def first_order_maml() -> None:
    model = mlp(M, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in minibatches():
        optimizer.zero_grad()
        for half in (slice(0, 8), slice(8, 16)):
            learner = copy.deepcopy(model)
            inner = torch.optim.SGD(learner.parameters(), 0.1)
            for _ in range(2):
                inner.zero_grad()
                F.mse_loss(learner(x[half, -1]), y[half]).backward()
                inner.step()
            learner.zero_grad()
            F.mse_loss(learner(x[half, 0]), y[half]).backward()
            for p, own in zip(model.parameters(), learner.parameters(), strict=True):
                p.grad = own.grad if p.grad is None else p.grad + own.grad
        optimizer.step()


@loop
def loss_method_in_place_of_a_call() -> None:
    """The network is never called itself, only its parts; one part rests."""

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder, self.probe = mlp(M, 2), mlp(2, M), nn.Linear(2, 1)

        def loss(self, x: Tensor) -> Tensor:
            return F.mse_loss(self.decoder(self.encoder(x)), x)

    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, _ in minibatches():
        optimizer.zero_grad()
        model.loss(x[:, -1]).backward()
        optimizer.step()


@loop
def optimiser_without_a_rate() -> None:
    model = Reader()
    optimizer = SignSteps(model.parameters())
    for x, y in minibatches():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


@loop
def optimiser_around_an_optimiser() -> None:
    """Lookahead: slow weights, and a step towards them every third step."""

    class Lookahead(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(inner.param_groups, {})
            self.inner, self.count = inner, 0
            self.slow = [p.detach().clone() for group in self.param_groups for p in group["params"]]

        def step(self, closure=None):
            loss = self.inner.step(closure)
            self.count += 1
            if self.count % 3 == 0:
                fast = [p for group in self.param_groups for p in group["params"]]
                for slow, p in zip(self.slow, fast, strict=True):
                    slow.lerp_(p.detach(), 0.5)
                    p.data.copy_(slow)
            return loss

    model = Reader()
    optimizer = Lookahead(torch.optim.Adam(model.parameters(), 0.01))
    for x, y in minibatches():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
