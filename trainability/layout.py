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


class Place(StrEnum):
    """Where a tensor has its examples."""

    FIRST = "(B, ...), or rows (B T, ...)"
    SECOND = "(T, B, ...)"
    ROWS = "rows (T B, ...), a time step after the other"

    @property
    def axis(self) -> int:
        """The axis of the examples, alone or with the time steps."""
        return 1 if self is Place.SECOND else 0


@dataclass(frozen=True)
class Layout:
    """The places of the examples in the tensors of the user's model and loss."""

    inputs: tuple[Place, ...]
    """Of each tensor of x."""
    targets: Place
    steps: int
    """The time steps of the first input; 1 without a time axis."""
    outputs: Place = Place.FIRST
    """Of the main output of the model."""
    predicted: Place = Place.FIRST
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

    def _inputs(self, x: Any, turn: Callable[[Tensor, Place], Tensor]) -> Any:
        leaves, spec = tree_flatten(x)
        turned = [turn(leaf, place) for leaf, place in zip(leaves, self.inputs, strict=True)]
        return tree_unflatten(turned, spec)

    def _first(self, t: Tensor, place: Place) -> Tensor:
        if place is Place.SECOND:
            return t.movedim(1, 0).contiguous()
        if place is Place.ROWS:
            return t.unflatten(0, (self.steps, -1)).transpose(0, 1).flatten(0, 1)
        return t

    def _users(self, t: Tensor, place: Place) -> Tensor:
        if place is Place.SECOND:
            return t.movedim(0, 1).contiguous()
        if place is Place.ROWS:
            return t.unflatten(0, (-1, self.steps)).transpose(0, 1).flatten(0, 1)
        return t


def layout_of(x: Any, y: Tensor, axis: int) -> Layout:
    """Return the places of examples in x and y. axis: that of the examples in the first tensor."""
    leaves = tree_leaves(x)
    first = leaves[0]
    steps = first.shape[1 - axis] if first.dim() > 1 else 1
    inputs = tuple(place_by_shape(leaf, first, axis) for leaf in leaves)
    return Layout(inputs, place_by_shape(y, first, axis), steps)


def place_by_shape(t: Tensor, first: Tensor, axis: int) -> Place:
    """Return the place of examples in a tensor. first: the first tensor of x."""
    count = first.shape[axis]
    if axis == 0 or t.dim() < 2 or t.shape[1] != count:
        return Place.FIRST
    if t.shape[:2] == first.shape[:2]:  # also if there are as many time steps as examples
        return Place.SECOND
    return Place.FIRST if t.shape[0] == count else Place.SECOND


def with_outputs(
    layout: Layout,
    x: Any,
    made: tuple[Tensor, Tensor],
    with_fewer: tuple[Tensor, Tensor] | None,
) -> Layout:
    """Return the layout with the places of outputs.

    x: inputs of a minibatch, with examples along axis 0. made: the main output of the user's model
    for x, and what is compared with y. with_fewer: both without the last example; None if the model
    needs as many examples.
    """
    if layout.inputs[0] is Place.FIRST:
        return layout
    first = tree_leaves(layout.to_model(x))[0]
    places = []
    for k, t in enumerate(made):
        if with_fewer is None:
            place = place_by_shape(t, first, 1)
        else:
            place = place_by_lengths(t, with_fewer[k])
        is_of_all_steps = layout.steps > 1 and len(t) == first.shape[:2].numel()
        if is_of_all_steps and place is Place.FIRST and layout.targets is Place.SECOND:
            place = Place.ROWS
        places.append(place)
    outputs, predicted = places
    return replace(layout, outputs=outputs, predicted=predicted)


def place_by_lengths(t: Tensor, with_fewer: Tensor) -> Place:
    """Return the place of examples in an output. with_fewer: the output for fewer examples."""
    is_second = t.dim() > 1 and len(t) == len(with_fewer) and t.shape[1] != with_fewer.shape[1]
    return Place.SECOND if is_second else Place.FIRST
