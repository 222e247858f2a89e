"""Every optimizer over K models takes the steps of `torch.optim` for each of them."""

import pytest
import torch

from rhn.training.config import LanguageConfig
from rhn.training.configure import preset
from rhn.training.optimizers import OPTIMIZERS, make_optimizer

THEIRS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}
RATES = (0.3, 1e-3, 0.02)
CASES = {
    "sgd": {"momentum": 0.9},
    "sgd without momentum": {},
    "sgd with weight decay": {"momentum": 0.5, "weight_decay": 0.1},
    "sgd clipped": {"clip": 5.0},
    "sgd with momentum clipped": {"momentum": 0.5, "clip": 5.0},
    "adam": {},
    "adam with weight decay": {"weight_decay": 0.1},
    "adamw": {"weight_decay": 0.01},
    "rmsprop": {},
    "rmsprop with momentum": {"momentum": 0.9, "weight_decay": 0.1},
}


def gradients(step: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Gradients (3, ...) of three models; sizes from 1e-6 to 10."""
    generator, scale = torch.Generator().manual_seed(step), torch.tensor([1e-6, 1.0, 10.0])
    W, b = (torch.randn(*shape, 3, generator=generator) for shape in ((7, 5), (7,)))
    return {"W": (W * scale).movedim(-1, 0).to(dtype), "b": (b * scale).mT.to(dtype)}


def taken(t: dict, places) -> dict:
    return {name: values[places].clone() for name, values in t.items()}


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(case, dtype) for case in CASES for dtype in (torch.float64, torch.float32)],
    ids=str,
)
def test_each_model_takes_torch_s_steps_also_after_pruning_and_a_resume(case, dtype):
    name, options = case.split()[0], CASES[case]
    ours, weights = OPTIMIZERS[name](**options), gradients(1000, dtype)
    start, norms, live = taken(weights, slice(None)), [], [0, 1, 2]
    state, rate = ours.start(weights), torch.tensor(RATES, dtype=torch.float64)
    for step in range(40):
        if step == 15:  # the first model leaves; what is left is copied, as a resume does
            live, rate = [1, 2], rate[1:]
            weights, state = taken(weights, live), taken(state, live)
        norms.append(ours.step(weights, taken(gradients(step, dtype), live), state, rate))
    tolerance = {torch.float64: 1e-13, torch.float32: 3e-6}[dtype]
    for place, k in enumerate(live):
        own = {name: torch.nn.Parameter(t[k].clone()) for name, t in start.items()}
        others = {name: value for name, value in options.items() if name != "clip"}
        theirs = getattr(torch.optim, THEIRS[name])(own.values(), lr=RATES[k], **others)
        for step in range(40):
            for each, g in gradients(step, dtype).items():
                own[each].grad = g[k]
            if ours.clip:
                norm = torch.cat([p.grad.flatten().double() for p in own.values()]).norm()
                assert norms[step][k - 3].item() == pytest.approx(norm.item(), rel=1e-6)
                for p in own.values():
                    p.grad *= min(1.0, 5.0 / norm.item())
            theirs.step()
        for each, p in own.items():
            torch.testing.assert_close(
                weights[each][place], p.detach(), rtol=tolerance, atol=tolerance
            )
    assert not ours.clip or norms[0].min() < 5.0 < norms[0].max(), "one is clipped, one is not"


def test_the_configuration_names_the_optimizer_and_its_parameters():
    config = LanguageConfig(corpus="ptb", optimizer="adamw", beta1=0.5, weight_decay=0.1)
    assert make_optimizer(config) == OPTIMIZERS["adamw"](beta1=0.5, weight_decay=0.1, clip=10.0)
    assert make_optimizer(LanguageConfig(corpus="ptb")) == OPTIMIZERS["sgd"](clip=10.0)
    shrink = LanguageConfig(corpus="ptb", weight_decay=0.1, weight_decay_form="shrink")
    assert make_optimizer(shrink) == OPTIMIZERS["sgd"](shrink=0.1, clip=10.0)
    assert make_optimizer(preset("jsb-depth-1")) == OPTIMIZERS["sgd"](momentum=0.9)
