"""Facts: exact statements about one minibatch of a training run; the only threshold is rounding.

Each fact is a function of a `Probe` that returns a `Cause` if the fact holds, otherwise None. A
fact that makes learning impossible is marked as sure. Other facts explain what the swaps show.

    found, missing = facts(probe)        # causes; sentences about facts that were not measured
"""

import math
from collections.abc import Callable

from rhn.errors import USERS_FAULT
from rhn.utils.wording import first_line
from trainability.cause import Cause
from trainability.facts.dependence import (
    detached_state,
    mixed_examples,
    unread_steps,
)
from trainability.facts.gradient import PARTIAL, wrong_gradient
from trainability.facts.inputs import one_step
from trainability.facts.targets import (
    equal_targets,
    looks_ahead,
    no_least_loss,
    output_range,
    unpaired_loss,
)
from trainability.facts.weights import (
    constant_outputs,
    hidden_weights,
    no_gradient,
    still_weights,
)
from trainability.failures import NOT_FINITE, not_finite, not_finite_examples
from trainability.probe import Probe
from trainability.training import OutOfTime

NOTES = (PARTIAL,)
"""Names of facts that are reported but are not faults, since a sound training run may show them."""
FACTS: tuple[Callable[[Probe], Cause | None], ...] = (
    not_finite,
    no_gradient,
    unpaired_loss,
    no_least_loss,
    output_range,
    mixed_examples,
    hidden_weights,
    unread_steps,
    detached_state,
    still_weights,  # as the weights of a state that is not passed on: what is read explains it
    wrong_gradient,
    constant_outputs,
    equal_targets,
    looks_ahead,
    one_step,
    not_finite_examples,
)
SLOW = (output_range,)
"""Facts that search for a least loss; they are measured last."""


def facts(probe: Probe, until: float = math.inf) -> tuple[list[Cause], list[str]]:
    """Return (the facts found, as causes with proofs first; sentences about facts that could not be
    measured).

    until: a deadline on the clock of `time.monotonic`, after which no output is computed.
    """
    training = probe.training
    training.until = until
    try:
        return _facts(probe)
    finally:
        training.until = math.inf
        vars(probe).pop("generic", None)  # a copy, with the same limit


def _facts(probe: Probe) -> tuple[list[Cause], list[str]]:
    """Return the result of `facts`, within the time limit of the probe's training run."""
    found, missing = dict[Callable, Cause](), []
    for fact in sorted(FACTS, key=SLOW.__contains__):
        try:
            cause = fact(probe)
        except (OutOfTime, *USERS_FAULT) as error:  # as of a module that takes no such numbers
            missing.append(f"{fact.__name__.replace('_', ' ')}: {first_line(error)}")
            continue
        if cause is not None:
            found[fact] = cause
        if cause is not None and (fact is no_gradient or cause.name == NOT_FINITE):
            break
    causes = [found[fact] for fact in FACTS if fact in found]
    return sorted(causes, key=lambda cause: not cause.sure), missing
