"""Whole networks: a stack of recurrent cells with the layers before and after it."""

from typing import TYPE_CHECKING

from rhn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from rhn.models.language import LanguageModel as LanguageModel
    from rhn.models.networks import PolyphonicModel as PolyphonicModel

__all__, _load, __dir__ = lazy_names(
    __name__, {"language": ("LanguageModel",), "networks": ("PolyphonicModel",)}
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load
