"""The polyphonic model on chorales: how it is trained, evaluated, and let compose.

from rhn.chorales.loop import Plan, Training

training = Training({0: model}, {0: 0.1}, corpus, Plan(arch="rhn", depth=1))
while training.live():
    training.run_epoch()
model = training.best_model(0)
"""
