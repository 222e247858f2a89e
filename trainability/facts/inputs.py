"""A fact about the shape of inputs."""

from collections import Counter
from contextlib import ExitStack
from typing import Any

from torch import nn
from torch.nn.utils.rnn import PackedSequence

from trainability.cause import Cause
from trainability.probe import Probe


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
