"""The trials that are in training as one stack, and how the stack shrinks when trials end.

On a CPU a trial leaves at once. On a GPU the stack halves (60, 30, 15, ...) when half of its trials have ended, so that CUDA graphs are
captured a few times only; until then ended trials keep their places and what is computed there is ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rhn.training.ensemble import Ensemble, Weights


@dataclass(frozen=True, eq=False)
class LiveTrials:
    """K stacked trials: place k of every tensor (K, ...) belongs to trial numbers[k]. A number's first place counts."""

    numbers: Sequence[int]
    stack: Ensemble
    velocity: Weights
    best: Weights
    """The weights at each trial's best epoch."""
    learning_rate: Tensor

    @classmethod
    def start(
        cls, models: Mapping[int, nn.Module], learning_rates: Mapping[int, float], device: torch.device
    ) -> "LiveTrials":
        """Trials at rest, with the weights of these models."""
        stack = Ensemble.of(list(models.values()), device)
        return cls(
            list(models),
            stack,
            velocity={name: torch.zeros_like(t) for name, t in stack.weights.items()},
            best={name: t.clone() for name, t in stack.weights.items()},
            learning_rate=torch.tensor([learning_rates[n] for n in models], device=device, dtype=stack.dtype),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, which: slice | list[int]) -> "LiveTrials":
        """Some of the places: views of them for a slice, a copy for a list."""
        numbers = self.numbers[which] if isinstance(which, slice) else [self.numbers[k] for k in which]
        tensors = tree_map(lambda t: t[which], (self.velocity, self.best, self.learning_rate))
        return LiveTrials(numbers, self.stack[which], *tensors)

    def keep_best(self, places: list[int]) -> None:
        """The weights at these places are the best ones so far."""
        for name, t in self.best.items():
            t[places] = self.stack.weights[name][places]

    def best_of(self, number: int) -> Weights:
        """The best weights of one trial, copied to the CPU."""
        k = self.numbers.index(number)
        return {name: t[k].cpu().clone() for name, t in self.best.items()}

    def arrays(self, number: int) -> dict[str, np.ndarray]:
        """Everything of one trial, copied to the CPU, as `weights.NAME`, `velocity.NAME` and `best.NAME`."""
        k = self.numbers.index(number)
        size = {"stack_size": np.array(len(self))} if self.learning_rate.is_cuda else {}
        return size | {f"{group}.{name}": t[k].cpu().numpy().copy() for group, name, t in self._tensors()}

    def resumed(self, saved: Mapping[int, Mapping[str, np.ndarray]]) -> "LiveTrials":
        """These trials, with what `arrays` gave; on a GPU in a stack of the size they were saved in, so that the same bits follow.

        Raises KeyError or ValueError where the arrays are of another network.
        """
        size = max(int(arrays.get("stack_size", 0)) for arrays in saved.values())
        slots = self[[*range(len(self)), *[0] * (size - len(self))]]
        for k, number in enumerate(slots.numbers):
            for group, name, t in slots._tensors():
                array = np.asarray(saved[number][f"{group}.{name}"])
                if array.shape != t[k].shape:
                    raise ValueError(f"{group}.{name} has shape {array.shape}, expected {tuple(t[k].shape)}")
                t[k] = torch.from_numpy(array)
        return slots

    def _tensors(self) -> list[tuple[str, str, Tensor]]:
        groups = {"weights": self.stack.weights, "velocity": self.velocity, "best": self.best}
        return [(group, name, t) for group, tensors in groups.items() for name, t in tensors.items()]


def places_to_keep(live: Sequence[bool], device: torch.device) -> list[int]:
    """Which places of a stack go on, given which of them live (at least one).

    >>> places_to_keep([True, False, True], torch.device("cpu"))
    [0, 2]
    >>> [places_to_keep(live, torch.device("cuda")) for live in ([True, False, True], [True, False, False, False])]
    [[0, 1, 2], [0]]
    """
    size = sum(live)
    if device.type == "cuda":
        size = len(live)
        while sum(live) <= size // 2:
            size = -(-size // 2)
    living_first = sorted(range(len(live)), key=lambda k: not live[k])  # ended ones fill what is left
    return sorted(living_first[:size])
