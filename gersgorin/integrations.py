"""Recorders for the training loops of other packages: Lightning's Trainer and that of Hugging
Face's transformers.

    lightning.Trainer(callbacks=[LightningRecorder(probe, every=100, path="run.npz")])
    transformers.Trainer(..., callbacks=[TrainerRecorder(probe, every=100, log=mlflow.log_metric)])

Both count optimizer steps and measure with the gradients of the step, before they are cleared. Each
class is made when it is first imported, from the package that is installed.
"""

import importlib
from collections.abc import Callable

import numpy as np
from torch import Tensor

from gersgorin.recording.recorder import Recorder
from gersgorin.recording.recording import Recording
from rhn.errors import InvalidInputError


class _Hooked:
    """A callback with a `Recorder`, which is made when a training starts, on the first process
    only.

    Args:
        probe, every, options: of `gersgorin.Recorder`, such as path, submodule, log.
    """

    def __init__(self, probe: Tensor | np.ndarray, every: int = 100, **options):
        self._given, self._options = (probe, every), options
        self.recorder: Recorder | None = None

    @property
    def recording(self) -> Recording:
        """The measurements so far. Raises InvalidInputError before the training has started."""
        if self.recorder is None:
            raise InvalidInputError(
                "nothing is recorded yet: expected a training that has started with this callback"
            )
        return self.recorder.recording

    def _begin(self, module, start: int, **log: Callable) -> None:
        self.recorder = Recorder(module, *self._given, start=start, **log | self._options)

    def on_train_end(self, *given, **named) -> None:
        if self.recorder is not None:
            self.recorder.close()


class _LightningHooks(_Hooked):
    """Record a training of Lightning; the means are also sent to the trainer's loggers.

    Args:
        probe, every, options: of `gersgorin.Recorder`, such as path, submodule, log. The module is
            the LightningModule.
    """

    def on_train_start(self, trainer, pl_module) -> None:
        self._done = trainer.global_step
        if trainer.is_global_zero:

            def log(name: str, value: float, step: int) -> None:
                for logger in trainer.loggers:
                    logger.log_metrics({name: value}, step=step)

            self._begin(pl_module, self._done, log=log)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        # Lightning clears the gradients in the next step's closure; a batch that is only
        # accumulated makes no step
        if self.recorder is not None and trainer.global_step > self._done:
            self._done = trainer.global_step
            self.recorder.step(outputs.get("loss") if isinstance(outputs, dict) else outputs)


class _TrainerHooks(_Hooked):
    """Record a training of transformers' Trainer; the loss is the one that the Trainer logged last.

    Args:
        probe, every, options: of `gersgorin.Recorder`, such as path, submodule, log. The module is
            the Trainer's model.
    """

    _loss: float | None = None

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        if state.is_world_process_zero:
            self._begin(model, state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        # after the step, before the gradients are cleared
        if self.recorder is not None:
            self.recorder.step(self._loss)


CALLBACKS = {  # name: (hooks, packages with the base class, the base class)
    "LightningRecorder": (_LightningHooks, ("lightning.pytorch", "pytorch_lightning"), "Callback"),
    "TrainerRecorder": (_TrainerHooks, ("transformers",), "TrainerCallback"),
}
__all__ = tuple(CALLBACKS)


def __getattr__(name: str) -> type:
    """Make a callback's class. Raises InvalidInputError without its package."""
    if name not in CALLBACKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    hooks, packages, base = CALLBACKS[name]
    for package in packages:
        try:
            found = getattr(importlib.import_module(package), base)
        except ImportError:
            continue
        made = type(name, (hooks, found), {"__doc__": hooks.__doc__, "__module__": __name__})
        return globals().setdefault(name, made)
    raise InvalidInputError(
        f"{name} needs the package {packages[0].partition('.')[0]}: pip install "
        "'rhn-toolkit[loops]'"
    )
