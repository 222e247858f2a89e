"""The numbers and texts in objects, by the path that leads to them, and the outputs of networks."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


def contents_of(value: Any, path: str) -> dict[str, np.ndarray]:
    """All numbers and texts in a result: {"compare/networks/0/norm": array}, without None."""
    if isinstance(value, Mapping):
        parts = dict(value)
    elif is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, list | tuple) and any(map(is_dataclass, value)):
        parts = dict(enumerate(value))
    else:
        return {} if value is None else {path: np.asarray(value)}
    found = {}
    for name, part in parts.items():
        found |= contents_of(part, f"{path}/{name}")
    return found


def weights_and_outputs(module: nn.Module, path: str) -> dict[str, np.ndarray]:
    """The weights of a cell or model, and its outputs for a fixed input of five steps."""
    module = module.eval()
    found = {f"{path}/weights/{name}": p.detach() for name, p in module.named_parameters()}
    with torch.no_grad():
        outputs = module(fixed_input(module))
    found[f"{path}/outputs"] = outputs[0] if isinstance(outputs, tuple) else outputs
    return {name: t.numpy() for name, t in found.items()}


def fixed_input(module: nn.Module) -> torch.Tensor:
    """Ids (5, 1) of a language model, or numbers (5, 1, m)."""
    if getattr(module, "takes_ids", False):
        return torch.tensor([[0], [2], [1], [3], [2]])
    m = module.cells[0].input_size if hasattr(module, "cells") else module.input_size
    return torch.linspace(-1, 1, 5 * m).reshape(5, 1, m)
