"""A module of 0.7.0, whose names have moved (`rhn.utils.old_names`)."""

from rhn.utils.old_names import moved

__getattr__ = moved(__name__)
