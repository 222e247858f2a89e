"""torch's private functions are those that the packages rely on."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from rhn.utils import torch_private


def test_only_one_file_names_private_functions():
    """Of torch: modules and attributes that begin with an underscore."""
    root = Path(torch_private.__file__).parents[2]
    packages = ("rhn", "gersgorin", "trainability", "optim_study", "analysis")
    private = ("torch._C", "_functorch", "_pytree", "_orig_mod", "._apply(", "_zerotensor")
    found = {
        file.name
        for package in packages
        for file in (root / package).rglob("*.py")
        if any(name in file.read_text() for name in private)
    }
    assert found == {"torch_private.py"}


def seen_in(run, question):
    """The answers to a question that is asked while `run` runs a function of a tensor."""
    answers = []

    def function(t):
        answers.append(question(t))
        return t.sum()

    run(function)
    return answers


RUNS = {
    "plain": lambda f: f(torch.ones(2)),
    "vmap": lambda f: vmap(f)(torch.ones(3, 2)),
    "grad": lambda f: grad(f)(torch.ones(2)),
    "make_fx": lambda f: make_fx(f)(torch.ones(2)),
    "trace": lambda f: torch.jit.trace(f, torch.ones(2), check_trace=False),
}


def fake(f):
    with FakeTensorMode():
        return f(torch.ones(2))


RUNS["fake"] = fake


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("run", list(RUNS))
def test_what_runs_a_function_is_recognised(run):
    def about(t):
        return (
            torch_private.is_transformed(t),
            torch_private.is_recorded(),
            torch_private.is_traced_by_fx(),
        )

    ((transformed, recorded, by_fx),) = seen_in(RUNS[run], about)
    assert transformed == (run in ("vmap", "grad"))
    assert recorded == (run in ("make_fx", "trace", "fake"))
    assert by_fx == (run == "make_fx")


def test_a_gradient_without_memory_is_recognised():
    assert not torch_private.has_no_memory(torch.zeros(2))
    assert torch_private.has_no_memory(torch._efficientzerotensor(2))


def test_every_tensor_of_a_module_is_replaced_and_tied_ones_stay_tied():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2, bias=False), nn.Linear(2, 2))
    model[2].weight = model[1].weight
    torch_private.replace_tensors(model, lambda t: t.double() if t.is_floating_point() else t)
    types = {name: t.dtype for name, t in model.state_dict().items()}
    assert types.pop("0.num_batches_tracked") == torch.int64
    assert set(types.values()) == {torch.float64}
    assert model[1].weight is model[2].weight


def test_the_module_inside_a_compiled_one():
    model = nn.Linear(2, 2)
    assert torch_private.uncompiled(torch.compile(model)) is model
    assert torch_private.uncompiled(model) is model


def test_every_dropout_of_torch_has_one_base():
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    assert all(issubclass(kind, torch_private.Dropout) for kind in kinds)
    assert nn.Dropout(0.25).p == 0.25


def test_trees_are_taken_apart_and_put_together():
    tree = {"a": [1, (2, None)], "b": 3}
    leaves, spec = torch_private.tree_flatten(tree)
    assert leaves == [1, 2, None, 3] == torch_private.tree_leaves(tree)
    assert torch_private.tree_unflatten(leaves, spec) == tree
    assert torch_private.tree_map(str, tree) == {"a": ["1", ("2", "None")], "b": "3"}


def test_a_copy_with_other_tensors_keeps_ties_kinds_and_the_original():
    own = nn.Module()
    own.first, own.frozen = nn.Linear(2, 2), nn.Parameter(torch.zeros(1), requires_grad=False)
    own.register_buffer("mean", torch.zeros(2))
    own.tied = own.first.weight
    new = {t: t + 1 for t in (*own.parameters(), *own.buffers())}
    copied = torch_private.with_tensors(own, new)
    assert copied.tied is copied.first.weight and copied.tied is not own.tied
    assert {n: p.requires_grad for n, p in copied.named_parameters()} == {
        n: p.requires_grad for n, p in own.named_parameters()
    }
    for name, t in own.state_dict().items():
        torch.testing.assert_close(copied.state_dict()[name], t + 1)
    assert isinstance(copied.frozen, nn.Parameter) and not isinstance(copied.mean, nn.Parameter)


def test_the_memory_of_a_tensor_has_a_key_that_views_share():
    t = torch.ones(3)
    assert torch_private.storage_key(t) == torch_private.storage_key(t.detach()[1:])
    assert torch_private.storage_key(t) != torch_private.storage_key(t.clone())
    assert torch_private.storage_key(t.to_sparse()) is None
    reference = torch_private.StorageWeakRef(t.untyped_storage())
    assert reference.cdata == torch_private.storage_key(t) and not reference.expired()
    del t
    assert reference.expired()


def test_a_version_counts_changes_in_place():
    t = torch.ones(3)
    before = torch_private.version_of(t)
    t.add_(1)
    assert torch_private.version_of(t) == before + 1


def test_tensors_are_joined_to_one_vector():
    joined = torch_private.flattened([torch.ones(2, 2), torch.zeros(1)])
    assert joined.tolist() == [1, 1, 1, 1, 0]


def test_the_iterator_of_every_loader_of_torch_is_of_one_class():
    loader = torch.utils.data.DataLoader([1, 2])
    assert isinstance(iter(loader), torch_private.LoaderIterator)
    assert "__next__" in vars(torch_private.LoaderIterator)


def test_batch_normalisation_of_all_dimensions_is_of_one_class():
    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
        assert issubclass(kind, torch_private.BatchNorm)


def test_a_hook_after_a_call_is_called_after_errors_too_and_can_be_removed_before_it_is_installed():
    module, seen = nn.Linear(2, 1), []
    hook = torch_private.hook_after_call(module, lambda *event: seen.append(event))
    hook.remove()
    hook.install()
    output = module(torch.ones(1, 2))
    with pytest.raises(RuntimeError):
        module(torch.ones(1, 3))
    hook.remove()
    module(torch.ones(1, 2))
    assert [event[0] for event in seen] == [module, module]
    assert seen[0][2:] == ({}, output)
    assert not module._forward_hooks_with_kwargs and not module._forward_hooks_always_called


def test_hooks_of_all_calls_and_steps_are_those_that_torch_registers():
    registered = (
        (torch_private.HOOKS_BEFORE_CALLS, register_module_forward_pre_hook),
        (torch_private.HOOKS_BEFORE_STEPS, register_optimizer_step_pre_hook),
        (torch_private.HOOKS_AFTER_STEPS, register_optimizer_step_post_hook),
    )
    for hooks, register in registered:
        handle = register(print)
        assert hooks[handle.id] is print
        handle.remove()
        assert handle.id not in hooks
