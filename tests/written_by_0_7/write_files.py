"""Write a file of every kind, as version 0.7.0 writes it, and numbers.npz: the numbers that were in
memory, which NumPy alone writes. All files were written at commit 53fa191c, with torch 2.13.0, by

    python -m tests.written_by_0_7.write_files

which another version refuses: the files stay as they are.
"""

import contextlib
import io
import os
import shlex
import shutil
import signal
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

import analysis
import gersgorin
import optim_study
import rhn
import trainability
from tests.commands import MAINS
from tests.rhn.texts import sentences
from tests.written_by_0_7.contents import contents_of, weights_and_outputs

HERE = Path(__file__).parent
OWN = "tests.written_by_0_7.own_cell:Residual"
CELLS = {
    "rnn": ("rnn", 1, {"nonlinearity": "relu"}),
    "irnn": ("irnn", 1, {}),
    "dt-rnn": ("dt-rnn", 3, {}),
    "dts-rnn": ("dts-rnn", 3, {}),
    "dts-rnn-skip-last": ("dts-rnn", 3, {"skip": "last"}),
    "rhn": ("rhn", 3, {"transform_bias": -1.0}),
    "rhn-uncoupled": ("rhn", 2, {"coupled": False, "activation": "relu", "gate_constant": 0.5}),
    "lstm": ("lstm", 1, {}),
    "gru": ("gru", 1, {}),
}
MODELS = {
    "music-rhn": ("PolyphonicModel", {"cell": "rhn", "depth": 2, "layers": 2}),
    "music-torch": ("PolyphonicModel", {"cell": "torch.nn:LSTM"}),
    "music-own": ("PolyphonicModel", {"cell": OWN}),
    "language-tied": ("LanguageModel", {"cell": "rhn", "depth": 2, "tied": True}),
    "language-embedding": ("LanguageModel", {"cell": "gru", "embedding_size": 3}),
    "language-own": ("LanguageModel", {"cell": OWN}),
}
CHORALES = "--data data/melodies.json --hidden-size 4 --init-std 0.1 --epochs 4"
SMALL = "--hidden-size 6 --depth 2 --batch-size 2 --epochs 3 --set window=8"
LSTM = "--hidden-size 6 --batch-size 2 --epochs 3 --set window=8"
RUNS = {
    "chorales": f"jsb-depth-2 {CHORALES} --seeds 2 --record 1",
    "chorales-torch": f"jsb-depth-1 {CHORALES} --cell torch.nn:GRU",
    "chorales-own": f"jsb-depth-1 {CHORALES} --cell {OWN}",
    "words-tied": f"ptb-sota --corpus text --data data/text {SMALL} --record 3",
    "words-modern": f"ptb-modern --corpus text --data data/text {SMALL} --set averaging=1",
    "words-lstm": f"ptb-variational-lstm --corpus text --data data/text {LSTM}"
    " --set vocabulary_size=8",
    "characters": f"ptb-gru --corpus text --unit characters --data data/text {LSTM}",
    "bytes": f"enwik8-5x1500 --data data {SMALL}",
}
STOPPED = {"chorales": 5, "words-tied": 14, "words-modern": 14}
"""The training runs that are also stored after so many optimiser steps."""
STUDY = "--preset smoke --arch rhn --depth 2 --data data/melodies.json --epochs 20 --fuse 2"
STUDY_FIELDS = {"arch": ("rhn",), "depth": (2,), "data": Path("data/melodies.json"),
                "epochs": 20, "fuse": 2}  # fmt: skip
NETWORK = "--checkpoint checkpoints/rhn.safetensors --input data/numbers.csv"
TABLES = {
    "spectra": f"gersgorin plot {NETWORK}",
    "products": f"gersgorin products {NETWORK}",
    "gains": f"gersgorin gains {NETWORK}",
    "gates": f"gersgorin gates {NETWORK}",
    "lyapunov": f"gersgorin lyapunov --count 2 {NETWORK}",
    "fixed_points": f"gersgorin fixed-points --starts 6 {NETWORK}",
    "pseudospectra": f"gersgorin pseudospectra --side 9 {NETWORK}",
    "influence": f"gersgorin influence {NETWORK}",
    "compare": "gersgorin compare checkpoints/rhn.safetensors checkpoints/gru.safetensors"
    " --input data/numbers.csv",
    "recording": "gersgorin recording runs/words-tied",
    "gate_activity": "rhn-analyze gates runs/chorales/seed-0",
    "lesion": "rhn-analyze lesion runs/chorales/seed-0 --pairs",
}
"""Commands that write a table as .csv."""


def command(line: str, code: int = 0) -> str:
    """Run a command, which must end with this exit code; return what it prints."""
    program, *words = shlex.split(line)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert import_module(MAINS[program]).main(words) == code, line
    return printed.getvalue()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def write_data() -> None:
    """Chorales, a text, bytes, and numbers."""
    Path("data/text").mkdir(parents=True)
    shutil.copy(HERE.parent / "numbers/melodies.json", "data")
    for seed, (split, count) in enumerate({"train": 30, "valid": 8, "test": 8}.items()):
        Path(f"data/text/{split}.txt").write_text(sentences(count, seed))
    Path("data/enwik8").write_bytes(sentences(40, 3).encode())
    np.savetxt("data/numbers.csv", drawn(12, 3), delimiter=",")


def write_checkpoints() -> dict[str, np.ndarray]:
    numbers = {}
    Path("checkpoints").mkdir()
    for name, (cell, depth, options) in CELLS.items():
        network = rhn.make_cell(cell, 3, 4, depth, generator=generator(), **options)
        path = rhn.save(f"checkpoints/{name}.safetensors", network, note=name)
        numbers |= weights_and_outputs(network, path.with_suffix("").as_posix())
    for name, (kind, options) in MODELS.items():
        size = {"vocabulary_size": 5} if kind == "LanguageModel" else {"input_size": 3}
        model = getattr(rhn, kind)(**options, **size, hidden_size=4, generator=generator())
        path = rhn.save(f"checkpoints/{name}.safetensors", model, note=name)
        numbers |= weights_and_outputs(model, path.with_suffix("").as_posix())
    return numbers


def shifted(x, s):
    return s + 1 + x


def rotated(x, s):
    return 0.9j * s.flip(0) + s / 9


def turned(x, s):
    return (x / 9 - 2 * s.flip(0)).tanh()


def recording() -> object:
    model, x = nn.GRU(3, 4), drawn(12, 3).float()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gersgorin.Recorder(model, x, every=2, path="results/recorder.npz") as recorder:
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(x)[0].square().mean()
            loss.backward()
            recorder.step(loss)
            optimizer.step()
    return recorder.recording


class Last(nn.Module):
    """A number from the last state of a GRU."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRU(2, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.cell(x)[0][:, -1])


def training_run() -> tuple:
    """The arguments of `check` and `cure`."""
    torch.manual_seed(0)
    model, x = Last(), drawn(60, 5, 2).float()
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    return model, x, x[:, :2, 0].sum(1, keepdim=True), nn.MSELoss(), adam


def results() -> dict[str, object]:
    """One result of each class, and of each form of it."""
    cell, x = rhn.load("checkpoints/rhn.safetensors"), drawn(12, 3)
    chorales, text = (rhn.load(f"runs/{name}") for name in ("chorales/seed-0", "words-tied"))
    starts, quiet = drawn(20, 2, seed=2), torch.zeros(2).double()
    run = gersgorin.open_run(cell, x, data="numbers.csv", title="rhn, depth 3, 4 units")
    other = rhn.load("checkpoints/gru.safetensors")
    tokens = torch.arange(8) % 5
    return {
        "spectra": gersgorin.spectra(run),
        "spectra_leading": gersgorin.spectra(run, leading=2),
        "spectra_complex": gersgorin.spectra(rotated, x, quiet + 1j),
        "products": gersgorin.products(run),
        "gains": gersgorin.gains(run),
        "gains_of_ids": gersgorin.gains(lambda x, s: s / 2 + x, torch.arange(6), quiet),
        "gates": gersgorin.gates(run),
        "lyapunov": gersgorin.lyapunov(run, count=2),
        "fixed_points": gersgorin.fixed_points(run, starts=6),
        "fixed_points_of_cycles": gersgorin.fixed_points(turned, quiet, starts=starts, period=2),
        "fixed_points_none": gersgorin.fixed_points(shifted, quiet, starts=starts),
        "pseudospectra": gersgorin.pseudospectra(run, side=9),
        "influence": gersgorin.influence(cell, x),
        "influence_estimated": gersgorin.influence(cell, x, probes=4, feature=0),
        "influence_of_loss": gersgorin.influence(text, tokens, of="categorical", y=tokens.flip(0)),
        "compare": gersgorin.compare({"rhn": [cell, cell], "gru": other}, [x, x[:7]]),
        "compare_grid": gersgorin.compare({("a", "one"): cell, ("b", "one"): other}, x),
        "recording": recording(),
        "gate_activity": analysis.gate_activity(chorales, "data/melodies.json"),
        "gate_activity_of_text": analysis.gate_activity("runs/words-tied", length=9),
        "lesion": analysis.lesion(chorales, "data/melodies.json", pairs=True),
        "lesion_of_text": analysis.lesion("runs/words-lstm", mode="carry", length=20),
        "check": trainability.check(*training_run(), steps=10),
        "cure": trainability.cure(*training_run(), steps=16),
    }


def write_results() -> dict[str, np.ndarray]:
    Path("results").mkdir()
    run = gersgorin.open_run(rhn.load("checkpoints/rhn.safetensors"), drawn(12, 3))
    run.save("run.npz", jacobians=True)
    numbers = {"run/states": run.states.numpy(), "run/jacobians": run.jacobians().numpy()}
    for name, found in results().items():
        for suffix in (".json", ".npz"):
            found.save(f"results/{name}{suffix}")
        numbers |= contents_of(found, f"results/{name}")
    return numbers


def write_runs() -> dict[str, np.ndarray]:
    """Finished training runs, and some that stopped within them."""
    numbers = {}
    for name, words in RUNS.items():
        command(f"rhn train {words} --out runs/{name}")
        for best in Path("runs", name).glob("**/best.safetensors"):
            model = rhn.load(best, OWN if name.endswith("own") else None)
            numbers |= weights_and_outputs(model, best.parent.as_posix())
    for name, steps in STOPPED.items():
        for _ in range(steps):
            command(f"rhn train {RUNS[name]} --out stopped/{name} --max-minutes 0")
    return numbers


def press_ctrl_c_when(path: Path) -> None:
    """Interrupt this process as soon as a file exists."""
    while not path.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


def write_study() -> dict[str, np.ndarray]:
    """A study that stopped within its last two trials, and the same one at its end."""
    state = Path("study/rhn-depth2/trials/0002.safetensors")
    threading.Thread(target=press_ctrl_c_when, args=[state], daemon=True).start()
    command(f"optim-study run {STUDY} --out study", 130)
    shutil.copytree("study", "stopped/study")
    config = optim_study.smoke(**STUDY_FIELDS, out=Path("study"))
    found = optim_study.run(config, quiet=True)
    Path("study/export.csv").write_text(command("optim-study export --out study"))
    return contents_of(found.rows, "study/rows") | contents_of(found.shares, "study/shares")


def write_tables() -> None:
    """Tables of commands as .csv, and a page."""
    Path("tables").mkdir()
    for name, line in TABLES.items():
        command(f"{line} --csv tables/{name}.csv --output a.json")
    command("rhn-analyze report runs/words-tied --output tables/report.html")
    Path("a.json").unlink()


def main() -> None:
    assert rhn.__version__ == "0.7.0", "files of 0.7.0 are written by 0.7.0"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "written_by_0_7")
        files.mkdir()
        with contextlib.chdir(files):
            write_data()
            numbers = write_checkpoints() | write_runs() | write_results() | write_study()
            write_tables()
            np.savez_compressed("numbers.npz", **numbers)
        shutil.copytree(files, HERE, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
