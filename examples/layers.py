"""Layers as steps f(x, s): a block that is applied many times, as in looped language models, and
layers of the library transformers through their caches.

    python examples/layers.py

The block follows pointers. Its input is a permutation of five places, its first state encodes one
place, and each loop moves to the place to which the permutation points. So the right answer is
known for every number of loops.

A function of `LAYERS` returns (step, first state) for inputs (1, 8). The step puts the state into a
cache, calls the layer on one token, and returns (output, next state). The layers write into their
caches in place, and compute parts of a step in single precision.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gersgorin import lyapunov, products, spectra

PLACES, WIDTH, HIDDEN = 5, 16, 64
M = 8  # numbers of an input of a layer of transformers


class Block(nn.Module):
    """One loop: s' = norm(s + MLP(x, s)), where x is the same in every loop (input injection).

    x (..., 25): the permutation, as a one-hot row for each place. s: (..., 16).
    """

    def __init__(self):
        super().__init__()
        self.state_size = WIDTH
        self.first = nn.Linear(PLACES, WIDTH)
        self.mix = nn.Linear(PLACES**2 + WIDTH, HIDDEN)
        self.out = nn.Linear(HIDDEN, WIDTH)
        self.head = nn.Linear(WIDTH, PLACES)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        x = x.expand(*s.shape[:-1], -1)
        s = s + self.out(F.gelu(self.mix(torch.cat((x, s), -1))))
        return F.rms_norm(s, s.shape[-1:])


def task(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw questions: permutations (count, 5) and first places (count,)."""
    order = torch.rand(count, PLACES, generator=generator).argsort(-1)
    return order, torch.randint(PLACES, (count,), generator=generator)


def places(order: Tensor, first: Tensor, loops: int) -> Tensor:
    """Return the right place after each loop, (loops, count)."""
    found = [first]
    for _ in range(loops):
        found.append(order.gather(1, found[-1][:, None])[:, 0])
    return torch.stack(found[1:])


def inputs(block: Block, order: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inputs x (count, 25) and the first states (count, 16) of a block."""
    x = F.one_hot(order, PLACES).to(block.out.weight).flatten(1)
    return x, block.first(F.one_hot(first, PLACES).to(x))


def states(block: Block, x: Tensor, s: Tensor, loops: int) -> Tensor:
    """Return the state after each loop, (loops, count, 16)."""
    found = []
    for _ in range(loops):
        s = block(x, s)
        found.append(s)
    return torch.stack(found)


def trained(seed: int, *, loops: int = 6, steps: int = 1500) -> Block:
    """Train a block to give the right place after each of the first `loops` loops, and return it in
    float64.
    """
    torch.manual_seed(seed)
    block, generator = Block(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(block.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        order, first = task(128, generator)
        logits = block.head(states(block, *inputs(block, order, first), loops))
        loss = F.cross_entropy(logits.flatten(0, 1), places(order, first, loops).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(block.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return block.double().requires_grad_(False)


def right(block: Block, order: Tensor, first: Tensor, loops: int) -> Tensor:
    """Return whether the answer after each loop is right, (loops, count)."""
    after = states(block, *inputs(block, order, first), loops)
    return block.head(after).argmax(-1) == places(order, first, loops)


def through_cache(layer, config):
    """Return (step, first state) of a layer that takes a DynamicCache with the states of a
    convolution and of a recurrence.
    """
    from transformers import DynamicCache

    layer.double().eval()
    full = DynamicCache(config=config)
    with torch.no_grad():
        layer(torch.zeros(1, 1, M, dtype=torch.float64), cache=full)

    def step(x, state):
        cache = copy.deepcopy(full)
        kept = cache.layers[0]
        kept.conv_states[0], kept.recurrent_states[0] = state
        y = layer(x[None], cache=cache)
        return y[0], (kept.conv_states[0], kept.recurrent_states[0])

    return step, (full.layers[0].conv_states[0], full.layers[0].recurrent_states[0])


def drawn(layer):
    """Draw normal weights for a layer whose weights are otherwise drawn by its model."""
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return layer


def mamba():
    """The selective state space layer of Mamba."""
    from transformers.models.mamba.modeling_mamba import MambaConfig, MambaMixer

    config = MambaConfig(hidden_size=M, state_size=4, num_hidden_layers=1)
    return through_cache(MambaMixer(config, layer_idx=0), config)


def mamba2():
    """Mamba-2: one decay for each head."""
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Config, Mamba2Mixer

    heads = {"num_heads": 2, "head_dim": 8, "n_groups": 1}
    config = Mamba2Config(hidden_size=M, state_size=4, num_hidden_layers=1, **heads)
    return through_cache(Mamba2Mixer(config, layer_idx=0), config)


def gated_delta_net():
    """The linear attention of Qwen3-Next."""
    from transformers.models.qwen3_next import modeling_qwen3_next as qwen

    heads = {"linear_num_value_heads": 2, "linear_num_key_heads": 1}
    sizes = {"linear_key_head_dim": 4, "linear_value_head_dim": 4}
    config = qwen.Qwen3NextConfig(hidden_size=M, num_hidden_layers=1, **heads, **sizes)
    return through_cache(qwen.Qwen3NextGatedDeltaNet(config, layer_idx=0), config)


def kimi_delta():
    """The linear attention of Kimi Linear: one decay for each channel."""
    from transformers.models.kimi_linear import modeling_kimi_linear as kimi

    heads = {"linear_num_heads": 2, "linear_head_dim": 4}
    config = kimi.KimiLinearConfig(hidden_size=M, num_hidden_layers=1, **heads)
    return through_cache(drawn(kimi.KimiLinearDeltaAttention(config, layer_idx=0)), config)


def rwkv():
    """The time mixing of RWKV-4. Its state is a list that the layer overwrites."""
    from transformers.models.rwkv.modeling_rwkv import RwkvConfig, RwkvSelfAttention

    config = RwkvConfig(hidden_size=M, context_length=16)
    layer = drawn(RwkvSelfAttention(config).double().eval())

    def step(x, state):
        columns = [part.unsqueeze(-1) for part in state]
        y, columns = layer(x[None], state=[None, *columns], use_cache=True)
        return y[0], tuple(part.squeeze(-1) for part in columns[1:])

    return step, tuple(torch.zeros(1, M, dtype=torch.float64) for _ in range(4))


def griffin():
    """The recurrent block of RecurrentGemma. Its state is in two attributes of the block."""
    from transformers.models.recurrent_gemma import modeling_recurrent_gemma as gemma

    config = gemma.RecurrentGemmaConfig(hidden_size=M, lru_width=M, num_attention_heads=2)
    layer = drawn(gemma.RecurrentGemmaRecurrentBlock(config, layer_idx=0).double().eval())

    def step(x, state):
        layer.conv1d_state, layer.rg_lru.recurrent_states = state
        y, _ = layer(x[None], position_ids=torch.ones(1, 1), attention_mask=None)
        return y[0], (layer.conv1d_state, layer.rg_lru.recurrent_states)

    d = torch.float64
    return step, (torch.zeros(1, M, config.conv1d_width - 1, dtype=d), torch.zeros(1, M, dtype=d))


LAYERS = (mamba, mamba2, gated_delta_net, kimi_delta, rwkv, griffin)


def made(layer):
    """Return (a step with seeded weights, its first state, inputs (5, 8))."""
    torch.manual_seed(0)
    step, s0 = layer()
    return step, tuple(part.double() for part in s0), torch.randn(5, M, dtype=torch.float64)


if __name__ == "__main__":
    torch.set_num_threads(1)  # for small matrices
    block = trained(0)
    x, s0 = (t[0] for t in inputs(block, torch.tensor([[1, 0, 2, 4, 3]]), torch.tensor([0])))
    print("spectral radius by loop:", spectra(block, x.expand(6, -1), s0).spectral_radius.round(3))
    over = lyapunov(block, x.expand(300, -1), s0, count=2, warmup=50)
    print("exponents of 300 loops:", over.exponents.round(3))
    for layer in LAYERS:
        step, s0, x = made(layer)
        print(layer.__name__, products(step, x, s0), sep="\n", end="\n\n")
