"""`watch` has no star for the trainers of other libraries, which call the loop."""

import pytest
import torch
from sound_loops import BATCH, Reader, sums
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import trainability
from trainability.watching.loop_facts import CALLED, MINIBATCHES, OPTIMISER_STEPS, PASSES

pytestmark = pytest.mark.slow
EPOCHS = 4


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Reader(dropout=0.1)

        def training_step(self, batch, number):
            return F.mse_loss(self.model(batch[0]), batch[1])

        def validation_step(self, batch, number):
            return F.mse_loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.01)

    training = DataLoader(TensorDataset(*sums()), BATCH, shuffle=True)
    validation = DataLoader(TensorDataset(*sums()), BATCH)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        gradient_clip_val=0.1,
    )
    with trainability.watch() as seen:
        trainer.fit(Module(), training, validation)
    found = seen.result()
    assert found.starred == ()
    assert found.fact(OPTIMISER_STEPS) == (16,)
    assert found.fact(CALLED) == (6, 0, 0, 0)
    assert found.fact(MINIBATCHES) == (16, 16, 1)
    assert found.optimizers[0].at_step[-1] == pytest.approx(0.1, rel=1e-4)


def test_trainer_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")

    class Sums(Dataset):
        def __init__(self):
            self.x, self.y = sums()

        def __len__(self):
            return len(self.x)

        def __getitem__(self, number):
            return {"x": self.x[number], "labels": self.y[number]}

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.reader = Reader(dropout=0.1)

        def forward(self, x, labels=None):
            out = self.reader(x)
            return {"loss": F.mse_loss(out, labels), "logits": out}

    settings = transformers.TrainingArguments(
        output_dir=tmp_path,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH // 2,
        gradient_accumulation_steps=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        model=Model(), args=settings, train_dataset=Sums(), eval_dataset=Sums()
    )
    with trainability.watch() as seen:
        trainer.train()
    found = seen.result()
    assert found.starred == ()
    assert found.fact(OPTIMISER_STEPS) == (16,)
    assert found.fact(PASSES) == (32, 16)
    assert found.fact(CALLED) == (6, 0, 0, 0)
    assert found.fact(MINIBATCHES) == (32, 32, 1)
