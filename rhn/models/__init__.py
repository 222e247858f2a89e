"""Whole networks: a stack of recurrent cells with the layers before and after it."""

from rhn.models.networks import MAX_LAYERS, LanguageModel, PolyphonicModel, with_cell

__all__ = ["MAX_LAYERS", "LanguageModel", "PolyphonicModel", "with_cell"]
