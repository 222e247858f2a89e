"""`gersgorin.analyze`: one object that holds what direct calls measure, says it and shows it."""

import re

import numpy as np
import pytest
import torch
from taggers import Tagger
from torch import nn

from gersgorin import analyze, influence, input_jacobian, layer_jacobians, trajectory
from gersgorin.analyses.overview import Overview
from gersgorin.analyses.spectra import spectra
from gersgorin.data.files import chorales_origin
from gersgorin.run.run import Run
from rhn.cells import LSTM, RHN, from_torch
from rhn.data import chorale
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.result import KIND

pytestmark = pytest.mark.usefixtures("unarranged")

m, T = 4, 12


def frames(*lead):
    return (torch.rand(*lead, m, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def model(**options) -> PolyphonicModel:
    torch.manual_seed(0)
    return PolyphonicModel(
        "rhn", hidden_size=6, depth=3, input_size=m, output_size=m, init="gaussian:0.3", **options
    )


@pytest.mark.parametrize(
    "cell", [LSTM(m, 5), RHN(m, 6, 3), nn.GRU(m, 5)], ids=lambda cell: type(cell).__name__
)
def test_a_cell_alone_has_spectra_gains_and_gates_as_direct_calls_give_them(cell):
    x, ours = frames(T, 1), from_torch(cell) if isinstance(cell, nn.GRU) else cell
    found, ours = analyze(cell, x), ours.double()
    x0 = x[:, 0].double()
    s = trajectory(ours, x0)[:-1].detach()
    spectrum = spectra(Run.of(ours, x0))
    # a small one has fewer digits
    assert found.spectra.eigenvalues == pytest.approx(spectrum.eigenvalues, abs=1e-7)
    assert found.spectra.half_life == pytest.approx(spectrum.half_life)
    assert found.gains.input == pytest.approx(
        torch.linalg.matrix_norm(input_jacobian(ours, x0, s), 2).detach().numpy()
    )
    layers = [torch.linalg.matrix_norm(J, 2) for J in layer_jacobians(ours, x0, s)]
    assert found.gains.layers == pytest.approx(torch.stack(layers, -1).detach().numpy())
    assert found.influence is None
    rows = {row["quantity"]: row for row in found.table()}
    assert rows["spectral radius"]["last"] == pytest.approx(spectrum.spectral_radius[-1])
    assert rows["input gain"]["mean"] == pytest.approx(found.gains.input.mean())
    assert rows["2-norm"]["largest"] == pytest.approx(spectrum.norm.max())
    assert (
        ("state gain, layer 3" in rows)
        == ("transform gate, layer 3" in rows)
        == isinstance(cell, RHN)
    )
    assert "The gradient of" in found.summary()


def test_figures_say_what_the_model_was_built_with_and_what_it_reads():
    model = PolyphonicModel("rhn", hidden_size=6, depth=3, init="gaussian:0.3", layers=2)
    found = analyze(model, chorale("bwv269")[:9])
    built = "built with gaussian:0.3, transform bias -2"
    assert (
        found.spectra.about == f"{built}; valid-4 of {chorales_origin()}" == found.influence.about
    )
    assert built in " ".join(found.plot().get_figure(root=True).get_supxlabel().split())
    figure = found.influence.plot().figure
    assert found.influence.finding in " ".join(figure.get_suptitle().split())
    foot = " ".join(figure.get_supxlabel().split())
    assert "2 x rhn, depth 3, 6 units on chorale bwv269" in foot and built in foot
    # its weights are torch's
    assert analyze(from_torch(nn.LSTM(m, 5)), frames(T)).spectra.about == ""


def test_a_model_with_a_loss_has_the_influence_on_it_too():
    net, x = model(), frames(T, 2)
    found = analyze(net, x)
    wanted = influence(net, x[:-1], of="bernoulli", y=x[1:]).influence
    np.testing.assert_allclose(found.influence.influence, wanted, rtol=1e-12)
    assert found.title.endswith("12 steps of the first of 2 sequences")
    assert "gradient of the loss" in found.summary()
    words = LanguageModel("lstm", vocabulary_size=7, hidden_size=5)
    ids = torch.randint(7, (T,), generator=torch.Generator().manual_seed(0))
    wanted = influence(words, ids[:-1, None], of="categorical", y=ids[1:, None]).influence
    np.testing.assert_allclose(analyze(words, ids).influence.influence, wanted, rtol=1e-12)
    assert repr(analyze(words, ids.numpy())) == repr(analyze(words, ids))
    tagger, targets = Tagger(nn.GRU(m, 5), m), frames(T, 2)
    assert analyze(tagger, x[:, :1]).influence is None
    named = analyze(tagger, x[:, :1], analyses=("influence",)).influence
    assert np.array_equal(named.influence, influence(tagger, x[:, :1]).influence)
    with_loss = analyze(tagger, x, targets=targets, loss="bernoulli")
    wanted = influence(tagger, x, of="bernoulli", y=targets).influence
    np.testing.assert_allclose(with_loss.influence.influence, wanted, rtol=1e-12)


def test_the_batch_axis_is_that_of_the_influence_too():
    class Loop(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = torch.nn.GRUCell(3, 3)

        def forward(self, x):
            h, states = torch.zeros_like(x[0]), []
            for x_t in x:
                h = self.cell(x_t, h)
                states.append(h)
            return torch.stack(states)

    x, loop = torch.rand(6, 4, 3), Loop()
    for given in ({}, {"targets": torch.rand(6, 4, 3)}):
        found = analyze(loop, x, loss="squared", batch_axis=1, **given)
        assert found.influence.influence.shape == ((6, 6) if given else (5, 5))


def test_it_says_itself_in_text_and_in_html_that_needs_nothing_else():
    net = model()
    net.cells[0].__class__ = type("R<b>N", (RHN,), {})  # a user's class may have any name
    found = analyze(net, frames(T))
    text, page = repr(found), found._repr_html_()
    assert (
        text.startswith("The gradient of R<b>N")
        and "\n\nR<b>N, depth 3, 6 units, 12 steps\n" in text
    )
    assert found.summary().split()[:150] == text.split()[:150]  # the lines are folded
    assert all(row["quantity"] in found.summary() for row in found.table()[:14])
    assert re.findall(r"<(\w+)", page) == ["pre", "img"] and not re.search(
        r"""=["'](https?:)?//""", page
    )
    assert "data:image/webp;base64,UklGR" in page and "R&lt;b&gt;N" in page


def test_more_analyses_are_computed_by_name_on_the_same_jacobians(monkeypatch):
    cell, computed = RHN(m, 6, 3), []
    jacobians = Run.jacobians
    monkeypatch.setattr(
        Run, "jacobians", lambda self, *at: computed.append(self) or jacobians(self, *at)
    )
    found = analyze(cell, frames(T), analyses=("pseudospectra",))
    assert [*found.results] == [
        "spectra",
        "products",
        "gains",
        "gates",
        "pseudospectra",
    ] and found.lyapunov is None
    assert len(computed) <= 2  # blocks are kept
    assert set(found.to_dict()) == set(found.results)
    with pytest.raises(AttributeError):
        found.nothing  # noqa: B018


def test_all_parts_are_saved_in_one_file(tmp_path):
    found = analyze(model(), frames(T))
    again = Overview.load(found.save(tmp_path / "found.npz"))
    assert (
        repr(again) == repr(found)
        and again.table() == found.table()
        and [*again.results] == [*found.results]
    )
    assert np.array_equal(again.influence.influence, found.influence.influence)


def test_a_part_of_an_analysis_that_was_removed_is_left_out_of_a_file(tmp_path):
    path = analyze(model(), frames(T)).save(tmp_path / "found.npz")
    arrays = dict(np.load(path))
    arrays |= {f"removed.{KIND}": np.array("removed"), "removed.rate": np.array(1.0)}
    np.savez(path, **arrays)
    assert "influence" in Overview.load(path).results
    assert "removed" not in Overview.load(path).results


def test_the_network_is_left_as_it_was():
    net, x = model().train(), frames(T)
    before, state = {name: p.clone() for name, p in net.named_parameters()}, torch.get_rng_state()
    analyze(net, x)
    assert all(
        torch.equal(p, before[name]) and p.grad is None for name, p in net.named_parameters()
    )
    assert (
        net.training
        and next(net.parameters()).dtype == torch.float32
        and torch.equal(state, torch.get_rng_state())
    )
