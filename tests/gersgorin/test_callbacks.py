"""The callbacks of examples/ record the gradients of each optimiser step in the real libraries, and
change no weight: against a loop in plain PyTorch.
"""

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin import Recorder

STEPS, BATCH, RATE = 6, 5, 0.1


class Model(nn.Module):
    """A GRU that predicts a number; with labels also the loss, as models of transformers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.GRU(2, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x, labels=None):
        y = self.head(self.rnn(x)[0][:, -1])[:, 0]
        loss = None if labels is None else (y - labels).square().mean()
        return {"logits": y} if labels is None else {"loss": loss, "logits": y}


def data():
    x = torch.randn(STEPS * BATCH, 7, 2, generator=torch.Generator().manual_seed(1))
    return [{"x": each, "labels": each.sum()} for each in x]


def probe():
    return torch.rand(1, 9, 2, generator=torch.Generator().manual_seed(2))


def plain(accumulated=1):
    """(Gradient norms of each weight, (steps, K); losses; the model) of a loop without a
    library.
    """
    model, norms, losses = Model(), [], []
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    rows = data()
    for k in range(STEPS // accumulated):
        optimizer.zero_grad()
        for j in range(accumulated):
            batch = rows[(k * accumulated + j) * BATCH :][:BATCH]
            x, y = (torch.stack([row[name] for row in batch]) for name in ("x", "labels"))
            loss = model(x, y)["loss"]
            (loss / accumulated).backward()
        norms.append([p.grad.norm().item() for p in model.parameters()])
        losses.append(loss.item())
        optimizer.step()
    return np.array(norms), losses, model


def compared(recording, model, accumulated=1):
    """The losses of the plain loop, if gradients and weights are its."""
    norms, losses, wanted = plain(accumulated)
    assert recording.step.tolist() == list(range(len(norms) + 1))
    names = [name.removeprefix("model.") for name in recording.parameters]
    assert names == [name for name, _ in wanted.named_parameters()]
    np.testing.assert_allclose(recording.gradient_norm[1:], norms, rtol=1e-5)
    for p, q in zip(model.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    fresh = Recorder(wanted, probe()).recording  # at the end of the training
    np.testing.assert_allclose(recording.radius[-1], fresh.radius[0], rtol=1e-4)
    return losses


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning(accumulated, tmp_path):
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is optional")
    from examples.callbacks.lightning_recorder import RecorderCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model()

        def forward(self, x):
            return self.model(x)["logits"]

        def training_step(self, batch, _):
            return self.model(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), RATE)

    module, recorder = Module(), RecorderCallback(probe(), every=1, submodule="model.rnn")
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        accumulate_grad_batches=accumulated,
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(data(), BATCH))
    recording = recorder.recorder.recording
    losses = compared(recording, module.model, accumulated)
    np.testing.assert_allclose(recording.loss[1:], losses, rtol=1e-5)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_trainer_of_transformers(accumulated, tmp_path):
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate")
    from transformers import Trainer, TrainingArguments

    from examples.callbacks.trainer_recorder import RecorderCallback

    class InOrder(Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    model, recorder = Model(), RecorderCallback(probe(), every=1)
    args = TrainingArguments(
        output_dir=tmp_path,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulated,
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    optimizers = torch.optim.SGD(model.parameters(), RATE), None
    constant = torch.optim.lr_scheduler.LambdaLR(optimizers[0], lambda _: 1.0)
    trainer = InOrder(
        model,
        args,
        train_dataset=data(),
        callbacks=[recorder],
        optimizers=(optimizers[0], constant),
    )
    trainer.train()
    compared(recorder.recorder.recording, model, accumulated)
