"""Whole networks: a stack of recurrent cells with the layers before and after it."""

from rhn.models.networks import LanguageModel, PolyphonicModel, with_cell

__all__ = ["LanguageModel", "PolyphonicModel", "with_cell"]
