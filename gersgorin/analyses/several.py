"""`Several`: results of several networks as one result. `SideBySide` derives from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gersgorin.analyses import ANALYSES
from rhn.utils.old import KIND, Result, optional_xarray

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Several(Result):
    """Several results by name, which are saved in one file."""

    results: dict[str, Result]

    def sentences(self) -> Iterator[str]:
        """The sentences of each result."""
        return (words for result in self.results.values() for words in result.sentences())

    def to_xarray(self) -> "xr.DataTree":
        """A tree with a node for each result; see `Result.to_xarray`."""
        nodes: dict[str, Any] = {n: result.to_xarray() for n, result in self.results.items()}
        return optional_xarray().DataTree.from_dict(nodes)

    def _saved(self) -> dict:
        own = {name: value for name, value in super()._saved().items() if name != "results"}
        return own | {
            f"{name}.{field}": value
            for name, result in self.results.items()
            for field, value in ({KIND: result.kind} | result._saved()).items()
        }

    @classmethod
    def _of_file(cls, values: Mapping) -> Self:
        parts: dict[str, dict] = {}
        for key in values:
            # a name may have dots, the field of a result has none
            name, dot, field = key.rpartition(".")
            if dot:
                parts.setdefault(name, {})[field] = values[key]
        for row in ANALYSES.values():
            row.load()  # registers the class of its result
        results = {
            name: Result.classes[str(part[KIND])]._of_file(part) for name, part in parts.items()
        }
        return cls(
            results=results,
            **{
                key: value if np.ndim(value) else str(value)
                for key, value in values.items()
                if "." not in key and key != KIND
            },
        )
