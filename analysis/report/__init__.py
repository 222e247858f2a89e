"""Reports: one HTML page about a network, a training or a study, from results and their figures."""
