"""Run a tool on the training runs of a set, and write its answers to a file, one on each line.

    python -m evaluation --set development --tool evaluation.check_tool:answer --out ANSWERS.jsonl
    python -m evaluation.judge ANSWERS.jsonl

The same command continues a file that is not complete. `--only 5 601`: only these training runs.
`--of K N`: share K (from 0) of N shares of the training runs, for N processes with a file each.
`--seconds S`: a number that is passed to the tool.

A tool is a function with the arguments training and losses, and seconds if `--seconds` is given:

    training    a `Training`, without its fresh examples and the error on them
    losses      those of the owner's own loop, if the training run has one; otherwise empty

The tool returns a dictionary. Any of these entries may be left out:

    outcome     "learns", "learns little", "does not learn", "diverges", or other words
    faults      parts at fault; parts are those of `evaluation.replacements`
    confirmed   those faults that are certain
    enough      parts of which a single replacement repairs the training run
    cleared     parts that are not at fault
    proven      facts that prevent learning, as {"name": ..., "part": ...}
    facts       other facts, in the same form
    steps       [optimiser steps that were run, steps of the whole training run]
    error       relative error on examples that the tool held out (1: the constant predictor)
    best        the lowest error of the changed copies that the tool trained

If a tool raises an exception, its message is recorded as the outcome.
"""

import argparse
import importlib
import json
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evaluation.clock import seconds_of
from evaluation.sets import SETS, trainings
from evaluation.threads.trainings import Training

Tool = Callable[..., dict[str, Any]]


def answer_of(tool: Tool, make: Callable[[], Training], **options: Any) -> dict[str, Any]:
    """The answer of a tool to a training, with its cost in processor seconds and in trainings."""
    training, losses = make(), list[float]()
    if training.fit is not None:
        again = make()
        losses = training.fit(again)
    whole = seconds_of(make())
    shown = replace(training, test=None, error=None)  # type: ignore[arg-type]
    began = time.process_time()
    try:
        answer = tool(shown, losses, **options)
    except Exception as error:  # a tool may raise anything
        answer = {"outcome": f"{type(error).__name__}: {error}"[:300]}
    seconds = time.process_time() - began
    return answer | {"seconds": round(seconds, 2), "cost": round(seconds / whole, 3)}


def run(tool: Tool, name: str, out: Path, chosen: list[str], **options: Any) -> None:
    """Append the answers that the file lacks, in an order drawn at random."""
    done = set()
    if out.exists():
        rows = map(json.loads, out.open())
        done = {row["number"] for row in rows if row["set"] == name}
    every = trainings(name)
    for number, make in random.Random(0).sample(every, len(every)):
        if number in done or number not in chosen:
            continue
        written = make if name.endswith("healthy") else lambda make=make: make(False)
        row = {"set": name, "number": number} | answer_of(tool, written, **options)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        faults = ", ".join(row.get("faults", ())) or "no fault"
        print(f"{name} {number}: {row.get('outcome', '')} | {faults}", flush=True)


def function_of(words: str) -> Tool:
    """The function that package.module:function names."""
    module, _, name = words.partition(":")
    return getattr(importlib.import_module(module), name)


def main(words: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m evaluation",
    )
    parser.add_argument("--set", required=True, choices=SETS)
    parser.add_argument("--tool", required=True, help="package.module:function")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--only", nargs="*", metavar="NUMBER")
    parser.add_argument("--of", nargs=2, type=int, default=(0, 1), metavar=("K", "N"))
    parser.add_argument("--seconds", type=float)
    asked = parser.parse_args(words)
    numbers = [number for number, _ in trainings(asked.set)]
    unknown = [number for number in asked.only or () if number not in numbers]
    if unknown:
        parser.error(f"{asked.set} has no training {unknown[0]}, expected {', '.join(numbers)}")
    try:
        tool = function_of(asked.tool)
    except (ImportError, AttributeError, ValueError) as error:
        parser.error(f"--tool {asked.tool}: {error}; expected package.module:function")
    share, count = asked.of
    chosen = asked.only or numbers[share::count]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    options = {} if asked.seconds is None else {"seconds": asked.seconds}
    run(tool, asked.set, asked.out, chosen, **options)


if __name__ == "__main__":
    main()
