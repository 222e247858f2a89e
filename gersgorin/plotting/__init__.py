"""Drawings that several analyses share."""
