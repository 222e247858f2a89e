"""Facts about the shape and the kind of inputs."""

import torch
from torch import nn

from trainability.diagnosis import Cause
from trainability.probe import Probe

IDS = 20  # least number of different whole numbers that are read as ids


def one_step(probe: Probe) -> Cause | None:
    """Fact: each sequence has only one frame, although the network is recurrent."""
    recurrent = any(isinstance(p, nn.RNNBase) for p in probe.training.model.modules())
    if probe.frames != 1 or not recurrent:
        return None
    shape = tuple(probe.first.shape)
    return Cause(
        "one step",
        "inputs",
        f"Each sequence has one step: x has shape {shape}, with {probe.count} examples.",
        "Give the steps an axis of their own: x.unsqueeze(-1) for x of shape (examples, steps), or "
        "windows of the series.",
    )


def ids_as_sizes(probe: Probe) -> Cause | None:
    """Fact: inputs are whole numbers, one per frame, and a layer reads them as sizes, not
    as ids.
    """
    x = probe.first
    if not x.is_floating_point() or x.dim() != 3 or x.shape[-1] != 1 or (x < 0).any():
        return None
    if not torch.equal(x, x.round()) or len(x.unique()) < IDS:
        return None
    return Cause(
        "ids as numbers",
        "inputs",
        f"The inputs are whole numbers up to {x.max():.0f}, {len(x.unique())} different ones, and "
        "the network reads them as sizes.",
        f"If they are ids, begin with nn.Embedding({x.max() + 1:.0f}, 32); if sizes, standardise.",
    )
