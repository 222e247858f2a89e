"""Small networks with random weights, random pieces and texts, and lesions made by hand, that the
tests of `analysis` share.
"""

import copy
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.special import expit
from torch import nn

from rhn.cells import Cell
from rhn.checkpoints import save
from rhn.data.text import Vocabulary
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig

WORDS = Vocabulary(
    "words", ("the", "<eos>", "cat", "dog", "sees", "a", "<unk>", "hears", "and", "small", "bird")
)
V = len(WORDS)

GATED = [
    ("rhn", 3, {}),
    ("rhn", 2, {"coupled": False, "gate_constant": 0.5}),
    ("lstm", 1, {}),
    ("gru", 1, {}),
]
UNGATED = [
    ("dt-rnn", 3, {}),
    ("dts-rnn", 3, {}),
    ("dts-rnn", 3, {"skip": "last"}),
    ("rnn", 1, {"nonlinearity": "relu"}),
]
SHUT = {"RHN": {1: -1e4, 2: 1e4}, "LSTM": {0: -1e4, 1: 1e4}, "GRU": {1: 1e4}}
"""By cell: the blocks of the bias that hold the state, and what they are for that."""


def network(cell="rhn", depth=3, options=None, *, layers=1, dtype=torch.float64) -> PolyphonicModel:
    """Weights of standard deviation 0.9 / sqrt(inputs), biases of 0.3."""
    sizes = {"hidden_size": 7, "depth": depth, "layers": layers}
    return drawn(PolyphonicModel(cell, **sizes, dtype=dtype, **(options or {})))


def language_network(
    cell="rhn", depth=3, options=None, *, V=V, layers=1, tied=False, dtype=torch.float64
) -> LanguageModel:
    """As `network`, over V symbols, with 7 hidden units."""
    sizes = {"vocabulary_size": V, "hidden_size": 7, "depth": depth, "layers": layers, "tied": tied}
    return drawn(LanguageModel(cell, **sizes, dtype=dtype, **(options or {})))


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.3 if "bias" in name else 0.9 / math.sqrt(p.shape[-1])
            p.copy_(scale * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model


def language_checkpoint(path, model: LanguageModel, vocabulary=WORDS):
    """As `rhn train` writes it."""
    sizes = {"depth": model.depth, "hidden_size": model.hidden_size}
    about = {"train": asdict(LanguageConfig(corpus="text", **sizes))}
    data = {"name": "text", "source": "text, from a test", "checksum": "0" * 64}
    return save(path, model, **about, data=data, vocabulary=vocabulary.to_json())


def sentences(count: int) -> str:
    """A text of so many lines of 3 to 9 known words."""
    rng, words = np.random.default_rng(0), [word for word in WORDS.symbols if word[0] != "<"]
    return "".join(" ".join(rng.choice(words, rng.integers(3, 10))) + "\n" for _ in range(count))


def tokens(*lengths: int) -> list[np.ndarray]:
    """Random ids."""
    rng = np.random.default_rng(0)
    return [rng.integers(V, size=length) for length in lengths]


def rolls(*lengths: int) -> list[np.ndarray]:
    """Random piano rolls of about four keys a frame."""
    rng = np.random.default_rng(0)
    return [(rng.random((length, 88)) < 0.05).astype(np.uint8) for length in lengths]


@torch.no_grad()
def nats_of_chorales(model, pieces) -> np.ndarray:
    """The loss of each piece, summed over its predicted frames, by torch, one piece at a time."""
    frames = [torch.from_numpy(piece).double().unsqueeze(1) for piece in pieces if len(piece) > 1]
    loss = F.binary_cross_entropy_with_logits
    return np.array([float(loss(model(x[:-1]), x[1:], reduction="sum")) for x in frames])


@torch.no_grad()
def nats_of_texts(model, parts) -> np.ndarray:
    """The same of tokens."""
    every = [torch.from_numpy(part) for part in parts if len(part) > 1]
    logits = [model(ids[:-1, None]).logits[:, 0] for ids in every]
    pairs = zip(logits, every, strict=True)
    return np.array([float(F.cross_entropy(z, ids[1:], reduction="sum")) for z, ids in pairs])


SUBJECTS = {
    "chorales": (network, rolls(9, 4, 6, 1, 12), nats_of_chorales),
    "texts": (language_network, tokens(9, 4, 6, 1, 12), nats_of_texts),
}


def gates_by_loop(cells, steps) -> np.ndarray:
    """The transform gates (L, T, n) of cells of ours along inputs (T, m), by the equations."""
    outputs, found = steps.detach().numpy(), []
    for cell in cells:
        weights = {name: p.detach().numpy() for name, p in cell.named_parameters()}
        gates_of_step = {"RHN": rhn_gates, "LSTM": lstm_gates, "GRU": gru_gates}[
            type(cell).__name__
        ]
        s = np.zeros(cell.state_size)
        gates, states = [], []
        for x in outputs:
            t, s = gates_of_step(cell, weights, x, s)
            gates.append(t)
            states.append(s[: cell.hidden_size])
        found.append(np.stack(gates, 1))
        outputs = np.stack(states)
    return np.concatenate(found)


def rhn_gates(cell, weights, x, s) -> tuple[np.ndarray, np.ndarray]:
    """The gates (L, n) and the next state: s_l = h t + s_{l-1} c, where c = 1 - t if coupled."""
    n, gates = cell.hidden_size, []
    for layer, (R, b) in enumerate(zip(weights["weight_hh"], weights["bias"], strict=True)):
        z = R @ s + b
        if layer == 0:
            z = z + weights["weight_ih"] @ x
        h, t = np.tanh(z[:n]), expit(z[n : 2 * n] + cell.gate_constant)
        c = 1 - t if cell.coupled else expit(z[2 * n :])
        s = h * t + s * c
        gates.append(t)
    return np.stack(gates), s


def lstm_gates(cell, weights, x, s) -> tuple[np.ndarray, np.ndarray]:
    """The input gate (1, n), and the next state cat(h, c)."""
    h, c = np.split(s, 2)
    z_i, z_f, z_g, z_o = np.split(
        weights["weight_ih"] @ x + weights["weight_hh"] @ h + weights["bias"], 4
    )
    c = expit(z_f) * c + expit(z_i) * np.tanh(z_g)
    return expit(z_i)[None], np.concatenate((expit(z_o) * np.tanh(c), c))


def gru_gates(cell, weights, x, h) -> tuple[np.ndarray, np.ndarray]:
    """1 - z (1, n), with the update gate z, and the next state."""
    x_r, x_z, x_n = np.split(weights["weight_ih"] @ x + weights["bias"], 3)
    h_r, h_z, h_n = np.split(weights["weight_hh"] @ h, 3)
    z = expit(x_z + h_z)
    candidate = np.tanh(x_n + expit(x_r + h_r) * (h_n + weights["bias_hn"]))
    return (1 - z)[None], (1 - z) * candidate + z * h


@torch.no_grad()
def edited(model, layers, blind=False):
    """A copy whose layers, each a (cell, layer) from 0, have shut gates or no input."""
    model = copy.deepcopy(model)
    cells = [module for module in model.modules() if isinstance(module, Cell | nn.RNNBase)]
    for number, layer in layers:
        cell = cells[number]
        ours, n = isinstance(cell, Cell), cell.hidden_size
        if blind:
            (cell.weight_ih if ours else getattr(cell, f"weight_ih_l{layer}")).zero_()
            continue
        bias = cell.bias.view(cell.depth, -1)[layer] if ours else getattr(cell, f"bias_ih_l{layer}")
        for block, value in SHUT[type(cell).__name__].items():
            bias[block * n : block * n + n] = value
    return model


def check_table(table, model, data, places, nats_of=nats_of_chorales, without=edited):
    """Compare each row of a lesion table with an edited copy; places: (cell, layer) by label."""
    frames, whole = [len(part) - 1 for part in data if len(part) > 1], nats_of(model, data)
    assert (table.sequences, table.frames) == (len(frames), sum(frames))
    assert table.baseline == pytest.approx(whole.sum() / sum(frames), rel=1e-12)
    assert table.lengths.tolist() == frames
    np.testing.assert_allclose(table.baseline_sums, whole, rtol=1e-12)
    found = np.stack([table.loss, table.delta, table.low, table.high], 1)
    rows = zip(table.row_kind, table.label, found, table.loss_sums, strict=True)
    for row, label, (loss, *difference), sums in rows:
        layers = [places[name] for name in label.split("+")]
        blind = "blind" in (row, table.mode)
        off = nats_of(edited(model, layers, blind=True) if blind else without(model, layers), data)
        other = nats_of(edited(model, layers, blind=True), data) if "beyond" in row else whole
        np.testing.assert_allclose(sums, off, rtol=1e-12)
        assert loss == pytest.approx(off.sum() / sum(frames), rel=1e-12)
        wanted = [(off - other).sum() / sum(frames), *jackknife(off - other, frames)]
        assert difference == pytest.approx(wanted, rel=1e-9, abs=1e-11)


def jackknife(more, frames) -> tuple[float, float]:
    """The 95 % interval of sum(more) / sum(frames), from the ratios without one sequence each."""
    N, whole, squares = len(frames), sum(more) / sum(frames), 0.0
    for left_out in range(N):
        rest = [i for i in range(N) if i != left_out]
        ratio = sum(more[i] for i in rest) / sum(frames[i] for i in rest)
        squares += (ratio - whole) ** 2
    return stats.t.interval(0.95, N - 1, whole, np.sqrt((N - 1) / N * squares))
