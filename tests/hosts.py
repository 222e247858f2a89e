"""Run the numerical tests as on other processors and with other random numbers.

Each setting is a run of its own, which notes for each test how near its largest error comes to what
is allowed. The ten nearest of all runs are printed. It fails if a test fails, or if an error is
above 0.3 of what is allowed: on the next machine it may be above all.

    python tests/hosts.py [--only PART-OF-A-SETTING] [--jobs N] [--files FILE ...]
"""

import argparse
import json
import numbers
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rounding
import torch

LARGEST = 0.3
TESTS = Path(__file__).parent
SEEDS = range(1, 21)
NUMERICAL = {
    "rhn/kernels": "compiled kernels kernels_mapped softmax",
    "rhn/cells": "cells convert",
    "rhn/models": "models",
    "rhn/training": "evaluation official_step optimizers",
    "gersgorin": "functions_of_matrices influence_of_inputs results_of_runs single_steps",
    "numbers": "recorded_numbers",
}
FILES = [
    f"tests/{folder}/test_{name}.py"
    for folder, names in NUMERICAL.items()
    for name in names.split()
]


def settings(folder: Path) -> dict[str, dict[str, str]]:
    """Environment variables by name of a setting."""
    every = {
        "this machine": {},
        "torch without vector instructions": {"ATEN_CPU_CAPABILITY": "default"},
        "torch with AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
        "oneDNN with SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
        "oneDNN with AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        "MKL for every processor": {"MKL_CBWR": "COMPATIBLE"},
        "OpenBLAS for Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    }
    compiler = next(
        filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None
    )
    for level in ("x86-64-v2", "x86-64-v3") if compiler else ():
        wrapper = folder / f"cc-{level}"
        wrapper.write_text(f'#!/bin/sh\nexec {compiler} "$@" -march={level}\n')
        wrapper.chmod(0o755)
        every[f"C compiled for {level}"] = {"CC": str(wrapper)}
    return every | {
        f"seeds shifted by {1000 * k:5}": {"RHN_TEST_SEEDS": str(1000 * k)} for k in SEEDS
    }


def run(name: str, changes: dict[str, str], files: list[str], folder: Path) -> dict:
    """What pytest printed, whether all passed, the ratios by test, and the processor time."""
    notes = folder / f"{name}.json"
    paths = os.pathsep.join(
        filter(None, (str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH")))
    )
    environment = (
        os.environ | changes | {"RHN_TEST_RATIOS": str(notes), "PYTHONPATH": paths, "CI": "1"}
    )
    flags = [
        "-q",
        "--tb=short",
        "-p",
        "hosts",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow and not chaos and not docs",
    ]
    flags.append(f"--hypothesis-seed={changes.get('RHN_TEST_SEEDS', '0')}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, *files],
        env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    noted = json.loads(notes.read_text()) if notes.exists() else {"ratios": {}, "seconds": 0}
    return noted | {"printed": done.stdout + done.stderr, "passed": done.returncode == 0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="settings whose name has TEXT in it"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="settings at a time (default 1)"
    )
    parser.add_argument(
        "--files",
        nargs="+",
        default=FILES,
        metavar="FILE",
        help="tests (default: the numerical ones)",
    )
    options = parser.parse_args()
    ratios, failed = [], []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        chosen = {name: e for name, e in settings(Path(folder)).items() if options.only in name}
        runs = pool.map(lambda item: run(*item, options.files, Path(folder)), chosen.items())
        for name, found in zip(chosen, runs, strict=True):
            summary = found["printed"].rstrip().rpartition("\n")[2].strip("= ")
            print(f"{name:34} {found['seconds']:4.0f} s of processor time, {summary}", flush=True)
            ratios += [(ratio, test, name) for test, ratio in found["ratios"].items()]
            if not found["passed"]:
                failed.append(name)
                print(found["printed"], flush=True)
    ratios.sort(reverse=True)
    print(
        f"\nThe errors of {len({test for _, test, _ in ratios})} tests nearest to what is "
        "allowed, as fractions of it:"
    )
    nearest = {}  # one run a test: its largest
    for ratio, test, name in ratios:
        nearest.setdefault(test, (ratio, name))
    over = [test for test, (ratio, _) in nearest.items() if ratio > LARGEST]
    for test, (ratio, name) in list(nearest.items())[: max(10, len(over))]:
        print(f"{ratio:6.3f}  {test}  ({name})")
    print(f"\nabove {LARGEST}: {len(over)} tests; failed: {', '.join(failed) or 'none'}")
    return 1 if failed or over or not ratios else 0


class Notes:
    """A plugin of pytest: by test, the largest error that passed, as a fraction of what was
    allowed.
    """

    def __init__(self, path: str) -> None:
        self.path, self.largest = Path(path), {}
        self.watch(torch.testing, "assert_close", None, None)
        self.watch(np.testing, "assert_allclose", 1e-7, 0.0)
        self.watch(np, "allclose", 1e-5, 1e-8)
        self.watch(torch, "allclose", 1e-5, 1e-8)
        scalar = type(pytest.approx(1.0))
        within, equal = rounding.assert_within, scalar.__eq__

        def assert_within(error, allowed, name):
            self.note(error, allowed)
            within(error, allowed, name)

        def __eq__(approx, actual):
            if isinstance(actual, numbers.Number) and isinstance(approx.expected, numbers.Number):
                self.note(abs(actual - approx.expected), approx.tolerance)
            return equal(approx, actual)

        rounding.assert_within, scalar.__eq__ = assert_within, __eq__

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps({"ratios": self.largest, "seconds": time.process_time()}))

    def watch(self, module, name: str, rtol: float | None, atol: float | None) -> None:
        """Note what a function of (found, wanted, rtol, atol) compares; None: the tolerances of
        torch.testing for the type.
        """
        original = getattr(module, name)

        def noting(found, wanted, *rest, **options):
            given = (
                {"rtol": rtol, "atol": atol}
                | dict(zip(("rtol", "atol"), rest, strict=False))
                | options
            )
            for pair in _pairs(found, wanted):
                a, b = (
                    np.asarray(
                        t.detach().cpu().resolve_conj() if isinstance(t, torch.Tensor) else t
                    )
                    for t in pair
                )
                single = a.dtype in (np.float32, np.complex64)
                r = (1.3e-6 if single else 1e-7) if given["rtol"] is None else given["rtol"]
                t = (1e-5 if single else 1e-7) if given["atol"] is None else given["atol"]
                if np.shape(a) == np.shape(b) or not np.shape(b):
                    self.note(abs(a - b), t + r * abs(b))
            return original(found, wanted, *rest, **options)

        setattr(module, name, noting)

    def note(self, error, allowed) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        error, allowed = np.broadcast_arrays(error, allowed)
        known = np.isfinite(error) & (allowed > 0)
        ratio = float((error[known] / allowed[known]).max(initial=0))
        if ratio <= 1:  # above 1 the test fails, or they are meant to differ
            self.largest[test] = max(self.largest.get(test, 0.0), ratio)


def _pairs(found, wanted) -> list[tuple]:
    """Of tensors, arrays or numbers, from containers of tensors."""
    if isinstance(found, dict):
        found, wanted = list(found.values()), [wanted[key] for key in found]
    if isinstance(found, list | tuple) and isinstance(found[0], torch.Tensor):
        return list(zip(found, wanted, strict=True))
    return [(found, wanted)]


def pytest_configure(config) -> None:
    if path := os.environ.get("RHN_TEST_RATIOS"):
        config.pluginmanager.register(Notes(path))


if __name__ == "__main__":
    sys.exit(main())
