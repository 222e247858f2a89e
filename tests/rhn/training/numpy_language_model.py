"""The official TensorFlow language model in NumPy: cost, hand-written backward through time,
clipping and SGD; no autograd.

Written from the semantics of the paper's TensorFlow code (variational recurrent highway network,
arXiv 1607.03474):

    x[b, t] = embedding[tokens[b, t]] * noise_x[b, t]
    h = tanh([x * noise_i, s * noise_h] Matrix_h + Bias_h), x at depth 0 only
    t = sigmoid(likewise), s' = (h - s) * t + s
    logits = y * noise_o softmax_w + softmax_b, softmax_w = embedding^T where tied
    cost = sum over b, t of cross-entropy / B + weight_decay * sum over variables of v^2 / 2
    gradient * clip / max(norm, clip), norm over all variables; v -= learning_rate * gradient

Everything public takes and gives our names and shapes of parameters; inside, the variables are the
official ones, one matrix a gate and depth, (inputs, units), applied from the right.

Shapes: B batch, T steps, V vocabulary, E embedding, n units, L depth, m inputs of a layer (E, above
the first n).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
GATES = ("h", "t")  # the order of the blocks in our stacked weights


class Window(NamedTuple):
    """What one step reads; a list has an entry for each stacked layer."""

    tokens: np.ndarray  # (B, T)
    targets: np.ndarray  # (B, T)
    states: list[np.ndarray]  # (B, n), before the first step
    noise_x: np.ndarray  # (B, T, 1), equal for all occurrences of a word in a row
    noise_i: list[np.ndarray]  # (B, m)
    noise_h: list[np.ndarray]  # (B, n)
    noise_o: np.ndarray  # (B, 1, n)


class StepResult(NamedTuple):
    loss: float  # nats: summed over the steps, averaged over the batch, without weight decay
    norm: float  # of the cost's gradient by all parameters, before clipping
    gradients: Arrays  # clipped
    parameters: Arrays  # after the step
    states: list[np.ndarray]  # (B, n), after the last time step


def training_step(
    parameters: Arrays,
    window: Window,
    *,
    weight_decay: float,
    gradient_norm: float,
    learning_rate: float,
) -> StepResult:
    """One step of SGD on one window."""
    variables = official(parameters)
    loss, states, _ = forward(variables, window)
    gradients = ours(backward(variables, window, weight_decay))
    norm = float(np.sqrt(sum((g * g).sum() for g in gradients.values())))
    clipped = {name: g * gradient_norm / max(norm, gradient_norm) for name, g in gradients.items()}
    updated = {name: p - learning_rate * clipped[name] for name, p in parameters.items()}
    return StepResult(loss, norm, clipped, updated, states)


def cost(parameters: Arrays, window: Window, weight_decay: float):
    """The official cost; complex parameters give a complex one (analytic, for the complex-step
    derivative).
    """
    variables = official(parameters)
    decay = sum((v * v).sum() for v in variables.values()) / 2
    return forward(variables, window)[0] + weight_decay * decay


def learning_rate(start: float, decay: float, max_epoch: int, epoch: int) -> float:
    """Of an epoch, counted from 0: constant for max_epoch epochs, then divided by decay once more
    each epoch.
    """
    return start / decay ** max(epoch - max_epoch + 1, 0)


def forward(variables: Arrays, window: Window):
    """loss, last states, and what the backward reads: each layer's tape and the last layer's
    outputs (B, T, n), masked.
    """
    inputs = variables["embedding"][window.tokens] * window.noise_x
    states, tapes = [], []
    for k, state in enumerate(window.states):
        inputs, tape = forward_layer(
            variables, k, inputs, state, window.noise_i[k], window.noise_h[k]
        )
        states.append(inputs[:, -1])
        tapes.append(tape)
    output = inputs * window.noise_o
    likelihood = np.take_along_axis(
        log_probabilities(variables, output), window.targets[..., None], axis=-1
    )
    return -likelihood.sum() / len(window.tokens), states, (tapes, output)


def forward_layer(variables: Arrays, k: int, inputs, state, noise_i, noise_h):
    """inputs (B, T, m) -> outputs (B, T, n) and the tape: for each step and depth the state, [x, s]
    masked, h and t.
    """
    outputs, tape, depth = [], [], depth_of(variables, k)
    for step in range(inputs.shape[1]):
        for i in range(depth):
            read = state * noise_h
            if i == 0:
                read = np.concatenate([inputs[:, step] * noise_i, read], axis=1)
            z_h, z_t = (
                read @ variables[f"RHN{k}/{gate}_{i}/Matrix"] + variables[f"RHN{k}/{gate}_{i}/Bias"]
                for gate in GATES
            )
            h, t = np.tanh(z_h), 1 / (1 + np.exp(-z_t))
            tape.append((state, read, h, t))
            state = (h - state) * t + state
        outputs.append(state)
    return np.stack(outputs, axis=1), tape


def backward(variables: Arrays, window: Window, weight_decay: float) -> Arrays:
    """The gradient of the cost by the official variables; the state before the window counts as a
    constant.
    """
    _, _, (tapes, output) = forward(variables, window)
    gradients = {name: weight_decay * v for name, v in variables.items()}

    d_logits = np.exp(log_probabilities(variables, output))
    d_logits -= window.targets[..., None] == np.arange(d_logits.shape[-1])
    d_logits /= len(window.tokens)
    gradients["softmax_b"] += d_logits.sum(axis=(0, 1))
    d_softmax_w = np.einsum("btn,btv->nv", output, d_logits)
    if "softmax_w" in variables:
        gradients["softmax_w"] += d_softmax_w
    else:
        gradients["embedding"] += d_softmax_w.T

    d_inputs = d_logits @ softmax_w(variables).T * window.noise_o
    for k in reversed(range(len(tapes))):
        d_inputs = backward_layer(
            variables, gradients, k, d_inputs, tapes[k], window.noise_i[k], window.noise_h[k]
        )
    np.add.at(gradients["embedding"], window.tokens, d_inputs * window.noise_x)
    return gradients


def backward_layer(variables: Arrays, gradients: Arrays, k: int, d_outputs, tape, noise_i, noise_h):
    """d_outputs (B, T, n) -> d_inputs (B, T, m); the layer's own gradients are added to
    `gradients`.
    """
    depth, n = depth_of(variables, k), d_outputs.shape[-1]
    d_state, d_inputs = np.zeros_like(d_outputs[:, 0]), []
    for step in reversed(range(d_outputs.shape[1])):
        d_state = d_state + d_outputs[:, step]
        for i in reversed(range(depth)):
            state, read, h, t = tape[step * depth + i]
            d_z = {"h": d_state * t * (1 - h * h), "t": d_state * (h - state) * t * (1 - t)}
            d_read = np.zeros_like(read)
            for gate in GATES:
                gradients[f"RHN{k}/{gate}_{i}/Matrix"] += read.T @ d_z[gate]
                gradients[f"RHN{k}/{gate}_{i}/Bias"] += d_z[gate].sum(axis=0)
                d_read += d_z[gate] @ variables[f"RHN{k}/{gate}_{i}/Matrix"].T
            d_state = d_state * (1 - t) + d_read[:, -n:] * noise_h
        d_inputs.append(d_read[:, :-n] * noise_i)
    return np.stack(d_inputs[::-1], axis=1)


def official(parameters: Mapping[str, np.ndarray]) -> Arrays:
    """Our parameters as the official variables: Matrix = [W; R] transposed at depth 0, R transposed
    below.
    """
    variables = {"embedding": parameters["embedding"], "softmax_b": parameters["output_bias"]}
    if "output_weight" in parameters:
        variables["softmax_w"] = parameters["output_weight"].T
    for k in range(sum(name.endswith(".weight_hh") for name in parameters)):
        W, R, bias = (
            parameters[f"cells.{k}.{name}"] for name in ("weight_ih", "weight_hh", "bias")
        )
        n = R.shape[-1]
        for block, gate in enumerate(GATES):
            rows = slice(block * n, (block + 1) * n)
            for i in range(len(R)):
                matrices = [W[rows], R[i, rows]] if i == 0 else [R[i, rows]]
                variables[f"RHN{k}/{gate}_{i}/Matrix"] = np.concatenate(matrices, axis=1).T
                variables[f"RHN{k}/{gate}_{i}/Bias"] = bias[i, rows]
    return variables


def ours(variables: Arrays) -> Arrays:
    """The inverse of `official`."""
    parameters = {"embedding": variables["embedding"], "output_bias": variables["softmax_b"]}
    if "softmax_w" in variables:
        parameters["output_weight"] = variables["softmax_w"].T
    k = 0
    while depth := depth_of(variables, k):
        matrices, biases = (
            [
                np.concatenate([variables[f"RHN{k}/{gate}_{i}/{what}"].T for gate in GATES])
                for i in range(depth)
            ]
            for what in ("Matrix", "Bias")
        )
        n = len(matrices[0]) // len(GATES)
        parameters[f"cells.{k}.weight_ih"] = matrices[0][:, :-n]
        parameters[f"cells.{k}.weight_hh"] = np.stack([matrix[:, -n:] for matrix in matrices])
        parameters[f"cells.{k}.bias"] = np.stack(biases)
        k += 1
    return parameters


def depth_of(variables: Arrays, k: int) -> int:
    return sum(name.startswith(f"RHN{k}/h_") and name.endswith("Matrix") for name in variables)


def softmax_w(variables: Arrays) -> np.ndarray:
    """(n, V)"""
    return variables["softmax_w"] if "softmax_w" in variables else variables["embedding"].T


def log_probabilities(variables: Arrays, output: np.ndarray) -> np.ndarray:
    """output (B, T, n) -> (B, T, V)"""
    logits = output @ softmax_w(variables) + variables["softmax_b"]
    logits = logits - logits.real.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
