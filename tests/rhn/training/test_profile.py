"""What a training says of its speed is measured, and changes nothing."""

import pytest
import torch
from torch import nn

from rhn.kernels.compiled.build import library
from rhn.models import PolyphonicModel
from rhn.training import profile
from rhn.training.ensemble import Ensemble
from rhn.training.profile import measure_profile
from rhn.utils.progress import Speed, lines_of

FRAMES = torch.rand(7, 32, 88)


def pace_of(cell="rhn", calls=None, **options):
    models = [PolyphonicModel(cell, hidden_size=4, **options) for _ in range(2)]
    stack = Ensemble.of(models)

    def gradients():
        stack.gradients(lambda model: model(FRAMES).square().mean())
        if calls is not None:
            calls.append("loss")

    return measure_profile(stack, gradients, FRAMES, own=False)


class Counted(nn.Module):
    """A cell of the user's own that says when it runs."""

    calls: list

    def __init__(self, input_size, hidden_size, depth, device=None, dtype=None):
        super().__init__()
        self.inner = nn.Linear(input_size, hidden_size)

    def forward(self, x):
        self.calls.append("cell")
        return self.inner(x), None


def test_the_share_is_the_time_of_the_cells_in_the_time_of_a_step(monkeypatch):
    """By a clock on which a cell takes 3 milliseconds, and everything else of a step 1."""
    calls = Counted.calls = []
    monkeypatch.setattr(profile.time, "perf_counter", lambda: sum(0.003 if call == "cell" else 0.001 for call in calls))
    found = pace_of(Counted, calls, layers=2)
    assert (found.step, found.recurrence, found.share) == pytest.approx((0.007, 0.006, 6 / 7))
    assert len(calls) > 20, "each several times"
    assert str(found) == "86 % of a step; step by step, without a kernel"


@pytest.mark.parametrize(
    ("cell", "options", "words"),
    [
        ("rhn", {}, "in C" if library() else "fused, not in C: "),
        ("gru", {}, "fused"),
        ("rhn", {"kernel": "reference"}, "step by step, without a kernel"),
        ("rhn", {"activation": "relu"}, "fused, not in C: it has no activation relu"),
        ("rnn", {"dtype": torch.float64}, "fused, not in C: it takes float32 on a CPU"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_the_kernel_that_runs_is_named_and_why_not_the_faster_one(cell, options, words, monkeypatch):
    monkeypatch.setattr(f"{__name__}.FRAMES", FRAMES.to(options.get("dtype")))
    assert pace_of(cell, **options).kernel.startswith(words)


def test_what_other_programs_take_does_not_count(monkeypatch):
    """Most samples are of a busy machine, where a call takes up to ten times as long."""
    calls = iter(range(1000))

    def seconds(call, device):
        n = next(calls)  # of the step, of the recurrence, and so on
        return (0.001 if n % 2 else 0.004) * (1 if n // 2 % 7 == 3 else 2 + n % 9)

    monkeypatch.setattr(profile, "_seconds", seconds)
    found = pace_of("gru")
    assert (found.step, found.recurrence) == (0.004, 0.001)


def test_too_little_memory_to_measure_is_no_error(monkeypatch):
    def short(call, device):
        call()
        raise torch.OutOfMemoryError

    monkeypatch.setattr(profile, "_seconds", short)
    assert str(pace_of("gru")) == "fused"


@pytest.mark.gpu
@pytest.mark.parametrize("cell", ["rhn", "gru"])
def test_on_a_gpu_it_is_measured_by_graphs(cell):
    frames = FRAMES.cuda()
    stack = Ensemble.of([PolyphonicModel(cell, hidden_size=40) for _ in range(2)], "cuda")
    found = measure_profile(
        stack, lambda: stack.gradients(lambda model: model(frames).square().mean()), frames, own=False
    )
    assert found.kernel.startswith("fused") and 0 < found.share <= 1


def test_the_speed_counts_from_the_first_unit_on():
    now = [100.0]
    speed = Speed(clock=lambda: now[0])
    for _ in range(3):
        speed.add()
        now[0] += 2.0
        assert speed.rate is None and speed.left(10) is None
    speed.add()
    assert speed.rate == 0.5 and speed.left(10) == 20


def test_lines_have_80_characters():
    assert max(map(len, lines_of("word " * 40).splitlines())) <= 80
