"""Networks, and where each recorded array stands in today's results: if an interface changes, only
this file does. `python -m tests.numbers.record` records all arrays anew. The checkpoint stays: it
was trained on the melodies, which are random. NumPy draws all weights, in the order of their names.
"""

import copy
import tempfile
from collections import ChainMap
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gersgorin
import optim_study
import rhn
from analysis import gate_activity, lesion
from tests.rhn.pieces import shortest_chorales
from tests.rhn.texts import SMALL, metrics, small_corpus

FILE, MELODIES = (Path(__file__).with_name(name) for name in ("numbers.npz", "melodies.json"))
# The largest difference, as a share of the largest entry of an array.
DOUBLE = 1e-9  # float64 rounds to 1e-16, and no condition here is above 1e4
SINGLE = 1e-4  # float32 rounds to 6e-8, and no condition here is above 1e2
TRAINED = 1e-3  # float32, and a training run multiplies differences
T, M, N = 24, 3, 6  # time steps, numbers of an input, units


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def filled(module: nn.Module, seed: int = 1) -> nn.Module:
    """The module in float64: weights of standard deviation 1 / sqrt(inputs), biases of 0.3."""
    rng = np.random.default_rng(seed)
    for _, p in sorted(module.double().named_parameters()):
        size = p.shape[-1] ** -0.5 if p.dim() > 1 else 0.3
        p.data = torch.from_numpy(size * rng.standard_normal(p.shape))
    return module


W, B, X, S = drawn(N, N, seed=2) / 2, drawn(N, M, seed=3), drawn(T, M), drawn(N, seed=4)


def cell(name: str, depth: str = "1", seed: int = 1):
    return filled(rhn.make_cell(name, M, N, depth=int(depth)), seed), X, {}


class Loop(nn.ModuleList):
    def forward(self, x):
        states = [tuple(x.new_ones(2, 1, N))]
        for x_t in x.unbind(1):
            states.append(self[0](x_t, states[-1]))
        return torch.stack([h for h, _ in states[1:]], 1)


def softsign(x, s):
    return nn.functional.softsign(W.to(s) @ s + B.to(s) @ x.to(s))


def pair(x, state):
    z = torch.tanh(W @ torch.cat(state) + B @ x)
    return z[:4], 0.7 * state[1] * z[0].sigmoid() + z[4:]


def mamba():
    """A layer of transformers, one token at a time through its cache."""
    hf = pytest.importorskip("transformers.models.mamba.modeling_mamba", reason="extra peers")
    config = hf.MambaConfig(hidden_size=M, state_size=2, conv_kernel=2, num_hidden_layers=1)
    layer = filled(hf.MambaMixer(config, layer_idx=0)).requires_grad_(False)
    full = hf.DynamicCache(config=config)
    layer(torch.zeros(1, 1, M).double(), cache=full)

    def step(x, state):
        kept = (cache := copy.deepcopy(full)).layers[0]
        kept.conv_states[0], kept.recurrent_states[0] = state
        return layer(x[None], cache=cache)[0], (kept.conv_states[0], kept.recurrent_states[0])

    return step, X, {"s0": (torch.zeros(1, 2 * M, 2).double(),) * 2}


OURS = ("rnn", "rhn", "rhn 3", "rhn 5", "dt-rnn 3", "dts-rnn 3", "lstm", "gru")
CELLS = {name: partial(cell, *name.split()) for name in OURS}
MODULES = CELLS | {
    "nn.LSTM": lambda: (filled(nn.LSTM(M, 4, 2)), X, {}),
    "nn.RNN": lambda: (filled(nn.RNN(M, N)), X, {}),
    "loop": lambda: (filled(Loop([nn.LSTMCell(M, N)])), X[None], {}),  # in Python, over frames
}
NETWORKS = {  # name: function that returns (network, x, options with the first state)
    **MODULES,
    "pair": lambda: (pair, X, {"s0": (S[:4], S[4:])}),  # a state of two tensors
    "complex": lambda: (softsign, X, {"s0": torch.complex(S, S.flip(0))}),
    "float32": lambda: (softsign, X.float(), {"s0": S.float()}),  # runs in its own precision
    "cycle": lambda: (lambda x, s: (x[:2] / 9 - 2 * s.flip(0)).tanh(), X, {"s0": S[:2]}),
    "mamba": mamba,
}
LOOPS = [  # layer, number of classes (1: a number), optimizer, rate, scale of y
    *((kind, n, "Adam", 1e-2, 1) for kind in ("GRU", "LSTM", "RNN") for n in (1, 3)),
    *[("GRU", 1, "SGD", 0.03, 1), ("LSTM", 3, "SGD", 1.0, 1)],
    *[("GRU", 1, "Adam", 1e-5, 1), ("LSTM", 1, "Adam", 1e-2, 1000)],  # which do not learn
]


def error_of_loop(kind: str, classes: int, optimizer: str, rate: float, scale: float) -> float:
    """The held-out error of a plain training loop, divided by that of the best constant."""
    layer, out = getattr(nn, kind)(M, 12, batch_first=True), nn.Linear(12, classes)
    model, x = filled(nn.ModuleList([layer, out]), 12), drawn(320, 8, M, seed=11)
    y = scale * (x[:, :, :1].sum(1) + x[:, -1:, 1] * x[:, -2:-1, 2])
    y = torch.bucketize(y[:, 0], S.new_tensor([-1.5, 1])) if classes > 1 else y
    loss_of = nn.CrossEntropyLoss() if classes > 1 else nn.MSELoss()
    steps = getattr(torch.optim, optimizer)(model.parameters(), rate)
    for some in np.random.default_rng(13).integers(240, size=(200, 32)):
        steps.zero_grad()
        loss_of(out(layer(x[some])[0][:, -1]), y[some]).backward()
        steps.step()
    found, known, y = out(layer(x[240:])[0][:, -1]).detach(), y[:240], y[240:]
    if classes > 1:
        return ((found.argmax(1) != y).sum() / (known.mode().values != y).sum()).item()
    return ((found - y).square().sum() / (known.mean() - y).square().sum()).item()


def read(found, names: str) -> dict:
    """Attributes of a result, methods called. If one gets another name: "recorded_name=path"."""
    pairs = [name.partition("=") for name in names.split()]
    values = {name: attrgetter(path or name)(found) for name, _, path in pairs}
    return {name: value() if callable(value) else value for name, value in values.items()}


@torch.no_grad()
def steps(f, x):
    x, s = x[:6], gersgorin.trajectory(f, x)[:6]
    ways = ("analytic", "jacrev", "jacfwd")
    found = {way: gersgorin.temporal_jacobian(f, x, s, method=way) for way in ways}
    found["layers"] = torch.cat([J.flatten() for J in gersgorin.layer_jacobians(f, x, s)])
    return found | {"input": gersgorin.input_jacobian(f, x, s), "bound": gersgorin.norm_bound(f)}


def points(f, x, **options):
    """Fixed points, in an order that rounding does not change."""
    found = gersgorin.fixed_points(f, x, **options)
    order = np.lexsort(found.states.round(6).T)
    arrays = read(found, "states eigenvalues is_slow unstable neutral time_constants")
    return {name: array[order] for name, array in arrays.items()}


def rows_of(found, rows: dict[str, str]) -> dict:
    """Rows of a table by their recorded names."""
    return {name: found.table()[row] for name, row in rows.items()}


def of_spectra(f, x, **s0):
    found = gersgorin.spectra(f, x, **s0)
    return read(found, SPECTRA) | rows_of(found, HALF_LIFE)


def of_discs(side, f, x, **s0):
    found, words = gersgorin.spectra(f, x, **s0), SIDES[side]
    ends = {
        "reach": f"largest modulus in the {words}",
        "rightmost_disc": f"rightmost point of the {words}",
    }
    sides = ("row", "column") if side == "both" else (side,)
    inside = [found.table()[INSIDE.format(name)] for name in sides]
    return rows_of(found, ends) | {"discs_inside_unit_circle": np.max(inside, 0)}


def of_products(f, x, **s0):
    found = gersgorin.products(f, x, **s0)
    return read(found, "log_norm log_norm_back exponent") | rows_of(found, DOUBLING)


def of_influence(f, x, **how):
    return gersgorin.influence(f, x, **how, batch_first=True if isinstance(f, Loop) else None)


def of_truncation(f, x):
    def loss(o, y):
        return (o - 0.3).square().mean()

    batch_first = True if isinstance(f, Loop) else None
    found = gersgorin.truncation(f, x, x, loss, batch_first=batch_first)
    return read(found, "windows error cosine sliding_error sliding_cosine by_lag windows_10")


def recording(f, x):
    recorder = gersgorin.Recorder(f, x, every=1)
    for _ in range(3):
        loss = f(x)[0].square().mean()
        loss.backward()
        recorder.step(loss)
        for p in f.parameters():
            p.data, p.grad = p.data - 0.1 * p.grad, None
    return read(recorder.recording, RECORDING)


EVERY, MANY = NETWORKS.keys(), {"starts": 2 * drawn(300, 2)}
RECORDING = """step loss radius bulk reach input_gain state_gain gate exponent eigenvalues centers
    radii gradient_norm relative_rate"""
SPECTRA = """eigenvalues support departure_from_normality norm_bound log_norm_bound norm
    row_centers=centers row_radii column_centers=centers column_radii spectral_radius
    numerical_radius finite_time_exponent log_norm_product"""
ROWS = """learning_rate init_std hidden_size best_train_nll best_valid_nll best_epoch train_nll
    valid_nll test_nll constant_nll epochs"""
LEADING = "spectral_radius norm log_norm_product row_centers=centers row_radii column_radii"
HALF_LIFE = {"half_life": "half-life of ||ds[t]/ds[0]|| by the mean rate (steps)"}
DOUBLING = {"doubling_time": "doubling time of ||ds[t]/ds[0]|| by the mean rate (steps)"}
SIDES = {"row": "row discs", "column": "column discs", "both": "overlap of both"}
INSIDE = "{} discs inside the unit circle (share)"
EXPONENTS = "exponents standard_errors curve kaplan_yorke"
GRID = "steps=shown axis sigma eigenvalues to_circle middle"
LAGS = """influence error by_lag by_lag_error share reach half_life=steps_to_half effective_length
    ahead"""
ANALYSES = {  # name: (networks, function of network, x and first state, names of its arrays)
    "spectra": (EVERY, of_spectra, None),
    "conditions": (EVERY - {"mamba"}, gersgorin.spectra, "eigenvalue_condition"),
    **{side: (EVERY, partial(of_discs, side), None) for side in SIDES},
    "leading": (EVERY, partial(gersgorin.spectra, leading=2), LEADING),
    "products": (EVERY, of_products, None),
    "gains": (EVERY, gersgorin.gains, "input layers"),
    "gates": (EVERY, gersgorin.gates, "mean"),
    "lyapunov": (EVERY - {"mamba", "float32"}, gersgorin.lyapunov, EXPONENTS),
    "two exponents": (EVERY, partial(gersgorin.lyapunov, count=2, warmup=3), EXPONENTS),
    "pseudospectra": (EVERY, partial(gersgorin.pseudospectra, side=9), GRID),
    "influence": (EVERY, of_influence, LAGS),
    "estimate": (EVERY, partial(of_influence, probes=4, feature=0), LAGS),
    "run": (EVERY, gersgorin.open_run, "states jacobians input_jacobians"),
    "fixed points": (MODULES, points, None),
    "fixed points of starts": ({"cycle"}, partial(points, **MANY), None),
    "points of cycles": ({"cycle"}, partial(points, period=2, **MANY), None),
    "truncation": (MODULES, of_truncation, None),
    "steps": (CELLS, steps, None),
    "recording": (MODULES, recording, None),  # last: it changes the network
}


def of_network(network: str, folder: Path) -> dict:
    (f, x, s0), found = NETWORKS[network](), {}
    for name, (networks, function, names) in ANALYSES.items():
        if network in networks:
            result = function(f, x, **s0)
            found[name] = read(result, names) if names else result
    return found


def comparisons(folder: Path) -> dict:
    (a, x, _), (b, *_) = cell("gru", seed=2), cell("gru", seed=3)
    pair = gersgorin.compare({"a": a, "b": b}, x)
    bands = gersgorin.compare({"gru": [a, b]}, [x, x[4:]]).network("gru")
    bands = read(bands, "spectral_radius norm reach log_norm_product last_exponent steps runs_at")
    y = {"squared": W.tile(4, 1), "categorical": torch.arange(T) % N}
    losses = {of: gersgorin.influence(a, x, of=of, y=y[of]).influence for of in y}
    return {"pair": {k: pair[k].norm for k in "ab"}, "bands": bands, "losses": losses}


def tables(folder: Path) -> dict:
    net = rhn.load(FILE.with_name("checkpoint.safetensors")).double()
    names, modes = "baseline loss delta low high", ("bias", "carry", "blind")
    found = {mode: read(lesion(net, MELODIES, mode, pairs=True), names) for mode in modes}
    return found | {"gates": read(gate_activity(net, MELODIES), "activity open closed")}


def study(folder: Path) -> dict:
    config = optim_study.smoke(arch=("rhn", "dt-rnn"), data=MELODIES, out=folder, jobs=1)
    rows = enumerate(optim_study.run(config, progress=False).rows)
    return {str(k): read(row, ROWS) for k, row in rows}


def epochs(name: str, folder: Path, **more) -> dict:
    """The metrics of each epoch of a training run, which goes on if the folder has a part of it."""
    if name == "language":
        rhn.train(SMALL, small_corpus(40), out=folder, epochs=2, **more)
    else:
        rhn.train("jsb-depth-5", shortest_chorales(33), out=folder, hidden_size=8, epochs=2, **more)
    return {str(k): line for k, line in enumerate(metrics(folder))}


def loops(folder: Path) -> dict:
    return {"error": {str(loop): error_of_loop(*loop) for loop in LOOPS}}


GROUPS = {name: (partial(of_network, name), DOUBLE) for name in EVERY}
GROUPS |= {k: (partial(of_network, k), SINGLE) for k in ("float32", "mamba")}  # a part of mamba
GROUPS |= {"comparisons": (comparisons, DOUBLE), "tables": (tables, DOUBLE)}
GROUPS |= {"study": (study, TRAINED), "loops": (loops, TRAINED)}
GROUPS |= {name: (partial(epochs, name), TRAINED) for name in ("chorales", "language")}


def numbers_of(group: str, folder: Path) -> dict[str, np.ndarray]:
    parts = GROUPS[group][0](folder / group)
    arrays = {f"{group}/{part}/{name}": parts[part][name] for part in parts for name in parts[part]}
    return {name: 1 * np.asarray(array) for name, array in arrays.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(FILE, **ChainMap(*(numbers_of(k, Path(folder)) for k in GROUPS)))
