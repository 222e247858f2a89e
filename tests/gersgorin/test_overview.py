"""`gersgorin.analyze`: one object that holds what direct calls measure, says it and shows it."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin import analyze, credit, input_jacobian, layer_jacobians, plateau, trajectory
from gersgorin.assignment.plots import draw_credit, plot_credit
from gersgorin.measuring import measure_spectrum
from gersgorin.overview_plots import plot_gains, plot_gates, plot_rates
from gersgorin.sources import chorales_origin
from rhn.cells import LSTM, RHN, from_torch
from rhn.data import chorale
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel

m, T = 4, 12


def frames(*lead):
    return (torch.rand(*lead, m, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def model(**options) -> PolyphonicModel:
    torch.manual_seed(0)
    return PolyphonicModel("rhn", hidden_size=6, depth=3, input_size=m, output_size=m, init="gaussian:0.3", **options)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(m, 5, batch_first=False), nn.Linear(5, m)

    def forward(self, x):
        return self.out(self.rnn(x)[0])


class Exploding(RHN):
    def states(self, x, s0):
        return super().states(x, s0) / 0


@pytest.mark.parametrize("cell", [LSTM(m, 5), RHN(m, 6, 3), nn.GRU(m, 5)], ids=lambda cell: type(cell).__name__)
def test_a_cell_alone_has_spectra_gains_and_gates_as_direct_calls_give_them(cell):
    x, ours = frames(T, 2), from_torch(cell) if isinstance(cell, nn.GRU) else cell
    found, ours = analyze(cell, x), ours.double()
    x0 = x[:, 0].double()
    s = trajectory(ours, x0)[:-1].detach()
    spectrum = measure_spectrum(ours, x0, name="cell", chorale="1")
    assert found.spectrum.eigenvalues == pytest.approx(spectrum.eigenvalues)
    assert found.spectrum.half_life == pytest.approx(spectrum.half_life)
    assert found.input_gain == pytest.approx(torch.linalg.matrix_norm(input_jacobian(ours, x0, s), 2).detach().numpy())
    layers = [torch.linalg.matrix_norm(J, 2) for J in layer_jacobians(ours, x0, s)]
    assert found.state_gain == pytest.approx(torch.stack(layers, -1).detach().numpy())
    assert found.plateau is None and found.credit is None
    rows = {row["quantity"]: row for row in found.table()}
    assert rows["spectral radius"]["last"] == pytest.approx(spectrum.spectral_radius[-1])
    assert rows["input gain"]["mean"] == pytest.approx(found.input_gain.mean())
    assert rows["2-norm"]["largest"] == pytest.approx(spectrum.norm.max())
    assert ("state gain, layer 3" in rows) == ("transform gate, layer 3" in rows) == isinstance(cell, RHN)
    assert "the gradient's norm" in found.summary()


def test_figures_say_what_the_model_was_built_with_and_what_it_reads():
    found = analyze(
        PolyphonicModel("rhn", hidden_size=6, depth=3, init="gaussian:0.3", layers=2), chorale("bwv269")[:9]
    )
    built = "built with gaussian:0.3, transform bias -2"
    assert found.spectrum.about == f"{built}; valid-4 of {chorales_origin()}" == found.credit.about
    for figure in (found.plot(), draw_credit({"now": found.credit})):
        assert built in " ".join(figure.get_suptitle().split())
    title = plot_credit(found.credit).figure.get_suptitle()
    assert title.startswith("2 x rhn, depth 3, 6 units, credit") and built in title
    assert analyze(from_torch(nn.LSTM(m, 5)), frames(T)).spectrum.about == ""  # its weights are torch's


def test_a_model_with_a_loss_has_its_plateau_and_credit_too():
    net, x = model(), frames(T, 2)
    found = analyze(net, x)
    assert found.plateau == plateau(net, x) and found.plateau.order == pytest.approx(plateau(net, x).order)
    assert np.array_equal(found.credit.norms, credit(net, x[:-1], x[1:]).norms)
    assert found.plateau.fastest in found.summary() and "errors that go back at most 10 steps" in found.summary()
    words = LanguageModel("lstm", vocabulary_size=7, hidden_size=5)
    ids = torch.randint(7, (T,), generator=torch.Generator().manual_seed(0))
    assert analyze(words, ids).plateau.loss == pytest.approx(plateau(words, ids).loss)
    assert repr(analyze(words, ids.numpy())) == repr(analyze(words, ids))
    tagger, targets = Tagger(), frames(T, 2)
    assert analyze(tagger, x).plateau is None
    with_loss = analyze(tagger, x, targets=targets, loss="bernoulli")
    assert with_loss.credit.loss == pytest.approx(credit(tagger, x, targets, loss="bernoulli").loss)


def test_it_says_itself_in_text_and_in_html_that_needs_nothing_else():
    net = model()
    net.cells[0].__class__ = type("R<b>N", (RHN,), {})  # a user's class may have any name
    found = analyze(net, frames(T))
    text, page = repr(found), found._repr_html_()
    assert text.startswith("R<b>N, depth 3, 6 units, 12 steps") and found.summary()[:300] in " ".join(text.split())
    assert all(row["quantity"] in text for row in found.table()[:8])  # as many as a screen has room for
    opened = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            opened.append(tag)
            assert not any(re.match("https?:|//", value or "") for _, value in attributes)

    Reader().feed(page)
    assert opened.count("b") == 1 and opened.count("img") == 1 and opened.count("tr") == 1 + len(found.table())
    assert "data:image/png;base64,iVBOR" in page and "R&lt;b&gt;N" in page


def test_the_figure_shows_what_there_is():
    found = analyze(model(), frames(T))
    gains, gates = plot_gains(found), plot_gates(found)
    assert np.array_equal(gains.lines[0].get_ydata(), found.input_gain)
    assert np.array_equal(gains.lines[3].get_ydata(), found.state_gain[:, 2])
    assert np.array_equal(gates.lines[1].get_ydata(), found.spectrum.transform_gate[:, 1])
    assert [bar.get_width() for bar in plot_rates(found.plateau).patches] == list(found.plateau.rates.values())
    titles = {ax.get_title(loc="left") for ax in found.plot().get_axes()}
    alone = {ax.get_title(loc="left") for ax in analyze(nn.RNN(m, 5), frames(T)).plot().get_axes()}
    assert titles - alone == {
        "Transform gates",
        "Credit: which losses reach which states",
        "Rates of learning at the constant output",
    }


def test_the_network_is_left_as_it_was():
    net, x = model().train(), frames(T)
    before, state = {name: p.clone() for name, p in net.named_parameters()}, torch.get_rng_state()
    analyze(net, x)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in net.named_parameters())
    assert net.training and next(net.parameters()).dtype == torch.float32 and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("module", "x", "options", "words"),
    [
        (lambda x, s: s, frames(T), {}, "a bare function tells neither"),
        (nn.Linear(m, m), frames(T), {}, "has no recurrent cell"),
        (RHN(m, 5), frames(T) * torch.nan, {}, "NaN or infinite"),
        (Exploding(m, 5), frames(T), {}, "a state is NaN or infinite along sequence 1: its weights"),
        (RHN(m, 5), torch.rand(T, m + 1), {}, r"expected \(T, 4\)"),
        (model(), torch.ones(T, m), {}, "the same at every frame"),
        (Tagger(), frames(T, 2), {"loss": "huber"}, "huber"),
    ],
)
def test_bad_input_is_one_sentence(module, x, options, words):
    with pytest.raises(InvalidInputError, match=words):
        analyze(module, x, **options)
