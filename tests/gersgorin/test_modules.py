"""Any module of a user's: built, given its weights, and looked at in the part that is named, as
torch itself runs it.
"""

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tables import for_each
from taggers import Tagger
from test_gersgorin_cli import expected_radii as expected
from torch import nn

import gersgorin
import rhn
from gersgorin import Recorder, extract_cell, spectra
from gersgorin.cli.analysis import main
from gersgorin.network.factory import build_module
from gersgorin.network.sequence_map import ModelWithData, SequenceMap
from gersgorin.network.trace import TracedCell
from rhn.cells import from_torch
from rhn.errors import CheckpointError
from rhn.weights import load_weights

pytestmark = pytest.mark.usefixtures("unarranged")

T, M = 9, 3
CODE = """
import torch
from torch import nn

class Seq2Seq(nn.Module):
    '''Reads (B, T, m), answers with a loop of single steps.'''
    def __init__(self, input_size=3, hidden_size=4):
        super().__init__()
        scale, rnn = nn.Linear(input_size, 5), nn.LSTM(5, hidden_size, 2, batch_first=True)
        self.encoder = nn.ModuleDict({"scale": scale, "rnn": rnn})
        self.decoder = nn.GRUCell(hidden_size, hidden_size)

    def forward(self, x):
        y, _ = self.encoder["rnn"](self.encoder["scale"](x))
        s, states = None, []
        for t in range(y.shape[1]):
            s = self.decoder(y[:, t], s)
            states.append(s)
        return torch.stack(states, 1)

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(7, 4), nn.GRU(4, 5)

    def forward(self, ids):
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(ids), [len(ids)] * ids.shape[1])
        return self.rnn(packed)[0]

class Cell(nn.Module):
    state_size = 4
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))

class Pair(Cell):
    state_size = (4, 4)
    def step(self, x, s):
        return s

class Infinite(Cell):
    def __init__(self):
        super().__init__()
        self.weight.data[0, 0] = torch.inf
    def step(self, x, s):
        return s @ self.weight

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.rnn = nn.LazyLinear(3), nn.GRU(3, 4)

made = nn.GRU(3, 4)
class OneByOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)
    def forward(self, x):
        T, m = x.shape
        state = None
        for x_t in x:
            state = self.cell(x_t, state)
        return state[0]

class Inherits(nn.GRU):
    pass

class Shared(nn.Module):
    '''One cell read twice, its state begun anew, and windows that carry it on.'''
    def __init__(self):
        super().__init__()
        self.rnn = Inherits(3, 3, 2)
    def forward(self, x):
        y, s = self.rnn(x[:4])
        z, _ = self.rnn(x[4:], s)
        return self.rnn(torch.cat((y, z)))[0]

"""


@pytest.fixture
def own(own_folder, monkeypatch) -> str:
    """The name of a module of the user's in the current folder."""
    # pictures have tests of their own
    monkeypatch.setattr("rhn.utils.figures.save_figure", lambda path, draw: None)
    name = f"own_{uuid.uuid4().hex[:8]}"
    Path(f"{name}.py").write_text(CODE)
    np.save(
        "x.npy",
        torch.rand(T, M, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).numpy(),
    )
    np.save("ids.npy", np.arange(T) % 7)
    return name


def radii(capsys, *args) -> list[float]:
    assert main([*map(str, args), "--json"]) == 0
    return [step["spectral_radius"] for step in json.loads(capsys.readouterr().out)["steps"]]


def test_a_part_of_a_larger_module_is_looked_at_along_what_it_reads_there(own, capsys):
    model = build_module(f"{own}:Seq2Seq", input_size=M, seed=5).double()
    x = torch.from_numpy(np.load("x.npy"))
    y = model.encoder["scale"](x)
    run = ["--module", f"{own}:Seq2Seq", "--input", "x.npy", "--seed", 5]
    stack = from_torch(model.encoder["rnn"])
    assert (
        radii(capsys, *run)
        == radii(capsys, *run, "--submodule", "encoder.rnn")
        == expected(stack, y)
    )
    assert radii(capsys, *run, "--layer", 3) == radii(capsys, *run, "--submodule", "decoder")
    decoded, _ = model.encoder["rnn"](y)
    found = radii(capsys, *run, "--submodule", "decoder")
    assert found == expected(from_torch(model.decoder), decoded)
    upper = spectra(model, x[None], layer=2)
    assert upper.title == "encoder.rnn: LSTM, layer 2 of 2, 4 units"
    # of two cells, neither was chosen
    assert spectra(model, x[None]).title == "encoder.rnn: LSTM, 2 layers, 4 units"
    assert radii(capsys, *run, "--layer", 2) == expected(
        TracedCell(model, 2).cell, TracedCell(model, 2).along(x[None]).inputs[:, 0]
    )
    part = spectra(model, x[None], submodule="decoder")
    assert part.title == "decoder: GRUCell, 4 units" and part.spectral_radius == pytest.approx(
        found
    )
    assert Recorder(model, x[None], submodule="decoder").recording.title == part.title


def test_a_cell_in_a_loop_or_called_in_windows_reads_one_sequence(own, capsys):
    x = torch.from_numpy(np.load("x.npy"))
    model = build_module(f"{own}:OneByOne", input_size=M).double()
    run = ["--module", f"{own}:OneByOne", "--input", "x.npy"]
    assert radii(capsys, *run) == expected(from_torch(model.cell), x)
    shared = build_module(f"{own}:Shared", input_size=M).double()
    cell, inputs = extract_cell(shared, x[:, None])
    assert torch.equal(inputs[:, 0], x)
    assert torch.equal(cell.cells[1].weight_hh, shared.rnn.weight_hh_l1)
    assert radii(capsys, *run) == spectra(model, x).spectral_radius.tolist()


def test_ids_of_tokens_and_packed_sequences_reach_the_cell(own, capsys):
    model = build_module(f"{own}:Words", input_size=1).double()
    embedded = model.embedding(torch.from_numpy(np.load("ids.npy")))
    assert radii(capsys, "--module", f"{own}:Words", "--input", "ids.npy") == expected(
        from_torch(model.rnn), embedded
    )
    cell, inputs = extract_cell(model, np.load("ids.npy"), batch_axis=1)
    assert torch.equal(inputs[:, 0], embedded) and torch.equal(
        cell.weight_hh, model.rnn.weight_hh_l0
    )


def test_factories_get_the_sizes_that_they_take_and_seeds_their_weights(own, capsys):
    for name, units in (("torch.nn:LSTM", 64), (f"{own}:Seq2Seq", 4), (f"{own}:made", 4)):
        module = build_module(name, input_size=M)
        assert next(p for p in reversed([*module.parameters()]) if p.dim() > 1).shape[1] == units
    assert (
        build_module(f"{own}:Seq2Seq", input_size=6, hidden_size=9).encoder["scale"].in_features
        == 6
    )
    before = torch.get_rng_state()
    first, again, other = (
        radii(capsys, "--module", "torch.nn:GRU", "--input", "x.npy", "--seed", k)
        for k in (1, 1, 2)
    )
    assert first == again != other and torch.equal(torch.get_rng_state(), before)


def test_weights_of_every_common_kind_of_file_are_the_module_s(own, capsys):
    trained = build_module(f"{own}:Seq2Seq", input_size=M, seed=9)
    state = trained.state_dict()
    save_file(state, "a.safetensors")
    torch.save(state, "b.pt")
    torch.save({"epoch": 3, "model": state, "note": "best"}, "c.ckpt")
    torch.save({f"module._orig_mod.{name}": t for name, t in state.items()}, "d.bin")
    # of Lightning
    torch.save({"state_dict": {f"model.{name}": t for name, t in state.items()}}, "e.ckpt")
    run = ["--module", f"{own}:Seq2Seq", "--input", "x.npy"]
    wanted = radii(capsys, *run, "--seed", 9)
    assert radii(capsys, *run) != wanted
    for file in ("a.safetensors", "b.pt", "c.ckpt", "d.bin", "e.ckpt"):
        assert radii(capsys, *run, "--checkpoint", file) == wanted, file


def test_damaged_and_integer_weights_are_refused(own):
    state = build_module(f"{own}:Seq2Seq", input_size=M, seed=9).state_dict()
    torch.save(state, "a.pt")
    file = bytearray(Path("a.pt").read_bytes())
    file[file.index(next(iter(state.values())).numpy().tobytes())] ^= 1
    Path("a.pt").write_bytes(file)
    torch.save({name: t.int() for name, t in state.items()}, "b.pt")
    for name, said in (
        ("a.pt", "the checksum of"),
        ("b.pt", "holds torch.int32, expected"),
    ):
        with pytest.raises(CheckpointError, match=said):
            load_weights(build_module(f"{own}:Seq2Seq", input_size=M), Path(name))


def test_a_layer_of_torch_needs_no_code_of_the_user(own, capsys):
    """The command is that of the page."""
    page = Path(__file__).parents[2] / "docs/guides/own-data.md"
    (line,) = [
        line
        for line in page.read_text().splitlines()
        if "--cell torch.nn:LSTM --checkpoint" in line
    ]
    _, command, *args = line.strip("`. ").split()
    assert command == "plot"
    lstm, x = nn.LSTM(M, 6, num_layers=2), np.load("x.npy")
    np.savetxt("pendulum.csv", x, delimiter=",")
    for prefix in ("", "model.rnn."):
        torch.save({f"{prefix}{name}": t for name, t in lstm.state_dict().items()}, "weights.pt")
        found = radii(capsys, *args)
        assert found == expected(from_torch(lstm.double()), torch.from_numpy(x))
        lstm.float()
    assert main([*args, "--hidden-size", "6"]) == 2
    assert "cannot be given with --checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, nn.GRUCell])
def test_weights_of_a_layer_of_torch_are_loaded_by_its_name(own, caplog, kind):
    layer, x = kind(M, 5), torch.rand(1, M)
    torch.save(
        {"state_dict": {f"model.{name}": t for name, t in layer.state_dict().items()}}, "w.pt"
    )
    loaded = rhn.load("w.pt", cell=f"torch.nn:{kind.__name__}")
    after = layer(x) if kind is nn.GRUCell else layer(x[None])[0][0]
    assert torch.allclose(
        loaded.outputs_of(loaded.step(x, torch.zeros(1, loaded.state_size))), after
    )
    # a state_dict does not name the activation
    assert ("tanh is assumed" in caplog.text) == (kind is nn.RNN)


def test_weights_that_are_not_those_of_the_layer_are_refused(own):
    torch.save(nn.GRU(M, 5).state_dict(), "gru.pt")
    with pytest.raises(CheckpointError, match=r'in Python give cell="torch\.nn:LSTM"'):
        rhn.load("gru.pt")
    with pytest.raises(
        CheckpointError, match=r"weight_ih_l0 has the shape \(15, 3\), expected \(20"
    ):
        rhn.load("gru.pt", cell="torch.nn:LSTM")
    with pytest.raises(CheckpointError, match="no record of its initial weights"):
        rhn.load("gru.pt", cell="torch.nn:GRU", before_training=True)
    torch.save(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3)).state_dict(), "linear.pt")
    with pytest.raises(CheckpointError, match=r"holds 0\.weight, 0\.bias, 1\.weight and 1 more"):
        rhn.load("linear.pt", cell="torch.nn:GRU")
    torch.save({name: t * torch.nan for name, t in nn.GRU(M, 5).state_dict().items()}, "nan.pt")
    with pytest.raises(CheckpointError, match="weight_ih_l0 holds NaN"):
        rhn.load("nan.pt", cell="torch.nn:GRU")


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_weights_of_torch_s_own_modules_say_how_large_they_are(own, capsys, kind):
    theirs = kind(M, 6, num_layers=3, bias=False)
    torch.save({"state_dict": theirs.state_dict()}, "w.pt")
    args = ["--module", f"torch.nn:{kind.__name__}", "--checkpoint", "w.pt", "--input", "x.npy"]
    assert radii(capsys, *args) == expected(
        from_torch(theirs.double()), torch.from_numpy(np.load("x.npy"))
    )
    torch.save(kind(M, 6, bidirectional=True).state_dict(), "w.pt")
    assert main(args) == 2 and "expected one direction" in capsys.readouterr().err
    torch.save(kind(M + 1, 6).state_dict(), "w.pt")
    assert main(args) == 2 and f"reads (9, 1, 3): expected (T, {M + 1})" in capsys.readouterr().err


class Bomb:
    def __reduce__(self):
        return Path("exploded").touch, ()


def test_weights_that_do_not_fit_or_do_more_are_refused(own):
    module = build_module(f"{own}:Seq2Seq", input_size=M)
    before = module.state_dict()
    first = next(iter(before))
    files = {
        "lacks": ({k: t for k, t in before.items() if k != first}, f"the file lacks {first}$"),
        "extra": (before | {"more": torch.zeros(1)}, "the file also has more$"),
        "shape": (
            before | {first: torch.zeros(1).expand(10**6, 10**6)},
            rf"{first} has the shape \(1000000, 1000000\), expected",
        ),
        "both": (
            {f"other.{k}": t for k, t in before.items()} | {"more": torch.zeros(1)},
            r"the file lacks \S+, \S+ and \d+ more, and has \S+ and \d+ more instead$",
        ),
        "bomb": (
            {"state_dict": Bomb()},
            "contains more than tensors, and nothing else is unpickled",
        ),
        "list": ([1, 2], "holds a list: expected a state_dict"),
        "other": ({"epoch": 3}, "holds a dict: expected a state_dict"),
    }
    for name, (value, _) in files.items():
        torch.save(value, f"{name}.pt")
    Path("cut.pt").write_bytes(Path("lacks.pt").read_bytes()[:200])
    Path("cut.safetensors").write_bytes(b"\xff" * 40)
    np.savez("w.npz", **{name: t.numpy() for name, t in before.items()})
    Path("text.pt").write_text("a,b\n1,2\n")
    words = {f"{name}.pt": said for name, (_, said) in files.items()}
    words |= {
        "cut.pt": "not a complete",
        "cut.safetensors": "not a complete",
        "text.pt": "another kind, truncated or damaged",
        "w.npz": "w.npz is a .npz file, which holds no weights of torch: expected what",
        "x.npy": "x.npy is a .npy file, which",
        "nowhere.pt": "there is no file",
    }
    for name, said in words.items():
        with pytest.raises(CheckpointError, match=said):
            load_weights(module, Path(name))
    with pytest.raises(CheckpointError, match=r"w\.npz is a \.npz file, which holds no weights"):
        rhn.load("w.npz")
    assert not Path("exploded").exists()


@for_each(
    ("args", "words"),
    [
        (
            "--module {}:Seq2Seq --submodule encoder.rn",
            "no submodule 'encoder.rn': did you mean 'encoder.rnn'",
        ),
        (
            "--module {}:Seq2Seq --submodule encoder.scale",
            "the submodule 'encoder.scale', of the class Linear, has no recurrent cell: the "
            "submodules with a recurrent cell are encoder, encoder.rnn",
        ),
        ("--module {}:Seq2Seq --layer 4", "layer is 4: the module has 3 recurrent cells"),
        ("--module {}:Lazy", "has weights of no size yet"),
        ("--module torch.nn:LSTM --hidden-size 100000000", "cannot build torch.nn:LSTM"),
        ("--module {}:made --hidden-size 5", "takes no hidden_size"),
        (
            "--module {}:Pair",
            "Pair has the state_size (4, 4): give state_size=, the number of entries of its "
            "one state",
        ),
        ("--module {}:Infinite", "Infinite: the weights weight are NaN or infinite"),
        ("--module {}:made --cell rhn", "--cell cannot be given with --module"),
        ("--checkpoint weights.pt", "or --module package.module:factory for your own module"),
    ],
)
def test_what_is_no_network_is_one_sentence(own, args, words, capsys):
    torch.save({}, "weights.pt")
    assert main([*args.format(own).split(), "--input", "x.npy"]) == 2
    err = capsys.readouterr().err
    sentence, *frames = err.splitlines()
    assert words.replace("{}", own) in sentence and sentence.startswith("error: ")
    assert all(f"{own}.py" in frame for frame in frames)


def test_the_error_of_a_factory_is_that_of_the_user(own, capsys):
    file = Path(f"{own}.py")
    file.write_text(f"{file.read_text()}\n\ndef raises():\n    raise ValueError('mine')\n")
    assert main(["--module", f"{own}:raises", "--input", "x.npy"]) == 2
    sentence, frame = capsys.readouterr().err.splitlines()
    assert sentence == f"error: cannot build {own}:raises: ValueError: mine"
    assert frame.endswith("in raises")


def test_a_loaded_layer_of_torch_has_the_names_of_the_layer_and_of_its_weights(own):
    layer = nn.LSTM(M, 4, num_layers=2)
    torch.save(layer.state_dict(), "w.pt")
    found = gersgorin.products(rhn.load("w.pt", cell="torch.nn:LSTM"), torch.rand(T, M))
    assert found.title == "lstm, 2 layers, 4 units" and "of this LSTM" in found.finding
    layer.weight_hh_l0.data[0, 0] = torch.nan
    torch.save(layer.state_dict(), "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt: weight_hh_l0 holds NaN"):
        rhn.load("w.pt", cell="torch.nn:LSTM")


@for_each(
    ("cells", "title"),
    [
        ([rhn.cells.GRU(M, 4), rhn.cells.GRU(4, 5)], "gru, 2 layers, 5 units"),
        ([rhn.cells.GRU(M, 4), rhn.cells.RNN(4, 5)], "gru and rnn, 2 layers, 5 units"),
    ],
)
def test_the_title_of_a_stack_names_its_cells(cells, title):
    stack = rhn.cells.StackedCell(cells)
    assert gersgorin.products(stack, torch.rand(T, M)).title == title


@for_each(
    ("steps", "words"),
    [
        (0, "a state of 4 needs about"),  # no run of this state fits
        (5, "a state of 4 over 9 steps needs about"),
    ],
)
def test_a_state_too_large_for_the_memory_is_refused_before_the_work(
    own, steps, words, capsys, monkeypatch
):
    free = 8 * (1000 * 4 + 8 * 4 * steps)  # without the weights
    monkeypatch.setattr("rhn.utils.validation.free_memory", lambda device: free)
    assert main(["--module", f"{own}:made", "--input", "x.npy"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.endswith("or fewer steps\n") == (steps > 0)


class Named(Tagger):
    """A user's network whose attributes have the names of ours."""

    def __init__(self):
        super().__init__(nn.LSTM(3, 4), 3)
        self.precision, self.kernel = 16, 3

    def forward(self, x):
        return super().forward(x.round(decimals=self.precision).roll(self.kernel, 0))


def test_attributes_of_a_users_module_that_are_named_like_ours_stay():
    model, x = Named(), torch.ones(6, 1, 3)
    for found in (SequenceMap(ModelWithData(model=model, x=x)), TracedCell(model)):
        assert (found.module.precision, found.module.kernel) == (16, 3)
