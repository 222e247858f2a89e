"""Fixed points of a step under constant input, and the spectra at them."""
