"""`gersgorin-report`: one page about a network, its training or a study, that a browser shows without any network."""
