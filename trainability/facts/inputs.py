"""Facts about the shape and the kind of inputs."""

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from trainability.cause import Cause
from trainability.probe import Probe

IDS = 20  # least number of different whole numbers that are read as ids


def one_step(probe: Probe) -> Cause | None:
    """Fact: each sequence has one frame, and each recurrent layer of torch.nn reads one time step
    of it.
    """
    if probe.frames != 1 or set(steps_read(probe)) != {1}:
        return None
    shape = tuple(probe.first.shape)
    return Cause(
        "one step",
        "inputs",
        f"The recurrent layers read one step of each sequence: x has shape {shape}, with "
        f"{probe.count} examples.",
        "Give the steps an axis of their own: x.unsqueeze(-1) for x of shape (examples, steps), or "
        "windows of the series.",
    )


def steps_read(probe: Probe) -> list[int]:
    """Return the number of time steps that each recurrent layer of torch.nn reads in one forward
    pass, over all its calls. Layers that are not called are left out.
    """
    found = Counter[nn.Module]()

    def count(layer: nn.RNNBase, args: tuple, named: dict[str, Any]) -> None:
        x = next(iter([*args, *named.values()]))
        if isinstance(x, PackedSequence):
            found[layer] += len(x.batch_sizes)
        else:
            found[layer] += x.shape[int(layer.batch_first and x.dim() == 3)]

    with ExitStack() as hooks:
        for part in probe.training.model.modules():
            if isinstance(part, nn.RNNBase):
                hooks.enter_context(part.register_forward_pre_hook(count, with_kwargs=True))
        probe.evaluated(probe.x)
    return list(found.values())


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
