"""`check`: find the part of a training run at fault, by exchanging parts with a known good run.

1. Facts about one minibatch are measured: exact statements, which are proofs.
2. The user's training run is trained unchanged, to its end if this takes at most half of the time
   limit.
3. Known good runs are trained: with everything replaced, and with everything but the network. Each
   of the two takes at most half of the time that is left.
4. Enough? Each known good part is put into the user's run. These runs advance side by side, in
   rounds of an eighth of the steps. After each round, the user's part is put into the known good
   run if its replacement was enough: it closes most of the gap between the errors of the two runs.
   If this breaks the known good run, the two runs are repeated in two other minibatch orders.
   Outputs that see later frames are tried if nothing else is enough.
5. Needed? All other parts of the user are put into the known good run, side by side.
"""

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gersgorin.linalg.spectrum import one_thread
from gersgorin.validate import random_numbers_kept, users_code, with_gradients
from rhn.errors import USERS_FAULT, InvalidInputError, NotFiniteError
from rhn.utils.keywords import keywords_of
from rhn.utils.validation import check_seed, number
from trainability.cause import Cause
from trainability.conclusion import conclusion
from trainability.diagnosis import Diagnosis
from trainability.facts import facts
from trainability.given_loss import broadcasting_unwarned
from trainability.probe import Probe
from trainability.training import Training, as_training, name_of
from trainability.trial import LONGEST, Trial
from trainability.verdict import validation_pairs


@keywords_of(Training, without=("loading_seconds",))
@one_thread()
@with_gradients()
def check(
    model: nn.Module | Training,
    x: Any = None,
    y: Any = None,
    loss_fn: Any = "mse",
    optimizer: Any = "adam",
    *,
    steps: int | None = None,
    seconds: float | None = None,
    losses: Sequence[float] = (),
    validation: Any = None,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    **parts: Any,
) -> Diagnosis:
    """Find the part of a training run that keeps the network from learning.

    First your training run is trained unchanged. Then two known good runs are trained. In one of
    them all parts are replaced by parts that work on most tasks; in the other, all parts except
    your network. The better of these two runs counts. Then one known good part at a time is put
    into your run, to see if this change is enough for your run to learn. One of your parts at a
    time is put into the known good run, to see if your part breaks that run. A part is at fault if
    its replacement is enough, and the part breaks the known good run. All runs are trained on
    copies, and on the same minibatches unless the minibatch order is replaced. The score is the
    relative error on the same held-out examples: 0 is perfect, 1 is the constant predictor (the
    best output that is the same for all inputs).

    Args:
        model, x, y, loss_fn, optimizer, parts: the arguments of `Training`. Or pass a `Training` in
            place of the model, and leave the others out.
        steps: number of optimiser steps; None: 3000, or that of a `Training`.
        seconds: time limit of the check, in seconds. If the limit is too short for all steps, all
            versions of the training run stop at the same smaller number of steps. None: the time of
            ten of your training runs and two known good runs, but at least 20 seconds and at most
            ten minutes.
        losses: losses of your own loop, one per optimiser step. They are compared with the losses
            of a plain loop: forward, backward, clipping, optimiser step, scheduler step.
        validation: your validation set, (x, y) or a DataLoader. If the error on this set is far
            above the error on held-out examples, the two sets differ. If no examples are held out,
            the error is compared with the error on training examples; an error far above it shows
            overfitting.
        name: name of the network in the result; None: its class.
        seed: shuffle seed of the minibatches.
        progress: function that is called with a description of each stage; None: only the estimated
            time is printed, to stderr.

    Returns:
        A `Diagnosis`.

    Raises:
        InvalidInputError or DataError: a part is invalid or does not fit the others.

    >>> import torch
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    >>> x, y = torch.randn(80, 8, 3), torch.randn(80, 1)
    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)  # none of its weights
    >>> found = check(model, x, y, nn.MSELoss(), optimizer, steps=20)
    >>> found.causes[0].name, found.part
    ('untrained weights', 'optimizer')
    """
    if seconds is not None:
        number("seconds", seconds, above=0)
    seed = check_seed(seed)
    with users_code("losses: expected a number for each step"):
        own = [float(loss) for loss in losses]
    begun, most = time.monotonic(), seconds or LONGEST
    title = name or name_of(model)
    try:
        training = as_training(
            model, x, y, loss_fn, optimizer, steps=steps, loading_seconds=most / 4, **parts
        )
    except NotFiniteError as error:
        return of_data_not_finite(title, model, loss_fn, error)
    with random_numbers_kept(training.model), broadcasting_unwarned():
        (progress or (lambda doing: None))("facts")
        probe = Probe(training)
        _ = probe.loss  # whatever a model or a loss raises at once is a sentence about that call
        found, missing = facts(probe, begun + most / 4)
        about = f"{type(training.optimizer).__name__}, learning rate {training.learning_rate:.4g}"
        given: dict[str, Any] = {
            "title": title,
            "about": about,
            "not_measured": tuple(missing),
        }
        if still := next(filter(moves_nothing, found), None):
            causes = (still, *(cause for cause in found if cause is not still))
            dead: dict[str, Any] = {"outcome": "does not learn", "part": still.part}
            return Diagnosis(**given, **dead, causes=causes, facts=causes)
        like = next(training.model.parameters())
        pairs = [] if validation is None else validation_pairs(validation, like, training.axis)
        pairs = training.with_classes(pairs)
        trial = Trial(training, probe, found, seed, progress, begun + most / 2)
        trial.plan(begun, seconds)
        told = trial.train(own, pairs)
        return conclusion(trial, told, given)


def of_data_not_finite(title: str, model: Any, loss_fn: Any, error: NotFiniteError) -> Diagnosis:
    """Return the result for inputs or targets that are not finite.

    Raises InvalidInputError for targets if the loss is the user's own, since it may leave them out,
    and for inputs unless outputs for them are not finite.
    """
    own_loss = callable(loss_fn) and not getattr(loss_fn, "__module__", "").startswith("torch")
    if own_loss and error.of == "y":
        raise InvalidInputError(
            f"{error}: if your loss leaves them out, fill them in, and give the mask as a "
            "further number of y"
        ) from error
    if error.of != "y" and not spreads(model, error.values):
        raise InvalidInputError(
            f"{error}: drop them, or fill them in before; if your model fills them in itself, also "
            "give it their mask as a further input"
        ) from error
    cause = Cause("not finite", "inputs", f"{error}.", "Drop them, or fill them in.", sure=True)
    return Diagnosis(
        title=title, outcome="does not learn", part="inputs", causes=(cause,), facts=(cause,)
    )


@torch.no_grad()
def spreads(model: Any, x: Tensor) -> bool:
    """True if a model has outputs that are not finite for inputs that are not finite."""
    if not isinstance(model, nn.Module) or not x.dim():
        return False
    with random_numbers_kept(model), suppress(*USERS_FAULT):
        output = copy.deepcopy(model)(x.to(next(model.parameters())))
        return not all(part.isfinite().all() for part in tree_leaves(output))
    return False


def moves_nothing(cause: Cause) -> bool:
    """Return True for the proof that no weight changes. No version then needs to be trained."""
    return cause.name == "no gradient" or (cause.sure and cause.evidence.get("share") == 1)
