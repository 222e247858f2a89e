"""Whole networks: a stack of recurrent cells with the layers before and after it."""

from rhn.models.networks import LanguageModel, PolyphonicModel

__all__ = ["LanguageModel", "PolyphonicModel"]
