"""Record spectra and gradients of a recurrent network that Lightning trains.

trainer = Trainer(callbacks=[RecorderCallback(probe, every=100, path="run.npz")])
trainer.fit(module, batches)

Then `gersgorin recording run.npz` draws the recording.
"""

from typing import Any

from lightning.pytorch import Callback

from gersgorin import Recorder


class RecorderCallback(Callback):
    """Measure the module on a probe after every N-th optimiser step (N: the option `every`).

    probe, options: arguments of `gersgorin.Recorder`.
    """

    def __init__(self, probe: Any, **options: Any):
        self.probe, self.options = probe, options

    def on_train_start(self, trainer, module) -> None:
        self.seen = trainer.global_step
        self.recorder = Recorder(module, self.probe, start=self.seen, **self.options)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        """Measure while the gradients are there: the next backward pass replaces them."""
        if trainer.global_step > self.seen:  # else the batch was only accumulated
            self.seen = trainer.global_step
            # a loss comes divided by the number of batches whose gradients are added up
            self.recorder.step(outputs["loss"] * trainer.accumulate_grad_batches)

    def on_train_end(self, trainer, module) -> None:
        self.recorder.close()
