"""`python -m benchmarks.costs`: the memory of spectra, and the times of analyses, of a Recorder's
measurements, of commands and of language models, as README.md, docs/index.md and docs/guides quote
them.
"""

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.__main__ import environment, stay_on_one_core
from benchmarks.language import WINDOWS, ours
from gersgorin import Recorder, influence, lyapunov, products, spectra
from rhn.models import PolyphonicModel
from rhn.presets import preset
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import tune_malloc

NETWORKS = (
    ("nn.RNN(10, 200)", lambda: nn.RNN(10, 200), 800),
    ("nn.LSTM(10, 500)", lambda: nn.LSTM(10, 500), 85),
    ("nn.RNN(10, 1500)", lambda: nn.RNN(10, 1500), 3),
    ("nn.RNN(10, 2000)", lambda: nn.RNN(10, 2000), 3),
)
ANALYSES = {
    "lyapunov(count=1)": partial(lyapunov, count=1),
    "products": products,
    "spectra": spectra,
}
INFLUENCES = (  # outputs of a GRU of two layers with 64 units; time steps
    ("one number for each sequence", 500),
    ("one number for each time step", 100),
    ("one number for each time step", 500),
    ("its 64 states at each time step", 100),
)
PROBES = ((60, 4, 4), (60, 1, 4), (60, 1, 1), (200, 1, 4))  # time steps, sequences, positions
REPEATS = 7
COMMANDS = (  # of README.md and docs/guides, in an order in which they can run
    "gersgorin compare --cell rnn dt-rnn dts-rnn rhn --depth 1 3 5 10",
    "gersgorin compare --cell rnn lstm gru --output compare.png table.csv",
    "gersgorin lyapunov --cell gru --init uniform:0.3 --hidden-size 32 --count 8 --output "
    "exponents.png",
    "gersgorin fixed-points --cell gru --init uniform:0.3 --hidden-size 32 --starts 50 --output "
    "points.png",
    "rhn train jsb-depth-4 --hidden-size 32 --learning-rate 0.2 --epochs 20 --out runs/four",
    "rhn-analyze gates runs/four --output gates.png",
    "rhn-analyze lesion runs/four --pairs --output lesion.png lesion.csv",
    "optim-study run --arch dt-rnn --depth 4 --preset small",
)
LANGUAGE_MODELS = {
    "ptb-sota": preset("ptb-sota"),
    "ptb-depth-5": preset("ptb-depth-5"),
    "ptb-depth-5 --hidden-size 200": replace(preset("ptb-depth-5"), hidden_size=200),
}


def measure_spectra(i: int, sender) -> None:
    """Send the seconds of the spectra of network i, and this process's peak memory in bytes before
    and after them.
    """
    _, network, steps = NETWORKS[i]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, x = network(), torch.randn(steps, 1, 10)
    before, start = peak(), time.process_time()
    spectra(module, x)
    sender.send((time.process_time() - start, before, peak()))


def peak() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds_per_step(analysis, steps: int = 20) -> float:
    """Time an analysis of an LSTM of 500 units."""
    torch.manual_seed(0)
    module, x = nn.LSTM(10, 500), torch.randn(steps, 1, 10)
    start = time.process_time()
    analysis(module, x)
    return (time.process_time() - start) / steps


class Outputs(nn.Module):
    """A GRU of two layers with 64 units, and the outputs that INFLUENCES names."""

    def __init__(self, outputs: str):
        super().__init__()
        self.outputs = outputs
        self.rnn = nn.GRU(8, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.rnn(x)[0]
        if self.outputs.startswith("its"):
            return states
        return self.head(states[:, -1] if self.outputs.endswith("sequence") else states)


def influence_seconds(outputs: str, steps: int) -> float:
    """Time the influence of one sequence."""
    torch.manual_seed(0)
    model, x = Outputs(outputs), torch.randn(1, steps, 8)
    influence(model, x[:, :20])  # warms up
    start = time.process_time()
    influence(model, x)
    return time.process_time() - start


def recorder_seconds(steps: int, sequences: int, positions: int) -> list[float]:
    """Time REPEATS measurements of an RHN of depth 5 with 64 units."""
    torch.manual_seed(0)
    model = PolyphonicModel("rhn", hidden_size=64, depth=5)
    probe = [(torch.rand(steps, 88) < 0.05).float() for _ in range(sequences)]
    seconds = []
    with Recorder(model, probe, every=1, positions=positions) as recorder:
        for _ in range(REPEATS):
            start = time.process_time()
            recorder.step()
            seconds.append(time.process_time() - start)
    return seconds[1:]


def command_seconds(line: str, folder: str) -> float:
    """Return the processor time of a command that runs in a folder, with one thread."""
    program, *arguments = line.split()
    command = [str(Path(sys.executable).parent / program), *arguments]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def print_commands() -> None:
    """Print the processor time of each command."""
    with tempfile.TemporaryDirectory() as folder:
        for line in COMMANDS:
            print(f"{line}: {command_seconds(line, folder):.0f} s of processor time", flush=True)


def words_per_second(config: LanguageConfig) -> float:
    """Return the words that a model with a vocabulary of 10,000 words reads in a second of
    training.
    """
    steps = ours(config, 10_000, "cpu")
    steps()  # warms up
    start = time.process_time()
    steps()
    return WINDOWS * config.batch_size * config.window / (time.process_time() - start)


def print_language_models() -> None:
    """Print how many words per second each language model reads."""
    tune_malloc()  # as `rhn train` does
    for name, config in LANGUAGE_MODELS.items():
        print(f"rhn train {name}: {words_per_second(config):.0f} words per second", flush=True)


def main() -> None:
    """Print the five tables and the environment."""
    stay_on_one_core()
    torch.set_num_threads(1)
    print(environment("cpu"))
    spawn = multiprocessing.get_context("spawn")
    for i, (name, _, steps) in enumerate(NETWORKS):
        receiver, sender = spawn.Pipe(duplex=False)
        process = spawn.Process(target=measure_spectra, args=(i, sender))
        process.start()
        seconds, before, after = receiver.recv()
        process.join()
        print(
            f"spectra of {name}, {steps} time steps: {seconds:.0f} s of processor time, peak "
            f"memory {after / 1e9:.2f} GB, {before / 1e9:.2f} GB of it before"
        )
    for name, analysis in ANALYSES.items():
        print(f"{name} of nn.LSTM(10, 500): {seconds_per_step(analysis):.2g} s per time step")
    for outputs, steps in INFLUENCES:
        seconds = influence_seconds(outputs, steps)
        print(f"influence, {outputs}, {steps} time steps: {seconds:.1f} s of processor time")
    for probe in PROBES:
        s = recorder_seconds(*probe)
        print(
            "Recorder: {} time steps x {} sequences, positions={}: ".format(*probe)
            + f"{statistics.median(s):.3f} s ({min(s):.3f} to {max(s):.3f})"
        )
    print_commands()
    print_language_models()


if __name__ == "__main__":
    main()
