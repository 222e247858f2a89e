"""Record a training in the loop of another package: Lightning, or transformers' Trainer. Runs those
that are installed.

`record_training.py` records a plain loop.
"""

import warnings

import torch
from torch import nn

from rhn.errors import InvalidInputError

warnings.simplefilter("ignore")
generator = torch.Generator().manual_seed(0)
x = torch.randn(64, 20, 3, generator=generator)


class Model(nn.Module):
    """Predicts the sum of its inputs so far."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x, labels=None):
        y = self.head(self.rnn(x)[0])
        return y if labels is None else (nn.functional.mse_loss(y, labels), y)


def lightning():
    """Lightning: a callback; its loggers get the means."""
    from lightning.pytorch import LightningModule, Trainer

    from gersgorin.integrations import LightningRecorder

    class Task(LightningModule, Model):
        def training_step(self, batch, index):
            return self(batch, batch.cumsum(1))[0]

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.01)

    recorder = LightningRecorder(x[:1], every=8)
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    Trainer(max_epochs=1, accelerator="cpu", callbacks=[recorder], **quiet).fit(
        Task(), torch.utils.data.DataLoader(x, batch_size=4)
    )
    return recorder.recording


def transformers():
    """Hugging Face: a callback of its Trainer."""
    from transformers import Trainer, TrainingArguments

    from gersgorin.integrations import TrainerRecorder

    recorder = TrainerRecorder(x[:1], every=8)
    rows = [{"x": row, "labels": row.cumsum(0)} for row in x]
    quiet = {
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "use_cpu": True,
    }
    arguments = TrainingArguments(
        "trainer-run",
        num_train_epochs=1,
        learning_rate=0.01,
        per_device_train_batch_size=4,
        **quiet,
    )
    Trainer(Model(), arguments, train_dataset=rows, callbacks=[recorder]).train()
    return recorder.recording


for loop in (lightning, transformers):
    torch.manual_seed(0)
    try:
        recording = loop()
    except (ImportError, InvalidInputError) as error:
        print(f"{loop.__name__}: left out, {error}")
        continue
    radii = ", ".join(f"{radius:.3f}" for radius in recording.mean("radius"))
    print(f"{loop.__name__}: spectral radius {radii} at steps {recording.step.tolist()}")
