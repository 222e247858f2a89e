"""Whole networks: a stack of recurrent cells with the layers before and after it."""

from rhn.utils.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__, {"language": ("LanguageModel",), "networks": ("PolyphonicModel",)}
)
