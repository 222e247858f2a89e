"""Recorders count the steps of other packages' training loops, measure with their gradients, and
log to other packages.
"""

import builtins
import sys
import warnings

import numpy as np
import pytest
import torch
from taggers import Tagger
from torch import nn

import gersgorin
from gersgorin.recording.recording import MEASURES
from gersgorin.results import load
from rhn.errors import InvalidInputError

T, M = 12, 3


def lstm():
    return Tagger(nn.LSTM(M, 6, batch_first=True), M)


def frames(*shape):
    return torch.randn(*shape, T, M, generator=torch.Generator().manual_seed(0))


def trained(recorder, model, steps=4):
    """A plain loop: what the callbacks must equal."""
    optimizer, x = torch.optim.SGD(model.parameters(), 0.1), frames(8)
    for k in range(steps):
        optimizer.zero_grad()
        loss = model(x[2 * k : 2 * k + 2]).square().mean()
        loss.backward()
        optimizer.step()
        recorder.step(loss)
    return recorder.recording


def test_every_mean_is_logged_with_its_name_and_step():
    logged = []
    recording = trained(
        gersgorin.Recorder(lstm(), frames(1), every=2, log=lambda *each: logged.append(each)),
        lstm(),
    )
    assert {step for _, _, step in logged} == {0, 2, 4}
    for name in ("radius", "exponent", "input_gain"):
        values = [value for found, value, _ in logged if found == f"recorder/{name}"]
        np.testing.assert_allclose(values, recording.mean(name), rtol=1e-6)
    assert {name.partition("/")[2] for name, *_ in logged} <= MEASURES.keys()
    assert all(type(value) is float and np.isfinite(value) for _, value, _ in logged)


def lightning_module(lightning, model):
    class Lit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x)

        def training_step(self, batch, index):
            return self.model(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    return Lit()


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning_records_what_a_plain_loop_records(accumulated, tmp_path):
    lightning = pytest.importorskip(
        "lightning.pytorch", reason="the extra `loops` is not installed"
    )
    from lightning.pytorch.loggers import CSVLogger

    from gersgorin.integrations import LightningRecorder

    warnings.simplefilter("ignore")
    model, twin, logger = (
        lstm(),
        lstm(),
        CSVLogger(tmp_path),
    )
    twin.load_state_dict(model.state_dict())
    callback = LightningRecorder(frames(1), every=2, path=tmp_path / "run.npz")
    batches = torch.utils.data.DataLoader(frames(8), batch_size=2 // accumulated)
    trainer = lightning.Trainer(
        callbacks=[callback],
        max_epochs=1,
        accelerator="cpu",
        accumulate_grad_batches=accumulated,
        default_root_dir=tmp_path,
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(lightning_module(lightning, model), batches)
    expected = trained(gersgorin.Recorder(twin, frames(1), every=2), twin)
    assert callback.recording.step.tolist() == [0, 2, 4]
    for name in ("radius", "gradient_norm", "exponent"):
        np.testing.assert_allclose(callback.recording.mean(name), expected.mean(name), rtol=1e-4)
    assert load(tmp_path / "run.npz").step.tolist() == [0, 2, 4]
    logger.save()
    assert "recorder/radius" in (tmp_path / "lightning_logs/version_0/metrics.csv").read_text()


def test_a_missing_package_is_named(monkeypatch):
    import gersgorin.integrations as integrations

    monkeypatch.delitem(vars(integrations), "LightningRecorder", raising=False)
    real = builtins.__import__
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("lightning", "pytorch_lightning")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(
        integrations.importlib, "import_module", lambda name: real("no_such_package")
    )
    with pytest.raises(
        InvalidInputError, match="LightningRecorder needs the package lightning: pip install"
    ):
        _ = integrations.LightningRecorder
