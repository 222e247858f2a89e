"""Every optimizer over K models takes the steps of `torch.optim` for each of them."""

from dataclasses import replace

import pytest
import torch
from tables import for_each

from rhn.presets import preset
from rhn.training.config import LanguageConfig
from rhn.training.optimizers import OPTIMIZERS, make_optimizer
from tests.rhn.texts import SMALL, finish, small_corpus, text_trainer

THEIRS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}
RATES = (0.3, 1e-3, 0.02)
CASES = {
    "sgd": {"momentum": 0.9},
    "sgd without momentum": {},
    "sgd with weight decay": {"momentum": 0.5, "weight_decay": 0.1},
    "adam": {},
    "adam with weight decay": {"weight_decay": 0.1},
    "adamw": {"weight_decay": 0.01},
    "rmsprop": {},
    "rmsprop with momentum": {"momentum": 0.9, "weight_decay": 0.1},
}


def gradients(step: int) -> dict[str, torch.Tensor]:
    """Gradients (3, ...) of three models; sizes from 1e-6 to 10."""
    generator = torch.Generator().manual_seed(step)
    scale = torch.tensor([1e-6, 1.0, 10.0])
    return {
        name: torch.randn(3, *shape, generator=generator) * scale.view(-1, *[1] * len(shape))
        for name, shape in {"W": (7, 5), "b": (7,)}.items()
    }


def taken(t: dict, places) -> dict:
    return {name: values[places].clone() for name, values in t.items()}


@pytest.mark.parametrize("case", CASES)
@for_each("dtype", [torch.float64, torch.float32])
def test_each_model_takes_torch_s_steps_also_after_pruning_and_a_resume(case, dtype):
    name, options = case.split()[0], CASES[case]
    ours = OPTIMIZERS[name](**options)
    weights = {name: t.to(dtype) for name, t in gradients(1000).items()}
    start = {name: t.clone() for name, t in weights.items()}
    state, rate, live = ours.start(weights), torch.tensor(RATES, dtype=torch.float64), [0, 1, 2]
    for step in range(40):
        if step == 15:  # the first model leaves; what is left is copied, as a resume does
            weights, state, rate, live = (
                taken(weights, [1, 2]),
                taken(state, [1, 2]),
                rate[[1, 2]],
                [1, 2],
            )
        ours.step(
            weights, {name: t[live].to(dtype) for name, t in gradients(step).items()}, state, rate
        )
    tolerance = {torch.float64: 1e-13, torch.float32: 3e-6}[dtype]
    for place, k in enumerate(live):
        own = {name: torch.nn.Parameter(t[k].clone()) for name, t in start.items()}
        theirs = getattr(torch.optim, THEIRS[name])(
            own.values(), lr=RATES[k], foreach=False, **options
        )
        for step in range(40):
            for name_, p in own.items():
                p.grad = gradients(step)[name_][k].to(dtype)
            theirs.step()
        for name_, p in own.items():
            torch.testing.assert_close(
                weights[name_][place], p.detach(), rtol=tolerance, atol=tolerance
            )


@for_each(("dtype", "decay"), [(torch.float32, 0.0), (torch.float32, 0.1), (torch.float64, 0.1)])
def test_a_clipped_step_is_torch_s_and_a_model_has_the_same_bits_alone(dtype, decay):
    together, g = ({name: t.to(dtype) for name, t in gradients(step).items()} for step in (0, 1))
    before, ours = taken(together, [0, 1, 2]), OPTIMIZERS["sgd"](weight_decay=decay, clip=5.0)
    norm = ours.step(together, g, {}, torch.tensor(RATES, dtype=torch.float64))
    for k, rate in enumerate(RATES):
        theirs = [torch.nn.Parameter(t[k].clone()) for t in before.values()]
        for p, each in zip(theirs, g.values(), strict=True):
            p.grad = each[k] + decay * p.detach()
        assert norm[k].item() == pytest.approx(
            torch.nn.utils.clip_grad_norm_(theirs, 5.0).item(), rel=1e-6
        )
        torch.optim.SGD(theirs, lr=rate).step()
        alone, own = taken(before, [k]), torch.tensor([rate], dtype=torch.float64)
        assert torch.equal(ours.step(alone, taken(g, [k]), {}, own), norm[k : k + 1])
        for (name, w), p in zip(together.items(), theirs, strict=True):
            torch.testing.assert_close(w[k], p.detach(), rtol=1e-5, atol=1e-6)
            assert torch.equal(alone[name][0], w[k])
    assert norm.min() < 5.0 < norm.max(), "one is clipped, one is not"


def test_the_configuration_names_the_optimizer_and_its_parameters():
    config = LanguageConfig(corpus="ptb", optimizer="adamw", beta1=0.5, weight_decay=0.1)
    assert make_optimizer(config) == OPTIMIZERS["adamw"](beta1=0.5, weight_decay=0.1, clip=10.0)
    assert make_optimizer(LanguageConfig(corpus="ptb")) == OPTIMIZERS["sgd"](clip=10.0)
    shrink = LanguageConfig(corpus="ptb", weight_decay=0.1, weight_decay_form="shrink")
    assert make_optimizer(shrink) == OPTIMIZERS["sgd"](shrink=0.1, clip=10.0)
    assert make_optimizer(preset("jsb-depth-1")) == OPTIMIZERS["sgd"](momentum=0.9)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_training_with_it_goes_on_to_the_same_bits_beside_others_and_resumed(optimizer):
    config = replace(SMALL, optimizer=optimizer, learning_rate=0.01, epochs=2, weight_decay=1e-3)
    corpus = small_corpus(20)
    whole, broken = (
        finish(text_trainer(config, corpus, (0, 1, 2))),
        text_trainer(config, corpus, (0, 1, 2)),
    )
    for _ in range(2):
        broken.run_step()
    resumed = finish(
        text_trainer(config, corpus, (1, 2), saved={n: broken.state(n) for n in (1, 2)})
    )
    for n in (1, 2):
        assert (resumed.curve(n)[:, 0] == whole.curve(n)[:, 0]).all()
    assert whole.curve(0)[-1, 0] < whole.curve(0)[0, 0], "it learns"
