"""Record what the commands and functions of the toolkit give, and compare two recordings: a
refactor leaves results equal.

    python benchmarks/same_results.py record BEFORE            # with PYTHONPATH=the old checkout
    python benchmarks/same_results.py record AFTER             # with PYTHONPATH=the new checkout
    python benchmarks/same_results.py compare BEFORE AFTER     # exit code 1 if numbers differ

A recording holds one .npz a case, of arrays by name: the numbers of each line of the printed table,
of the JSON output, of the files written, and of everything drawn (lines, collections, patches,
images, limits), and their texts. The cases `run-*` hold weights, curves, trials, samples, gates and
lesions of trainings and studies, and must be equal to the last bit. After a change of names, edit
`same_results_cases.py` and record again: `compare` finds an array that has another name by its
values. Texts that differ are printed, but only numbers decide. Without PYTHONPATH the packages
beside this folder are recorded.
"""
# ruff: noqa: E402

import argparse
import contextlib
import fnmatch
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from unittest import mock

os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "COLUMNS": "80"}
folder = Path(sys.path.pop(0)).resolve()
sys.path += [str(folder.parent), str(folder)]  # last, because this folder has a gersgorin.py

import matplotlib.figure
import numpy as np
import optuna
import torch
from matplotlib.collections import PathCollection
from music21 import converter
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from safetensors.numpy import load_file
from same_results_cases import CALLS, COMMAND_LINES, COMMANDS, TRAINING, write_inputs

import gersgorin

CLOSE = 1e-10  # relative to the largest number of an array
ROUNDING = 1e-15  # absolute: residuals of a search are rounding alone
# differ by run
TIMES = {
    "measuring_seconds",
    "training_seconds",
    "share",
    "seconds",
    "step_seconds",
    "setup_seconds",
}
KEPT = {"best.safetensors", "metrics.jsonl", "journal.log", "chorale.mid"}  # of whole commands
VERSION = re.compile(r"\b\d+\.\d+\.\d+\S*")
NUMBER = re.compile(
    r"(?<![\w.])[-+−]?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|inf|nan)\b(?!-[a-z])", re.IGNORECASE
)  # not the 2 of 2-norm
# lines whose numbers are the page's size or a time
NOISE = re.compile("charting library|measuring took")


def run_case(name: str, words: str) -> dict:
    """Run the commands of a case, with a "+" between them, for their texts, files, figures and
    JSON.
    """
    if name == "run":
        return run_commands(words.split(" + "))
    if "run" in words.split():
        _run(_main("rhn"), TRAINING.split())
    before, texts, figures, objects = set(Path.cwd().rglob("*")), [], [], []
    for k, part in enumerate(words.split(" + ")):
        command, rest = name, part.split()
        if k or (name == "plot" and not part.startswith("-")):
            command, *rest = rest
        files = ["--output", f"figure{k}.png"]
        if command == "report":
            files = ["--output", "page.html"]
        elif command != "recording":
            files = [*files, f"data{k}.npz", "--device", "cpu"]
        text, drawn = _run(_main(command), [*rest, *files])
        texts.append(text)
        figures += drawn
        if command != "report":
            words = [*rest, *files, "--json", "--force"]
            objects.append(json.loads(_run(_main(command), words)[0]))
    written = sorted(set(Path.cwd().rglob("*")) - before)
    found = {
        "text": Lines("\n".join(texts)),
        "figure": figures,
        "json": objects[0] if len(objects) == 1 else objects,
    }
    return found | {
        path.name: read_file(path) for path in written if path.suffix in (".npz", ".html")
    }


def run_commands(lines: list[str]) -> dict:
    """Run commands for their JSON, or the letters of a text, and the files of their runs; a resumed
    run must equal the whole one.
    """
    printed = []
    for name, *words in map(str.split, lines):
        text, _ = _run(_main(name), words)
        if "--json" in words or words[0] == "generate":
            printed.append(json.loads(text) if "--json" in words else [*map(ord, text)])
    files = [
        path
        for folder in ("run", "whole")
        for path in sorted(Path(folder).rglob("*"))
        if path.name in KEPT
    ]
    found = arrays_of({str(path): read_file(path) for path in files}, "", {})
    for name in (name for name in found if name.startswith("whole/")):
        if distance(found[name], found[name.replace("whole", "run", 1)]):
            raise RuntimeError(f"{name}: not the same after a resume")
    return {"printed": printed, "files": found}


def _main(name: str):
    if name not in COMMANDS:
        return lambda words: import_module("gersgorin.cli.main").main([name, *words])
    module, function = COMMANDS[name].split(":")
    return getattr(import_module(module), function)


def _run(main, words: list[str]) -> tuple[str, list]:
    """The output and the figures of a command; figures are kept instead of rendered."""
    output, errors, figures = io.StringIO(), io.StringIO(), []
    savefig = matplotlib.figure.Figure.savefig

    def keep(figure, where, *arguments, **options):
        if figure not in figures:
            figures.append(figure)
        if isinstance(where, str | Path):
            return Path(where).write_bytes(b"kept")
        return savefig(figure, where, *arguments, **options)  # an image in a page

    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        mock.patch.object(matplotlib.figure.Figure, "savefig", keep),
    ):
        code = main(words)
    if code:
        raise RuntimeError(f"{' '.join(words)}: exit code {code}: {errors.getvalue()[-500:]}")
    return output.getvalue(), figures


class Lines(str):
    """A text whose lines' numbers are recorded."""


def read_file(path: Path):
    """The arrays of a file, trials of a study, notes of a chorale, or of a page the numbers of its
    text and of its charts.
    """
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".mid":
        notes = converter.parse(path).flatten().notes
        return sorted(
            [float(n.offset), float(n.quarterLength), p.midi] for n in notes for p in n.pitches
        )
    if path.suffix == ".log":
        return read_trials(path)
    page = path.read_text()
    kept = ("x", "y", "z", "error_y", "customdata", "text", "name")
    charts = re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)
    shown = re.sub(r"<(script|style|svg).*?</\1>", "", page, flags=re.DOTALL)
    shown = re.sub(r"<[^>]*>", " ", re.sub(r"</(tr|p|h\d|li|div)>", "\n", shown.replace("\n", " ")))
    traces = [trace for chart in json.loads(charts[1]) for trace in chart["data"]] if charts else []
    traces = {
        k: {key: trace[key] for key in kept if key in trace} for k, trace in enumerate(traces)
    }
    return {"text": Lines(shown), "charts": traces}


def read_trials(journal: Path) -> dict[str, list[dict]]:
    """Settings, values and curves of the trials of each study, whatever order they ended in."""
    storage, found = JournalStorage(JournalFileBackend(str(journal))), {}
    for name in optuna.get_all_study_names(storage):
        trials = optuna.load_study(study_name=name, storage=storage).trials
        known = [
            {"trial": t.number} | t.params | t.user_attrs for t in trials
        ]  # a number of Optuna's until version 0.3
        rows = [
            k | {"curve": [t.value, *t.intermediate_values.values()]}
            for k, t in zip(known, trials, strict=True)
        ]
        found[name] = sorted(rows, key=lambda row: row["learning_rate"])
    return found


def arrays_of(value, name: str, into: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Put all numbers and texts of a result into a flat dictionary; rows of dictionaries become
    columns.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if value is None or (isinstance(value, str | list | tuple | dict) and not value):
        return into
    if isinstance(value, Lines):
        _lines(value, name, into)
    elif isinstance(value, bool | int | float | complex | str | np.ndarray | np.generic):
        if name.rpartition("/")[2] not in TIMES:
            into[_free(name, into)] = _text(value) if isinstance(value, str) else np.asarray(value)
    elif isinstance(value, matplotlib.figure.FigureBase):
        _figure(value, name, into)
    elif hasattr(value, "_asdict"):
        arrays_of(value._asdict(), name, into)
    elif is_dataclass(value):
        arrays_of({f.name: getattr(value, f.name) for f in fields(value)}, name, into)
    elif isinstance(value, dict):
        for key, entry in value.items():
            arrays_of(entry, f"{name}/{key}" if name else str(key), into)
    elif isinstance(value, list | tuple):
        _list(value, name, into)
    return into


def _list(values, name: str, into: dict) -> None:
    if values and all(isinstance(v, dict) for v in values):
        keys = list(dict.fromkeys(key for v in values for key in v))
        arrays_of({key: [v.get(key) for v in values] for key in keys}, name, into)
        return
    with contextlib.suppress(ValueError, TypeError):  # ragged, or objects
        array = np.array(values, dtype=float)  # None becomes NaN
        if array.size:
            into[_free(name, into)] = array
        return
    if all(isinstance(v, str) for v in values):
        into[_free(name, into)] = np.array([_text(v).item() for v in values])
        return
    for k, entry in enumerate(values):
        arrays_of(entry, f"{name}/{k}", into)


def _lines(text: str, name: str, into: dict) -> None:
    for line in filter(None, map(str.strip, text.splitlines())):
        into[_free(f"{name}/words", into)] = _text(line)
        numbers = [
            float(n.replace(",", "").replace("−", "-"))
            for n in NUMBER.findall(VERSION.sub("", line))
        ]
        if numbers and not NOISE.search(line):
            label = re.sub(r"[^a-z]+", " ", line.lower()).strip()[:40]
            into[_free(f"{name}/{label}", into)] = np.array(numbers)


def _text(value: str) -> np.ndarray:
    text = VERSION.sub("VERSION", value)
    return np.array(
        "a time or a size" if NOISE.search(text) else re.sub(r"\d{4}-\d\d-\d\d", "DATE", text)
    )


def _figure(figure, name: str, into: dict) -> None:
    """The numbers of everything drawn, axes by axes, and the texts."""
    arrays_of(
        (getattr(figure, "_suptitle", None) and figure._suptitle.get_text()) or "",
        f"{name}/title",
        into,
    )
    for k, ax in enumerate(figure.axes):
        at = f"{name}/axes{k}"
        arrays_of([*ax.get_xlim(), *ax.get_ylim()], f"{at}/limits", into)
        arrays_of([ax.get_title(), ax.get_xlabel(), ax.get_ylabel()], f"{at}/labels", into)
        for line in ax.lines:
            arrays_of(
                dict(zip("xy", np.asarray(line.get_xydata(), float).T, strict=True)),
                f"{at}/line",
                into,
            )
        for collection in ax.collections:
            points = collection.get_offsets() if isinstance(collection, PathCollection) else None
            if points is None:
                points = np.concatenate(
                    [np.empty((0, 2)), *(path.vertices for path in collection.get_paths())]
                )
            found = {"points": np.ma.filled(points, np.nan), "array": collection.get_array()}
            arrays_of(found, f"{at}/collection", into)
        for patch in ax.patches:
            arrays_of(
                patch.get_patch_transform().transform(patch.get_path().vertices),
                f"{at}/patch",
                into,
            )
        for image in ax.images:
            found = {"array": np.ma.filled(image.get_array(), np.nan), "extent": image.get_extent()}
            arrays_of(found, f"{at}/image", into)
        arrays_of([t.get_text() for t in ax.texts if t.get_text()], f"{at}/texts", into)


def _free(name: str, taken) -> str:
    return (
        name
        if name not in taken
        else next(f"{name}#{k}" for k in range(2, 1 << 30) if f"{name}#{k}" not in taken)
    )


def record(folder: Path, pattern: str) -> int:
    """Run the cases, each in its folder with the inputs in it; returns the exit code."""
    torch.set_num_threads(1)
    cases = {name: partial(run_case, *line) for name, line in COMMAND_LINES.items()}
    cases |= {f"call-{name}": call for name, call in CALLS.items()}
    print(f"recording {Path(gersgorin.__file__).parent}")
    folder, failed, begun = folder.absolute(), [], time.process_time()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        write_inputs(Path(work) / "inputs")
        sys.path.insert(0, str(Path(work) / "inputs"))
        for name in (name for name in cases if fnmatch.fnmatch(name, pattern)):
            shutil.copytree(Path(work) / "inputs", Path(work) / name)
            torch.manual_seed(0)
            started = time.process_time()
            try:
                with contextlib.chdir(Path(work) / name), contextlib.redirect_stderr(io.StringIO()):
                    arrays = arrays_of(cases[name](), "", {})
            except Exception as error:  # the other cases go on
                failed.append(name)
                print(f"{name}: {type(error).__name__}: {error}")
                continue
            np.savez(
                folder / f"{name}.npz",
                **{key.strip("/") or "value": value for key, value in arrays.items()},
            )
            print(
                f"{name}: {len(arrays)} arrays, {time.process_time() - started:.1f} s", flush=True
            )
            shutil.rmtree(Path(work) / name)
    seconds, failures = time.process_time() - begun, ", ".join(failed) or "none"
    print(
        f"{len(list(folder.glob('*.npz')))} cases in {folder}, {seconds:.0f} s of processor "
        f"time; failed: {failures}"
    )
    return 1 if failed else 0


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference relative to the largest number: 0 for equal arrays, inf for other
    shapes, texts or NaNs.
    """
    a, b = np.squeeze(a), np.squeeze(b)
    if a.shape != b.shape or (a.dtype.kind in "US") != (b.dtype.kind in "US"):
        return np.inf
    if a.dtype.kind in "US" or not a.size:
        return 0.0 if np.array_equal(a, b) else np.inf
    a, b = a.astype(complex), b.astype(complex)
    known = np.isfinite(a)
    if not np.array_equal(a[~known], b[~known], equal_nan=True) or not np.isfinite(b[known]).all():
        return np.inf
    apart = np.abs(a[known] - b[known]).max(initial=0.0)
    relative = float(apart / max(np.abs(a[known]).max(initial=0.0), np.finfo(float).tiny))
    return min(relative, CLOSE) if apart < ROUNDING else relative


def matched(
    before: dict, after: dict, close: float
) -> tuple[dict[str, tuple[str, float]], list[str]]:
    """({name: (name after, distance)}, names after without a partner): by name, and where the
    values differ by the values.
    """
    pairs = {name: (name, distance(before[name], after[name])) for name in before if name in after}
    pairs = {name: pair for name, pair in pairs.items() if pair[1] <= close}
    free = [name for name in after if name not in pairs]
    for name in (name for name in before if name not in pairs):
        distances = [distance(before[name], after[other]) for other in free]
        if distances and min(distances) <= close:
            other = free[int(np.argmin(distances))]
            pairs[name] = other, min(distances)
            free.remove(other)
    return pairs, free


def compare(before: Path, after: Path) -> int:
    """Print what became of every case; returns 1 where numbers of the recording before differ or
    are missing after.
    """
    worst = 0
    names = sorted({path.name for folder in (before, after) for path in folder.glob("*.npz")})
    for name in names:
        if not (before / name).exists() or not (after / name).exists():
            missing = after if (before / name).exists() else before
            worst |= missing == after
            print(f"{Path(name).stem}: missing in {missing}")
            continue
        with np.load(before / name) as old, np.load(after / name) as new:
            worst |= _compare_case(Path(name).stem, dict(old), dict(new))
    return int(worst or not names)


def _compare_case(name: str, old: dict, new: dict) -> bool:
    """Print how two recordings of a case differ; returns whether numbers do."""
    pairs, free = matched(old, new, 0.0 if name.startswith("run-") else CLOSE)
    lost = [key for key in old if key not in pairs]
    numbers = [key for key in lost if old[key].dtype.kind not in "US"]
    apart = max([d for _, d in pairs.values()], default=0.0)
    verdict = (
        "different"
        if numbers
        else "equal to the last digit"
        if apart == 0
        else f"equal within {apart:.1g}"
    )
    counts = {"under other names": sum(key != other for key, (other, _) in pairs.items())}
    counts |= {
        "numbers differ": len(numbers),
        "texts differ": len(lost) - len(numbers),
        "new": len(free),
    }
    words = [f"{len(old)} arrays", *(f"{count} {what}" for what, count in counts.items() if count)]
    print(f"{name}: {verdict} ({', '.join(words)})")
    for key in lost:
        if key not in new:
            print(f"    {key} {old[key].shape}: no partner; was {str(old[key])[:90]!r}")
        elif key in numbers:
            print(
                f"    {key}: apart by {distance(old[key], new[key]):.2g}, {old[key].shape} -> "
                f"{new[key].shape}"
            )
        else:
            print(f"    {key}: {str(old[key])[:90]!r} -> {str(new[key])[:90]!r}")
    return bool(numbers)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser("record", help="run the cases and write a file of each into DIR")
    recorder.add_argument("folder", type=Path, metavar="DIR")
    recorder.add_argument(
        "--only", default="*", metavar="PATTERN", help="names of cases, such as 'plot-*'"
    )
    comparer = commands.add_parser("compare", help="compare two recordings")
    comparer.add_argument("before", type=Path)
    comparer.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "record":
        return record(options.folder, options.only)
    return compare(options.before, options.after)


if __name__ == "__main__":
    sys.exit(main())
