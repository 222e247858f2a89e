"""Figures of the notes can be read, and their titles say how what they show came to be; on made-up numbers, without the trainings."""

import sys
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks import flip_flop, norm_bounds, section4
from benchmarks.calibration import report
from benchmarks.calibration.trials import read_networks
from gersgorin.analyses.fixed_points import draw_fixed_points
from gersgorin.recording import Recording
from rhn.checkpoints import save_checkpoint
from rhn.data import chorale
from rhn.models import PolyphonicModel
from rhn.plotting.figures import our_style
from rhn.utils.file_marks import command, made_with, remember_command
from tests.readable import readable

ROOT, MOMENTS = Path(section4.__file__).parents[1], 6


def told(figure) -> str:
    """Its second line, after it was seen to be readable."""
    with our_style():
        readable(figure)
    title, _, about = figure.get_suptitle().partition("\n")
    assert title and " ".join(about.split()).endswith(made_with())
    return " ".join(about.split())


def recording(seed: int) -> Recording:
    random = np.random.default_rng(seed)
    loss = np.linspace(13, section4.TARGET, MOMENTS)
    plain = ("radius", "bulk", "reach", "input_gain", "eigenvalues", "centers", "radii", "gradient_norm")
    values = {name: random.random((MOMENTS, 4)) for name in (*plain, "relative_rate")}
    layered = {name: random.random((MOMENTS, 4, 1)) for name in ("state_gain", "gate")}
    numbers = {"step": np.arange(MOMENTS), "loss": loss, "exponent": -random.random(MOMENTS)}
    return Recording(title="rnn", every=2, parameters=np.array(list("abcd")), **values, **layered, **numbers)


def test_spectra_at_equal_loss():
    networks = [(cell, seed) for cell in section4.SETTINGS for seed in range(section4.SEEDS)]
    random = np.random.default_rng(0)
    rows = [
        {"cell": cell, "seed": seed, "moment": moment} | {name: random.random() for name in section4.MEASURES}
        for cell, seed in networks
        for moment in ("untrained", "matched")
    ]
    records = {network: recording(k) for k, network in enumerate(networks)}
    with our_style():
        about = told(section4.draw(rows, records))
    assert "gaussian:0.001" in about and "seeds 0 to 4" in about and "chorales" in about


def test_the_calibration():
    with our_style():
        figure = report.draw(read_networks(ROOT / "docs/results/2026-11-20-calibration.csv"))
    assert "693 networks" in told(figure)


def test_bounds_of_trained_cells(tmp_path, monkeypatch):
    for name in ("gru-1", "rhn-5"):
        cell, depth = name.split("-")
        model = PolyphonicModel(cell, hidden_size=3, depth=int(depth), init="gaussian:0.3")
        (tmp_path / name).mkdir()
        save_checkpoint(tmp_path / name / "best.safetensors", model, train={"seed": 4}, metrics={"epoch": 9})
    drawn = []
    monkeypatch.setattr(norm_bounds, "save_figure", lambda path, draw: drawn.append(draw()))
    monkeypatch.setattr(sys, "argv", ["norm_bounds", str(tmp_path), "--out", str(tmp_path)])
    monkeypatch.setattr(norm_bounds, "chorale", lambda name: chorale(name)[:12])
    norm_bounds.main()
    assert command() == f"python -m benchmarks.norm_bounds {tmp_path} --out {tmp_path}"
    remember_command("", [])
    assert "gaussian:0.3" in told(drawn[0]) and "valid-4 of the chorales" in told(drawn[0])


def test_fixed_points_of_three_bits(monkeypatch):
    monkeypatch.setattr(flip_flop, "UPDATES", 5)
    monkeypatch.setattr(flip_flop, "STARTS", 8)
    monkeypatch.setattr(flip_flop, "searches", dict)
    found = [flip_flop.compared(*flip_flop.trained(kind))[1] for kind in (nn.GRU, nn.RNN)]
    assert "seed 0, 5 updates by Adam" in told(draw_fixed_points(found))
