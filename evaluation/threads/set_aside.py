"""Trainings of threads, run once. 614 is missing: its symptom could not be shown at this size."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from evaluation.networks import Net, Own, cross, gru, lstm, reader
from evaluation.tasks import CE, MSE, digits
from evaluation.threads.trainings import case, mixed, squared, threads, windows, zipf


class Broadcast(torch.autograd.Function):
    """Outputs of an LSTM cell over time; its backward pass runs through the frames in the order
    given by `reverse`.
    """

    @staticmethod
    def forward(ctx, x, reverse, *w):
        state, ctx.states, outputs = (x.new_zeros(len(x), w[1].shape[1]),) * 2, [], []
        for frame in x.unbind(1):
            ctx.states.append(state)
            state = torch.lstm_cell(frame, state, *w)
            outputs.append(state[0])
        ctx.x, ctx.reverse, ctx.w = x, reverse, w
        return torch.stack(outputs, 1)

    @staticmethod
    def backward(ctx, g):
        carry, dx, dw = (0, 0), torch.zeros_like(ctx.x), [torch.zeros_like(w) for w in ctx.w]
        for t in sorted(range(g.shape[1]), reverse=ctx.reverse):
            leaves = [v.detach().requires_grad_() for v in (ctx.x[:, t], *ctx.states[t], *ctx.w)]
            with torch.enable_grad():
                new = torch.lstm_cell(leaves[0], leaves[1:3], *leaves[3:])
            d = torch.autograd.grad(
                new, leaves, (g[:, t] + carry[0], torch.zeros_like(g[:, t]) + carry[1])
            )
            dx[:, t], carry = d[0], d[1:3]
            dw = [a + b for a, b in zip(dw, d[3:], strict=True)]
        return dx, None, *dw


def likelihood(e, y, trans, mask=None, lse=torch.logsumexp):
    """Log likelihood of tags y (N, T) in a linear-chain CRF with scores e (N, T, K)."""
    mask = torch.ones_like(y, dtype=torch.bool) if mask is None else mask
    y = y * mask
    own = e.gather(-1, y[..., None])[..., 0] * mask
    score, alpha = own.sum(1) + (trans[y[:, :-1], y[:, 1:]] * mask[:, 1:]).sum(1), e[:, 0]
    for t in range(1, e.shape[1]):
        alpha = torch.where(
            mask[:, t, None], lse(alpha[:, :, None] + trans + e[:, t, None], 1), alpha
        )
    return (score - lse(alpha, 1)).mean()


def viterbi(e, trans):
    """The best tags (N, T)."""
    score, back = e[:, 0], []
    for t in range(1, e.shape[1]):
        best, where = (score[:, :, None] + trans).max(1)
        score, back = best + e[:, t], [*back, where]
    tags = [score.argmax(-1)]
    for where in reversed(back):
        tags.append(where.gather(1, tags[-1][:, None])[:, 0])
    return torch.stack(tags[::-1], 1)


def t601(repaired):
    def forward(net, x):  # the step of SimpleRNN
        state = x.new_zeros(len(x), 32)
        for frame in x.unbind(1):
            h, u = net.W(frame), net.U(state)
            state = torch.tanh(h + u if repaired else h * u)
        return net.out(state)

    model = Own(forward, W=nn.Linear(1, 32), U=nn.Linear(32, 32, bias=False), out=nn.Linear(32, 1))
    t = torch.arange(1220.0)
    series = torch.sin(t / 4) + 0.5 * torch.sin(t / 9) + 0.1 * torch.randn(1220)
    data = mixed(*windows(series[:, None], 20))
    return case(model, data, MSE, 1e-3, "RMSprop", fresh=300, steps=600)


def t602(repaired):
    def forward(net, x):
        state, states = x.new_zeros(len(x), 1), []
        for frame in x.unbind(1):
            state = net.W(frame) + net.U(state)
            states.append(state)
        return torch.stack(states, 1)

    model = Own(forward, W=nn.Linear(1, 1), U=nn.Linear(1, 1, bias=False))
    nn.init.constant_(model.U.weight, 0.5)
    x, s = torch.rand(3000), torch.zeros(3000)
    for t in range(3000):
        s[t] = 0.1 * x[t] + 1 + 0.9 * s[t - 1] * (t % 50 > 0)  # series of 50 values each
    shape = (60, 50, 1) if repaired else (3000, 1, 1)  # whole series, or each value as a sequence
    fresh = 12 if repaired else 600
    data = x.view(shape), s.view(shape)
    return case(
        model, data, MSE, 1.0, "Adadelta", fresh=fresh, steps=2800, how={"rho": 0.95, "eps": 1e-7}
    )


def t603(repaired):
    def forward(net, x):
        rnn = net.rnn
        w = rnn.weight_ih, rnn.weight_hh, rnn.bias_ih, rnn.bias_hh
        return net.out(Broadcast.apply(x, repaired, *w))

    model = Own(forward, rnn=nn.LSTMCell(4, 32), out=nn.Linear(32, 4))
    x = torch.rand(1000, 12, 4)
    y = F.pad(x, (0, 0, 4, 0))[:, :-4]  # targets need frames of the past
    return case(model, (x, y), MSE, 3e-3, fresh=300, steps=1100)


def t604(repaired):
    def forward(net, x):
        state = net.encoder(x)[1]
        return net.out(net.decoder(state[-1][:, None].expand(-1, 8, -1))[0])

    def error(model, x, y):
        guess = y.mode(0)[0]  # the best constant text
        return (model(x).argmax(-1) != y).float().mean() / (guess != y).float().mean()

    N, text = 1800, torch.randint(5, (1800, 8))
    audio = torch.randn(5, 6)[text].repeat_interleave(2, 1) + 0.3 * torch.randn(N, 16, 6)
    number = torch.randint(10000, (N, 1)) // torch.tensor([1000, 100, 10, 1]) % 10
    names = torch.cat([torch.tensor([10, 11, 12, 13]).expand(N, 4), number], 1)  # clip0123
    model = Own(forward, encoder=gru(6, 64), decoder=gru(64, 64), out=nn.Linear(64, 14))
    return case(model, (audio, text if repaired else names), cross, 5e-3, error=error, steps=900)


def t605(repaired):
    def forward(net, x):
        states = net.rnn(x)[0]
        last = (
            (x.abs().sum(-1) > 0).sum(1) - 1 if repaired else torch.full((len(x),), x.shape[1] - 1)
        )
        return net.out(states[torch.arange(len(x)), last])

    spam = (torch.arange(200) % 12 == 5).float()
    words, ids = torch.randn(200, 16) + spam[:, None], zipf(200, 2000, 100)
    length = torch.randint(4, 16, (2000, 1))
    here = torch.arange(100) < length
    y = ((spam[ids] * here).sum(1) > 0).long()
    model = Own(forward, rnn=lstm(16, 32), out=nn.Linear(32, 2))
    return case(model, (words[ids] * here[..., None], y), CE, 5e-3, steps=400)


def t606(repaired):
    V = 30
    chain, ids = zipf(V, V), torch.empty(900, 21, dtype=torch.long)
    ids[:, 0] = zipf(V, 900)
    for t in range(20):
        ids[:, t + 1] = torch.where(torch.rand(900) < 0.8, chain[ids[:, t]], zipf(V, 900))
    model = reader("LSTM", V, 32, V, every=True)

    def loss_fn(output, y):
        output = F.log_softmax(output, -1) if repaired else output
        return F.nll_loss(output.flatten(0, 1), y.flatten())

    def error(model, x, y):  # perplexity, relative to that of the frequencies
        p = y.flatten().bincount(minlength=V) / y.numel()
        return (cross(model(x), y) + (p * p.clamp(1e-9).log()).sum()).exp()

    return case(
        model,
        (ids[:, :-1], ids[:, 1:]),
        loss_fn,
        5.0,
        "SGD",
        steps=600,
        error=error,
        clip=0.25,
    )


def t607(repaired):
    data = digits()
    model = Net("RNN", 8, 30, 10)
    kind, rate = ("Adam", 1e-3) if repaired else ("Adadelta", 1e-3)
    return case(model, data, CE, rate, kind, steps=1500)


def t608(repaired):
    def fit(training):  # examples in the order of the file
        losses, model = [], training.model
        torch.manual_seed(0)
        for _ in range(40):
            order = torch.randperm(len(training.x)) if repaired else torch.arange(len(training.x))
            for rows in order.split(32):
                training.optimizer.zero_grad()
                loss = training.loss_fn(model(training.x[rows]), training.y[rows])
                loss.backward()
                training.optimizer.step()
                losses.append(loss.item())
                if not math.isfinite(losses[-1]):
                    return losses
        return losses

    x = torch.randn(1200, 15, 4)
    y = x.mean(1) @ torch.randn(4, 1)
    # in the file from low to high
    order = torch.cat([y[:800, 0].argsort(), torch.arange(800, 1200)])
    return case(
        Net("RNN", 4, 32, 1, nonlinearity="relu"), (x[order], y[order]), MSE, 0.075, "SGD", fit=fit
    )


def t609(repaired):
    def naive(v, axis):
        return v.exp().sum(axis).log()

    V, K, T = 60, 9, 38
    ids = zipf(V, 700, T)
    y = (torch.arange(V) % K)[ids]
    # some tags follow from the word before
    y = torch.where(y == 8, (F.pad(y, (1, 0))[:, :-1] + 1) % K, y)
    model = reader("LSTM", V, 24, K, every=True, bidirectional=True)
    trans = nn.Parameter(torch.randn(K, K) * 0.1)
    model[1].register_parameter("trans", trans)
    lse = torch.logsumexp if repaired else naive
    return case(
        model, (ids, y), lambda e, y: -likelihood(e, y, trans, lse=lse), 1e-2, steps=200, fresh=200
    )


def t610(repaired):
    def forward(net, x):
        h = x.new_zeros(len(x), 32)
        for frame in x.unbind(1):
            turn = frame[:, -1:]  # whether the player observes and acts
            own = h * turn
            new = net.cell(frame, own)
            h = (h if repaired else own) * (1 - turn) + new * turn
        return net.out(h)

    x = torch.rand(1600, 8, 5).round()
    x[..., -1] = torch.arange(8) % 2
    x[..., :-1] *= x[..., -1:]
    y = (x[:, 1, 0] + 2 * x[:, 7, 1]).long()  # what it saw at its first turn and sees now
    return case(
        Own(forward, cell=nn.GRUCell(5, 32), out=nn.Linear(32, 4)), (x, y), CE, 3e-3, steps=600
    )


def t611(repaired):
    def forward(net, x):
        output = net.net(x)
        return output if repaired else output.softmax(-1)

    chain = torch.randperm(26)
    ids = torch.empty(1200, 11, dtype=torch.long)
    ids[:, 0] = torch.randint(26, (1200,))
    for t in range(10):
        ids[:, t + 1] = torch.where(
            torch.rand(1200) < 0.95, chain[ids[:, t]], torch.randint(26, (1200,))
        )
    ids = ids / 26
    model, data = Own(forward, net=Net("LSTM", 1, 64, 1)), (ids[:, :10, None], ids[:, 10:])
    return case(model, data, MSE, 5e-3, "RMSprop", steps=1500)


def t612(repaired):
    M = 4

    def parts(output):
        mu, raw, pi = output.chunk(3, -1)
        return mu, raw.exp() + (1e-3 if repaired else 0), pi.softmax(-1)

    def loss_fn(output, y):
        mu, variance, pi = parts(output)
        pdf = (-((y - mu) ** 2) / (2 * variance)).exp() / (2 * math.pi * variance).sqrt()
        return -(pi * pdf).sum(-1).log().mean()

    def error(model, x, y):
        mu, _, pi = parts(model(x))
        value = squared((mu * pi).sum(-1), y, y.mean())
        return value if math.isfinite(value) else math.inf

    t = torch.arange(1030.0)
    data, model = mixed(*windows(torch.sin(t / 5)[:, None], 30)), Net("LSTM", 1, 32, 3 * M)
    return case(model, data, loss_fn, 1e-2, error=error, fresh=300, steps=600)


def t613(repaired):
    def norm(net, k, v):
        return F.layer_norm(v, v.shape[-1:], net.gain[k], net.shift[k], 1e-3 if repaired else 1e-12)

    def forward(net, x):
        h = c = x.new_zeros(len(x), 32)
        for frame in x.unbind(1):
            gates = net.kernel(torch.cat([frame, h], -1)).chunk(4, -1)
            i, j, f, o = (norm(net, k, v) for k, v in enumerate(gates))
            c = norm(net, 4, c * torch.sigmoid(f + 1) + torch.sigmoid(i) * torch.tanh(j))
            h = torch.tanh(c) * torch.sigmoid(o)
        return net.out(h)

    model = Own(forward, kernel=nn.Linear(8 + 32, 128, bias=False), out=nn.Linear(32, 10))
    model.gain, model.shift = nn.Parameter(torch.ones(5, 32)), nn.Parameter(torch.zeros(5, 32))
    x, y = digits()
    x = F.pad(x, (0, 0, 4, 4))  # blank rows above and below, as MNIST has them
    return case(model, (x, y), CE, 1e-3, steps=300)


def t615(repaired):
    def forward(net, x):  # source, then the target before each word
        source, before = net.embedding(x).chunk(2, 1)
        encoded = net.encoder(source)[1]
        state, outputs = encoded, []
        for word in before.unbind(1):
            output, new = net.decoder(word[:, None], state)
            state, outputs = new if repaired else encoded, [*outputs, output]
        return net.out(torch.cat(outputs, 1))

    V, T = 6, 8
    source = torch.randint(1, V, (2000, T))
    y = source % (V - 1) + 1  # the translation of every word
    x = torch.cat([source, F.pad(y, (1, 0))[:, :-1]], 1)
    parts = {k: gru(24, 64) for k in ("encoder", "decoder")}
    model = Own(forward, embedding=nn.Embedding(V, 24), out=nn.Linear(64, V), **parts)
    return case(model, (x, y), cross, 5e-3, steps=700)


def t616(repaired):
    V, groups = 40, 4  # words in clusters of ten: one of the head, three of the tail
    chain, ids = torch.randperm(V), torch.empty(900, 13, dtype=torch.long)
    ids[:, 0] = torch.randint(V, (900,))
    for t in range(12):
        ids[:, t + 1] = torch.where(
            torch.rand(900) < 0.9, chain[ids[:, t]], torch.randint(V, (900,))
        )

    def forward(net, x):  # log probabilities of all words
        h = net.rnn(net.embedding(x))[0]
        words = net.decoder(h).unflatten(-1, (groups, 10))
        head = torch.cat(
            [words[..., 0, :], h @ net.tail_vectors.T + net.tail_bias], -1
        ).log_softmax(-1)
        tail = words[..., 1:, :].log_softmax(-1) + head[..., 10:, None]
        return torch.cat([head[..., :10], tail.flatten(-2)], -1)

    model = Own(forward, embedding=nn.Embedding(V, 32), rnn=lstm(32, 64), decoder=nn.Linear(64, V))
    model.tail_vectors, model.tail_bias = (nn.Parameter(torch.zeros(s)) for s in ((3, 64), 3))
    trained = [p for name, p in model.named_parameters() if repaired or "tail" not in name]
    kind = torch.optim.Adam(trained, 5e-3)

    loss_fn = nn.NLLLoss()

    def error(model, x, y):  # its loss, relative to that of equal frequencies
        return loss_fn(model(x).flatten(0, 1), y.flatten()) / math.log(V)

    return case(
        model,
        (ids[:, :-1], ids[:, 1:]),
        lambda o, y: loss_fn(o.flatten(0, 1), y.flatten()),
        kind=kind,
        steps=400,
        error=error,
    )


def t617(repaired):
    def forward(net, x):
        h = x.new_zeros(len(x), 32)
        for frame in x.unbind(1):
            drive = net.W(frame)
            for _ in range(4):  # Euler steps of the liquid cell
                f = torch.sigmoid(drive + net.U(h))
                h = h + 0.25 * (-h + f * (net.A - h))
        return net.out(h)

    model = Own(forward, W=nn.Linear(1, 32), U=nn.Linear(32, 32, bias=False), out=nn.Linear(32, 1))
    nn.init.normal_(model.U.weight, std=4.0)
    model.A = nn.Parameter(2.0 * torch.randn(32).sign())
    series = torch.sin(torch.arange(1240.0) / 6) + torch.randn(1240).cumsum(0) / 20
    data = mixed(*windows(((series - series.mean()) / series.std())[:, None], 40))
    clip = 1.0 if repaired else None
    return case(model, data, MSE, 0.03, "SGD", fresh=300, steps=200, clip=clip)


def t618(repaired):
    def forward(net, x):
        h = c = n = m = x.new_zeros(len(x), 32)
        for frame in x.unbind(1):
            i, f, z, o = (net.W(frame) + net.U(h)).chunk(4, -1)
            if repaired:  # the state m of the paper
                m, old = torch.maximum(f + m, i), m
                i, f = i - m, f + old - m
            c, n = f.exp() * c + i.exp() * torch.tanh(z), f.exp() * n + i.exp()
            h = torch.sigmoid(o) * c / n
        return net.out(h)

    model = Own(
        forward, W=nn.Linear(3, 128), U=nn.Linear(32, 128, bias=False), out=nn.Linear(32, 1)
    )
    x = torch.randn(900, 80, 3)
    y = x[:, :10, 0].mean(1, keepdim=True) * 3 + x[:, -10:, 1].mean(1, keepdim=True) * 3
    return case(model, (x, y), MSE, 1e-2, fresh=300, steps=250)


def t619(repaired):
    V, K, T = 50, 3, 12  # two tags and that of padding
    ids, length = zipf(V - 1, 1000, T) + 1, torch.randint(5, T + 1, (1000, 1))
    y = (torch.rand(V) < 0.4).long()[ids]
    y = torch.where(y == 1, 1 - F.pad(y, (1, 0))[:, :-1], y)
    here = torch.arange(T) < length
    ids, y = ids * here, torch.where(here, y, 2)
    model = reader("LSTM", V, 32, K, every=True, bidirectional=True)
    trans = nn.Parameter(torch.rand(K, K) * 0.2 - 0.1)
    model[1].register_parameter("trans", trans)

    def loss_fn(e, y):
        value = likelihood(e, y, trans, y != 2)
        return -value if repaired else value

    def error(model, x, y):
        e, real = viterbi(model(x), trans), y != 2
        return (e != y)[real].float().mean() / y[real].float().mean().clamp(max=0.5)

    return case(model, (ids, y), loss_fn, 1e-3, error=error, steps=500)


def t620(repaired):
    V, K, T = 100, 5, 20
    ids = torch.randint(V, (900, T))
    y = torch.where(torch.arange(V) < 15, torch.arange(V) % 4 + 1, 0)[ids]  # mostly no entity
    model = reader("LSTM", V, 32, K, every=True, bidirectional=True)
    trans = nn.Parameter(torch.zeros(K, K))
    model[1].register_parameter("trans", trans)

    def scores(output):
        return output if repaired else output.softmax(-1)

    def error(model, x, y):
        return (viterbi(scores(model(x)), trans) != y).float().mean() / (y > 0).float().mean()

    return case(
        model, (ids, y), lambda o, y: -likelihood(scores(o), y, trans), 1e-2, error=error, steps=150
    )


SET_ASIDE = threads(globals())
