"""What was measured of a network's plateau: numbers alone, to be told, kept or drawn without torch."""

from dataclasses import dataclass

from gersgorin.saddle.rates import nearest_integer


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """The plateau of one network on its sequences and loss."""

    loss: float
    """Nats a frame of the best constant output on these sequences: what the plateau lies at."""
    rates: dict[str, float]
    """||dL/dM|| / ||M|| of every matrix M at the constant output, by name, the layers of a stack apart."""
    slopes: dict[str, float]
    """d log rate / d log scale of all weights, by matrix; NaN where a rate is below all numbers."""

    @property
    def fastest(self) -> str:
        """The matrix of the highest rate."""
        return max(self.rates, key=lambda name: self.rates[name])

    @property
    def order(self) -> float:
        """The slope of the fastest matrix: 0 on a plateau that is left exponentially, P - 2 beside a product of P small matrices."""
        return self.slopes[self.fastest]

    @property
    def integer_order(self) -> int | None:
        """The integer within 0.05 of the order; None where there is none."""
        return nearest_integer(self.order)
