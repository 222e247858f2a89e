"""Training, evaluation and sampling of models, on chorales and on texts."""
