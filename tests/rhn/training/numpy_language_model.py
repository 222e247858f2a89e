"""One training step of the official TensorFlow language model in NumPy: cost, gradient by complex
steps, clipping and SGD; no autograd.

Written from the semantics of the paper's TensorFlow code (variational recurrent highway network,
arXiv 1607.03474):

    x[b, t] = embedding[tokens[b, t]] * noise_x[b, t]
    h = tanh([x * noise_i, s * noise_h] Matrix_h + Bias_h), x at depth 0 only
    t = sigmoid(likewise), s' = (h - s) * t + s
    logits = y * noise_o softmax_w + softmax_b, softmax_w = embedding^T where tied
    cost = sum over b, t of cross-entropy / B + weight_decay * sum over variables of v^2 / 2
    gradient * clip / max(norm, clip), norm over all variables; v -= learning_rate * gradient

The variables are the official ones, one matrix a gate and depth, (inputs, units), applied from the
right; `ours` renames and stacks them.

Shapes: B batch, T steps, V vocabulary, E embedding, n units, L depth, m inputs of a layer (E, above
the first n).
"""

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
    norm: float  # of the cost's gradient by all variables, before clipping
    gradients: Arrays  # clipped
    variables: Arrays  # after the step
    states: list[np.ndarray]  # (B, n), after the last time step


def training_step(
    variables: Arrays,
    window: Window,
    *,
    weight_decay: float,
    gradient_norm: float,
    learning_rate: float,
) -> StepResult:
    """One step of SGD on one window."""
    loss, states = forward(variables, window)
    gradients = gradient(variables, window, weight_decay)
    norm = float(np.sqrt(sum((g * g).sum() for g in gradients.values())))
    clipped = {name: g * gradient_norm / max(norm, gradient_norm) for name, g in gradients.items()}
    updated = {name: v - learning_rate * clipped[name] for name, v in variables.items()}
    return StepResult(loss, norm, clipped, updated, states)


def gradient(variables: Arrays, window: Window, weight_decay: float) -> Arrays:
    """Of the cost by every entry, as the complex step Im cost(v + i e) / e: a finite difference
    without cancellation, exact to rounding. The state before the window counts as a constant.
    """
    gradients = {name: np.empty_like(values) for name, values in variables.items()}
    for name, values in variables.items():
        for index in np.ndindex(values.shape):
            moved = values.astype(complex)
            moved[index] += 1e-30j
            varied = variables | {name: moved}
            decay = sum((v * v).sum() for v in varied.values()) / 2
            cost = forward(varied, window)[0] + weight_decay * decay
            gradients[name][index] = cost.imag / 1e-30
    return gradients


def forward(variables: Arrays, window: Window):
    """The loss and the last states."""
    inputs, states = variables["embedding"][window.tokens] * window.noise_x, []
    for k, state in enumerate(window.states):
        outputs = []
        for step in range(inputs.shape[1]):
            for i in range(depth_of(variables, k)):
                read = state * window.noise_h[k]
                if i == 0:
                    read = np.concatenate([inputs[:, step] * window.noise_i[k], read], axis=1)
                z_h, z_t = (
                    read @ variables[f"RHN{k}/{gate}_{i}/Matrix"]
                    + variables[f"RHN{k}/{gate}_{i}/Bias"]
                    for gate in GATES
                )
                state = (np.tanh(z_h) - state) / (1 + np.exp(-z_t)) + state
            outputs.append(state)
        inputs = np.stack(outputs, axis=1)
        states.append(state)
    softmax_w = variables["softmax_w"] if "softmax_w" in variables else variables["embedding"].T
    logits = (inputs * window.noise_o) @ softmax_w + variables["softmax_b"]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    likelihood = np.take_along_axis(log_p, window.targets[..., None], axis=-1)
    return -likelihood.sum() / len(window.tokens), states


def ours(variables: Arrays) -> Arrays:
    """Our names and shapes: weight_ih and weight_hh[0] are the two parts of the transposed Matrix
    of depth 0, the others of weight_hh are Matrix transposed.
    """
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
