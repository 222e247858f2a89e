"""Recurrences, studies and Jacobians against JAX (jit, scan, vmap), which the extra `bench`
installs.
"""

import os

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.kernels import training
from benchmarks.registry import benchmark
from benchmarks.study import corpus, fused_epoch, study
from gersgorin import temporal_jacobian
from optim_study.backend import hidden_size
from optim_study.config import small
from rhn.cells import RHN
from rhn.training.chorales import training_batches

TRIALS, MOMENTUM = 15, 0.9


def states(weights, x, s0):
    """The RHN's states (T, B, n) of inputs (T, B, m): one `scan`, the input product before it."""
    (W, R, b), n = weights, s0.shape[-1]

    def step(s, of_input):
        for layer in range(len(R)):
            z = s @ R[layer].T + b[layer] + (of_input if layer == 0 else 0)
            h, t = jnp.tanh(z[..., :n]), jax.nn.sigmoid(z[..., n:])
            s = h * t + s * (1 - t)
        return s, s

    return jax.lax.scan(step, s0, x @ W.T)[1]


def arrays(*shapes):
    generator = np.random.default_rng(0)
    return tuple(
        jnp.asarray(generator.normal(0, 0.05, shape).astype(np.float32)) for shape in shapes
    )


for n, depth in ((20, 4), (262, 6), (215, 1)):

    @benchmark(f"RHN kernel n={n} depth={depth} T=60 B=32", "JAX: grad of a scan, jit", pairs=5)
    def _(device, n=n, depth=depth):
        x, weights = torch.rand(60, 32, 88), arrays((2 * n, 88), (depth, 2 * n, n), (depth, 2 * n))
        theirs, start = jnp.asarray(x.numpy()), jnp.zeros((32, n))
        gradients = jax.jit(jax.grad(lambda weights: states(weights, theirs, start).sum()))
        return training(RHN(88, n, depth), x), lambda: jax.block_until_ready(gradients(weights))


for n, depth, batch in ((64, 5, 256), (215, 1, 64)):

    @benchmark(
        f"analytic Jacobian, RHN n={n} depth={depth} batch={batch}",
        "JAX: vmap of jacfwd, jit",
        pairs=5,
    )
    def _(device, n=n, depth=depth, batch=batch):
        cell, x, s = RHN(88, n, depth), torch.rand(batch, 88), torch.rand(batch, n) - 0.5
        weights = tuple(
            jnp.asarray(w.detach().numpy()) for w in (cell.weight_ih, cell.weight_hh, cell.bias)
        )
        jacobians = jax.jit(jax.vmap(jax.jacfwd(lambda s, x: states(weights, x[None], s)[0])))
        theirs = jnp.asarray(s.numpy()), jnp.asarray(x.numpy())
        np.testing.assert_allclose(
            temporal_jacobian(cell, x, s).detach(), jacobians(*theirs), atol=1e-5
        )
        # JAX records no operations either
        ours = torch.no_grad()(lambda: temporal_jacobian(cell, x, s))
        return ours, lambda: jax.block_until_ready(jacobians(*theirs))


for depth in (1, 6):

    @benchmark(
        f"study, small sizes, RHN depth {depth}, {TRIALS} trials",
        "JAX: vmap of a scan, jit",
        pairs=3,
    )
    def _(device, depth=depth):
        data = corpus(64)
        config = study(small(), depth, data)
        ours = fused_epoch(config, range(TRIALS), data, "cpu", together=True)
        return ours, epoch_by_jax(config.batch_size, hidden_size(config), depth, data)


def epoch_by_jax(batch_size, n, depth, data):
    """An epoch of all trials: SGD with momentum, then the losses, as `fused_epoch` does it."""
    where = {"device": "cpu", "dtype": torch.float32}
    train, valid = (
        [
            (jnp.asarray(b.frames.numpy()), jnp.asarray(b.mask.numpy()), float(b.size))
            for b in batches
        ]
        for batches in (
            training_batches(data.train, batch_size, **where),
            training_batches(data.valid, 64, **where),
        )
    )
    shapes = (2 * n, 88), (depth, 2 * n, n), (depth, 2 * n), (88, n), (88,)
    weights = arrays(*((TRIALS, *shape) for shape in shapes))
    velocities, rate = tuple(map(jnp.zeros_like, weights)), 1e-3

    def loss(weights, frames, mask, count):
        *recurrent, U, c = weights
        z = states(recurrent, frames[:-1], jnp.zeros((frames.shape[1], n))) @ U.T + c
        return ((jnp.logaddexp(0.0, z) - frames[1:] * z).sum(-1) * mask[1:]).sum() / count

    def update(weights, velocities, *batch):
        gradients = jax.grad(loss)(weights, *batch)
        velocities = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocities, gradients)
        return jax.tree.map(lambda w, v: w - rate * v, weights, velocities), velocities

    updates = jax.jit(jax.vmap(update, in_axes=(0, 0, None, None, None)))
    losses = jax.jit(jax.vmap(loss, in_axes=(0, None, None, None)))

    def run():
        nonlocal weights, velocities
        for batch in train:
            weights, velocities = updates(weights, velocities, *batch)
        return jax.block_until_ready([losses(weights, *batch) for batch in (*train, *valid)])

    return run
