"""Figure 1: the longest path of credit between hidden states T steps apart has L + T - 1 layers in
L stacked recurrent layers, and L T with recurrence depth L.

    python -m paper.paths

A path of credit is a path of the graph that autograd builds while a network runs, from the last
hidden state back to the first. Its length is the number of its nonlinear layers (tanh). The longest
path is found by dynamic programming over the nodes of this graph. The picture on docs/concepts.md
has the hidden states of small networks as nodes, and the longest path between two of them.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor, nn

from paper.values import Value, print_rows
from rhn.cells import DTRNN, RHN, Cell
from rhn.utils.composer import composed, pair
from rhn.utils.figures import BLUE, GREY, ORANGE, save_figure

UNITS, LAYERS, STEPS = 3, 5, 10
DRAWN_LAYERS, DRAWN_STEPS = 3, 4
NONLINEAR = "TanhBackward0"
PICTURE = Path(__file__).resolve().parents[1] / "docs/pictures/concepts-paths.png"
Ends = tuple[Tensor, Tensor]
"""The first hidden state, a leaf of the graph, and the last one."""
Node = tuple[float, int]
"""A hidden state in the picture: its time, and the row of its layer from below."""


def stacked(layers: int, steps: int) -> Ends:
    """Run recurrent layers of torch one above the other. The first state is that of the lowest
    layer, the last one that of the highest layer so many steps later.
    """
    cells = [nn.RNNCell(UNITS, UNITS) for _ in range(layers)]
    states = [torch.zeros(1, UNITS, requires_grad=layer == 0) for layer in range(layers)]
    first = states[0]
    for _ in range(steps):
        x = torch.zeros(1, UNITS)
        for layer, cell in enumerate(cells):
            x = states[layer] = cell(x, states[layer])
    return first, states[-1]


def deep(cell: Cell, steps: int) -> Ends:
    """Run the equation of a cell with several layers in a step."""
    first = torch.zeros(1, UNITS, requires_grad=True)
    state = first
    for _ in range(steps):
        state = cell.step(torch.zeros(1, UNITS), state)
    return first, state


NETWORKS: dict[str, Callable[[int, int], Ends]] = {
    "stacked": stacked,
    "deep": lambda layers, steps: deep(DTRNN(UNITS, UNITS, layers), steps),
    "rhn": lambda layers, steps: deep(RHN(UNITS, UNITS, layers), steps),
}
"""Functions that run a network of so many layers for so many steps."""


def longest_path(first: Tensor, last: Tensor) -> int:
    """Return the largest number of nonlinear layers on a path from a leaf to a result."""
    lengths: dict[Any, float] = {}

    def length(node: Any) -> float:
        """Return the length of the longest path from the leaf to a node; -inf without a path."""
        if node is None:
            return -float("inf")
        if node not in lengths:
            before = max((length(parent) for parent, _ in node.next_functions), default=-torch.inf)
            own = 1 if node.name() == NONLINEAR else 0
            is_leaf = getattr(node, "variable", None) is first
            lengths[node] = 0 if is_leaf else before + own
        return lengths[node]

    return int(length(last.grad_fn))


def rows() -> dict[str, Value]:
    """Return the longest paths of networks of 5 layers in 10 steps, and how many of the networks of
    1 to 5 layers in 1 to 10 steps have the length of the paper.
    """
    wanted: dict[str, Callable[[int, int], int]] = {
        "stacked": lambda layers, steps: layers + steps - 1,
        "deep": lambda layers, steps: layers * steps,
        "rhn": lambda layers, steps: layers * steps,
    }
    found = dict[str, Value]()
    for name, run in NETWORKS.items():
        sizes = [(L, T) for L in range(1, LAYERS + 1) for T in range(1, STEPS + 1)]
        equal = [longest_path(*run(L, T)) == wanted[name](L, T) for L, T in sizes]
        found[f"path_{name}"] = longest_path(*run(LAYERS, STEPS))
        found[f"path_{name}_as_in_paper"] = sum(equal)
        found[f"path_{name}_networks"] = len(sizes)
    return found


def stacked_edges(layers: int, steps: int) -> list[tuple[Node, Node]]:
    """Return the edges between the hidden states of stacked layers."""
    along = [((t, row), (t + 1, row)) for t in range(steps) for row in range(layers)]
    up = [((t, row), (t, row + 1)) for t in range(steps + 1) for row in range(layers - 1)]
    return [*along, *up]


def deep_edges(layers: int, steps: int) -> list[tuple[Node, Node]]:
    """Return the edges of a recurrence of some layers: a state, its layers, the next state."""
    every = [(t + row / layers, row) for t in range(steps) for row in range(layers)]
    every.append((steps, 0))
    return [*pairwise(every)]


def longest_of(edges: Iterable[tuple[Node, Node]]) -> list[Node]:
    """Return the longest path along the edges, which lead to a later or a higher state."""
    paths: dict[Node, list[Node]] = {}
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        path = [*paths.get(start, [start]), end]
        paths[end] = max(paths.get(end, []), path, key=len)
    return max(paths.values(), key=len)


def draw_graph(ax: Axes, title: str, edges: list[tuple[Node, Node]]) -> None:
    """Draw hidden states, their edges and the longest path."""
    path = longest_of(edges)
    on_path = {*pairwise(path)}
    for start, end in edges:
        color = ORANGE if (start, end) in on_path else GREY
        arrow = {"arrowstyle": "->", "color": color, "shrinkA": 5, "shrinkB": 5}
        ax.annotate("", end, start, arrowprops=arrow)
    nodes = {node for edge in edges for node in edge}
    ax.plot(*zip(*nodes, strict=True), "o", color=BLUE)
    ax.set_title(f"{title}: {len(path) - 1} layers")
    ax.set(xlabel="time step", yticks=[], xticks=range(DRAWN_STEPS + 1))
    ax.spines[["left", "top", "right"]].set_visible(False)
    ax.margins(0.05, 0.15)


def draw_graphs(part: SubFigure) -> float:
    """Draw the longest paths of three layers in four time steps. Returns the height in inches."""
    left, right, _ = pair(part)
    sizes = DRAWN_LAYERS, DRAWN_STEPS
    draw_graph(left, "3 stacked layers", stacked_edges(*sizes))
    draw_graph(right, "recurrence depth 3", deep_edges(*sizes))
    return 2.6


def draw() -> Figure:
    """Draw the picture."""
    return composed(draw_graphs, "The longest path of credit between two hidden states", "page",
                    call="paper.paths.draw()")  # fmt: skip


def main() -> None:
    """Print the rows, and draw the picture."""
    print_rows(rows())
    save_figure(PICTURE, draw, None)
    print(f"figure: {PICTURE}")


if __name__ == "__main__":
    main()
