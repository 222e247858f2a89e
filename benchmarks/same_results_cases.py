"""The cases of `same_results.py`, by the names that the packages have now: command lines, calls,
and the files they read.

After a change of names edit this file: a case keeps its name, and what it runs must stay the same.
"""

from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import gersgorin as g
from gersgorin import linalg
from rhn.cells import CELLS, GRU, LSTM, RHN, RNN
from rhn.checkpoints import save_checkpoint
from rhn.data.text import Vocabulary
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import build_model, weights_generator

COMMANDS = {
    "plot": "gersgorin.cli.analysis:main",
    "compare": "gersgorin.cli.compare:main",
    "report": "analysis.report.cli:main",
    "analyze": "analysis.cli:main",
    "rhn": "rhn.cli.main:main",
    "optim-study": "optim_study.cli:main",
}

OWN_NETWORKS = '''
import torch
from torch import nn
from rhn.cells import Cell

class TwoLayers(nn.Module):
    """Two layers of an LSTM, batch first, between linear ones."""
    def __init__(self, input_size=3):
        super().__init__()
        torch.manual_seed(5)
        self.encoder = nn.Sequential(nn.Linear(input_size, 4), nn.Tanh())
        self.rnn, self.output = nn.LSTM(4, 4, num_layers=2, batch_first=True), nn.Linear(4, input_size)
    def forward(self, x):
        return self.output(self.rnn(self.encoder(x))[0])

class Loop(nn.Module):
    """A loop of its own over a GRUCell, time first."""
    def __init__(self, input_size=3, hidden_size=5):
        super().__init__()
        torch.manual_seed(6)
        self.part, self.output = nn.ModuleDict({"cell": nn.GRUCell(input_size, hidden_size)}), nn.Linear(hidden_size, input_size)
    def forward(self, x):
        state, states = None, []
        for frame in x:
            state = self.part["cell"](frame, state)
            states.append(state)
        return self.output(torch.stack(states))

class Leaking(Cell):
    """A cell that tells only its step."""
    deep = False
    def __init__(self, input_size, hidden_size, depth=1, *, generator=None, device=None, dtype=None, **common):
        super().__init__(input_size, hidden_size, depth, **common)
        draw = lambda *size: 0.4 * torch.randn(*size, generator=generator, device=device, dtype=dtype)
        self.weight, self.back = nn.Parameter(draw(hidden_size, input_size)), nn.Parameter(draw(hidden_size, hidden_size))
    def step(self, x, s):
        return 0.5 * s + 0.5 * torch.tanh(x @ self.weight.T + s @ self.back.T)
'''
WORDS = Vocabulary("words", ("the", "<eos>", "cat", "dog", "sees", "<unk>"))
LANGUAGE = LanguageConfig(
    corpus="text", cell="rhn", hidden_size=6, depth=2, seed=3, init="uniform:0.4"
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Numbers in float64 that are the same on every machine."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cell_of(kind, *sizes: int, scale: float = 8.0, **options):
    """A cell of ours in float64, its matrices `scale` times as large as new ones, so that something
    happens.
    """
    cell = kind(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(1), **options)
    with torch.no_grad():
        for p in cell.parameters():
            if p.ndim > 1:
                p *= scale
    return cell


def model_of(cell: str = "rhn", **options) -> PolyphonicModel:
    """A small model of 3 inputs and outputs."""
    options = {
        "hidden_size": 4,
        "input_size": 3,
        "output_size": 3,
        "init": "gaussian:0.3",
    } | options
    return PolyphonicModel(cell, generator=torch.Generator().manual_seed(2), **options)


def rolls(T: int = 9, B: int = 3, m: int = 3) -> torch.Tensor:
    """Frames of zeros and ones, (T, B, m)."""
    return (noise(T, B, m, seed=4) > 0.3).float()


def recording(path: Path | None = None):
    """A Recorder over six steps of SGD, without the times that it took."""
    torch.manual_seed(0)
    model = model_of(depth=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    recorder = g.Recorder(model, rolls(7, 1)[:, 0], every=2, about="a short training")
    for _ in range(6):
        loss = model.nll(rolls()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.step(loss)
    found = replace(recorder.recording, measuring_seconds=0.25, training_seconds=1.0)
    return found if path is None else found.save(path)


def write_inputs(folder: Path) -> None:
    """Files that the cases read: arrays, a text, weights, modules, a recording."""
    folder.mkdir(parents=True)
    (folder / "own_networks.py").write_text(OWN_NETWORKS)
    (folder / "novel.txt").write_text("the cat sees the dog\nthe dog sees the bird\n" * 20)
    np.save(folder / "x.npy", noise(8, 3).numpy())
    np.save(folder / "sequences.npy", noise(4, 7, 3, seed=1).numpy())
    np.savez(
        folder / "named.npz",
        x=noise(8, 3).numpy(),
        unit="0.1 s",
        name="weather",
        names=["wet", "warm", "windy"],
    )
    np.savetxt(folder / "x.csv", noise(9, 2, seed=2).numpy(), delimiter=",")
    torch.manual_seed(8)
    torch.save(nn.LSTM(3, 5).state_dict(), folder / "weights.pt")
    save_checkpoint(folder / "alone.safetensors", cell_of(LSTM, 88, 5))
    _write_pair(
        folder,
        "language",
        build_model(replace(LANGUAGE, layers=1), len(WORDS)),
        asdict(LANGUAGE),
        WORDS,
    )
    model = PolyphonicModel("rhn", hidden_size=6, depth=2, generator=weights_generator(3, "rhn", 2))
    _write_pair(
        folder, "trained", model, {"seed": 3, "cell": "rhn", "depth": 2, "init": "uniform:0.04"}
    )
    recording(folder / "record.npz")
    (folder / "ptb").mkdir()
    for split, lines in {"train": 300, "valid": 60, "test": 61}.items():
        # whole numbers as words, the smaller the more frequent
        words = 9 * noise(lines, 10, seed=lines).abs().exp()
        np.savetxt(folder / "ptb" / f"ptb.{split}.txt", words.numpy(), fmt="%d")


def _write_pair(folder: Path, name: str, model: nn.Module, train: dict, vocabulary=None) -> None:
    about = {"train": train} | ({"vocabulary": vocabulary.to_json()} if vocabulary else {})
    save_checkpoint(folder / f"{name}-new.safetensors", model, **about)
    with torch.no_grad():
        model.cells[0].weight_hh += 0.5 * noise(*model.cells[0].weight_hh.shape).float()
    save_checkpoint(folder / f"{name}.safetensors", model, **about)


PLOTS = """
default: --cell rhn --depth 5
chorale: --cell gru --hidden-size 6 --chorale bwv66.6 --init gaussian:0.3 --seed 3
discs-column: --cell lstm SMALL --discs column
discs-both: --cell rnn SMALL --discs both --init orthogonal:1.1
cell-own: --cell own_networks:Leaking SMALL + lyapunov --cell own_networks:Leaking SMALL --count 2
checkpoint: --checkpoint trained.safetensors --steps 8
checkpoint-of-a-cell: --checkpoint alone.safetensors --steps 5
language: --checkpoint language.safetensors --input novel.txt --steps 12
input-npy: --cell rhn --depth 2 --hidden-size 5 --input x.npy
input-npz: --cell gru --hidden-size 5 --input named.npz
input-csv: --cell leaky --hidden-size 5 --input x.csv --steps 6
module-torch: --module torch.nn:LSTM --checkpoint weights.pt --input x.npy
module-two-layers: --module own_networks:TwoLayers --input x.npy + lyapunov --module own_networks:TwoLayers --input x.npy --count 3
module-second-layer: --module own_networks:TwoLayers --layer 2 --input x.npy
module-part: --module own_networks:Loop --submodule part.cell --input x.npy --steps 6
lyapunov: --cell rnn --hidden-size 6 --init gaussian:0.5 --steps 12 + lyapunov --cell rnn --hidden-size 6 --init gaussian:0.5 --steps 12 --count 4 --repeat 5
lyapunov-compare: compare lstm --cell rhn --depth 2 SMALL + lyapunov --cell rhn --depth 2 SMALL --count 2 + lyapunov --cell lstm SMALL --count 2 + fixed-points --cell rhn --depth 2 SMALL --starts 5 + fixed-points --cell lstm SMALL --starts 5
fixed-points: --cell rnn --hidden-size 4 --init gaussian:1 --steps 12 + fixed-points --cell rnn --hidden-size 4 --init gaussian:1 --steps 12 --starts 20
pseudospectra: --cell rnn --init gaussian:0.6 SMALL + pseudospectra --cell rnn --init gaussian:0.6 SMALL
pseudospectra-compare: compare lstm --cell rhn --depth 2 SMALL + pseudospectra --cell rhn --depth 2 SMALL + pseudospectra --cell lstm SMALL
leading: --cell lstm --hidden-size 40 --init gaussian:0.3 --leading 4 --steps 4
record: recording record.npz
record-of-training: recording run
"""
COMPARISONS = """
compare-cells: rhn,rnn,lstm,irnn --depth 2 SMALL
compare-depth: rhn --set depth=1 depth=2 depth=5 SMALL
compare-init: rnn --set init=uniform:0.04 init=identity init=gaussian:0.5 init=scaled SMALL
compare-bias: rhn --set transform_bias=-2 transform_bias=-1 transform_bias=-4 SMALL
compare-bias-lstm: lstm --set forget_bias=0 forget_bias=2 SMALL
compare-seed: gru --set seed=0 seed=1 seed=2 SMALL
compare-size: gru --set hidden-size=64 hidden-size=4 hidden-size=7 --steps 5
compare-files: trained-new.safetensors,trained.safetensors --steps 6
compare-many: rhn --set transform_bias=-2 transform_bias=-1 transform_bias=-4 --hidden-size 5 --sequences 3 --seeds 2 --steps 6
sequences: rhn --depth 2 --hidden-size 5 --sequences 4
seeds: lstm --seeds 3 SMALL
sequences-of-input: lstm --hidden-size 5 --input sequences.npy --sequences 3
sequences-of-text: language.safetensors --input novel.txt --sequences 3 --steps 8
before-training: trained.safetensors --before-training --steps 8 + fixed-points --checkpoint trained.safetensors --steps 8 --starts 6
language-before-training: language.safetensors --before-training --input novel.txt --steps 9
"""
REPORTS = """
checkpoint: trained.safetensors --steps 8
language: language.safetensors --input novel.txt --steps 9
training: run --steps 8
"""
ANALYSES = """
gates: gates trained.safetensors --chorales bwv269 bwv66.6
lesion: lesion trained.safetensors --split test --pairs
"""
RUNS = """
study-smoke: optim-study run --preset smoke --out run --jobs 1 JSON
study-small: optim-study run --preset small --arch dt-rnn rhn --depth 1 4 --trials 4 --epochs 8 --patience 4 --out run --jobs 1 JSON
study-cells: optim-study run --preset smoke --arch rnn irnn lstm gru orthogonal leaky --trials 2 --epochs 2 --out run --jobs 1 JSON
chorales: rhn train jsb-depth-5 --hidden-size 12 --epochs 3 --out whole JSON + rhn train jsb-depth-5 --hidden-size 12 --epochs 1 --out run JSON + rhn resume run --epochs 3 JSON + rhn evaluate run JSON + rhn sample run --output run/chorale.mid --bars 6 + analyze gates run --chorales bwv269 JSON + analyze lesion run --split test --pairs JSON
chorales-wide: rhn train jsb-depth-2 --epochs 2 --out run JSON
chorales-adam: rhn train jsb-depth-1 --hidden-size 12 --epochs 2 --optimizer adam --learning-rate 0.001 --out run JSON
words: rhn train ptb-sota --epochs 3 WORDS --out whole JSON + rhn train ptb-sota --epochs 1 WORDS --out run JSON + rhn resume run --epochs 3 JSON + rhn evaluate run --mc 2 JSON + rhn generate run --length 40 + analyze gates run JSON + analyze lesion run --max-tokens 300 JSON
words-torch7: rhn train ptb-torch7 --epochs 2 --seeds 2 WORDS --out run JSON
words-wide: rhn train ptb-depth-3 --data ptb --hidden-size 200 --epochs 3 --out run JSON
words-lstm: rhn train ptb-variational-lstm-tied --epochs 2 WORDS --out run JSON
words-modern: rhn train ptb-modern --epochs 2 --averaging 1 WORDS --out run JSON
characters: rhn train enwik8-10x1000 --epochs 2 LETTERS --out whole JSON + rhn train enwik8-10x1000 --epochs 1 LETTERS --out run JSON + rhn resume run --epochs 2 JSON + rhn generate run --length 40 --top-k 9
"""
SHORT = {
    "SMALL": "--hidden-size 6 --steps 5",
    "TINY": "--hidden-size 8 --init gaussian:1e-4 --learning-rate 0.1",
    "JSON": "--json --device cpu",
    "WORDS": "--data ptb --hidden-size 16 --window 10 --batch-size 5",
    "LETTERS": "--data ptb/ptb.train.txt --characters --tied --hidden-size 20 --depth 3 "
    "--window 20 --batch-size 8",
}
# where a case reads run
TRAINING = "train jsb-depth-2 --hidden-size 6 --epochs 2 --device cpu --out run --record 5"


def command_lines() -> dict[str, tuple[str, str]]:
    """{case: (command, its options)} of the tables, and of every cell of the registry."""
    kinds = [*CELLS, "torch.nn:RNN", "torch.nn:LSTM", "torch.nn:GRU", "torch.nn:GRUCell"]
    lines = {
        f"plot-cell-{kind.replace(':', '-')}": ("plot", f"--cell {kind} SMALL") for kind in kinds
    }
    for kind in ("dt-rnn", "dts-rnn", "rhn"):
        lines |= {
            f"plot-cell-{kind}-depth{k}": ("plot", f"--cell {kind} --depth {k} SMALL")
            for k in (2, 5)
        }
    tables = {
        "plot": PLOTS,
        "compare": COMPARISONS,
        "report": REPORTS,
        "analyze": ANALYSES,
    }
    for command, table in (tables | {"run": RUNS}).items():
        rows = [line.split(": ", 1) for line in table.strip().splitlines()]
        before = "plot" if command == "compare" else command  # the command that had these options
        lines |= {f"{before}-{name}": (command, words) for name, words in rows}
    full = {word: SHORT.get(word, word) for _, words in lines.values() for word in words.split()}
    return {
        name: (command, " ".join(full[word] for word in words.split()))
        for name, (command, words) in lines.items()
    }


COMMAND_LINES = command_lines()


def frames(T: int = 10, m: int = 3) -> torch.Tensor:
    """Inputs (T, m)."""
    return noise(T, m, seed=3)


def drawn(result, draw: str = ""):
    """A result, and the figure that a function draws of it, if not its plot."""
    if not draw:
        return {"result": result, "figure": result.plot().figure.figure}
    homes = "figures", "analyses.bands", "recording"
    modules = [import_module(f"gersgorin.{home}") for home in homes]
    return {
        "result": result,
        "figure": next(getattr(m, draw) for m in modules if hasattr(m, draw))(result),
    }


def compared() -> dict:
    """Two networks over three sequences, and their figure."""
    found = g.compare(
        [cell_of(RNN, 3, 5), cell_of(RHN, 3, 5)], [*noise(3, 8, 3)], over=("seeds", "sequences")
    )[0]
    return {
        "result": found,
        "figure": import_module("gersgorin.analyses.bands").draw_bands([found]),
    }


def analysis(*arguments, **options) -> dict:
    found = g.analyze(*arguments, **options)
    return {
        "fields": found,
        "table": found.table(),
        "words": found.summary(),
        "figure": found.plot().figure.figure,
    }


def nats_a_frame(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    costs = F.binary_cross_entropy_with_logits(output, y, reduction="none")
    return costs.sum(-1).mean()


def halved_squares(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((output - y).square().sum(-1) / 2).mean()


def checked(model, loss_fn=nats_a_frame) -> dict:
    """A check on next frames by SGD."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x, y = rolls()[:-1], rolls()[1:]
    options = {"batch_axis": 1, "steps": 60, "seconds": 300.0}
    found = g.check(model, x, y, loss_fn, optimizer, **options)
    return {"json": found.to_json(), "words": found.summary()}


def matrices() -> dict:
    """Functions of matrices."""
    A = noise(3, 5, 5, seed=9) / 2
    names = (
        "eigenvalues eigenvalue_conditions spectral_radius departure_from_normality "
        "numerical_radius "
    )
    names += "jacobian_product cumulative_log_norms finite_time_exponent gersgorin_discs"
    found = {name: getattr(linalg, name)(A) for name in names.split()}
    found |= {"columns": linalg.gersgorin_discs(A, "column")}
    axis = torch.linspace(-2, 2, 7, dtype=torch.float64)
    found |= {
        "pseudospectrum": linalg.pseudospectrum(A[0], axis + 1j * axis[:, None]),
        "half_life": linalg.half_life(-0.1),
    }
    return found


def inclusion() -> dict:
    """All inclusion sets of one matrix: what they hold, and their outlines."""
    sets, A = import_module("gersgorin.linalg.inclusion").INCLUSION_SETS, noise(6, 6, seed=9) / 2
    z = torch.linspace(-4, 4, 33, dtype=torch.float64)
    return {
        name: {"holds": build(A).contains(z), "outline": build(A).outline(17)}
        for name, build in sets.items()
    }


def steps_of(cell) -> dict:
    """Functions of single steps, with and without their matrices."""
    x = frames()
    s = g.trajectory(cell, x).detach()
    found = {
        name: getattr(g, name)(cell, x, s[:-1])
        for name in ("temporal_jacobian", "input_jacobian", "layer_jacobians")
    }
    operators = import_module("gersgorin.run.operators")
    A = operators.StepOperator.of_step(
        import_module("gersgorin.run.cell").as_cell(cell), x[4], s[4]
    )
    found |= dict(zip(("row", "column"), A.discs(), strict=True))
    return found | {"leading": A.eigenvalues(2), "states": s}


def words_influence():
    ids = torch.tensor([0, 2, 4, 0, 3, 1, 0, 2])[:, None]
    model = seeded(LanguageModel, "gru", vocabulary_size=5, hidden_size=4)
    return g.influence(model, ids[:-1], of="categorical", y=ids[1:])


def extract() -> list:
    cell, x = g.extract_cell(seeded(nn.LSTM, 3, 4), frames().float())
    return [type(cell).__name__, x]


def henon(s: torch.Tensor) -> torch.Tensor:
    return torch.stack((1 - 1.4 * s[..., 0] ** 2 + s[..., 1], 0.3 * s[..., 0]), -1)


def seeded(build, *arguments, **options):
    torch.manual_seed(7)
    return build(*arguments, **options)


def own(name: str) -> nn.Module:
    return getattr(import_module("own_networks"), name)()


CALLS = {
    "measure": lambda: g.spectra("rhn", frames(), depth=2, hidden_size=6, init="gaussian:0.4"),
    "measure-chorale": lambda: g.spectra("lstm", "bwv66.6", hidden_size=5, steps=7, discs="both"),
    "measure-module": lambda: g.spectra(own("TwoLayers"), frames().float()),
    "measure-leading": lambda: g.spectra("gru", frames(5), hidden_size=30, leading=3),
    "measure-file": lambda: drawn(g.spectra("./trained.safetensors", steps=6), "draw_run"),
    "analyze-cell": lambda: analysis(cell_of(RHN, 3, 6, 2), frames()),
    "analyze-model": lambda: analysis(model_of(depth=2), rolls()),
    "analyze-own": lambda: analysis(own("Loop"), rolls(), loss="squared"),
    "analyze-torch": lambda: analysis(seeded(nn.GRU, 3, 4, num_layers=2), frames().float()),
    "steps-rhn": lambda: steps_of(cell_of(RHN, 3, 6, 2)),
    "steps-lstm": lambda: steps_of(cell_of(LSTM, 3, 4)),
    "steps-callable": lambda: g.temporal_jacobian(
        lambda x, s: torch.tanh(s.flip(-1) + x), frames(4), noise(4, 3)
    ),
    "matrices": matrices,
    "inclusion": inclusion,
    "lyapunov": lambda: drawn(g.lyapunov(cell_of(RNN, 3, 5), frames(300), warmup=20)),
    "lyapunov-map": lambda: g.lyapunov(henon, None, s0=noise(2) / 10, steps=200),
    "fixed-points": lambda: drawn(g.fixed_points(cell_of(RNN, 3, 4), frames()[0], noise(12, 4))),
    "fixed-points-gru": lambda: g.fixed_points(cell_of(GRU, 3, 4), frames()[0], noise(6, 4)),
    "ensemble": lambda: compared(),
    "influence": lambda: drawn(g.influence(model_of(depth=2), rolls())),
    "influence-words": words_influence,
    "influence-own": lambda: g.influence(own("Loop"), rolls(), of="squared", y=rolls()),
    "check": lambda: checked(model_of("dt-rnn", depth=3)),
    "check-own": lambda: checked(own("Loop"), halved_squares),
    "recorder": lambda: drawn(recording(), "draw_recording"),
    "extract": extract,
}
