"""Does a plain RNN learn long lags from sensing and remembering units, which `cure` tries?

    python -m benchmarks.memory_start search OUT.csv adding-200 --parameters 17300 --seconds 1500
    python -m benchmarks.memory_start tasks OUT.csv --steps 2000
    python -m benchmarks.memory_start parts OUT.csv adding-60 --parameters 4500 --seeds 0 1 2
    python -m benchmarks.memory_start figure FIGURE.png

`tasks` trains each task as it is, and after `cure` with and without these initial weights; `parts`
trains without `cure`; `figure` draws their eigenvalues and the reach of the gradient.

Losses are relative to that of the best constant output. Trainings are those of
`benchmarks.plateau_table`: 32 of 4,000 examples, gradients clipped at norm 1. Its tasks keep their
optimisers; those here take 64 units and Adam.

    recall-T      which of two symbols the first frame was, then noise
    product-T     product of two marked numbers, one in each half
    order-T       two of two symbols, in the second and the sixth tenth, among four distractors:
                  which ones, of four classes
    parity-T      whether the first two signs agree, T - 2 empty frames later
    cue-T         ids through an embedding: which of four symbols follows the only mark, in the
                  first fifth, among eight others
    pulses-T      in which of three noisy channels of five a pulse was first, of two in the first
                  and the third fifth
    vectors-T     difference of two marked vectors of two numbers, one in each half, among normal
                  noise: two outputs
    TASK-relu     the same with ReLU
"""

import argparse
import copy
import importlib
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import plateau_table as table
from benchmarks.networks import minibatches
from benchmarks.rows import append
from benchmarks.tasks import mark
from rhn.cells.init import WRITTEN, haar, rotations
from rhn.plotting.figure import Block, complex_plane, compose, line_style
from rhn.utils.figures import COLOURS, save_figure
from trainability.cure import Change, cure
from trainability.signal import measure_reach
from trainability.starts import MEMORY, OUTPUT_BIAS, starts
from trainability.training import Training

TASKS = "recall-100", "product-100", "order-100", "parity-60", "cue-80", "pulses-80", "vectors-60"
ORDERS = 1001, 1002
OWN_RATE, DEFAULT_RATE = 2e-3, 1e-3  # of Adam in the first four tasks, in the last three
SEEN = 40  # examples from which a linear memory is made
LEAST = 1e-20  # share of a gradient in the figure
RATE = 5e-4  # of networks trained without `cure`


def training_of(task: str, parameters: int | None = None, seed: int = 0):
    """(model, x, y, loss, a function that makes the optimiser, loss of the best constant output) of
    a task with a plain RNN.
    """
    kind, length, *relu = task.split("-")
    if kind in ("adding", "copy"):
        x, y, loss, every, outputs, usual, (optimizer, rate) = table.data_of(
            f"{kind}-{length}", seed
        )
    else:
        x, y, loss, outputs = _own(kind, int(length), torch.Generator().manual_seed(seed))
        every, usual, optimizer = False, None, torch.optim.Adam
        rate = DEFAULT_RATE if kind in ("cue", "pulses", "vectors") else OWN_RATE
    torch.manual_seed(seed)
    inputs = x.shape[-1] if x.is_floating_point() else 8
    usual = usual or 64 * (64 + inputs + 2) + outputs * 65
    model = table.network("RNN", inputs, outputs, parameters or usual, every)
    if relu:
        model.rnn.nonlinearity, model.rnn.mode = "relu", "RNN_RELU"
    model = model if x.is_floating_point() else nn.Sequential(nn.Embedding(13, inputs), model)
    return (
        model,
        x,
        y,
        loss,
        lambda q, lr=rate: optimizer(q, lr=lr),
        table.constant_loss(x, y, loss, outputs),
    )


def _own(kind: str, T: int, g: torch.Generator, examples: int = table.EXAMPLES):
    rows = torch.arange(examples)
    if kind == "recall":
        x, symbol = torch.zeros(examples, T, 3), torch.randint(0, 2, (examples,), generator=g)
        x[..., 2] = torch.rand(examples, T, generator=g)
        x[rows, 0, symbol] = 1
        return x, symbol, F.cross_entropy, 2
    if kind == "product":
        x = torch.rand(examples, T, 2, generator=g)
        at = mark(x, g)
        return x, x[rows, at, 0].prod(0)[:, None], F.mse_loss, 1
    if kind == "order":
        x = torch.randint(2, 6, (examples, T), generator=g)
        order = torch.zeros(examples, dtype=torch.long)
        for k, low in enumerate((T // 10, T // 2)):
            symbol = torch.randint(0, 2, (examples,), generator=g)
            x[rows, torch.randint(low, low + T // 10, (examples,), generator=g)] = symbol
            order += symbol * 2**k
        return F.one_hot(x, 6).float(), order, F.cross_entropy, 4
    if kind == "cue":
        x = torch.randint(5, 13, (examples, T), generator=g)
        symbol = torch.randint(0, 4, (examples,), generator=g)
        at = torch.randint(0, T // 5, (examples,), generator=g)
        x[rows, at], x[rows, at + 1] = 4, symbol
        return x, symbol, F.cross_entropy, 4
    if kind == "pulses":
        x = torch.randn(examples, T, 5, generator=g) / 2
        channels = torch.randint(0, 3, (2, examples), generator=g)
        for low, channel in zip((0, 2 * T // 5), channels, strict=True):
            x[rows, low + torch.randint(0, T // 5, (examples,), generator=g), channel] += 3
        return x, channels[0], F.cross_entropy, 3
    if kind == "vectors":
        x = torch.randn(examples, T, 3, generator=g)
        first, second = mark(x, g)
        return x, x[rows, first, :2] - x[rows, second, :2], F.mse_loss, 2
    x, bits = torch.zeros(examples, T, 2), torch.randint(0, 2, (examples, 2), generator=g)
    x[:, :2, 0], x[:, 2:, 1] = 2.0 * bits - 1, 1
    return x, bits.sum(1) % 2, F.cross_entropy, 2


def trained(model, x, y, loss, optimizer, constant: float, steps: int) -> str:
    """Relative losses of plain loops in some orders of minibatches; optimizer: a function of
    parameters.
    """
    found = []
    for order in ORDERS:
        own = copy.deepcopy(model)
        found.append(
            table.trained(own, x, y, loss, optimizer(own.parameters()), table.CLIP, order, steps)
            / constant
        )
    return " ".join(f"{value:.3g}" for value in found)


def cured(training, steps: int, seconds: float) -> dict:
    """The result of `cure`, its cost in trainings, and losses in two orders that it did not see."""
    model, x, y, loss, optimizer, constant = training
    given, began = optimizer(model.parameters()), time.process_time()
    options = {
        "steps": steps,
        "seconds": seconds,
        "clip_norm": table.CLIP,
        "batch_axis": 0,
        "progress": print,
    }
    found = cure(model, x, y, loss, given, **options)
    row = {"outcome": found.outcome, "changes": found.changes, "rate": found.learning_rate}
    row |= {"cpu": round(time.process_time() - began), "error": found.error}
    again = sum(len(trial.others) for trial in found.trials)
    row["trainings"] = round(sum(tried["steps"] for tried in found.table()) / steps + again, 2)
    row["unseen"] = ""
    if found.changed:
        row["unseen"] = trained(found.model, x, y, loss, found.optimizer, constant, steps)
    return row


def whole_of(training) -> Training:
    """The parts of a training as one."""
    model, x, y, loss, optimizer, _ = training
    return Training(model, x, y, loss, optimizer(model.parameters()), batch_axis=0)


def memory(training) -> nn.Module:
    """The model of a training with these initial weights."""
    whole = whole_of(training)
    return next(s for s in starts(whole) if s.words == MEMORY).applied(whole.model)


@torch.no_grad()
def parts(model: nn.Module, x: torch.Tensor, given: nn.Module) -> dict:
    """By name: the network as it is, with these initial weights, with one part of them changed, and
    with related ones.
    """
    n, g, T = model.rnn.hidden_size, torch.Generator().manual_seed(1), x.shape[1]
    made = {"as it is": given, "the start": model}
    planes, half, std = n // 4, n - n // 4 * 2, float(model.rnn.weight_ih_l0[: n // 2].std())

    def other(name: str) -> nn.RNN:
        made[name] = copy.deepcopy(model)
        return made[name].rnn

    def whole(name: str, recurrent, gain: float = std * WRITTEN * T**-0.5) -> None:
        rnn = other(name)
        rnn.weight_hh_l0[:] = recurrent
        rnn.weight_ih_l0.normal_(0, gain, generator=g)

    def turning(angles):
        return torch.block_diag(
            *torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], -1).view(
                -1, 2, 2
            )
        )

    for share in (0.25, 0.75):
        kept = int(n * share) // 2 * 2
        rnn, sense = other(f"{share} of the units remember"), n - kept
        rnn.weight_ih_l0[:sense].normal_(0, std, generator=g)
        rnn.weight_hh_l0.zero_()[sense:, :sense].normal_(
            0, WRITTEN / (T * sense) ** 0.5, generator=g
        )
        rnn.weight_ih_l0[sense:], rnn.weight_hh_l0[sense:, sense:] = 0, rotations(kept // 2, T)
    for name, block in {
        "angles evenly spaced": turning(torch.linspace(torch.pi / T, torch.pi, planes)),
        "angles from 10 pi / T": rotations(planes, T / 10),
        "angles from pi / (10 T)": rotations(planes, 10 * T),
        "angles to pi / 4": turning(torch.pi / 4 / (T / 4) ** torch.linspace(0, 1, planes)),
        "identity instead of rotations": torch.eye(2 * planes),
        "random orthogonal instead of rotations": haar(
            torch.randn(2 * planes, 2 * planes, generator=g)
        ),
    }.items():
        other(name).weight_hh_l0[half:, half:] = block
    other("four times as much written").weight_hh_l0[half:, :half] *= 4
    other("a quarter as much written").weight_hh_l0[half:, :half] /= 4
    other("biases N(0, 1) of sensing units").bias_ih_l0[:half].normal_(0, 1, generator=g)
    rnn = other("linear memory by an autoencoder (after Bacciu et al.)")
    write, keep = autoencoder(F.tanh(x[:SEEN] @ rnn.weight_ih_l0[:half].T), n - half)
    rnn.weight_hh_l0[half:] = torch.cat(
        [write * WRITTEN / (T * half) ** 0.5 / write.std(), keep], 1
    )
    angles = torch.pi / T ** torch.linspace(0, 1, (n + 1) // 2)
    whole("all units rotate and read (after Henaff et al.)", turning(angles)[:n, :n])
    whole("random orthogonal, small inputs", haar(torch.randn(n, n, generator=g)))
    whole("identity, small inputs (IRNN)", torch.eye(n))
    whole(
        "chain of gain 1.02 (Orhan and Pitkow)", torch.diag(torch.full((n - 1,), 1.02), -1), n**-0.5
    )
    return made


def autoencoder(u: torch.Tensor, units: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, B) of y[t] = A u[t] + B y[t-1], the linear memory that keeps most of sequences u (N, T,
    a) (Sperduti 2013).
    """
    N, T, a = u.shape
    so_far = [
        torch.cat([u[:, : t + 1].flip(1), u.new_zeros(N, T - t - 1, a)], 1).flatten(1)
        for t in range(T)
    ]
    kept = torch.linalg.eigh(sum(past.T @ past for past in so_far))[1][:, -units:]
    return kept[:a].T, kept[a:].T @ kept[:-a]


def together(models: list, x, y, loss, optimizer, constant: float, steps: int) -> list[float]:
    """Relative losses of networks that are trained as one program, on the minibatches of `trained`;
    optimizer: works by element.
    """
    alike = zip(*(model.parameters() for model in models), strict=True)
    weights = [torch.stack(q).detach().requires_grad_() for q in alike]
    A, R, a, b, V, c = weights
    losses, g, own = [], torch.Generator().manual_seed(ORDERS[0]), optimizer(weights)
    function = getattr(torch, models[0].rnn.nonlinearity)
    while len(losses) < steps:
        for some, target in minibatches(x, y, table.BATCH, generator=g):
            h = x.new_zeros(len(A), len(some), len(R[0]))
            for frame in torch.einsum("btm,knm->tkbn", some, A) + (a + b)[:, None]:
                h = function(torch.baddbmm(frame, h, R.mT))
            values = torch.stack(
                [loss(output, target) for output in torch.baddbmm(c[:, None], h, V.mT)]
            )
            own.zero_grad()
            values.sum().backward()
            factors = table.CLIP / (
                sum(q.grad.flatten(1).square().sum(1) for q in weights).sqrt() + 1e-6
            )
            for q in weights:
                q.grad *= factors.clamp(max=1).view(-1, *[1] * (q.dim() - 1))
            own.step()
            losses.append(values.detach())
    return (torch.stack(losses[:steps][-table.LAST :]).mean(0) / constant).tolist()


def figure(file: Path) -> None:
    """Draw the eigenvalues of the initial weights, and the share of the gradient by lag from each
    choice of initial weights, on the adding problem of 200 steps.
    """
    training = training_of("adding-200", 17_300)
    whole, model = whole_of(training), memory(training)
    half = training[1].shape[1] // 2
    z = torch.linalg.eigvals(model.rnn.weight_hh_l0.detach())

    def plane(ax) -> None:
        complex_plane(ax, 1.15)
        ax.scatter(z.real, z.imag, s=12, color=COLOURS[0])
        ax.annotate(
            f"{len(z) - len(z) // 4 * 2} units without memory:\neigenvalue 0", (0, 0.1), ha="center"
        )
        ax.annotate(
            f"{len(z) // 4 * 2} units with memory:\nrotations by pi / T to pi",
            (0, -0.5),
            ha="center",
        )
        ax.set_title("Eigenvalues of the recurrent matrix")

    def lags(ax) -> None:
        for k, start in enumerate(s for s in starts(whole) if s.words != OUTPUT_BIAS):
            share = measure_reach(Change(start).applied(whole)).share  # the bias changes none
            ax.plot(share, label=start.words, **line_style(k))
        ax.set(
            ylim=(LEAST, 3),
            xlim=(0, training[1].shape[1]),
            xlabel="lag in steps",
            yscale="log",
        )
        ax.set_title("Share of the gradient from this lag on")

    start = next(s for s in starts(whole) if s.words == MEMORY)
    far = measure_reach(Change(start).applied(whole)).share[half]
    title = (
        f"If half of the units rotate, {100 * far:.0f} % of the gradient comes from {half} steps "
        "back or more"
    )
    save_figure(
        file,
        lambda: compose(
            title, "plain RNN, adding problem of 200 steps", Block([plane, lags], 4.2, 2)
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("search", "tasks", "parts", "figure"))
    parser.add_argument("out", type=Path)
    parser.add_argument("task", nargs="*")
    parser.add_argument("--parameters", type=int)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)

    if asked.what == "figure":
        figure(asked.out)
        return

    module = importlib.import_module("trainability.cure")
    every = module.starts

    def without_memory(training):
        return (start for start in every(training) if start.words != MEMORY)

    for task, seed in ((task, seed) for seed in asked.seeds for task in asked.task or TASKS):
        training = training_of(task, asked.parameters, seed)
        model, x, y, loss, optimizer, constant = training
        row = {"task": task, "seed": seed, "steps": asked.steps}
        if asked.what == "search":
            append(asked.out, row | cured(training, asked.steps, asked.seconds))
        elif asked.what == "parts":
            every_part = parts(memory(training), x, model)
            own = partial(optimizer, lr=RATE)
            losses = together([*every_part.values()], x, y, loss, own, constant, asked.steps)
            for (name, changed), value in zip(every_part.items(), losses, strict=True):
                reach = measure_reach(whole_of((changed, *training[1:])))
                before = {"rate": RATE, "sees": reach.seen, "unevenness": f"{reach.unevenness:.2g}"}
                append(asked.out, row | before | {"part": name, "loss": f"{value:.3g}"})
        else:
            row["as it is"] = trained(model, x, y, loss, optimizer, constant, asked.steps)
            for name, kept in (("with", True), ("without", False)):
                module.starts = every if kept else without_memory
                found = cured(training, asked.steps, asked.seconds)
                row |= {f"{name} {key}": value for key, value in found.items()}
            module.starts = every
            append(asked.out, row)


if __name__ == "__main__":
    main()
