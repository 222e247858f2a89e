"""Record spectra and gradients of a recurrent network that the Trainer of transformers trains.

trainer = Trainer(model, args, callbacks=[RecorderCallback(probe, every=100, path="run.npz")], ...)
trainer.train()

Then `gersgorin recording run.npz` draws the recording. The Trainer does not give the loss of a
single step to its callbacks, so the recording has no losses.
"""

from typing import Any

from transformers import TrainerCallback

from gersgorin import Recorder


class RecorderCallback(TrainerCallback):
    """Measure the model on a probe after every N-th optimiser step (N: the option `every`).

    probe, options: arguments of `gersgorin.Recorder`.
    """

    def __init__(self, probe: Any, **options: Any):
        self.probe, self.options = probe, options

    def on_train_begin(self, args, state, control, *, model, **others) -> None:
        start = state.global_step
        self.recorder = Recorder(model, self.probe, start=start, **self.options)

    def on_optimizer_step(self, args, state, control, **others) -> None:
        """Measure before the gradients are set to zero."""
        self.recorder.step()

    def on_train_end(self, args, state, control, **others) -> None:
        self.recorder.close()
