"""`watch` changes nothing of a loop, leaves nothing behind, and keeps nothing alive."""

import gc
import random
import sys
import warnings
import weakref
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import torch
from loops import Reader, train
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers
from torch.utils import hooks as handles

import trainability
from rhn.errors import InvalidInputError
from rhn.utils import torch_private
from rhn.utils.torch_private import LoaderIterator
from trainability.watching import hooks
from trainability.watching.loop_facts import CALLED

INSTALLERS = [each.__file__ for each in (hooks, torch_private, handles, modules, warnings)]
"""The files of functions that install and remove hooks."""


class Stop(BaseException):
    """Ends a loop as Ctrl-C does."""


def installed():
    """All that `watch` installs in torch."""
    return (
        dict(modules._global_forward_pre_hooks),
        dict(modules._global_forward_hooks),
        dict(optimizers._global_optimizer_pre_hooks),
        dict(optimizers._global_optimizer_post_hooks),
        torch.autograd.backward,
        GradScaler.step,
        GradScaler.scale,
        LoaderIterator.__next__,
        list(warnings.filters),
    )


def random_states():
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002


def test_losses_weights_and_random_states_are_equal_to_the_bit():
    network, losses = train()
    states = random_states()
    with trainability.watch():
        watched, others = train()
    assert losses == others and states == random_states()
    for one, other in zip(network.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)


def end_normally(network):
    network(torch.ones(1, 2, 3)).sum().backward()


def raise_between_calls(network):
    raise Stop


def raise_in_a_call(network):
    network(torch.ones(2))


def stop_in_a_call(network):
    network.gru.register_forward_pre_hook(lambda module, args: raise_between_calls(network))
    network(torch.ones(1, 2, 3))


def raise_in_a_backward_pass(network):
    out = network(torch.ones(1, 2, 3))
    out.register_hook(lambda gradient: raise_between_calls(network))
    out.sum().backward()


@pytest.mark.parametrize(
    ("loop", "end"),
    [
        (end_normally, nullcontext()),
        (raise_between_calls, pytest.raises(Stop)),
        (raise_in_a_call, pytest.raises(ValueError, match="input")),
        (stop_in_a_call, pytest.raises(Stop)),
        (raise_in_a_backward_pass, pytest.raises(Stop)),
    ],
)
def test_hooks_and_functions_are_as_before_at_the_end(loop, end):
    before, network = installed(), Reader()
    with end, trainability.watch():
        loop(network)
    assert installed() == before
    assert not network._forward_hooks
    with trainability.watch() as seen:  # as if nothing had been watched
        end_normally(Reader())
    assert seen.result().starred == ()


class InterruptBeforeLine:
    """A trace function that raises KeyboardInterrupt before the n-th line of `INSTALLERS`, but not
    of `hooks_for` itself, which removes the hooks.
    """

    def __init__(self, n):
        self.lines_left = n

    def __call__(self, frame, event, arg):
        code = frame.f_code
        is_traced = code.co_filename in INSTALLERS and code.co_name != "hooks_for"
        return self.line if is_traced else None

    def line(self, frame, event, arg):
        if event == "line":
            self.lines_left -= 1
            if self.lines_left == 0:
                raise KeyboardInterrupt
        return self.line


def test_an_interrupt_before_any_line_leaves_nothing_behind():
    network, usual, n = nn.Linear(2, 1), sys.gettrace(), 0
    sgd = torch.optim.SGD(network.parameters())
    before, is_interrupted = installed(), True
    while is_interrupted:
        n += 1
        is_interrupted = False
        sys.settrace(InterruptBeforeLine(n))
        try:
            with trainability.watch():
                network(torch.ones(1, 2)).sum().backward()
                sgd.step()
        except KeyboardInterrupt:
            is_interrupted = True
        finally:
            sys.settrace(usual)
        assert installed() == before, n
        kept = network._forward_hooks, network._forward_hooks_with_kwargs
        assert kept == ({}, {}), n
    assert n > 100


def test_calls_are_counted_after_one_that_was_interrupted():
    network = Reader()
    with trainability.watch() as seen:
        with suppress(Stop):
            stop_in_a_call(network)
        assert network._forward_hooks  # nothing was told of the end of the call
        other = Reader()
        end_normally(other)
        assert not network._forward_hooks
        end_normally(other)
    assert seen.result().fact(CALLED) == (6, 6, 0, 6)


def test_a_second_watch_inside_is_refused():
    with (
        trainability.watch(),
        pytest.raises(InvalidInputError, match="one at a time"),
        trainability.watch(),
    ):
        pass


def test_a_number_of_passes_is_at_least_one():
    with pytest.raises(InvalidInputError, match="passes is 0"), trainability.watch(passes=0):
        pass


def living_tensors():
    gc.collect()
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def step(network, adam, x):
    adam.zero_grad()
    network(x).square().mean().backward()
    adam.step()


def test_no_tensor_is_kept_alive_but_a_copy_of_small_weights():
    x, network = torch.ones(4, 6, 3), Reader()
    adam = torch.optim.Adam(network.parameters())
    step(network, adam, x)
    before = living_tensors()
    with trainability.watch():
        for _ in range(3):
            step(network, adam, x)
        assert living_tensors() == before + 1
        kept = [weakref.ref(one) for one in (network, adam, *network.parameters())]
        del network, adam
        gc.collect()
        assert [one() for one in kept] == [None] * len(kept)


def test_no_graph_is_kept_alive():
    network, inputs = Reader(), []
    network.out.register_forward_hook(lambda module, args, out: inputs.append(weakref.ref(args[0])))
    with trainability.watch():
        out = network(torch.ones(4, 6, 3))
        assert inputs[0]() is not None  # the graph has it
        del out
        assert inputs[0]() is None


class Graphs:
    """A compiler that counts its graphs."""

    def __init__(self):
        self.nodes = []

    def __call__(self, graph, examples):
        self.nodes.append(len(graph.graph.nodes))
        return graph.forward


def compiled_steps(compile_it):
    torch._dynamo.reset()
    graphs, model = Graphs(), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    call = compile_it(model, graphs)
    for _ in range(3):
        call(torch.ones(2, 3)).sum().backward()
    return graphs.nodes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "compile_it",
    [
        pytest.param(lambda model, graphs: torch.compile(model, backend=graphs), id="module"),
        pytest.param(
            lambda model, graphs: torch.compile(lambda x: model(x), backend=graphs), id="function"
        ),
    ],
)
def test_a_compiled_module_has_one_graph_as_before(compile_it):
    before = compiled_steps(compile_it)
    with trainability.watch() as seen:
        watched = compiled_steps(compile_it)
    assert len(before) == 1 and watched == before
    assert seen.result().losses.shape == (3,)
