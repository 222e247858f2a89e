"""The command `gersgorin`: the numbers of each subcommand are those of the Python call, files are
written, and wrong words are one sentence and exit code 2 before the work.
"""

import csv
import inspect
import json
import runpy
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gersgorin import Recorder, compare, fixed_points, influence, open_run, spectra, truncation
from gersgorin.catalog import ANALYSES as ROWS
from gersgorin.cli.commands import COMMANDS, main
from gersgorin.cli.options import AnalysisOptions, NetworkOptions
from gersgorin.cli.work import function_of
from gersgorin.results import load
from rhn.cells import LSTM, RHN, RNN
from rhn.checkpoints import save
from rhn.data import chorale
from rhn.data.text import Vocabulary
from rhn.models import PolyphonicModel
from rhn.training.build import build_model
from rhn.training.config import LanguageConfig
from rhn.utils.seeds import weights_generator
from rhn.utils.tables import MORE

SMALL = ["--hidden-size", "6", "--steps", "7"]
RHN2 = ["--cell", "rhn", "--depth", "2", "--seed", "3", *SMALL]
DATA = {"data": "bwv269", "unit": "quarter notes"}
NAMES = (*(row.command for row in ROWS), "run", "recording")
TABLE = {name: COMMANDS[name].default_command for name in NAMES}
ANALYSES = [name for name, one in TABLE.items() if issubclass(one, AnalysisOptions)]
pytestmark = pytest.mark.usefixtures("own_folder")


def x_of(steps: int = 7) -> torch.Tensor:
    return torch.from_numpy(np.array(chorale("bwv269")))[:steps].double()


def cell_of(kind=RHN, units: int = 6, seed: int = 3, **sizes):
    generator = torch.Generator().manual_seed(seed)
    return kind(88, units, **sizes, dtype=torch.float64, generator=generator)


def run(*words) -> int:
    return main([*map(str, words)])


def printed(capsys, *words) -> dict:
    """The JSON object that a command prints, which it also writes."""
    assert run(*words, "--json", "--output", "a.json") == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert json.loads(out) == json.loads(Path("a.json").read_text())
    return json.loads(out, parse_constant=pytest.fail)


def radii(found: dict) -> list[float]:
    values = found["arrays"]["eigenvalues"]
    return [abs(complex(*z[:1], *w[:1])) for z, w in zip(*values.values(), strict=True)]


def wanted_radii(cell, x) -> list[float]:
    """Of the Jacobians by torch along a plain loop."""
    s, found = torch.zeros(cell.state_size).double(), []
    for x_t in x:
        A = torch.autograd.functional.jacobian(lambda s, x_t=x_t: cell.step(x_t, s), s)
        found.append(float(torch.linalg.eigvals(A).abs().max()))
        s = cell.step(x_t, s).detach()
    return pytest.approx(found)


@pytest.mark.parametrize(
    "name", [name for name in ANALYSES if name not in ("influence", "truncation", "fixed-points")]
)
def test_a_command_gives_the_numbers_of_the_python_call(name, capsys):
    own = {"lyapunov": {"count": 2, "seed": 3}, "pseudospectra": {"side": 5}}.get(name, {})
    words = [word for key, value in own.items() if key != "seed" for word in (f"--{key}", value)]
    found = function_of(TABLE[name].analysis)(cell_of(depth=2), x_of(), **DATA, **own)
    assert printed(capsys, name, *RHN2, *words) == json.loads(json.dumps(found.to_dict()))
    assert run(name, *RHN2, *words, "--output", "b.npz", "b.json", "--csv", "b.csv") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{found}\n") and MORE + found.page in out
    assert out.endswith("file: b.json\n")
    assert str(load("b.npz")) == str(load("b.json")) == str(found)
    with Path("b.csv").open() as file:
        rows = [*csv.reader(file)]
    lines = json.loads(Path("b.json").read_text())["table"]
    columns = list(dict.fromkeys(column for line in lines for column in line))
    texts = [[str(line.get(name, "")) for name in columns] for line in lines]
    assert rows == [columns, *texts]


def test_the_whole_table_is_printed_if_asked(capsys):
    assert run("products", *RHN2, "--whole", "--output", "b.npz", "b.png") == 0
    files = "file: b.npz\nfigure: b.png\n"
    assert capsys.readouterr().out == f"{load('b.npz').whole()}\n{files}"
    assert Path("b.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["plot", "products", "gains", "gates"])
def test_a_table_in_a_file_has_the_median_and_the_ends_of_each_row(name, capsys):
    assert run(name, *RHN2, "--output", "a.npz", "--csv", "a.csv", "--curves", "steps.csv") == 0
    printed_lines = capsys.readouterr().out.splitlines()
    assert printed_lines[-3:] == ["file: a.csv", "file: steps.csv", "file: a.npz"]
    with Path("a.csv").open(newline="") as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    with Path("steps.csv").open(newline="") as file:
        steps = [*csv.DictReader(file)]
    found = load("a.npz")
    assert [*lines] == [*found.table()]
    assert [line["step"] for line in steps] == [str(t) for t in range(found.steps)]
    for row, value in found.table().items():
        numbers = {key: float(text) for key, text in lines[row].items() if text and key != "row"}
        if not np.ndim(value):
            assert numbers == {"value": pytest.approx(value, nan_ok=True)}
            continue
        known = value[~np.isnan(value)]
        ends = {"median": np.median(known), "smallest": min(known), "largest": max(known)}
        assert numbers == pytest.approx(ends, rel=1e-15)
        np.testing.assert_array_equal([float(line[row]) for line in steps], value)


def test_growth_and_running_exponents_go_over_steps(capsys):
    half = ["--module", "nets.py:half", "--state-size", 1, "--steps", 9, "--output", "a.npz"]
    Path("nets.py").write_text("def half(x, s):\n    return s / 2\n")
    for name, column, wanted in (
        ("plot", "log10 ||ds[t+1]/ds[0]||", np.log10(0.5) * np.arange(1, 10)),
        ("lyapunov", "exponent 1", np.full(9, np.log(0.5))),
    ):
        assert run(name, *half, "--curves", "a.csv") == 0, capsys.readouterr().err
        with Path("a.csv").open(newline="") as file:
            steps = [*csv.DictReader(file)]
        first = 1 if name == "lyapunov" else 0  # the number of steps that were counted
        assert [int(line["step"]) for line in steps] == list(range(first, 9 + first))
        np.testing.assert_allclose([float(line[column]) for line in steps], wanted)


def test_curves_of_a_comparison_have_the_medians_of_each_network(capsys):
    words = ["compare", "--cell", "rnn", "gru", "--seeds", 3, *SMALL, "--output", "a.npz"]
    assert run(*words, "--curves", "a.csv") == 0, capsys.readouterr().err
    with Path("a.csv").open(newline="") as file:
        steps = [*csv.DictReader(file)]
    found = load("a.npz")
    assert [line["network"] for line in steps] == ["rnn"] * 7 + ["gru"] * 7
    assert [line["step"] for line in steps] == [str(t) for t in range(7)] * 2
    for name, column in (("spectral_radius", "spectral radius"), ("norm", "2-norm")):
        wanted = [np.median(getattr(one, name), 0) for one in found.networks]
        got = [float(line[column]) for line in steps]
        np.testing.assert_allclose(got, np.concatenate(wanted), rtol=1e-15)
    growth = [float(line["log10 ||ds[t+1]/ds[0]||"]) for line in steps]
    wanted = [np.median(one.log_norm_product, 0) / np.log(10) for one in found.networks]
    np.testing.assert_allclose(growth, np.concatenate(wanted), rtol=1e-12)


def test_influence_of_outputs_and_of_a_loss(capsys):
    found = influence(cell_of(LSTM), x_of(), **DATA)
    got = printed(capsys, "influence", "--cell", "lstm", "--seed", 3, *SMALL)
    assert got["arrays"]["influence"] == found.influence.tolist()
    model, _ = trained_model("lstm", 1)
    found = influence(model, x_of()[:-1], of="bernoulli", y=x_of()[1:], **DATA, seed=3)
    words = ["--checkpoint", "mine.safetensors", "--seed", 3, "--steps", 7, "--of", "bernoulli"]
    assert printed(capsys, "influence", *words) == json.loads(json.dumps(found.to_dict()))


def test_truncation_for_the_loss_of_a_checkpoint(capsys):
    model, _ = trained_model("lstm", 1)
    found = truncation(model, [x_of()[:-1]], [x_of()[1:]], "bernoulli", **DATA)
    words = ["--checkpoint", "mine.safetensors", "--steps", 7]
    assert printed(capsys, "truncation", *words) == json.loads(json.dumps(found.to_dict()))
    assert run("truncation", *words, "--csv", "t.csv", "--output", "t.npz", "t.png") == 0
    assert str(load("t.npz")) == str(found)
    assert run("truncation", *words, "--state-size", 3) == 2
    assert run("truncation", "--cell", "lstm") == 2


def test_fixed_points(capsys):
    found = fixed_points(cell_of(RNN), x_of(), starts=5, seed=3, **DATA)
    got = printed(capsys, "fixed-points", "--cell", "rnn", "--seed", 3, *SMALL, "--starts", 5)
    assert got == json.loads(json.dumps(found.to_dict()))


def test_compare_of_cells_depths_and_seeds(capsys):
    cells = {
        ("rnn", ""): cell_of(RNN),
        ("rhn", "depth 1"): cell_of(),
        ("rhn", "depth 2"): cell_of(depth=2),
    }
    found = compare(cells, x_of(), **DATA)
    words = ["--cell", "rnn", "rhn", "--depth", 1, 2, "--seed", 3, *SMALL]
    assert printed(capsys, "compare", *words) == json.loads(json.dumps(found.to_dict()))
    biased = {"rhn": cell_of(transform_bias=-1)}
    found = compare(biased, x_of(), **DATA)
    words = ["--cell", "rhn", "--transform-bias=-1", "--seed", 3, *SMALL]
    assert printed(capsys, "compare", *words) == json.loads(json.dumps(found.to_dict()))
    several = {
        ("rhn", f"depth 2, transform bias {bias}"): cell_of(depth=2, transform_bias=bias)
        for bias in (-4, 0.5)
    }
    found = compare(several, x_of(), **DATA)
    words = ["--cell", "rhn", "--depth", 2, "--transform-bias", -4, 0.5, "--seed", 3, *SMALL]
    assert printed(capsys, "compare", *words) == json.loads(json.dumps(found.to_dict()))
    seeds = {"lstm": [cell_of(LSTM), cell_of(LSTM, seed=4)]}
    found = compare(seeds, x_of(), **DATA)
    words = ["--cell", "lstm", "--seeds", 2, "--seed", 3, *SMALL]
    assert printed(capsys, "compare", *words) == json.loads(json.dumps(found.to_dict()))


def test_compare_of_trained_networks_and_modules(capsys):
    Path("nets.py").write_text(NETS)
    model, before = trained_model("rhn", 2)
    words = ["mine.safetensors", "nets.py:Net", "--steps", 5, "--before-training"]
    found = printed(capsys, "compare", *words)["networks"]
    assert [(one["row"], one["column"]) for one in found] == [
        ("mine.safetensors", "before training"),
        ("mine.safetensors", "trained"),
        ("", "nets.py:Net"),
    ]
    for one, wanted in zip(found[:2], (before, model), strict=True):
        expected = wanted_radii(wanted.double().cells[0], x_of(5)).expected
        (radius,) = one["summary"]["numbers"]["spectral radius"]
        assert radius == pytest.approx(np.median(expected))


def test_compare_of_a_trained_network_beside_new_cells_and_of_a_step(capsys):
    trained_model("rhn", 2)
    (alone,) = printed(capsys, "compare", "mine.safetensors", "--steps", 5)["networks"]
    assert (alone["row"], alone["column"]) == ("", "mine.safetensors")
    words = ["mine.safetensors", "--cell", "rnn", "--hidden-size", 4, "--seeds", 2, "--steps", 5]
    found = printed(capsys, "compare", *words)["networks"]
    runs = {one["column"]: len(one["steps"]) for one in found}
    assert runs == {"rnn": 2, "mine.safetensors": 1}
    Path("nets.py").write_text(NETS)
    np.savetxt("flags.csv", [1, 0] * 3)
    step = ["nets.py:turns", "--state-size", 2, "--input", "flags.csv"]
    (found,) = printed(capsys, "compare", *step)["networks"]
    numbers = found["summary"]["numbers"]
    np.testing.assert_allclose(numbers["log10 ||ds[T]/ds[0]||"], [6 * np.log10(2)])


def trained_model(cell: str, depth: int, **train):
    """A model in mine.safetensors as a training run writes it, and the same before its training."""
    model, before = (
        PolyphonicModel(cell, hidden_size=6, depth=depth,
                        generator=weights_generator(3, cell, depth)) for _ in range(2)
    )  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1
    train = {"seed": 3, "cell": cell, "depth": depth} | train
    save("mine.safetensors", model, train=train, metrics={"epoch": 4})
    return model, before


def test_a_checkpoint_of_chorales_is_read(capsys):
    model, _ = trained_model("rhn", 2)
    found = printed(capsys, "plot", "--checkpoint", "mine.safetensors", "--steps", 5)
    assert radii(found) == wanted_radii(model.double().cells[0], x_of(5))
    save("cell.safetensors", model.cells[0])
    alone = printed(capsys, "plot", "--checkpoint", "cell.safetensors", "--steps", 5)
    assert alone["arrays"]["eigenvalues"] == found["arrays"]["eigenvalues"]


def test_weights_of_a_layer_of_torch(capsys):
    layer = torch.nn.LSTM(88, 5)
    save_file(layer.state_dict(), "layer.safetensors")
    words = ["plot", "--cell", "torch.nn:LSTM", "--checkpoint", "layer.safetensors", "--steps", 5]
    found = spectra(layer, x_of(5))
    assert radii(printed(capsys, *words)) == pytest.approx(found.spectral_radius.tolist())


MINIMAL = """
import torch
from rhn.cells import Cell


class Minimal(Cell):
    deep = False

    def __init__(self, m, n, depth=1, *, generator=None, device=None, dtype=None, **common):
        super().__init__(m, n, depth, **common)
        self.weight = torch.nn.Parameter(torch.empty(n, m + n, device=device, dtype=dtype))
        torch.nn.init.normal_(self.weight, 0, 0.2, generator=generator)

    def step(self, x, s):
        both = torch.cat((x.expand(*s.shape[:-1], -1), s), -1)
        return torch.tanh(both @ self.weight.T)


class Failing(Minimal):
    def step(self, x, s):
        raise ValueError("not today")
"""


def test_an_own_cell_new_and_trained(capsys):
    Path("own_cell_here.py").write_text(MINIMAL)
    mine = "own_cell_here:Minimal"
    new = printed(capsys, "plot", "--cell", mine, *SMALL)
    model = PolyphonicModel(mine, hidden_size=6, generator=torch.Generator().manual_seed(1))
    save("mine.safetensors", model)
    words = ["plot", "--checkpoint", "mine.safetensors", "--steps", 7]
    found = printed(capsys, *words, "--cell", mine)
    assert radii(found) == wanted_radii(model.double().cells[0], x_of()) != radii(new)
    for wrong, said in {
        ("plot", "--cell", "own_cell_here:Yours"): "cell is 'own_cell_here:Yours'",
        ("plot", "--cell", "own_cell_here:Failing"): "ValueError: not today",
        tuple(words): f"is {mine}: expected ",
        (*words, "--cell", "rhn"): f"cell is rhn: expected {mine}",
    }.items():
        assert run(*wrong) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error.splitlines()[0]


def test_a_language_model_runs_along_a_text(capsys):
    words = Vocabulary("words", ("the", "<eos>", "cat", "dog", "sees", "<unk>"))
    config = LanguageConfig(corpus="text", cell="rhn", hidden_size=6, depth=2, init="uniform:0.4")
    model = build_model(config, len(words))
    save("text.safetensors", model, train=asdict(config), vocabulary=words.to_json())
    Path("novel.txt").write_text("the cat sees the dog\nthe dog sees the bird\n" * 30)
    trained = ["plot", "--checkpoint", "text.safetensors", "--input", "novel.txt"]
    found = printed(capsys, *trained, "--steps", 7)
    assert (found["data"], found["unit"]) == ("novel.txt", "tokens")
    x = model.double().embedding[[0, 2, 4, 0, 3, 1, 0]]  # the cat sees the dog <eos> the
    assert radii(found) == wanted_radii(model.cells[0], x)
    assert len(printed(capsys, "products", *trained[1:])["arrays"]["log_norm"]) == 100
    save("two.safetensors", build_model(replace(config, layers=2), len(words)),
                    train=asdict(config), vocabulary=words.to_json())  # fmt: skip
    two = ["gates", "--checkpoint", "two.safetensors", "--input", "novel.txt"]
    assert run(*two) == 2 and "cells.0, cells.1" in capsys.readouterr().err
    assert printed(capsys, *two, "--layer", "cells.1")["names"][0] == "transform gate, layer 1"


NETS = """
import torch

UP = torch.tensor([[0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)


def turns(x, s):
    return (x * UP + (1 - x) * UP.T) @ s


def gates_of(x, s):
    return {"mine": torch.sigmoid(s)}


def made():
    return turns


def nameless():
    return lambda x, s: turns(x, s)


def make():
    return torch.nn.GRU(2, 8)


def make_with_sizes(m=2, n=8):
    return torch.nn.GRU(m, n)


class Sized(torch.nn.GRU):
    def __init__(self, m, n):
        super().__init__(m, n)


class Net(torch.nn.GRU):
    def __init__(self):
        super().__init__(88, 4)


class Around(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.RNN(2, 3)

    def forward(self, x):
        return self.rnn(2 * x)[0]


layer = torch.nn.RNN(2, 3)
number = 3
"""


@pytest.mark.parametrize(
    ("name", "network"),
    [
        pytest.param("turns", "turns", id="a step"),
        pytest.param("made", "turns", id="a function that returns a step"),
        pytest.param("nameless", "f(x, s)", id="a step without a name"),
    ],
)
def test_a_step_of_a_file_and_its_gates(name, network, capsys):
    Path("nets.py").write_text(NETS)
    np.savetxt("flags.csv", [1, 0] * 10)
    step = ["--module", f"nets.py:{name}", "--state-size", 2, "--input", "flags.csv"]
    found = printed(capsys, "products", *step)
    np.testing.assert_allclose(found["arrays"]["log_norm"], np.arange(1, 21) * np.log(2))
    assert found["network"].startswith(network)
    assert (found["data"], found["unit"], found["steps"]) == ("flags.csv", "time steps", 20)
    mean = printed(capsys, "gates", *step, "--of", "nets.py:gates_of")
    assert mean["names"] == ["mine"] and mean["arrays"]["mean"] == [[0.5]] * 20


LORENZ = """
import torch

def f(x, s):
    a, b, c = s.unbind()
    slope = torch.stack((10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c))
    return s + 0.01 * slope

class Pair(torch.nn.Module):
    def forward(self, x, state):
        h, c = state
        return c, h[:, :] + x  # of a batch
"""


def test_a_first_state_is_given_by_its_numbers_or_in_a_file(capsys):
    """At its fixed point 0 Lorenz's system never moves; its exponent there is not one of chaos."""
    Path("lorenz.py").write_text(LORENZ)
    np.savetxt("x.csv", np.zeros((300, 1)))
    np.save("start.npy", np.array([-1.0, 1.0, 20.0]))
    words = ["lyapunov", "--module", "lorenz.py:f", "--input", "x.csv"]
    rest = printed(capsys, *words, "--state-size", 3)
    numbers = printed(capsys, *words, "--s0", -1, 1, 20)
    assert rest["largest_move"] == 0 < numbers["largest_move"]
    assert rest["arrays"]["exponents"] != numbers["arrays"]["exponents"]
    assert numbers == printed(capsys, *words, "--s0", "start.npy", "--state-size", 3)
    step = runpy.run_path("lorenz.py")["f"]
    s, found = np.array([-1.0, 1.0, 20.0]), []
    for _ in range(300):
        found.append(s)
        s = step(None, torch.from_numpy(s)).numpy()
    found = np.array([*found, s])
    moved = abs(np.diff(found, axis=0)).max() / abs(found).max()
    assert numbers["largest_move"] == pytest.approx(moved, rel=1e-9)


def test_the_tensors_of_a_first_state_have_the_sizes_of_state_size(capsys):
    Path("lorenz.py").write_text(LORENZ)
    np.save("x.npy", np.ones((4, 2)))
    words = ["--module", "lorenz.py:Pair", "--input", "x.npy", "--state-size", 2, 2]
    assert run("run", *words, "--s0", 1, 2, 3, 4) == 0
    states = np.load("run.npz")["states"]
    assert states[:3].tolist() == [[1, 2, 3, 4], [3, 4, 2, 3], [2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--s0", "a", "b"], "s0 is a b: expected numbers, or one file", id="words"),
        pytest.param(["--s0", 1, 2, "--state-size", 3], "s0 is 2 numbers: expected 3", id="size"),
        pytest.param(["--s0", "a.txt"], "expected a name that ends in .npy", id="file"),
    ],
)
def test_a_first_state_that_is_none_is_refused(words, said, capsys):
    Path("lorenz.py").write_text(LORENZ)
    np.savetxt("x.csv", np.zeros((3, 1)))
    assert run("lyapunov", "--module", "lorenz.py:f", "--input", "x.csv", *words) == 2
    assert said in capsys.readouterr().err


IMPORTS = """
def step(x, s):
    import {name}
    return {name}.A * s
"""


@pytest.mark.parametrize(
    ("word", "name"), [("late/nets.py:step", "late_one"), ("late_nets:step", "late_two")]
)
def test_a_step_may_import_when_it_runs(word, name, capsys):
    folder = Path("late" if "/" in word else ".")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text("A = 0.5\n")
    (folder / ("nets.py" if "/" in word else "late_nets.py")).write_text(IMPORTS.format(name=name))
    found = printed(capsys, "products", "--module", word, "--state-size", 2, "--steps", 3)
    np.testing.assert_allclose(found["arrays"]["log_norm"], np.arange(1, 4) * np.log(0.5))


def test_a_module_of_a_file_new_and_with_weights(capsys):
    Path("nets.py").write_text(NETS)
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    np.save("x.npy", np.stack([x, 0 * x]))
    words = ["--input", "x.npy", "--steps", 5]
    with torch.random.fork_rng():
        torch.manual_seed(4)
        gru = torch.nn.GRU(2, 8)
    new = ["--module", "nets.py:make", "--seed", 4, *words]
    found = printed(capsys, "plot", *new)
    assert found["data"] == "x.npy[0]"
    np.testing.assert_allclose(radii(found), spectra(gru, x[:5]).spectral_radius)
    sizes = ["--module", "nets.py:make_with_sizes", "--seed", 4, *words]
    assert radii(printed(capsys, "plot", *sizes)) == radii(found)
    assert run("plot", "--module", "nets.py:Sized", *words) == 2
    assert "nets.py:Sized cannot be called" in capsys.readouterr().err
    assert (
        len(printed(capsys, "plot", "--module", "nets.py:layer", *words)["arrays"]["centers"][0])
        == 3
    )
    around = torch.nn.RNN(2, 3)
    torch.save({f"rnn.{name}": p for name, p in around.state_dict().items()}, "net.pt")
    found = printed(capsys, "plot", "--module", "nets.py:Around", "--checkpoint", "net.pt", *words)
    np.testing.assert_allclose(radii(found), spectra(around, 2 * x[:5]).spectral_radius)


def test_a_run_is_written_with_weights_and_jacobians(capsys):
    assert run("run", *RHN2, "--output", "run.npz", "--jacobians") == 0
    assert capsys.readouterr().out.endswith("file: run.npz\n")
    cell, found = cell_of(depth=2), np.load("run.npz")
    wanted = open_run(cell, x_of())
    np.testing.assert_array_equal(found["states"], wanted.states)
    np.testing.assert_array_equal(found["inputs"], x_of())
    np.testing.assert_array_equal(found["jacobians"], wanted.jacobians().detach())
    for name, weight in cell.state_dict().items():
        np.testing.assert_array_equal(found[f"weights.{name}"], weight)
    assert (found["network"], found["data"]) == ("rhn, depth 2, 6 units", "bwv269")

    class Own(torch.nn.Module):
        state_size = 4

        def __init__(self):
            super().__init__()
            self.cell = torch.nn.GRUCell(3, 4)

        def forward(self, x, s):
            return self.cell(x, s)

    file = open_run(Own(), torch.rand(5, 3)).save("own.npz")
    assert "weights.cell.weight_ih" in np.load(file).files and "jacobians" not in np.load(file)


def test_a_recording_of_a_training_run(capsys):
    model = torch.nn.RNN(3, 4)
    with Recorder(model, torch.rand(6, 3), every=1) as recorder:
        recorder.step(1.0)
    Path("mine").mkdir()
    recorder.recording.save("mine/record.npz")
    assert run("recording", "mine", "--output", "a.png") == 0
    assert capsys.readouterr().out.startswith(str(recorder.recording))


@pytest.mark.parametrize("name", ["influence", "fixed-points", "compare"])
def test_other_commands_draw_and_write(name, capsys):
    files = ["--output", "a.png", "a.npz", "--csv", "a.csv"]
    assert run(name, "--cell", "rnn", *SMALL, *files) == 0
    assert capsys.readouterr().out.startswith(f"{load('a.npz')}\n")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG") and Path("a.csv").read_text()


@pytest.mark.parametrize("name", TABLE)
def test_options_are_keywords_of_functions_and_figures(name):
    command = TABLE[name]
    if issubclass(command, AnalysisOptions):
        assert all(
            f.default in (None, ()) for f in fields(command) if hasattr(NetworkOptions, f.name)
        )
        function = inspect.signature(function_of(command.analysis)).parameters
        own = {f.name for f in fields(command)} - {f.name for f in fields(AnalysisOptions)}
        assert own - {*command.drawn, "curves"} <= function.keys()
    assert main([name, "--help"]) == 0


class LazilyAnnotated(type):
    """Classes as Python 3.14 makes them (PEP 649): annotations are computed, not stored."""

    @property
    def __annotations__(cls):
        return {name: cls.__dataclass_fields__[name].type for name in cls.__dataclass_fields__}


def lazily_annotated(kind: type) -> type:
    own = {k: v for k, v in vars(kind).items() if k not in ("__annotations__", "__dict__")}
    return LazilyAnnotated(kind.__name__, kind.__bases__, own)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plot", {"leading": 3}),
        ("influence", {"of": "squared", "feature": 1, "probes": 4}),
        ("truncation", {"loss_fn": "squared"}),
        ("fixed-points", {"starts": 7, "period": 2, "margin": 0.25}),
        ("lyapunov", {"count": 3, "warmup": 2, "repeat": 4}),
        ("pseudospectra", {"side": 9}),
    ],
    ids=str,
)
def test_own_options_reach_the_function_without_stored_annotations(name, options):
    shared = {"cell": "lstm", "hidden_size": 8, "steps": 5, "title": "mine", "seed": 1}
    for kind in (TABLE[name], lazily_annotated(TABLE[name])):
        assert kind(**options, **shared).keywords() == options
    figure = {"step": 2, "limit": 1.5} if name == "plot" else {}
    assert TABLE[name](**options, **figure).keywords() == options
