"""Where the user's model and loss want the examples; everywhere else they are on axis 0.

    layout = layout_of(x, y, axis=1)                        # of inputs and targets, by their shapes
    layout = with_outputs(layout, x, made, with_fewer)      # and of outputs, by two calls
    model(layout.to_model(x)), loss_fn(output, layout.to_loss(y))
    layout.examples_first(output)

Legend: B examples, T time steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from torch import Tensor

from rhn.utils.torch_private import tree_flatten, tree_leaves, tree_unflatten


class AxisOrder(StrEnum):
    """The order of the first axes of a tensor."""

    EXAMPLES_FIRST = "(B, ...), or rows (B T, ...)"
    STEPS_FIRST = "(T, B, ...)"
    ROWS_BY_STEP = "rows (T B, ...), a time step after the other"

    @property
    def axis(self) -> int:
        """The axis of the examples, alone or with the time steps."""
        return 1 if self is AxisOrder.STEPS_FIRST else 0


@dataclass(frozen=True)
class Layout:
    """The order of axes in the tensors of the user's model and loss."""

    inputs: tuple[AxisOrder, ...]
    """Of each tensor of x."""
    targets: AxisOrder
    steps: int
    """The time steps of the first input; 1 without a time axis."""
    outputs: AxisOrder = AxisOrder.EXAMPLES_FIRST
    """Of the main output of the model."""
    predicted: AxisOrder = AxisOrder.EXAMPLES_FIRST
    """Of what is compared with y: the main output, or what `predict` returns."""

    def inputs_first(self, x: Any) -> Any:
        """Return x of the user with examples along axis 0."""
        return self._inputs(x, self._first)

    def targets_first(self, y: Tensor) -> Tensor:
        """Return y of the user with examples along axis 0."""
        return self._first(y, self.targets)

    def examples_first(self, predicted: Tensor) -> Tensor:
        """Return what is compared with y as (B, ...), or as rows (B T, ...)."""
        return self._first(predicted, self.predicted)

    def outputs_first(self, output: Tensor) -> Tensor:
        """Return the main output of the model as (B, ...), or as rows (B T, ...)."""
        return self._first(output, self.outputs)

    def to_model(self, x: Any) -> Any:
        """Return x as the user's model reads it."""
        return self._inputs(x, self._users)

    def to_loss(self, y: Tensor) -> Tensor:
        """Return y as the user's loss reads it."""
        return self._users(y, self.targets)

    def as_output(self, z: Tensor) -> Tensor:
        """Return outputs (B, ...), or rows (B T, ...), as the user's model returns them."""
        return self._users(z, self.outputs)

    def _inputs(self, x: Any, turn: Callable[[Tensor, AxisOrder], Tensor]) -> Any:
        leaves, spec = tree_flatten(x)
        turned = [turn(leaf, order) for leaf, order in zip(leaves, self.inputs, strict=True)]
        return tree_unflatten(turned, spec)

    def _first(self, t: Tensor, order: AxisOrder) -> Tensor:
        if order is AxisOrder.STEPS_FIRST:
            return t.movedim(1, 0).contiguous()
        if order is AxisOrder.ROWS_BY_STEP:
            return t.unflatten(0, (self.steps, -1)).transpose(0, 1).flatten(0, 1)
        return t

    def _users(self, t: Tensor, order: AxisOrder) -> Tensor:
        if order is AxisOrder.STEPS_FIRST:
            return t.movedim(0, 1).contiguous()
        if order is AxisOrder.ROWS_BY_STEP:
            return t.unflatten(0, (-1, self.steps)).transpose(0, 1).flatten(0, 1)
        return t


def layout_of(x: Any, y: Tensor, axis: int) -> Layout:
    """Return the orders of axes in x and y. axis: that of the examples in the first tensor."""
    leaves = tree_leaves(x)
    first = leaves[0]
    steps = first.shape[1 - axis] if first.dim() > 1 else 1
    inputs = tuple(order_by_shape(leaf, first, axis) for leaf in leaves)
    return Layout(inputs, order_by_shape(y, first, axis), steps)


def order_by_shape(t: Tensor, first: Tensor, axis: int) -> AxisOrder:
    """Return the order of axes in a tensor. first: the first tensor of x."""
    count = first.shape[axis]
    if axis == 0 or t.dim() < 2 or t.shape[1] != count:
        return AxisOrder.EXAMPLES_FIRST
    if t.shape[:2] == first.shape[:2]:  # also if there are as many time steps as examples
        return AxisOrder.STEPS_FIRST
    return AxisOrder.EXAMPLES_FIRST if t.shape[0] == count else AxisOrder.STEPS_FIRST


def with_outputs(
    layout: Layout,
    x: Any,
    made: tuple[Tensor, Tensor],
    with_fewer: tuple[Tensor, Tensor] | None,
) -> Layout:
    """Return the layout with the orders of axes in outputs.

    x: inputs of a minibatch, with examples along axis 0. made: the main output of the user's model
    for x, and what is compared with y. with_fewer: both without the last example; None if the model
    needs as many examples.
    """
    if layout.inputs[0] is AxisOrder.EXAMPLES_FIRST:
        return layout
    first = tree_leaves(layout.to_model(x))[0]
    outputs, predicted = (
        order_by_shape(t, first, 1) if with_fewer is None else order_by_lengths(t, with_fewer[k])
        for k, t in enumerate(made)
    )
    rows = first.shape[:2].numel()
    return replace(
        layout,
        outputs=with_rows(layout, outputs, len(made[0]) == rows),
        predicted=with_rows(layout, predicted, len(made[1]) == rows),
    )


def order_by_lengths(t: Tensor, with_fewer: Tensor) -> AxisOrder:
    """Return the order of axes in an output. with_fewer: the output for fewer examples."""
    is_second = t.dim() > 1 and len(t) == len(with_fewer) and t.shape[1] != with_fewer.shape[1]
    return AxisOrder.STEPS_FIRST if is_second else AxisOrder.EXAMPLES_FIRST


def with_rows(layout: Layout, order: AxisOrder, has_all_rows: bool) -> AxisOrder:
    """Return the order of an output, which may have a row for each step of each example. Such rows
    are in the order of targets (T, B, ...) or (B, T, ...).
    """
    is_second = order is AxisOrder.STEPS_FIRST
    are_by_example = layout.targets is AxisOrder.EXAMPLES_FIRST
    if layout.steps == 1 or not has_all_rows or is_second or are_by_example:
        return order
    return AxisOrder.ROWS_BY_STEP
