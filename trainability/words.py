"""The names and sentences of causes that swaps have shown."""

from trainability.diagnosis import Cause
from trainability.own import FAR
from trainability.race import Row

NAMES = {
    "inputs standardised": (
        "input scale",
        "Standardise: x = (x - x.mean((0, 1))) / x.std((0, 1)).",
    ),
    "targets standardised": (
        "target scale",
        "Standardise: y = (y - y.mean()) / y.std(), and undo it after predicting.",
    ),
    "the usual loss": ("loss", "Use the loss that belongs to the outputs and targets."),
    "rare classes weighted": (
        "class imbalance",
        "Weight the classes in the loss, or draw them equally often: WeightedRandomSampler.",
    ),
    "torch's initial weights": (
        "initial weights",
        "Leave the layers the weights that torch.nn gives them.",
    ),
    "no weight decay": ("weight decay", "Set weight_decay=0."),
    "a constant learning rate": ("schedule", "Leave out the scheduler, or let it fall later."),
    "no clipping": ("clip_norm too small", "Leave out the clipping, or allow a larger norm."),
    "a tenth of the learning rate": ("learning rate too high", "Divide the learning rate by 10."),
    "ten times the learning rate": ("learning rate too low", "Multiply the learning rate by 10."),
    "Adam 0.001, clipping 1": (
        "optimizer",
        "Use Adam at 0.001 on all weights, with gradients clipped at norm 1.",
    ),
    "no dropout": ("dropout", "Lower the dropout."),
    "shuffled minibatches": ("sorted data", "Shuffle: DataLoader(..., shuffle=True)."),
    "4 times the steps": ("too few steps", "Train longer."),
    "a GRU in place of the network": (
        "network",
        "Look for the error in the network: its layers, axes, states and outputs.",
    ),
}


def cause_of_row(base: Row, row: Row, layer: Row | None = None) -> Cause:
    """The cause that a swap has shown; layer: the stand-in for one layer that does as well."""
    name, remedy = NAMES.get(row.what, (row.part, "Change this part of the training."))
    before = base.beside(row)
    given = before.relative[row.by] if before else base.error
    sentence = (
        f"With {row.what} the error on held-out examples is {row.error:.2g} of a constant "
        f"answer's, without {given:.2g}."
    )
    if layer is not None:
        sentence += f" With {layer.what} alone it is {layer.error:.2g}."
        remedy = "Look for the error in that layer: what it reads, its axes, states and outputs."
    return Cause(name, row.part, sentence, remedy, evidence={"error": row.error})


def learned_by_heart(base: Row, known: float) -> Cause | None:
    """The cause of a training whose own examples have a far lower error (known) than held-out
    ones.
    """
    if known > FAR * base.error:
        return None
    return Cause(
        "learned by heart",
        "data",
        f"On examples of the training the error is {known:.2g} of a constant answer's, on held-out "
        f"ones {base.error:.2g}.",
        "Give it more examples, or fewer weights; see that targets belong to their inputs.",
        evidence={"error": base.error, "on the training's examples": known},
    )


def cause_of_data(base: Row, known: float) -> Cause:
    """The cause of a training that no swap helps: learned by heart, or nothing to be learned."""
    return learned_by_heart(base, known) or Cause(
        "data",
        "data",
        "No part that was exchanged helps, nor all at once: these targets do not follow from these "
        "inputs, as far as a GRU can tell.",
        "See that each target belongs to its input, and that the inputs hold what decides it.",
        evidence={"error": base.error},
    )


def cause_of_naive(base: Row, naive: Row) -> Cause:
    """The cause of a training that is no better than the last value repeated."""
    return Cause(
        "repeats the last value",
        naive.part,
        f"The last value of the inputs has an error of {naive.error:.2g} of a constant answer's on "
        f"held-out examples, the network {base.error:.2g}.",
        "Predict the change from the last value, y - x[:, -1], and compare with its error.",
        evidence={"naive": naive.error, "error": base.error},
    )
