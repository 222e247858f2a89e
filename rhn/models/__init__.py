"""Whole networks: what stands before and after a stack of recurrent cells."""

from rhn.models.building import MAX_LAYERS, from_file
from rhn.models.language import LanguageModel
from rhn.models.polyphonic import PolyphonicModel, with_cell

__all__ = ["MAX_LAYERS", "LanguageModel", "PolyphonicModel", "from_file", "with_cell"]
