"""Find the first number that is not finite: its step, its examples, and the line of code.

numbers, line = first_not_finite(run, step, batch)
"""

import contextlib
import linecache
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rhn.utils.torch_private import tree_leaves
from trainability.data import Minibatch
from trainability.training import FAILS, TrainingRun, entries_of

LIBRARIES = (str(Path(torch.__file__).parent), contextlib.__file__)
OURS = str(Path(__file__).parent)
MOST, SHOWN = 64, 8  # examples that are tried by themselves, and that are named


class Origins(TorchFunctionMode):
    """For each tensor that is not finite, the line of code in which the first such number arose."""

    def __init__(self) -> None:
        super().__init__()
        self.lines, self._kept = dict[int, str](), list[Tensor]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [id(t) for t in tree_leaves((args, kwargs)) if id(t) in self.lines]
        changed = [args[0]] if func.__name__ == "__setitem__" else []
        for t in [*tree_leaves(result), *changed]:
            if not isinstance(t, Tensor) or not t.is_floating_point() or t.isfinite().all():
                continue
            if id(t) not in self.lines:
                self.lines[id(t)] = self.lines[given[0]] if given else users_line()
            self._kept.append(t)  # so that no other tensor gets its identity
        return result


def users_line() -> str:
    """Return "FILE:LINE: code" of the user's code that runs now; "" if torch runs alone."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(LIBRARIES):
        frame = frame.f_back
    return "" if frame is None else as_line(frame.f_code.co_filename, frame.f_lineno)


def as_line(file: str, number: int) -> str:
    """Return a line of the user's code with its place; "" for a line of this package."""
    code = linecache.getline(file, number).strip()
    return "" if file.startswith(OURS) else f"{Path(file).name}:{number}: {code}"


def line_of_gradient(run: TrainingRun, batch: Minibatch) -> str:
    """Return the line of the operation whose gradient is NaN, by torch's anomaly mode."""
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(RuntimeError):
        warnings.simplefilter("always")
        with torch.autograd.detect_anomaly():
            run.loss(run.output(batch.x), batch.y).backward()
    text = "\n".join(str(warning.message) for warning in caught)
    places = re.findall(r'File "(.+)", line (\d+)', text)
    lines = [as_line(f, int(n)) for f, n in places if not f.startswith(LIBRARIES)]
    return next((line for line in reversed(lines) if line), "")


def first_not_finite(run: TrainingRun, step: int, batch: Minibatch) -> tuple[tuple[int, ...], str]:
    """Return (step, examples of the user's x) and the line of code, before the optimiser steps."""
    with torch.no_grad(), Origins() as origins:
        loss = run.loss(run.output(batch.x), batch.y)
    line = origins.lines.get(id(loss), "")
    if math.isfinite(loss.item()):
        line = line_of_gradient(run, batch)
    examples = []
    for k, row in enumerate(batch.rows[:MOST]):
        with contextlib.suppress(*FAILS):
            x, y = run.data.train.take(batch.rows[k : k + 1])
            run.optimizer.zero_grad()
            one = run.loss(run.output(x), y)
            one.backward()
            grads = [entries_of(p.grad) for p in run.model.parameters() if p.grad is not None]
            if not all(t.isfinite().all() for t in [one, *grads]):
                examples.append(int(run.data.train.rows[row]))
    return (step, *examples[:SHOWN]), line
