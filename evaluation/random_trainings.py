"""Random trainings, recorded by their numbers in forecasts.csv and cures.csv: tasks, networks,
optimisers, and a plain loop.

forecasts.csv has 213 trainings with the step at which each leaves the loss of a constant output
(`left`) or diverges; cures.csv has 138 with their last loss (`given`). All without check or cure.
"""

from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from evaluation import tasks
from evaluation.networks import Net, cross, minibatches, ours, train
from rhn.cells import CELLS

HERE = Path(__file__).parent
EXAMPLES, BATCH = 1000, 32
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "nadam": (torch.optim.NAdam, {}),
    "radam": (torch.optim.RAdam, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
}
LOSSES = {
    "mse": F.mse_loss,
    "cross-entropy": cross,
    "bernoulli": F.binary_cross_entropy_with_logits,
}


# Tasks: a generator -> inputs (T, B, m), targets (T, B, ...) or (B, ...), loss, whether the last
# frame alone has an output


def adding(g, frames: int = 30):
    """The sum of two marked numbers of 30."""
    return *tasks.adding(g, frames, EXAMPLES, axis=0), "mse", True


def long_adding(g):
    """The adding problem over 100 frames."""
    return adding(g, 100)


def multiplication(g):
    """The product of two marked numbers of 40."""
    x = torch.rand(40, EXAMPLES, 2, generator=g)
    at = tasks.mark(x.transpose(0, 1), g)
    return x, x[at, torch.arange(EXAMPLES), 0].prod(0)[:, None], "mse", True


def recall(g):
    """One of four symbols after 20 frames."""
    symbols = torch.randint(0, 4, (EXAMPLES,), generator=g)
    x = torch.zeros(20, EXAMPLES, 5)
    x[0, range(EXAMPLES), symbols] = 1
    x[1:, :, 4] = 1
    return x, symbols, "cross-entropy", True


def order(g):
    """Two symbols and their order, among noise of 40 frames."""
    x = torch.zeros(40, EXAMPLES, 6)
    x.scatter_(2, torch.randint(2, 6, (40, EXAMPLES, 1), generator=g), 1.0)
    symbols = torch.randint(0, 2, (2, EXAMPLES), generator=g)
    for k in (0, 1):
        at = torch.randint(3 + 16 * k, 12 + 16 * k, (EXAMPLES,), generator=g)
        x[at, range(EXAMPLES)] = F.one_hot(symbols[k], 6).float()
    return x, 2 * symbols[0] + symbols[1], "cross-entropy", True


def copy_memory(g):
    """Repeat three symbols after a delay of 20 frames."""
    symbols = torch.randint(0, 4, (3, EXAMPLES), generator=g)
    x = torch.zeros(26, EXAMPLES, 6)
    x[:3].scatter_(2, symbols[..., None], 1.0)
    x[3:23, :, 4] = x[23:, :, 5] = 1
    y = torch.full((26, EXAMPLES), 4)
    y[23:] = symbols
    return x, y, "cross-entropy", False


def parity(g):
    """The parity of all bits so far, at each of 12 frames."""
    x = torch.randint(0, 2, (12, EXAMPLES, 1), generator=g).float()
    return x, x[..., 0].cumsum(0).long() % 2, "cross-entropy", False


def majority(g):
    """The majority of 51 bits."""
    x = torch.randint(0, 2, (51, EXAMPLES, 1), generator=g).float()
    return 2 * x - 1, (x.mean((0, 2)) > 0.5).long(), "cross-entropy", True


def flip_flops(g):
    """The last pulse of each of three channels, at each of 25 frames."""
    x = (torch.rand(25, EXAMPLES, 3, generator=g) < 0.15) * torch.randn(
        25, EXAMPLES, 3, generator=g
    ).sign()
    y, state = torch.zeros_like(x), torch.zeros(EXAMPLES, 3)
    for t in range(25):
        state = torch.where(x[t] != 0, x[t], state)
        y[t] = state
    return x, y, "mse", False


def logistic_map(g):
    """The next number of a chaotic map, seen through noise."""
    z, frames = torch.rand(EXAMPLES, generator=g), []
    for _ in range(31):
        z = 3.9 * z * (1 - z)
        frames.append(z)
    z = torch.stack(frames)[..., None]
    return z[:-1] + 0.1 * torch.randn(30, EXAMPLES, 1, generator=g), z[1:], "mse", False


def sines(g):
    """The next number of a sine wave."""
    rate = 0.2 + 0.6 * torch.rand(EXAMPLES, generator=g)
    phase = 6.3 * torch.rand(EXAMPLES, generator=g)
    waves = torch.sin(rate * torch.arange(26)[:, None] + phase)[..., None]
    return waves[:-1], waves[1:], "mse", False


def characters(g):
    """The next letter of a text: the descriptions of scikit-learn's data sets."""
    import sklearn.datasets

    files = sorted((Path(sklearn.datasets.__file__).parent / "descr").glob("*.rst"))
    text = "\n".join(path.read_text() for path in files).lower()
    ids = torch.tensor([ord(c) - 96 if "a" <= c <= "z" else 0 for c in text])
    starts = torch.randint(0, len(ids) - 26, (EXAMPLES,), generator=g)
    pieces = torch.stack([ids[s : s + 26] for s in starts], 1)
    return F.one_hot(pieces[:-1], 27).float(), pieces[1:], "cross-entropy", False


def chorales(g):
    """The next frame of twelve of a chorale."""
    from rhn.data import chorales

    pieces, cut = [torch.as_tensor(p) for p in chorales().train if len(p) >= 13], []
    for _ in range(EXAMPLES):
        piece = pieces[int(torch.randint(len(pieces), (), generator=g))]
        start = int(torch.randint(len(piece) - 12, (), generator=g))
        cut.append(piece[start : start + 13].float())
    x = torch.stack(cut, 1)
    return x[:-1], x[1:], "bernoulli", False


def digits(g):
    """Handwritten digits, pixel by pixel."""
    x, y = tasks.digits()
    chosen = torch.randperm(len(y), generator=g)[:EXAMPLES]
    return x[chosen].T[..., None].contiguous(), y[chosen], "cross-entropy", True


def optimizer_of(row: dict, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a row."""
    kind, options = OPTIMIZERS[row["optimizer"]]
    return kind(model.parameters(), lr=float(row["learning_rate"]), **options)


def network_of(row: dict, x, y, last: bool, time: int, **start) -> nn.Module:
    """The network of a row, drawn from its seed; symbols x have an embedding of eight. time: axis
    of the frames.
    """
    torch.manual_seed(int(row["seed"]))
    kind, layers = row["network"].removeprefix("nn."), int(row["layers"])
    parts, inputs = [], x.shape[-1]
    if not x.is_floating_point():
        parts, inputs = [nn.Embedding(int(x.max()) + 1, 8)], 8
    outputs = y.shape[-1] if y.is_floating_point() else int(y.max()) + 1
    sizes = inputs, int(row["units"]), outputs
    if kind in CELLS:
        parts.append(ours(kind, *sizes, every=not last, time=time, depth=layers, **start))
    else:
        parts.append(Net(kind, *sizes, every=not last, num_layers=layers, batch_first=bool(time)))
    return nn.Sequential(*parts)


def built(row: dict):
    """(Network, x, y, name of the loss, optimiser, axis of the examples) of a row."""
    x, y, loss, last = globals()[row["task"]](torch.Generator().manual_seed(int(row["seed"])))
    first = row["batch_first"] == "True"
    if first:
        x, y = x.transpose(0, 1), y if last else y.transpose(0, 1)
    start = {"init": row["start"], "generator": torch.Generator().manual_seed(int(row["seed"]))}
    model = network_of(row, x, y, last, int(first), **start)
    return model, x, y, loss, optimizer_of(row, model), 1 - first


def trained(
    model, x, y, loss, optimizer, axis, steps, clip_norm=None, seed=1000, batch=BATCH
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of a plain loop, and those of the best constant output on the same minibatches,
    (steps,) each.

    loss: a name of `LOSSES`, or a function of outputs and classes.
    """
    constant = (
        y.flatten(0, -2).mean(0)
        if y.is_floating_point()
        else (y.flatten().bincount() / y.numel()).log()
    )
    constant = torch.logit(constant, 1e-6) if loss == "bernoulli" else constant
    loss_fn, g = LOSSES.get(loss, loss), torch.Generator().manual_seed(seed)
    loop = train(
        model, partial(minibatches, x, y, batch, axis, g), loss_fn, optimizer, clip_norm=clip_norm
    )
    curves = [
        (value, loss_fn(constant.expand_as(z), target).item())
        for value, z, target in islice(loop, steps)
    ]
    return tuple(np.array(curves).T)
