"""Twelve healthy trainings of randomly drawn tasks, networks and optimisers, see `ROWS`."""

import csv
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from evaluation import tasks
from evaluation.networks import Net, cross, ours
from evaluation.threads.trainings import Training
from rhn.cells import CELLS

EXAMPLES = 1000
LOSSES = {"mse": F.mse_loss, "cross-entropy": cross}
TABLE = """\
number,seed,task,network,units,layers,batch_first,start,optimizer,learning_rate,steps
6,600006,flip_flops,gru,24,1,False,uniform,RMSprop,0.0046,1000
9,600009,order,nn.LSTM,16,1,True,torch,Adam,0.0011,1000
10,600010,logistic_map,rhn,24,3,False,scaled,RMSprop,0.01,1000
15,600015,flip_flops,nn.GRU,64,1,True,torch,SGD 0.9,0.025,1000
35,600035,logistic_map,nn.RNN,16,1,True,torch,NAdam,0.048,1000
61,600061,majority,nn.LSTM,32,1,True,torch,Adagrad,0.14,1000
124,700054,flip_flops,nn.RNN,64,1,True,torch,Adam,0.00022,1000
140,100000,recall,nn.GRU,16,1,False,torch,AdamW,0.03,1000
154,100014,sines,nn.LSTM,32,1,False,torch,SGD,0.37,1000
182,200014,adding,rnn,24,1,False,scaled,SGD 0.9,0.01,1000
248,500015,parity,irnn,24,1,False,scaled,Adam,0.0091,300
251,500018,parity,gru,24,1,False,gaussian:0.01,Adam,0.0025,300
"""
ROWS = {int(row["number"]): row for row in csv.DictReader(TABLE.splitlines())}
"""The drawn settings by the number of the training."""


# Tasks: a generator -> inputs (T, B, m), targets (T, B, ...) or (B, ...), loss, whether the last
# frame alone has an output


def adding(g, frames: int = 30):
    """The sum of two marked numbers of 30."""
    return *tasks.adding(g, frames, EXAMPLES, axis=0), "mse", True


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
    pulses = torch.rand(25, EXAMPLES, 3, generator=g) < 0.15
    x = pulses * torch.randn(25, EXAMPLES, 3, generator=g).sign()
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


def optimizer_of(row: dict, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a row, whose momentum stands behind its name."""
    kind, _, momentum = row["optimizer"].partition(" ")
    options = {"momentum": float(momentum)} if momentum else {}
    return getattr(torch.optim, kind)(model.parameters(), float(row["learning_rate"]), **options)


def network_of(row: dict, x, y, last: bool, time: int) -> nn.Module:
    """The network of a row, drawn from its seed. time: axis of the frames."""
    torch.manual_seed(int(row["seed"]))
    kind, layers = row["network"].removeprefix("nn."), int(row["layers"])
    outputs = y.shape[-1] if y.is_floating_point() else int(y.max()) + 1
    sizes = x.shape[-1], int(row["units"]), outputs
    if kind not in CELLS:
        return Net(kind, *sizes, every=not last, num_layers=layers, batch_first=bool(time))
    start = {"init": row["start"], "generator": torch.Generator().manual_seed(int(row["seed"]))}
    return ours(kind, *sizes, every=not last, time=time, depth=layers, **start)


def drawn(number: int) -> Training:
    """The training of a row of `ROWS`, by its number."""
    row = ROWS[number]
    (x, y, loss, last), (*fresh, _, _) = (
        globals()[row["task"]](torch.Generator().manual_seed(int(row["seed"]) + k)) for k in (0, 1)
    )
    first = row["batch_first"] == "True"
    if first:
        x, y = x.transpose(0, 1), y if last else y.transpose(0, 1)
        fresh = [v.transpose(0, 1) if v.shape[:2] == fresh[0].shape[:2] else v for v in fresh]
    model = network_of(row, x, y, last, int(first))
    how: Any = {"steps": int(row["steps"]), "options": {"batch_axis": 1 - first}}
    return Training(model, x, y, LOSSES[loss], optimizer_of(row, model), tuple(fresh), **how)


DRAWN = {f"row_{number}": partial(drawn, number) for number in ROWS}
