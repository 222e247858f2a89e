"""The base class of results that list items, such as exponents or points, and single numbers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gersgorin.analyses.step_result import StepResult
from rhn.utils.tables import formatted


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ListedResult(StepResult):
    """Numbers of several items: each array of `table()` is a column with a row for each item."""

    item: ClassVar[str] = ""
    """The name of an item, over the column of their numbers."""

    def blocks(self) -> list[list[list[str]]]:
        table = {name: np.asarray(values) for name, values in self.table().items()}
        columns = {name: values.tolist() for name, values in table.items() if values.ndim}
        listed = [
            [str(number), *map(formatted, values)]
            for number, values in enumerate(zip(*columns.values(), strict=True), 1)
        ]
        single = [[name, formatted(values.item())] for name, values in table.items()
                  if not values.ndim]  # fmt: skip
        return [[[self.item, *columns], *listed], single]
