"""One training: model, data, loss and optimiser as one object, its minibatches and its losses."""
