"""The polyphonic model on chorales: how it is trained, evaluated, and let compose.

from rhn.chorales.build import build_model
from rhn.chorales.loop import Training

training = Training({0: build_model(config)}, {0: config.learning_rate}, corpus, config)
while training.live():
    training.run_epoch()
model = training.best_model(0)
"""
