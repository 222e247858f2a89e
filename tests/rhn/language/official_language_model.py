"""The official TensorFlow language model as plain equations in loops, differentiated by autograd: cost, clipping and SGD.

Written from the semantics of the paper's TensorFlow code (variational recurrent highway network, arXiv 1607.03474):

    x[b, t] = embedding[tokens[b, t]] * noise_x[b, t]
    h = tanh([x * noise_i, s * noise_h] Matrix_h + Bias_h), t = sigmoid(likewise), s' = (h - s) * t + s;   x at depth 0 only
    logits = y * noise_o softmax_w + softmax_b, softmax_w = embedding^T where tied
    cost = sum over b, t of cross-entropy / B + weight_decay * sum over variables of v^2 / 2
    gradient * clip / max(norm, clip), norm over all variables; v -= learning_rate * gradient

It takes and gives our names and shapes of parameters; inside, the variables are the official ones, one matrix a gate and depth,
(inputs, units), applied from the right.

Shapes: B batch, T steps, V vocabulary, E embedding, n units, L depth, m inputs of a layer (E, above the first n).
"""

from typing import NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
GATES = ("h", "t")  # the order of the blocks in our stacked weights


class Window(NamedTuple):
    """What one step reads; a list has an entry for each stacked layer."""

    tokens: Tensor  # (B, T)
    targets: Tensor  # (B, T)
    states: list[Tensor]  # (B, n), before the first step
    noise_x: Tensor  # (B, T, 1), equal for all occurrences of a word in a row
    noise_i: list[Tensor]  # (B, m)
    noise_h: list[Tensor]  # (B, n)
    noise_o: Tensor  # (B, 1, n)


class StepResult(NamedTuple):
    loss: Tensor  # nats: summed over the steps, averaged over the batch, without weight decay
    norm: Tensor  # of the cost's gradient by all parameters, before clipping
    gradients: Tensors  # clipped
    parameters: Tensors  # after the step
    states: list[Tensor]  # (B, n), after the last time step


def training_step(
    parameters: Tensors, window: Window, *, weight_decay: float, gradient_norm: float, learning_rate: float
) -> StepResult:
    """One step of SGD on one window."""
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    variables = official(leaves)
    loss, states = forward(variables, window)
    cost = loss + weight_decay * sum((v * v).sum() for v in variables.values()) / 2
    gradients = dict(zip(leaves, torch.autograd.grad(cost, leaves.values()), strict=True))
    norm = sum((g * g).sum() for g in gradients.values()).sqrt()
    clipped = {name: g * gradient_norm / max(norm, gradient_norm) for name, g in gradients.items()}
    updated = {name: p - learning_rate * clipped[name] for name, p in parameters.items()}
    return StepResult(loss.detach(), norm, clipped, updated, [s.detach() for s in states])


def learning_rate(start: float, decay: float, max_epoch: int, epoch: int) -> float:
    """Of an epoch, counted from 0: constant for max_epoch epochs, then divided by decay once more each epoch."""
    return start / decay ** max(epoch - max_epoch + 1, 0)


def forward(variables: Tensors, window: Window) -> tuple[Tensor, list[Tensor]]:
    """The loss without weight decay, and the last states."""
    inputs, states = variables["embedding"][window.tokens] * window.noise_x, []
    for k, state in enumerate(window.states):
        inputs = layer(variables, k, inputs, state, window.noise_i[k], window.noise_h[k])
        states.append(inputs[:, -1])
    softmax_w = variables.get("softmax_w", variables["embedding"].T)
    log_p = torch.log_softmax(inputs * window.noise_o @ softmax_w + variables["softmax_b"], -1)
    return -log_p.gather(-1, window.targets[..., None]).sum() / len(window.tokens), states


def layer(variables: Tensors, k: int, inputs: Tensor, state: Tensor, noise_i: Tensor, noise_h: Tensor) -> Tensor:
    """inputs (B, T, m) -> outputs (B, T, n)."""
    outputs = []
    for x in inputs.unbind(1):
        for i in range(sum(name.startswith(f"RHN{k}/h_") and name.endswith("Matrix") for name in variables)):
            read = torch.cat([x * noise_i, state * noise_h] if i == 0 else [state * noise_h], 1)
            h, t = (
                read @ variables[f"RHN{k}/{gate}_{i}/Matrix"] + variables[f"RHN{k}/{gate}_{i}/Bias"] for gate in GATES
            )
            state = (torch.tanh(h) - state) * torch.sigmoid(t) + state
        outputs.append(state)
    return torch.stack(outputs, 1)


def official(parameters: Tensors) -> Tensors:
    """Our parameters as the official variables: Matrix = [W; R] transposed at depth 0, R transposed below."""
    variables = {"embedding": parameters["embedding"], "softmax_b": parameters["output_bias"]}
    if "output_weight" in parameters:
        variables["softmax_w"] = parameters["output_weight"].T
    for k in range(sum(name.endswith(".weight_hh") for name in parameters)):
        W, R, bias = (parameters[f"cells.{k}.{name}"] for name in ("weight_ih", "weight_hh", "bias"))
        for gate, rows in zip(GATES, torch.arange(len(W)).chunk(2), strict=True):
            for i in range(len(R)):
                matrices = [W[rows], R[i, rows]] if i == 0 else [R[i, rows]]
                variables[f"RHN{k}/{gate}_{i}/Matrix"] = torch.cat(matrices, 1).T
                variables[f"RHN{k}/{gate}_{i}/Bias"] = bias[i, rows]
    return variables
