"""Files of version 0.7.0 are read by every later version, to the numbers that were in memory when
they were written. `write_files.py` wrote them.
"""

import csv
import inspect
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import optuna
import pytest
import safetensors.numpy
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import gersgorin
import optim_study
import rhn
from gersgorin.cli.sequences import read_numbers
from gersgorin.recording import Recording
from optim_study.folder import rows_in
from rhn.checkpoints import read
from rhn.training.config import LanguageConfig
from rhn.training.curves import read_curves
from rhn.training.stored import text_of
from tests.rhn.texts import metrics
from tests.written_by_0_7.contents import contents_of, weights_and_outputs
from trainability import Check, Cure

HERE = Path(__file__).parent
NUMBERS = dict(np.load(HERE / "numbers.npz"))
OWN = "tests.written_by_0_7.own_cell:Residual"
SINGLE = 1e-4  # float32, as a share of the largest entry
TRAINED = 1e-3  # float32, and a training run multiplies differences
RESULTS = sorted({name.split("/")[1] for name in NUMBERS if name.startswith("results/")})
OF_TRAINABILITY = {"check": Check, "cure": Cure}
PLACES = sorted({name.partition("/weights")[0] for name in NUMBERS if "/weights/" in name})
"""Checkpoints without their suffix, and folders of training runs or of their seeds."""
RUNS = sorted({name.split("/")[1] for name in PLACES if name.startswith("runs/")})
DATA = {"chorales": "data/melodies.json", "bytes": "data/enwik8"}
STOPPED = ("chorales", "words-tied")
REMOVED = "words-modern"  # a training with fields that 0.9.0 removed


def numbers_below(place: str) -> dict[str, np.ndarray]:
    """The numbers of a file, by their names in it."""
    start = f"{place}/"
    return {k.removeprefix(start): a for k, a in NUMBERS.items() if k.startswith(start)}


def data_of(run: str) -> Path:
    return HERE / DATA.get(run.partition("-")[0], "data/text")


def cell_of(place: str) -> str | None:
    """The cell that a command must name."""
    return OWN if place.endswith("-own") else None


def assert_near(found, wanted, tolerance: float, name: str) -> None:
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale, err_msg=name)


# results


class Plain:
    """The content of a file of a result, read by json and NumPy alone."""

    def __init__(self, path: Path):
        self.arrays = dict(np.load(path)) if path.suffix == ".npz" else {}
        self.content = json.loads(str(self.arrays.get("result") or path.read_text()))

    def value(self, name: str) -> np.ndarray:
        found = self.content
        for part in name.split("/"):
            found = found[int(part)] if isinstance(found, list) else found[part]
        if isinstance(found, str) and found in self.arrays:
            return self.arrays[found]
        if isinstance(found, dict):
            return np.array(found["real"], float) + 1j * np.array(found["imag"], float)
        return np.array(found)


def assert_same(path: Path, found, wanted: dict[str, np.ndarray]) -> None:
    """A result that was read, and the file itself, have these numbers."""
    contents, plain = contents_of(found, ""), Plain(path)
    assert len(wanted) >= 3
    for name, number in wanted.items():
        if not number.size:  # .json keeps no shape of an empty array
            assert contents[f"/{name}"].size == plain.value(name).size == 0
            continue
        np.testing.assert_array_equal(contents[f"/{name}"], number, name)
        np.testing.assert_array_equal(plain.value(name).astype(number.dtype), number, name)


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_has_the_numbers_that_were_in_memory(name):
    load = OF_TRAINABILITY[name].load if name in OF_TRAINABILITY else gersgorin.load
    for suffix in (".json", ".npz"):
        path, wanted = HERE / f"results/{name}{suffix}", numbers_below(f"results/{name}")
        if suffix == ".json":  # the one array that it leaves out, of fixed points
            wanted.pop("jacobians", None)
        assert_same(path, load(path), wanted)
    assert str(load(path))


@pytest.mark.parametrize("name", ["lesion", "lesion_of_text"])
def test_a_lesion_of_0_7_has_no_losses_of_single_sequences(name):
    found = gersgorin.load(HERE / f"results/{name}.json")
    assert found.lengths is found.baseline_sums is found.loss_sums is None


def test_a_record_of_a_training_run_has_the_numbers_in_its_file():
    path = HERE / "results/recorder.npz"
    assert_same(path, Recording.load(path), numbers_below("results/recording"))
    for place in ("chorales/seed-0", "chorales/seed-1", "words-tied"):
        path = HERE / f"runs/{place}/record.npz"
        contents, plain = contents_of(Recording.load(path), ""), Plain(path)
        arrays = [name for name, value in plain.content.items() if str(value) in plain.arrays]
        assert len(arrays) == 14
        for name in arrays:
            np.testing.assert_array_equal(contents[f"/{name}"], plain.value(name), name)


def test_a_run_is_read_by_numpy():
    stored = np.load(HERE / "run.npz")
    for name, wanted in numbers_below("run").items():
        np.testing.assert_array_equal(stored[name], wanted)
    weights = safetensors.numpy.load_file(HERE / "checkpoints/rhn.safetensors")
    np.testing.assert_array_equal(stored["weights.weight_ih"], weights["weight_ih"])


# checkpoints and training runs


@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_gives_the_weights_and_the_outputs(place):
    path = HERE / (f"{place}/best" if place.startswith("runs/") else place)
    path, wanted = path.with_suffix(".safetensors"), numbers_below(place)
    found = weights_and_outputs(rhn.load(path, cell_of(place)), "")
    plain = safetensors.numpy.load_file(path)
    assert {f"/{name}" for name in wanted} == found.keys()
    assert_near(found["/outputs"], wanted.pop("outputs"), SINGLE, place)
    for name, number in wanted.items():
        np.testing.assert_array_equal(found[f"/{name}"], number, name)
        np.testing.assert_array_equal(plain[name.removeprefix("weights/")], number, name)


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_run_has_its_losses_and_its_vocabulary(name, answer):
    """The losses are computed again, of every seed."""
    folder = HERE / "runs" / name
    homes = sorted(path.parent for path in folder.glob("**/metrics.jsonl"))
    for home, curves in zip(homes, read_curves(folder), strict=True):
        lines, measure = metrics(home), curves.measure
        assert curves.train.tolist() == [line[f"train_{measure}"] for line in lines]
        options = f"--data {data_of(name)} --split valid"
        options += f" --cell {OWN}" if cell_of(name) else ""
        options += "" if measure == "nll" else " --batch-size 2"
        found = answer(f"rhn evaluate {home} {options}")[measure]
        assert found == pytest.approx(min(curves.valid), rel=SINGLE)
        if measure != "nll":
            with safetensors.safe_open(home / "best.safetensors", "numpy") as file:
                plain = json.loads(file.metadata()["rhn"])["metadata"]["vocabulary"]
            vocabulary = text_of(read(home))[1]
            assert [vocabulary.unit, [*vocabulary.symbols]] == [plain["unit"], plain["symbols"]]


@pytest.fixture
def copied(tmp_path):
    """copied("runs/bytes") -> a copy that a test may change."""

    def copy(place: str) -> Path:
        return shutil.copytree(HERE / place, tmp_path / Path(place).name)

    return copy


@pytest.mark.own_seeds
@pytest.mark.parametrize("name", STOPPED)
def test_a_stopped_run_is_resumed_to_the_end_of_the_whole_one(name, copied, command):
    folder, whole = copied(f"stopped/{name}"), HERE / "runs" / name
    assert command(f"rhn resume {folder} --data {data_of(name)}").code == 0
    for home in (path.parent for path in whole.glob("**/metrics.jsonl")):
        own = folder / home.relative_to(whole)
        assert len(metrics(own)) == len(metrics(home))
        for found, wanted in zip(metrics(own), metrics(home), strict=True):
            assert found == pytest.approx(wanted, rel=TRAINED)
        weights = rhn.load(own).state_dict()
        for key, wanted in rhn.load(home).state_dict().items():
            assert_near(weights[key].numpy(), wanted.numpy(), TRAINED, key)
        if (home / "record.npz").exists():
            records = [Recording.load(place / "record.npz") for place in (own, home)]
            assert records[0].step.tolist() == records[1].step.tolist()
            assert_near(records[0].radius, records[1].radius, TRAINED, "spectral radius")


@pytest.mark.parametrize("place", [f"stopped/{REMOVED}", f"runs/{REMOVED}"])
def test_a_run_with_removed_fields_is_not_continued(place, copied, command):
    """By resume, by its config.json, and by its folder."""
    folder = copied(place)
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    data, config = f"--data {data_of(REMOVED)}", json.loads((folder / "config.json").read_text())
    again = [f"rhn train --config {folder}/config.json --out {folder} {data}"]
    names = inspect.signature(LanguageConfig).parameters.keys() & config.keys()
    path = folder.parent / "fields.json"
    path.write_text(json.dumps({name: config[name] for name in names}))
    again.append(f"rhn train --config {path} --out {folder} {data}")
    for words in (f"rhn resume {folder} {data}", *again):
        done = command(words)
        assert done.code == 2
        sentence = "vary_window is True: expected False, the only value since version 0.9.0"
        assert done.err == f"error: {sentence}\n"
    assert all(path.read_bytes() == content for path, content in kept.items())


@pytest.mark.parametrize("name", sorted({*RUNS} - {REMOVED}))
def test_a_finished_run_is_left_as_it_is(name, copied, command):
    folder = copied(f"runs/{name}")
    cell = f"--cell {OWN}" if cell_of(name) else ""
    assert command(f"rhn resume {folder} --data {data_of(name)} {cell}").code == 0
    for whole in (HERE / "runs" / name).glob("**/metrics.jsonl"):
        path = folder.parent / whole.relative_to(HERE / "runs")
        assert path.read_bytes() == whole.read_bytes()
        best = [safetensors.numpy.load_file(f.with_name("best.safetensors")) for f in (path, whole)]
        assert all(np.array_equal(best[0][key], wanted) for key, wanted in best[1].items())


# studies


def rows_of(place: str) -> dict[str, np.ndarray]:
    return numbers_below(f"study/{place}")


def assert_rows(rows, tolerance: float = 0.0) -> None:
    found = contents_of(rows, "")
    for name, wanted in rows_of("rows").items():
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(found[f"/{name}"], wanted, rtol=tolerance, err_msg=name)
        else:
            assert found[f"/{name}"] == wanted, name


READERS = {
    "trials.csv": optim_study.read_csv,
    "export.csv": optim_study.read_csv,
    ".": rows_in,
}


@pytest.mark.parametrize("place", READERS)
def test_a_study_gives_the_rows_that_were_in_memory(place):
    assert_rows(READERS[place](HERE / "study" / place))


def test_a_study_is_read_by_csv_json_and_optuna(tmp_path):
    with (HERE / "study/trials.csv").open(newline="") as file:
        lines = [*csv.DictReader(file)]
    journal = shutil.copy(HERE / "study/journal.log", tmp_path)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    (study,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=study, storage=storage).get_trials()
    complete = {t.user_attrs["trial"]: t.value for t in trials if t.value is not None}
    assert len(lines) == len(complete) == 4
    for number, line in enumerate(lines):
        wanted = rows_of(f"rows/{number}")["best_train_nll"]
        record = json.loads((HERE / f"study/{study}/trials/{number:04d}.json").read_text())
        assert record["outcome"]["best_train_nll"] == wanted == float(line["best_train_nll"])
        assert complete[number] == wanted


def test_the_shares_of_a_study_are_read_by_csv():
    with (HERE / "study/shares.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    for name, wanted in rows_of("shares/0").items():
        assert line[name] == str(wanted), name


def continued(folder: Path) -> list:
    data = HERE / "data/melodies.json"
    how = {"arch": ("rhn",), "depth": (2,), "epochs": 20, "fuse": 2, "device": "cpu"}
    return optim_study.run(optim_study.smoke(data=data, out=folder, **how), progress=False).rows


@pytest.mark.parametrize(("place", "tolerance"), [
    pytest.param("study", 0.0, id="finished"), pytest.param("stopped/study", TRAINED, id="stopped")
])  # fmt: skip
def test_a_study_goes_on_with_its_trials(place, tolerance, copied):
    folder = copied(place)
    records = {path: path.read_bytes() for path in folder.glob("*/trials/*.json")}
    assert len(records) in (2, 4)
    assert_rows(continued(folder), tolerance)
    assert all(path.read_bytes() == content for path, content in records.items())
    assert not [*folder.glob("*/trials/*.safetensors")]


# tables


def column(table: str, name: str) -> list[float]:
    """The numbers of a column."""
    with (HERE / f"tables/{table}.csv").open(newline="") as file:
        return [float(line[name]) for line in csv.DictReader(file) if line[name]]


TO_CIRCLE = "distance to the unit circle (2-norm of a complex change)"
TABLES = {  # name: (column, its numbers in the result)
    "spectra": ("spectral radius", lambda found: found.spectral_radius),
    "products": ("log10 ||ds[t]/ds[0]||", lambda found: found.log_norm / math.log(10)),
    "gains": ("gain of layer 2", lambda found: found.layers[:, 1]),
    "gates": ("transform gate, layer 2", lambda found: found.mean[:, 1]),
    "lyapunov": ("exponent (1/step)", lambda found: found.exponents),
    "fixed_points": ("radius", lambda found: abs(found.eigenvalues[:, 0])),
    "pseudospectra": (TO_CIRCLE, lambda found: found.to_circle),
    "influence": ("||d o[t + lag] / d x[t]||", lambda found: found.by_lag),
    "lesion": ("loss", lambda found: [found.baseline, *found.loss[:3]]),  # 1, 2 and 1+2
    "gate_activity": ("mean", lambda found: [*found.mean_by_layer, found.mean_by_layer.sum()]),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_table_of_a_command_has_the_numbers_of_its_result(name):
    label, numbers = TABLES[name]
    found = gersgorin.load(HERE / f"results/{name}.npz")
    assert column(name, label) == pytest.approx(numbers(found), rel=1e-12)


def test_the_tables_of_several_networks_and_of_a_record():
    spectra = gersgorin.load(HERE / "results/spectra.npz")
    radius = np.median(spectra.spectral_radius)
    assert column("compare", "spectral radius")[0] == pytest.approx(radius, rel=1e-12)
    record = Recording.load(HERE / "runs/words-tied/record.npz")
    assert column("recording", "loss") == record.loss.tolist()


def test_a_sequence_and_a_page_are_read():
    path = HERE / "data/numbers.csv"
    np.testing.assert_array_equal(read_numbers(path).x, np.loadtxt(path, delimiter=","))
    page = (HERE / "tables/report.html").read_text()
    parts = re.findall(r"<h2>(.*?)</h2>\n<img [^>]*>\n+<pre>(.*?)</pre>", page, re.DOTALL)
    assert [heading.partition(",")[0] for heading, _ in parts] == [
        "Losses of the training run", "Spectra", "Gates", "Lesions"
    ]  # fmt: skip
    assert all(re.search(r"\d\.\d", table) for _, table in parts)
