"""Derivatives of a loss of a model in the states of one of its recurrent layers.

    loss_slopes(model, name, xs, runs, loss)    of the layer `name`, along its runs
    pulled_back(outputs, inputs, w)             vector-Jacobian products, the graph is kept

Legend: T time steps; B sequences; m inputs, N entries of a state, P weights of the layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin import checks
from gersgorin.double_precision import copied, module_runs
from gersgorin.model_map import outputs_in
from gersgorin.run import Run
from gersgorin.step import Step
from rhn.utils.torch_private import tree_leaves, tree_map

LossOfOutputs = Callable[[list[Tensor]], Tensor]
"""The outputs of the model for each sequence -> the loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LossSlopes:
    """The derivatives of a loss in the states that it reads, along B runs of one step."""

    step: Step
    weights: list[nn.Parameter]
    x: Tensor
    """(T, B, m), or ids (T, B)."""
    s: Tensor
    """(T + 1, B, N)."""
    before: Tensor
    """Derivatives in s[t] of the output of step t, (T, B, N)."""
    after: Tensor
    """Derivatives in s[t+1] of the state that step t returns, (T, B, N)."""
    direct: Tensor
    """Derivatives in the weights that the output of a step reads itself, (B, P)."""


def pulled_back(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], w: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The vector-Jacobian products w d(outputs)/d(input) for each input, zero for one on which no
    output depends. w: like the outputs; None for one number. The graph is kept.
    """
    if not any(output.requires_grad for output in outputs):
        return [torch.zeros_like(leaf) for leaf in inputs]
    how: Any = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    with checks.users_code("the layer cannot be differentiated"):
        return [*torch.autograd.grad(outputs, inputs, w, **how)]


def flat(slopes: Sequence[Tensor]) -> Tensor:
    """Derivatives in all weights as one vector, (P,)."""
    return torch.cat([slope.flatten() for slope in slopes])


def loss_slopes(
    model: nn.Module, name: str, xs: list[Any], runs: list[Run], loss: LossOfOutputs
) -> LossSlopes:
    """Differentiate a loss of the outputs of a model in what its layer `name` returns.

    xs, runs: what the model reads of each sequence, and the run of the layer along it. Raises
    InvalidInputError for a loss that does not depend on the layer.
    """
    model = copied(model)
    part, step = model.get_submodule(name), runs[0].step
    weights = _step_weights(step, part)
    outputs, calls = list[Tensor](), list[list[_Call]]()
    for x in xs:
        output, found = _read(model, part, x)
        outputs.append(output)
        calls.append(found)
    total = loss(outputs)
    wanted = f"a function of what the layer {step.name} returns"
    checks.require(total.requires_grad, "loss", "no function of it", wanted)
    parts = [
        _of_states(each, replace(run, step=step), weights, total)
        for each, run in zip(calls, runs, strict=True)
    ]
    return LossSlopes(
        step=step,
        weights=weights,
        x=torch.stack([run.inputs for run in runs], 1),
        s=torch.stack([run.states for run in runs], 1),
        before=torch.stack([part.before for part in parts], 1),
        after=torch.stack([part.after for part in parts], 1),
        direct=torch.stack([part.direct for part in parts]),
    )


def _step_weights(step: Step, part: nn.Module) -> list[nn.Parameter]:
    """The weights of the step of a layer, which then have gradients: without biases that the layer
    does not have, and one of two biases that are only added.
    """
    owner = step.cell if step.module is None else step.module
    is_without_bias = isinstance(part, nn.RNNBase | nn.RNNCellBase) and not part.bias
    has_both_biases = isinstance(part, nn.LSTM) and part.proj_size > 0
    found = list[nn.Parameter]()
    for name, weight in owner.requires_grad_(True).named_parameters():
        is_missing = is_without_bias and "bias" in name
        is_second = has_both_biases and "bias_hh" in name
        if not (is_missing or is_second):
            found.append(weight)
    checks.require(len(found) > 0, f"number of weights of {step.name}", 0, "at least 1")
    return found


@dataclass
class _Call:
    """One call of a layer: the numbers that it reads, and the leaves that it returns."""

    size: int
    returned: list[Tensor]


@dataclass
class _StateSlopes:
    """`LossSlopes` of one sequence."""

    before: Tensor
    after: Tensor
    direct: Tensor


def _read(model: nn.Module, part: nn.Module, x: Any) -> tuple[Tensor, list[_Call]]:
    """The output of a model for x, as a function of what each call of its layer returns."""
    found = list[_Call]()

    def leaf(value: Any) -> Any:
        is_number = isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
        return value.detach().clone().requires_grad_() if is_number else value

    def after(_: nn.Module, args: tuple, kwargs: dict, returned: Any) -> Any:
        read = tree_leaves(args[0] if args else next(iter(kwargs.values())))[0]
        returned = tree_map(leaf, returned)
        leaves = [t for t in tree_leaves(returned) if isinstance(t, Tensor) and t.requires_grad]
        found.append(_Call(read.numel(), leaves))
        return returned

    hook = part.register_forward_hook(after, with_kwargs=True)
    said = f"{type(model).__name__} cannot read x"
    with hook, checks.users_code(said), module_runs():
        returned = model(x)
    return outputs_in(returned)[0], found


def _of_states(
    calls: list[_Call], run: Run, weights: list[nn.Parameter], loss: Tensor
) -> _StateSlopes:
    """The derivatives of a loss in the states of one run, through what each call returns."""
    step, states = run.step, run.states[:-1].clone().requires_grad_()
    after = torch.zeros_like(states, requires_grad=False)
    of_outputs, t = loss.new_zeros(()), 0
    inputs_of_step = run.inputs[0].numel()
    for call in calls:
        steps = call.size // inputs_of_step
        slopes = pulled_back([loss], call.returned)
        last = torch.zeros_like(run.states[0], requires_grad=True)  # its parts are linear in it
        state = tree_leaves(step.unpack(last)) if step.unpack else [last]
        has_output = len(slopes) > len(state)
        of_state = [g.reshape_as(p) for g, p in zip(slopes[-len(state) :], state, strict=True)]
        (after[t + steps - 1],) = pulled_back(state, [last], of_state)
        if has_output:
            rows = slopes[0].reshape(steps, -1)
            for k, slope in enumerate(rows, t):
                o = step.output(run.inputs[k : k + 1], states[k : k + 1])[0]
                of_outputs = of_outputs + (o * slope).sum()
        t += steps
    before, *of_weights = pulled_back([of_outputs], [states, *weights])
    return _StateSlopes(before, after, flat(of_weights))
