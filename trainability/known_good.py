"""Known good training runs: all parts are replaced, except parts of the user that are kept.

    good = KnownGood(training)
    good.with_parts(rate=3e-3)                      # everything replaced
    good.with_parts("network", "loss", rate=3e-3)   # all but the user's network and loss replaced

| part            | known good                                                            |
|-----------------|-----------------------------------------------------------------------|
| inputs          | numbers are standardised, by the known good network if it is used     |
| targets         | standardised, unless the user's network is kept and is bounded, or    |
|                 | the loss does not determine how outputs are scaled back               |
|                 | (`losses.follows_scale`, `rescaling`)                                 |
| loss            | cross entropy, binary cross entropy or squared error; the user's if   |
|                 | it is least at other outputs than these                               |
| initial weights | those of torch.nn                                                     |
| optimizer       | Adam on all weights, at the best of three rates, clipped at norm 1    |
| regularization  | no dropout                                                            |
| order           | shuffled                                                              |
| network         | a GRU of 64 units; for one output also reads the mean of its states   |
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gersgorin.losses import output_of
from rhn.errors import RhnError
from trainability.data import SAMPLE, noise_like
from trainability.losses import canonical_loss, is_binary
from trainability.probe import Probe
from trainability.race import Version
from trainability.reference import (
    Reference,
    input_of_frames,
    is_causal,
    last_operation,
    predicts_inputs,
)
from trainability.swaps import (
    default_weights,
    every_weight,
    inputs_standardised,
    is_same_loss,
    output_of_copy,
    outputs_for_loss,
    shuffled,
    targets_standardised,
    usual_loss,
    without_dropout,
)
from trainability.training import Training, same

RATES = 3e-3, 1e-3, 1e-2  # of Adam, the likeliest first
OF_NETWORK = "initial weights", "regularization"  # parts of the user's network
BUILD = "Build it with x standardised, ids embedded:"
OF_FRAMES = Version("network", "a GRU in place of the network", f"{BUILD} y = linear(gru(x)[0]).")
BOTH_WAYS = Version(
    "network",
    "a GRU that reads both ways",
    f"{BUILD} y = linear(gru(x)[0]), gru of bidirectional=True.",
)
OF_ONE_OUTPUT = Version(
    "network",
    "a GRU that also reads mean states",
    f"{BUILD} h = gru(x)[0]; y = linear(torch.cat((h[:, -1], h.mean(1)), 1)).",
)
"""Known good networks that replace the user's: their names, and how to build them."""


class KnownGood:
    """Known good parts for a training run.

    Args:
        training: the user's training run.
        probe: the first minibatch of this run.
    """

    def __init__(self, training: Training, probe: Probe):
        self.training, self.probe = training, probe
        self.x, self.y = training.data.sample(SAMPLE)
        self.output = output_of_copy(training, self.x)
        *self.for_loss, self.axes = outputs_for_loss(training)

    def with_parts(self, *keep: str, rate: float) -> Training:
        """Return the known good training run that keeps the named parts of the user, with Adam at
        the learning rate `rate`.
        """
        own = "network" in keep
        base = self.training.copy()
        if not own:
            one_each = self.output.numel() == self.y.numel()
            scaled = one_each and "targets" not in keep and self.targets_have_scale
            network = self.reference(standardise="inputs" not in keep, unbounded=scaled)
            base = base.with_model(network, output_of)
        changes: dict[str, Callable[[Training], Training | None]] = {
            "loss": self.with_good_loss,
            "order": shuffled,
            "optimizer": lambda base: (every_weight(base) or base).with_adam(rate),
        }
        if own:
            changes |= {
                "inputs": inputs_standardised,
                "initial weights": default_weights,
                "regularization": without_dropout,
            }
        if not (own and self.is_bounded):
            changes["targets"] = targets_standardised
        for part, change in changes.items():
            if part not in keep:
                base = change(base) or base
        return base

    def with_good_loss(self, training: Training) -> Training | None:
        """Return a copy with the usual loss; if there is none, with the user's loss as it was
        meant, see `Minibatch.repaired_loss`. None if the loss is a good one.
        """
        other, repaired = usual_loss(training, self.probe), self.probe.repaired_loss
        if other is not None or repaired is None:
            return other
        return training.with_loss(repaired[1])

    @property
    def network(self) -> Version:
        """The version with a known good network. The name of the version states what this network
        reads.
        """
        if not self.every:
            return OF_ONE_OUTPUT
        return OF_FRAMES if self.causal else BOTH_WAYS

    def with_network(self, training: Training, causal: bool | None = None) -> Training:
        """Return the user's training run with a known good network; see `reference`."""
        network = self.reference(causal=causal, seed=training.draws)
        return training.with_model(network, output_of)

    @property
    def is_bounded(self) -> bool:
        """True if the outputs of the user's network have a bounded range, in which the targets
        should lie.
        """
        return self.probe.last_activation is not None

    @cached_property
    def main(self) -> int | None:
        """The index of the input that has the frames of the outputs; None if outputs have no
        frames.
        """
        return input_of_frames(self.x, self.output, self.y, self.axes)

    @property
    def every(self) -> bool:
        """True if there is an output for each frame."""
        return self.main is not None

    @cached_property
    def causal(self) -> bool:
        """True if no output depends on later frames."""
        return self.forecasts or is_causal(self.training, self.x)

    @cached_property
    def forecasts(self) -> bool:
        """True if the targets are later inputs."""
        return predicts_inputs(self.x, self.y, self.training.layout)

    def reference(
        self,
        *,
        standardise: bool = True,
        unbounded: bool = False,
        causal: bool | None = None,
        seed: int = 5,
    ) -> nn.Module:
        """Return a GRU for the inputs and outputs of the training run.

        unbounded: True for standardised targets with one output each; otherwise outputs end with
        the last operation that the user's loss needs. causal: whether an output for a frame reads
        no later frames; None: as in the user's network.
        """
        torch.manual_seed(seed)
        final = same if unbounded else self.final
        model = Reference(
            self.x,
            self.output,
            self.training.axis,
            output_axis=self.axes.batch or 0,
            main=self.main,
            causal=self.every and (self.causal if causal is None else causal),
            final=final,
            standardise=standardise,
        )
        return model.to(self.output)

    @cached_property
    def final(self) -> Callable[[Tensor], Tensor]:
        """The last operation that the user's loss needs: that to the range of the user's outputs in
        which the loss has a least value, or the first candidate with which the loss is finite.
        """
        output, y = self.for_loss
        numbers, within = 3 * noise_like(output), self.probe.searched_range
        own = last_operation(self.training._loss, output, y, self.axes)
        if not within.is_free and self.axes.classes is None and own is not torch.sigmoid:
            own = within.outputs
        for final in (own, positive, torch.sigmoid):
            with suppress(RhnError), torch.no_grad():
                if self.training.loss(final(numbers), y).isfinite():
                    return final
        return own

    @cached_property
    def targets_have_scale(self) -> bool:
        """True if the targets can be standardised."""
        return targets_standardised(self.training) is not None

    @cached_property
    def differing(self) -> list[str]:
        """The parts of the user that differ from the known good ones, without the network."""
        changes: dict[str, Callable[[Training], Training | None]] = {
            "inputs": inputs_standardised,
            "targets": targets_standardised,
            "loss": self.with_good_loss,
            "initial weights": default_weights,
            "optimizer": Training.copy,
            "regularization": without_dropout,
            "order": shuffled,
        }
        return [part for part, change in changes.items() if change(self.training) is not None]

    @cached_property
    def without_replacement(self) -> list[str]:
        """The parts among targets and loss that may differ from known good ones, and for which no
        replacement applies.
        """
        output, y = self.for_loss
        usual = canonical_loss(output, y, self.axes)
        is_usual = usual is not None and is_same_loss(usual, self.training.loss, output, y)
        are_numbers = self.y.is_floating_point() and not is_binary(self.y)
        known = {"targets": not are_numbers, "loss": is_usual}
        return [p for p, is_good in known.items() if not is_good and p not in self.differing]


def positive(z: Tensor) -> Tensor:
    """Return numbers above 0, for a loss that takes a logarithm."""
    return F.softplus(z) + 1e-3
