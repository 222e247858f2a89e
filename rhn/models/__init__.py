"""Whole networks: the layers before and after a stack of recurrent cells."""

from rhn.models.networks import MAX_LAYERS, LanguageModel, PolyphonicModel, with_cell

__all__ = ["MAX_LAYERS", "LanguageModel", "PolyphonicModel", "with_cell"]
