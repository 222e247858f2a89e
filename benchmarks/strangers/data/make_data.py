"""Writes the data files of the twenty tasks into this folder (a minute): python make_data.py"""
from pathlib import Path

import numpy as np
import torch

from cue_net import CueNet

here = Path(__file__).parent
rng = np.random.default_rng(78)


def sensors():
    hours = np.arange(40)
    columns = {
        "temperature": np.sin(2 * np.pi * hours / 24) + 0.1 * rng.normal(size=40),
        "humidity": -0.5 * np.sin(2 * np.pi * hours / 24) + 0.2 * rng.normal(size=40),
        "wind": 0.3 * rng.normal(size=40).cumsum() / np.sqrt(hours + 1),
    }
    np.savetxt(here / "sensors.csv", np.stack(list(columns.values()), 1), fmt="%.4f", delimiter=",",
               header=",".join(columns), comments="")


def cues(n, steps=20, at=8):
    x = np.zeros((n, steps, 2), dtype=np.float32)
    x[..., 0] = rng.normal(size=(n, steps))
    x[np.arange(n), np.broadcast_to(at, n), 1] = 1
    return x, x[np.arange(n), np.broadcast_to(at, n), 0].copy()


def cue_net():
    torch.manual_seed(2)
    model = CueNet()
    with torch.no_grad():
        model.lstm.bias_hh_l0[16:32] = 2.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(1500):
        x, y = cues(100, at=rng.integers(5, 12, size=100))
        loss = torch.nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step == 1000:
            optimizer.param_groups[0]["lr"] = 2e-3
    torch.save(model.state_dict(), here / "cue_net.pt")
    x, y = cues(64)
    np.save(here / "cue_x.npy", x)
    np.save(here / "cue_y.npy", y)
    with torch.no_grad():
        error = torch.nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y)).item()
    print(f"cue_net: error {error:.4f}, a constant's {y.var():.4f}")


if __name__ == "__main__":
    sensors()
    cue_net()
    np.save(here / "flags.npy", np.tile([1.0, 0.0], 10).astype(np.float32)[:, None])
    np.save(here / "long.npy", rng.normal(size=(100, 4)).astype(np.float32))
    np.save(here / "constant.npy", np.tile(np.float32([0.5, -0.3, 0.8]), (300, 1)))
    np.save(here / "window_x.npy", rng.normal(size=(16, 40, 3)).astype(np.float32))
