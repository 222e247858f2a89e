"""A training run is given back bit for bit, and its steps are those of a plain loop."""

import argparse
import copy
import functools
import random
import sys
import types
from collections import deque
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import plain_losses
from torch import nn
from training_runs import parts, run_of, sums
from user_modules import LastState

from trainability.snapshot import OWN, Snapshot, is_users_file, restored, seed_all
from trainability.training import train_run


class Normalised(nn.Module):
    """Batch normalisation, dropout, a kept state, a list, a counter, and an unused gradient."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.drop = LastState(4), nn.BatchNorm1d(4), nn.Dropout(0.3)
        self.out = nn.Linear(4, 1)
        self.calls, self.kept, self.seen = 0, None, [torch.zeros(2)]
        self.generator = torch.Generator().manual_seed(7)
        self.numpy = np.random.default_rng(0)
        self.queue, self.table, self.array = deque([1]), {"a": {1}}, np.zeros(3)
        self.register_buffer("average", torch.zeros(4), persistent=False)

    def forward(self, x):
        self.calls += 1
        z = self.norm(self.inner(x))
        self.kept = z.detach()
        self.seen[0].add_(1)
        self.seen.append(torch.rand(1, generator=self.generator))
        self.average.lerp_(self.kept.mean(0), 0.1)
        self.queue.append(self.numpy.random() + random.random() + np.random.rand())  # noqa: NPY002
        self.table["a"].add(self.calls)
        self.array += 1
        return self.out(self.drop(z))


class Weighted(nn.Module):
    """A loss with a parameter, which reads the model."""

    def __init__(self, model):
        super().__init__()
        self.weight, self.model = nn.Parameter(torch.zeros(())), [model]

    def forward(self, z, y):
        penalty = self.model[0].out.weight.square().sum()
        return (z - y).square().mean() * self.weight.exp() - self.weight + 1e-3 * penalty


def flat(value, depth=0):
    """All numbers that a value holds, as one comparable text."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().tobytes(), None if value.grad is None else flat(value.grad)
    if isinstance(value, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler):
        hidden = ("model", "optimizer", "generator", "numpy")
        return [flat(v, depth + 1) for k, v in sorted(vars(value).items()) if k not in hidden]
    if isinstance(value, dict):
        return [flat(v, depth + 1) for v in value.values()]
    if isinstance(value, list | tuple | set | deque):
        return [flat(v, depth + 1) for v in value]
    return value.tobytes() if isinstance(value, np.ndarray) else str(value)


def randomness(model):
    """All random states."""
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate(),
        model.generator.get_state().tolist(),
        str(model.numpy.bit_generator.state),
    )


def whole_run():
    """A run that has been trained for some steps already, with a schedule."""
    model = Normalised()
    loss_fn = Weighted(model)
    weights = [*model.parameters(), loss_fn.weight]
    optimizer = torch.optim.Adam(weights, 1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    run = run_of(model, *sums(), loss_fn, optimizer, scheduler=scheduler)
    train_run(run, 3, seed=1)
    return run


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(None, id="no error"),
        pytest.param(RuntimeError, id="an error"),
        pytest.param(KeyboardInterrupt, id="Ctrl-C"),
    ],
)
def test_everything_is_given_back_bit_for_bit(error):
    run = whole_run()
    objects = (run.model, run.loss_fn, run.optimizer, run.scheduler)
    before, states = flat(objects), randomness(run.model)
    weights = [p.data_ptr() for p in run.model.parameters()]

    def stop(step, loss):
        if error is not None and step == 5:
            raise error
        return False

    with nullcontext() if error is None else pytest.raises(error), restored(*objects):
        run.model.drop.p = 0.0
        run.model.new = nn.Linear(2, 2)
        run.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
        train_run(run, 8, seed=2, after=stop)
        run.model.eval().requires_grad_(False)
        assert flat(objects) != before and randomness(run.model) != states
    assert flat(objects) == before and randomness(run.model) == states
    assert weights == [p.data_ptr() for p in run.model.parameters()]


@pytest.mark.parametrize("times", [1, 3], ids=["once", "three times"])
def test_everything_is_given_back_also_if_ctrl_c_is_pressed_meanwhile(times, monkeypatch):
    model, original, pressed = nn.Linear(2, 2), torch.set_rng_state, []
    before = flat([model])

    def interrupted(state):
        if len(pressed) < times:
            pressed.append(True)
            raise KeyboardInterrupt
        original(state)

    monkeypatch.setattr(torch, "set_rng_state", interrupted)
    state = torch.get_rng_state()

    def stopped():
        with restored(model):
            nn.init.uniform_(model.weight)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(pressed) == times and flat([model]) == before
    assert torch.equal(state, torch.get_rng_state())


def test_an_axis_of_one_entry_without_a_stride_is_saved():
    tensor = torch.arange(3.0).as_strided((1, 3), (0, 1))
    saved = Snapshot([tensor])
    tensor += 1
    saved.restore()
    assert tensor.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("count", [2, 3])
def test_entries_that_share_a_number_are_left_alone(count):
    """torch writes no number twice."""
    number = torch.zeros(1)
    saved = Snapshot([number.expand(count), number])
    number += 1
    saved.restore()
    assert number.item() == 0


def test_a_snapshot_is_restored_as_often_as_needed():
    run = whole_run()
    with restored(run.model, run.loss_fn, run.optimizer, run.scheduler) as saved:
        losses = [train_run(run, 4, seed=0)]
        saved.restore()
        losses.append(train_run(run, 4, seed=0))
    assert losses[0] == losses[1]


def test_variables_of_a_closure_and_modules_in_globals_are_given_back():
    count, weight = 0, nn.Parameter(torch.ones(2))

    def loss_fn(z, y):
        nonlocal count
        count += 1
        return (z * weight).sum() + GLOBAL.weight.sum()

    with restored(loss_fn), torch.no_grad():
        loss_fn(torch.ones(2), None)
        weight.zero_()
        GLOBAL.weight.zero_()
    assert count == 0 and weight.sum() == 2 and GLOBAL.weight.sum() != 0
    assert {id(t) for t in Snapshot(loss_fn).tensors} >= {id(weight), id(GLOBAL.weight)}


GLOBAL = nn.Linear(2, 2)


class Slots:
    """An object without a dictionary of attributes."""

    __slots__ = ("__hidden", "calls", "later")

    def __init__(self):
        self.calls, self.__hidden = 0, 0

    def count(self):
        self.calls += 1
        self.__hidden += 1
        self.later = 1

    def state(self):
        return self.calls, self.__hidden, hasattr(self, "later")


class Counted:
    """A class that counts its calls itself."""

    calls, seen = 0, []

    @classmethod
    def count(cls):
        cls.calls += 1
        cls.seen.append(cls.calls)
        cls.new = 1

    @staticmethod
    def state():
        return Counted.calls, list(Counted.seen), hasattr(Counted, "new")


class History(list):
    """A list with an attribute."""

    calls = 0


number, flags, array, buffer = 0, [True], np.zeros(2), bytearray(2)
members, queue, table = {1}, deque([1], maxlen=3), {"a": {"b": [1]}}
slots, history, pair = Slots(), History([1]), ([1], {2})
options, average = argparse.Namespace(step=0), torch.zeros(2)
own = types.ModuleType("own")
own.__file__, own.step, own.seen = "own.py", 0, [0]


def of_a_number():
    global number
    number += 1


def of_a_new_variable():
    global created
    created = 1


def of_containers():
    flags[0] = False
    members.add(2)
    queue.append(2)
    table["a"]["b"].append(2)
    table["c"] = 3
    buffer[0] += 1
    pair[0].append(2)
    pair[1].clear()


def of_a_list_with_an_attribute():
    history.append(2)
    history.calls += 1


def of_an_array():
    array[0] += 1


def of_a_tensor_with_a_new_name():
    global average
    average = 0.9 * average + 1


def of_a_module():
    own.step += 1
    own.seen.append(1)


def of_a_namespace():
    options.step += 1
    options.new = 1


def of_slots():
    slots.count()


def of_a_class():
    Counted.count()


def of_an_inner_function():
    (lambda: of_a_number())()


def of_the_function_itself():
    of_the_function_itself.calls += 1


of_the_function_itself.calls = 0


class Forward(nn.Module):
    """Its `forward` calls functions of this file."""

    def helper(self):
        of_a_number()

    def forward(self):
        self.helper()
        of_slots()


@torch.no_grad()
def decorated():
    of_a_number()


class Scheduler:
    def step(self):
        of_a_number()


def variables():
    """All variables that the functions above change, and the identity of the containers."""
    held = (flags, members, queue, table, buffer, history, array, own.seen, Counted.seen, slots)
    numbers = number, "created" in globals(), own.step, of_the_function_itself.calls, vars(options)
    inside = slots.state(), Counted.state(), history.calls, pair, average, table["a"]["b"]
    return str((held[:-1], numbers, inside, options)), [id(each) for each in (*held, average)]


@pytest.mark.parametrize(
    "root",
    [
        pytest.param(of_a_number, id="number"),
        pytest.param(of_a_new_variable, id="new variable"),
        pytest.param(of_containers, id="containers"),
        pytest.param(of_a_list_with_an_attribute, id="list with an attribute"),
        pytest.param(of_an_array, id="array"),
        pytest.param(of_a_tensor_with_a_new_name, id="tensor with a new name"),
        pytest.param(of_a_module, id="module"),
        pytest.param(of_a_namespace, id="namespace"),
        pytest.param(of_slots, id="slots"),
        pytest.param(of_a_class, id="class"),
        pytest.param(of_an_inner_function, id="function inside a function"),
        pytest.param(of_the_function_itself, id="attribute of the function"),
        pytest.param(Forward(), id="methods of a module"),
        pytest.param(decorated, id="decorated by torch"),
        pytest.param(Scheduler().step, id="method of an object"),
        pytest.param(functools.partial(of_slots), id="partial function"),
        pytest.param([of_slots], id="function in a list"),
    ],
)
def test_variables_that_functions_of_the_users_files_name_are_given_back(root):
    call = root[0] if isinstance(root, list) else root
    before = variables()
    saved = Snapshot(root)
    for _ in range(2):
        call()
        assert variables() != before
        saved.restore()
        assert variables() == before


library = types.ModuleType("library")
library.__file__, library.calls = f"{np.__path__[0]}/library.py", 0


class Placed:
    """An object with a file that is no module."""

    __slots__ = ("__file__",)


placed = Placed()
placed.__file__ = "own.py"


def of_a_library():
    library.calls += 1
    return placed.__file__


def test_variables_of_libraries_are_left_alone():
    """A library may count its own calls, such as those of a cache."""
    calls = library.calls
    with restored(of_a_library):
        of_a_library()
    assert library.calls == calls + 1


def test_objects_of_libraries_are_left_alone():
    parser = argparse.ArgumentParser(prog="old")
    with restored(parser):
        parser.prog = "new"
    assert parser.prog == "new"


one, other = types.ModuleType("one"), types.ModuleType("other")
one.__file__, other.__file__, one.other, other.one, other.step = "one.py", "other.py", other, one, 0


def of_modules_that_import_each_other():
    one.other.one.other.step += 1


def test_modules_that_import_each_other_are_given_back():
    with restored(of_modules_that_import_each_other):
        of_modules_that_import_each_other()
    assert other.step == 0


@pytest.mark.parametrize(
    ("module", "given_back"),
    [
        pytest.param("__main__", True, id="main program"),
        pytest.param("run_by_runpy", True, id="module that is not kept"),
        pytest.param(__name__, True, id="file of the user's"),
        pytest.param("pytest", False, id="library"),
        pytest.param("rhn.cells", False, id="toolkit"),
        pytest.param("torch.nn", False, id="torch"),
    ],
)
def test_attributes_of_the_user_s_classes_are_given_back(module, given_back, monkeypatch):
    """The main program may be a file of a library that runs the user's, as `python -m` does."""
    monkeypatch.setitem(sys.modules, "__main__", library)

    class Own:
        calls = 0

    Own.__module__ = module
    with restored(Own()):
        Own.calls = 1
    assert (Own.calls == 0) is given_back


def test_the_examples_of_the_user_s_data_sets_are_not_copied():
    class Numbers(torch.utils.data.Dataset):
        def __init__(self):
            self.x = torch.zeros(3)

    numbers = Numbers()
    assert Snapshot(numbers).tensors == [] and Snapshot([numbers.x]).tensors == [numbers.x]


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32 + 5, 2**33 + 2**32])
def test_all_random_states_follow_from_one_seed(seed):
    """Those of NumPy repeat after 2^32 seeds."""
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seed_all(seed)
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(seed))
    assert np.random.rand() == np.random.RandomState(seed % 4294967296).rand()  # noqa: NPY002
    assert random.random() == random.Random(seed).random()
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])


@pytest.mark.parametrize(
    ("file", "users"),
    [
        pytest.param("/home/me/train.py", True, id="script"),
        pytest.param("<stdin>", True, id="typed"),
        pytest.param("/tmp/ipykernel_1/2.py", True, id="cell of a notebook"),
        pytest.param(str(OWN / "rhn_experiments" / "train.py"), True, id="beside the toolkit"),
        pytest.param(str(OWN / "rhn" / "cells" / "rhn.py"), False, id="toolkit"),
        pytest.param(torch.__file__, False, id="torch"),
        pytest.param(random.__file__, False, id="standard library"),
        pytest.param("/usr/lib/python3/dist-packages/a.py", False, id="distribution"),
        pytest.param("<frozen importlib._bootstrap>", False, id="frozen"),
    ],
)
def test_files_of_libraries_are_not_the_users(file, users):
    assert is_users_file(file) is users


def test_arrays_that_cannot_be_written_and_sparse_gradients_are_saved():
    array = np.zeros(2)
    array.flags.writeable = False
    embedding = nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1, 1])).sum().backward()
    with restored([array, embedding]), torch.no_grad():
        embedding.weight.grad.mul_(2)
        embedding(torch.tensor([3]))
    assert embedding.weight.grad.to_dense()[:, 0].tolist() == [0, 2, 0, 0, 0]


def test_the_generator_of_a_loader_is_given_back():
    generator = torch.Generator().manual_seed(4)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*sums()), 16, shuffle=True, generator=generator
    )
    state = generator.get_state()
    with restored(loader):
        run_of(LastState(), loader, None, nn.MSELoss())
        assert not torch.equal(generator.get_state(), state)
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop"])
@pytest.mark.parametrize("count", [200, 187], ids=["5 x 32 examples", "4 x 32 and 22 examples"])
def test_training_is_a_plain_loop_to_the_bit(kind, count):
    model = nn.Sequential(LastState(4), nn.Dropout(0.2), nn.Linear(4, 1))
    model, _, _, loss_fn, optimizer = parts(model, kind=kind)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7)
    run = run_of(model, *sums(count), loss_fn, optimizer, scheduler=scheduler)
    mine = copy.deepcopy((model, optimizer, scheduler))

    losses = train_run(run, 12, seed=0)

    other, adam, schedule = mine
    torch.manual_seed(0)
    plain = plain_losses(other, run.data.train.x, run.data.train.y, loss_fn, adam, 12, schedule)
    assert losses == plain


def test_a_factor_changes_every_rate_and_no_schedule():
    model, x, y, loss_fn, _ = parts(LastState())
    pair = copy.deepcopy(model), model
    rates = [0.01, 0.1]
    losses = []
    for one, rate, factor in zip(pair, rates, (10.0, 1.0), strict=True):
        sgd = torch.optim.SGD(one.parameters(), rate)
        schedule = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
        run = run_of(one, x, y, loss_fn, sgd, scheduler=schedule)
        losses.append(train_run(replace(run, factor=factor), 5, 0))
        assert sgd.param_groups[0]["lr"] == pytest.approx(rate * 0.5**5)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize(
    ("rate", "size"), [(1e30, 1), (3e38, 100)], ids=["weights", "weights after the first step"]
)
def test_training_ends_with_the_first_loss_that_is_not_finite(rate, size):
    """As soon as weights are not finite, too."""
    model, x, y, loss_fn, _ = parts(LastState())
    sgd = torch.optim.SGD(model.parameters(), rate)
    losses = train_run(run_of(model, x, size * y, loss_fn, sgd), 50, 0)
    assert 1 < len(losses) < 50 and not np.isfinite(losses[-1])
