"""Lyapunov spectra: the growth rates of small changes along a run, leading ones first, and what follows from them."""
