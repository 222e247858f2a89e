"""Figure 3: an RHN within one time step. The input x reaches the first layer only; the state passes
L highway layers, s_l = h t + s_{l-1} c.

    python -m paper.schematic

Writes docs/pictures/rhn-layers.svg, which stands on docs/concepts.md. Places within a layer are
distances from its left edge, and heights above the line of the state.
"""

from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import FancyBboxPatch

from rhn.utils.composer import composed
from rhn.utils.figures import BLUE, GREEN, GREY, ORANGE, RED, save_figure

PICTURE = Path(__file__).resolve().parents[1] / "docs/pictures/rhn-layers.svg"
Point = tuple[float, float]
WIDTH, BOTTOM, TOP = 3.9, -0.5, 3.2  # of a layer
BOX, BOX_HEIGHT = 0.5, 1.6  # size of a box and the height of its centre
UNITS = {"h": (0.6, ORANGE), "t": (1.4, RED), "c": (2.2, GREEN)}
"""The candidate and the gates, with their places and colours."""
NEW, OLD, SUM = (1.0, 2.6), (2.9, 0.0), (3.4, 0.0)
"""The places of h t, of s c, and of their sum."""
INPUT, BESIDE = -1.3, 0.12  # height of x; distance of its arrows from those of the state


class Layer(NamedTuple):
    """A highway layer of the picture."""

    left: float
    name: str
    after: str
    """The state that it returns."""


LAYERS = (Layer(0.0, "layer 1", "$s_1$"), Layer(5.0, "layer 2", "$s_2$"),
          Layer(11.2, "layer L", "$s_L = y[t]$"))  # fmt: skip
FIRST_STATE, INPUT_NAME = "$s_0 = y[t-1]$", "$x[t]$"


def arrow(ax: Axes, start: Point, end: Point, color: str = "black") -> None:
    """Draw an arrow."""
    how = {"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=how)


def operation(ax: Axes, place: Point, sign: str) -> None:
    """Draw a product or a sum of vectors, entry by entry, as a sign in a circle."""
    ax.text(*place, sign, ha="center", va="center",
            bbox={"boxstyle": "circle,pad=0.1", "facecolor": "white"})  # fmt: skip


def draw_layer(ax: Axes, layer: Layer) -> None:
    """Draw a layer: its state along a line, and above it h, t and c, which read the state."""
    left, half = layer.left, BOX / 2
    frame: Any = {"boxstyle": "round,pad=0.05", "facecolor": "none", "edgecolor": GREY}
    ax.add_patch(FancyBboxPatch((left, BOTTOM), WIDTH, TOP - BOTTOM, **frame))
    ax.text(left + WIDTH / 2, TOP + 0.2, layer.name, ha="center")
    for name, (place, color) in UNITS.items():
        x = left + place
        arrow(ax, (x, 0), (x, BOX_HEIGHT - half))
        box: Any = {"boxstyle": "square,pad=0", "facecolor": f"{color}40", "edgecolor": color}
        ax.add_patch(FancyBboxPatch((x - half, BOX_HEIGHT - half), BOX, BOX, **box))
        ax.text(x, BOX_HEIGHT, name, ha="center", va="center")
    new, old, total = ((left + x, y) for x, y in (NEW, OLD, SUM))
    for name in ("h", "t"):
        place, color = UNITS[name]
        arrow(ax, (left + place, BOX_HEIGHT + half), new, color)
    c, color = UNITS["c"]
    ax.plot([left + c + half, old[0]], [BOX_HEIGHT] * 2, color=color)
    arrow(ax, (old[0], BOX_HEIGHT), old, color)
    ax.plot([new[0], total[0]], [new[1]] * 2, color="black")
    arrow(ax, (total[0], new[1]), total)
    operation(ax, new, "×")
    operation(ax, old, "×")
    operation(ax, total, "+")


def draw_states(ax: Axes) -> None:
    """Draw the line of the state through all layers, and the names of states."""
    start, end = LAYERS[0].left - 1.8, LAYERS[-1].left + WIDTH + 1.6
    ax.plot([start, end], [0, 0], color="black", zorder=0)
    ax.text(start, 0.25, FIRST_STATE)
    for layer in LAYERS:
        ax.text(layer.left + WIDTH + 0.25, 0.25, layer.after)
    arrow(ax, (end - 0.1, 0), (end, 0))
    *_, before_last, last = LAYERS
    middle = (before_last.left + WIDTH + last.left) / 2
    ax.text(middle, 0, "...", ha="center", va="center", backgroundcolor="white")


def draw_input(ax: Axes) -> None:
    """Draw the input, which the first layer reads."""
    left = LAYERS[0].left
    places = [left + place + BESIDE for place, _ in UNITS.values()]
    ax.plot([places[0], places[-1]], [INPUT, INPUT], color=BLUE)
    for place in places:
        arrow(ax, (place, INPUT), (place, BOX_HEIGHT - BOX / 2), BLUE)
    ax.text(places[0] - 0.2, INPUT, INPUT_NAME, ha="right", va="center", color=BLUE)


def draw_network(part: SubFigure) -> float:
    """Draw a network of L layers within one time step. Returns the height in inches."""
    ax = part.add_subplot()
    for layer in LAYERS:
        draw_layer(ax, layer)
    draw_states(ax)
    draw_input(ax)
    ax.set(aspect="equal", xlim=(-2, 17), ylim=(INPUT - 0.3, TOP + 0.7))
    ax.set_axis_off()
    return 3.2


def draw() -> Figure:
    """Draw the picture."""
    title = "A recurrent highway network within one time step"
    return composed(draw_network, title, 9, call="paper.schematic.draw()")


def main() -> None:
    """Draw the picture."""
    save_figure(PICTURE, draw)
    print(f"figure: {PICTURE}")


if __name__ == "__main__":
    main()
