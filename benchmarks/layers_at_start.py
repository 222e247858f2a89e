"""Compare recurrent layers of today, and attention, before training: half-lives, gains, plateau, memory, Newton's iterations.

    python -m benchmarks.layers_at_start docs/results/2026-11-21-layers

writes .csv and .png. Mamba, RWKV and xLSTM need the extra `layers`.
"""

import csv
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import nn

import gersgorin
from gersgorin.plotting.figure import MARKERS, line_style
from rhn.cells import resolve_cell
from rhn.errors import InvalidInputError
from rhn.plotting.figures import our_style

WIDTH, STEPS, SEEDS, LAG = 32, 64, 1, 5
LARGEST = 128  # state for Newton's method, whose matrices are whole


class Layer(nn.Module):
    """A layer of 32 inputs and 32 outputs, (T, B, m)."""

    def __init__(self, name: str):
        super().__init__()
        self.name, self.body = name, LAYERS[name]()

    def forward(self, x):
        if self.name == "attention":
            mask = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
            return self.body(x, x, x, attn_mask=mask)[0]
        if self.name in ("Mamba", "RWKV", "xLSTM"):
            y = self.body(x.transpose(0, 1), None) if self.name == "xLSTM" else self.body(x.transpose(0, 1))
            return (y if self.name == "Mamba" else y[0]).transpose(0, 1)
        return self.body(x)[0]


def mamba():
    from transformers.models.mamba.modeling_mamba import MambaConfig, MambaModel

    return MambaModel(MambaConfig(vocab_size=2, hidden_size=WIDTH, state_size=16, num_hidden_layers=1)).layers[0].mixer


def rwkv():
    from transformers.models.rwkv.modeling_rwkv import RwkvConfig, RwkvModel

    sizes = {"hidden_size": WIDTH, "attention_hidden_size": WIDTH, "num_hidden_layers": 2, "context_length": STEPS}
    return RwkvModel(RwkvConfig(vocab_size=2, **sizes)).blocks[0].attention


def xlstm():
    from transformers.models.xlstm.modeling_xlstm import xLSTMConfig, xLSTMModel

    sizes = {"hidden_size": WIDTH, "embedding_dim": WIDTH, "num_heads": 2, "num_hidden_layers": 1, "chunk_size": 16}
    return xLSTMModel(xLSTMConfig(vocab_size=2, **sizes)).blocks[0].mlstm_layer


def ours(name: str, depth: int = 1):
    def build():
        generator = torch.Generator().manual_seed(torch.initial_seed() % 2**31)
        return resolve_cell(name)(WIDTH, WIDTH, depth, generator=generator)

    return build


LAYERS = {
    "LSTM": lambda: nn.LSTM(WIDTH, WIDTH),
    "GRU": lambda: nn.GRU(WIDTH, WIDTH),
    "RHN": ours("rhn", 3),
    "LRU": ours("lru"),
    "minGRU": ours("mingru"),
    "Mamba": mamba,
    "RWKV": rwkv,
    "xLSTM": xlstm,
    "attention": lambda: nn.MultiheadAttention(WIDTH, 2),
}


def measured(name: str, seed: int):
    """(A row of the table, the `Memory`) of a new layer."""
    torch.manual_seed(seed)
    layer = Layer(name).eval()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(STEPS, 8, WIDTH, generator=generator, dtype=torch.float64)
    one = x[:, :1]
    memory = gersgorin.memory(layer, one)
    row = {"layer": name, "seed": seed, "parameters": sum(p.numel() for p in layer.parameters())}
    try:
        audit = gersgorin.audit(layer, one)
        row |= dict(zip(("half_life_10", "half_life_50", "half_life_90"), audit.quantiles(0), strict=True))
        run = gersgorin.open_run(layer, one)
        row["state"] = run.state_size
        row["input_gain"] = float(torch.linalg.matrix_norm(run.input_jacobians(slice(1, None, 8)), 2).mean())
        row["newton"] = newton_iterations(run)
    except InvalidInputError as error:
        print(f"{name}: {error}", file=sys.stderr)
    row |= {"output_gain": float(memory.by_lag[0]), "memory_half_life": memory.half_life}
    row |= {"effective_length": memory.effective_length, "beyond_10": memory.share_beyond(10)}
    model = nn.Sequential(layer, nn.Linear(WIDTH, 4)).double()
    with torch.no_grad():
        model[1].weight.normal_(0, WIDTH**-0.5, generator=generator)
    targets = torch.roll(x[..., :4], LAG, 0) + 0.5
    found = gersgorin.plateau(model, (x, targets), "squared")
    return row | {"plateau_order": found.order, "fastest": found.fastest, "rate": found.rates[found.fastest]}, memory


def newton_iterations(run) -> float:
    """Iterations to the states of the loop; NaN for a large state, a step that cannot be batched, or if the guard ended in the loop."""
    if run.state_size > LARGEST:
        return float("nan")
    try:
        found = gersgorin.newton(run)
    except (InvalidInputError, RuntimeError) as error:
        print(f"newton of {run.label.title}: {error}", file=sys.stderr)
        return float("nan")
    return float(found.iterations) if found.parallel else float("nan")


@our_style()
def draw(path: str, memories: dict) -> None:
    """Influence by lag of every layer, and its cumulative share."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for k, (name, found) in enumerate(memories.items()):
        by_lag = np.median([each.by_lag for each in found], 0)
        style = line_style(k) | {"marker": MARKERS[k % len(MARKERS)], "markersize": 4, "markevery": (k, len(memories))}
        left.plot(np.where(by_lag > 0, by_lag, np.nan), label=name, **style)
        shares = np.median([[each.share_beyond(lag) for lag in range(STEPS)] for each in found], 0)
        right.plot(shares, **style)
    left.set(yscale="log", ylim=(1e-8, 20), xlim=(0, STEPS - 1), xlabel="lag (steps)", ylabel="influence of an input")
    right.set(xlim=(0, STEPS - 1), ylim=(0, 1), xlabel="lag (steps)", ylabel="share of squared influence from beyond")
    figure.legend(loc="outside lower center", ncols=len(memories), handlelength=2.5)
    figure.suptitle(f"New layers of {WIDTH} inputs and outputs on white noise")
    figure.savefig(f"{path}.png", dpi=110)


def main(path: str) -> None:
    """Measure, write the table, draw the figure."""
    warnings.simplefilter("ignore")
    rows, memories = [], {}
    for name in LAYERS:
        for seed in range(SEEDS):
            row, memory = measured(name, seed)
            rows.append(row)
            memories.setdefault(name, []).append(memory)
        print({key: value if isinstance(value, str) else f"{value:.4g}" for key, value in rows[-1].items()}, flush=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with Path(f"{path}.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    draw(path, memories)


if __name__ == "__main__":
    main(sys.argv[1])
