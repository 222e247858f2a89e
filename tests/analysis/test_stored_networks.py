"""The networks in docs/results/weights: their gates, lesions and losses are those of a plain loop
in NumPy, float64.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
from networks import jackknife
from safetensors.numpy import load_file
from scipy.special import expit

from rhn.checkpoints import read
from rhn.data import chorales

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
FULL_SIZE = RESULTS / "weights" / "full-size-depth6.safetensors"
DEMO = RESULTS / "weights" / "demo-depth5.safetensors"
SHUT = -1e4  # a bias of transform gates
ROUNDING = 1e-4  # relative: the networks are float32


def weights_of(path) -> dict[str, np.ndarray]:
    """The weights in float64, without the name of the cell: weight_hh, bias, output.weight, ..."""
    return {name.removeprefix("cells.0."): t.astype(float) for name, t in load_file(path).items()}


def loss_and_gates(weights, roll) -> tuple[float, np.ndarray]:
    """The loss of a piece in nats, summed over all frames but the first, and its mean transform
    gates (L, T).
    """
    recurrent, bias = weights["weight_hh"], weights["bias"]
    (L, _, n), x = recurrent.shape, roll.astype(float)
    s, nats, gates = np.zeros(n), 0.0, np.empty((L, len(x)))
    for t in range(len(x)):
        if t:
            logits = weights["output.weight"] @ s + weights["output.bias"]
            nats += np.sum(np.logaddexp(0, logits) - x[t] * logits)
        for layer in range(L):
            z = recurrent[layer] @ s + bias[layer]
            if layer == 0:
                z += weights["weight_ih"] @ x[t]
            candidate, gate = np.tanh(z[:n]), expit(z[n:])
            s = gate * candidate + (1 - gate) * s
            gates[layer, t] = gate.mean()
    return nats, gates


def losses_and_distances(weights, roll) -> tuple[np.ndarray, np.ndarray]:
    """The loss of a piece if the readout gets s_0, ..., s_L, and |s_l - s_L| / |s_0 - s_L|, each
    summed over all frames but the last, (L + 1,).
    """
    recurrent, bias = weights["weight_hh"], weights["bias"]
    (L, _, n), x = recurrent.shape, roll.astype(float)
    s, nats, far = np.zeros(n), np.zeros(L + 1), np.zeros(L + 1)
    for t in range(len(x) - 1):
        states = [s]
        for layer in range(L):
            z = recurrent[layer] @ s + bias[layer]
            if layer == 0:
                z += weights["weight_ih"] @ x[t]
            gate = expit(z[n:])
            s = gate * np.tanh(z[:n]) + (1 - gate) * s
            states.append(s)
        for layer, state in enumerate(states):
            logits = weights["output.weight"] @ state + weights["output.bias"]
            nats[layer] += np.sum(np.logaddexp(0, logits) - x[t + 1] * logits)
            far[layer] += np.linalg.norm(state - s) / np.linalg.norm(states[0] - s)
    return nats, far


def without(weights, layer) -> dict[str, np.ndarray]:
    """The weights with shut gates in a layer, counted from 0."""
    bias = weights["bias"].copy()
    bias[layer, bias.shape[1] // 2 :] = SHUT
    return weights | {"bias": bias}


def table(path) -> dict[str, dict[str, str]]:
    """The rows of a table by their first cell."""
    with path.open() as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("path", "units", "depth", "run"),
    [
        pytest.param(FULL_SIZE, 262, 6, "study", id="full-size"),
        pytest.param(DEMO, 48, 5, "train", id="demo"),
    ],
)
def test_a_stored_network_is_a_current_checkpoint(path, units, depth, run):
    found = read(path)
    assert {"checksum", "header_checksum"} <= found.header.keys()
    assert found.metadata[run]["depth"] == depth
    model = found.model()
    assert (model.hidden_size, model.depth) == (units, depth)


def test_the_demo_has_the_loss_that_its_training_run_stored():
    weights, pieces = weights_of(DEMO), chorales().test
    nats = sum(loss_and_gates(weights, piece)[0] for piece in pieces)
    stored = read(DEMO).metadata["metrics"]["test_nll"]
    assert nats / sum(len(piece) - 1 for piece in pieces) == pytest.approx(stored, rel=ROUNDING)


def test_gates_and_lesions_of_the_full_size_network_on_two_chorales(own_folder, command):
    names = "3 4"
    pieces = [chorales().test[int(name)] for name in names.split()]
    weights = weights_of(FULL_SIZE)
    whole, gates = zip(*(loss_and_gates(weights, piece) for piece in pieces), strict=True)
    frames = [len(piece) - 1 for piece in pieces]

    done = command(f"rhn-analyze gates {FULL_SIZE} --chorale {names} --csv gates.csv")
    assert done.code == 0, done.err
    found = table(own_folder / "gates.csv")
    means = np.concatenate(gates, 1).mean(1)
    assert [float(found[str(k + 1)]["mean"]) for k in range(6)] == pytest.approx(
        means, rel=ROUNDING
    )

    done = command(f"rhn-analyze lesion {FULL_SIZE} --chorale {names} --csv lesion.csv")
    assert done.code == 0, done.err
    found = table(own_folder / "lesion.csv")
    assert float(found["none"]["loss"]) == pytest.approx(sum(whole) / sum(frames), rel=ROUNDING)
    for layer in range(6):
        shut = without(weights, layer)
        more = np.subtract([loss_and_gates(shut, piece)[0] for piece in pieces], whole)
        wanted = [more.sum() / sum(frames), *jackknife(more, frames)]
        row = found[str(layer + 1)]
        values = [float(row[column]) for column in ("damage", "damage from", "damage to")]
        assert values == pytest.approx(wanted, rel=ROUNDING, abs=1e-3)


def test_refinement_of_the_full_size_network_on_two_chorales(own_folder, command):
    pieces = [chorales().train[number] for number in (3, 5)]
    weights = weights_of(FULL_SIZE)
    nats, far = zip(*(losses_and_distances(weights, piece) for piece in pieces), strict=True)
    frames = [len(piece) - 1 for piece in pieces]

    done = command(f"rhn-analyze refine {FULL_SIZE} --chorale train-3 train-5 --csv refine.csv")
    assert done.code == 0, done.err
    found = table(own_folder / "refine.csv")
    for layer, label in enumerate(("before 1", "1", "2", "3", "4", "5", "6")):
        losses = [own[layer] for own in nats]
        wanted = [sum(losses) / sum(frames), *jackknife(losses, frames)]
        row = found[label]
        values = [float(row[column]) for column in ("loss", "loss from", "loss to")]
        assert values == pytest.approx(wanted, rel=ROUNDING)
        distance = sum(own[layer] for own in far) / sum(frames)
        assert float(row["distance to last"]) == pytest.approx(distance, rel=ROUNDING)


@pytest.mark.slow
def test_figures_5b_and_6_of_the_full_size_network(own_folder, command):
    """The table was computed once by `loss_and_gates` on all test and all training chorales."""
    with (RESULTS / "full-size-layers.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["network"] == "trial 11"]
    assert command(f"rhn-analyze gates {FULL_SIZE} --csv gates.csv").code == 0
    assert command(f"rhn-analyze lesion {FULL_SIZE} --split train --csv lesion.csv").code == 0
    gates, lesions = table(own_folder / "gates.csv"), table(own_folder / "lesion.csv")
    assert len(rows) == 6
    for row in rows:
        found = gates[row["layer"]] | lesions[row["layer"]]
        for column in ("mean", "damage", "damage from", "damage to"):
            assert float(found[column]) == pytest.approx(float(row[column]), rel=ROUNDING), column
