"""The language model: sizes, tied weights, states carried over, checkpoints."""

import torch
from tables import for_each

from rhn.cells.registry import num_parameters
from rhn.models import LanguageModel

TOKENS = torch.randint(13, (12, 3), generator=torch.Generator().manual_seed(0))


def model(cell="rhn", **options):
    generator = torch.Generator().manual_seed(1)
    sizes = {"vocabulary_size": 13, "hidden_size": 6} | options
    return LanguageModel(
        cell, generator=generator, dtype=torch.float64, init="uniform:0.5", **sizes
    )


def by_hand(net, tokens):
    """Logits from the definition: one cell after another on embedded tokens, then the output
    layer.
    """
    x = net.embedding[tokens]
    for cell in net.cells:
        x, _ = cell(x)
    weight = net.embedding if net.tied else net.output_weight
    return torch.einsum("tbn,vn->tbv", x, weight) + net.output_bias


@for_each("cell", ["rhn", "lstm", "dt-rnn"])
@for_each("tied", [True, False])
def test_logits_are_the_output_layer_on_stacked_cells_on_embedded_tokens(cell, tied):
    net = model(cell, tied=tied, layers=2, depth=1)
    torch.testing.assert_close(net(TOKENS).logits, by_hand(net, TOKENS))


def test_tied_weights_are_counted_and_trained_once():
    net = model(tied=True)
    assert num_parameters(model()) - num_parameters(net) == 13 * 6
    net(TOKENS).logits.square().sum().backward()
    assert {name for name, _ in net.named_parameters()} >= {"embedding", "output_bias"}
    net.embedding.grad = None
    net(TOKENS.clamp(max=11)).logits.square().sum().backward()
    assert net.embedding.grad[12].abs().sum() > 0, (
        "of a symbol that is not read, as the output layer's weight"
    )


def test_biases_start_at_random_or_at_a_constant_and_transform_gates_at_theirs():
    net = model(transform_bias=-3.0)
    assert net.output_bias.abs().max() > 0.1
    assert torch.equal(net.cells[0].bias[0, 6:], torch.full((6,), -3.0, dtype=torch.float64))
    constant = LanguageModel(
        "rhn", vocabulary_size=13, hidden_size=6, init="uniform:0.04,bias:0.5", transform_bias=-3.0
    )
    assert torch.equal(constant.output_bias, torch.full((13,), 0.5))
    assert torch.equal(constant.cells[0].bias[0], torch.tensor([0.5] * 6 + [-3.0] * 6))
