"""Training: one loop for a single model and for K of them as one program, resumable to the bit on a CPU.

from rhn.training import Plan, Training

training = Training({0: model}, {0: 0.1}, corpus, Plan(arch="rhn", depth=1))
while training.live():
    training.run_epoch()
model = training.best_model(0)
"""

from rhn.training.evaluate import Evaluation, evaluate
from rhn.training.initial import initial_model
from rhn.training.loop import Plan, Training, TrialState
from rhn.training.numerics import keep_memory
from rhn.training.runs import Result, train
from rhn.training.seeds import batch_order, weights_generator

__all__ = [
    "Evaluation",
    "Plan",
    "Result",
    "Training",
    "TrialState",
    "batch_order",
    "evaluate",
    "initial_model",
    "keep_memory",
    "train",
    "weights_generator",
]
