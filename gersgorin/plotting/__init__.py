"""Drawings that several analyses share, and animations."""
