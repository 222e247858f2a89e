"""Predict before training whether a network will learn: gains, escape, calibration, verdict."""
