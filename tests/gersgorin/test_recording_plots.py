"""The figures of a recording show it, and `gersgorin recording FILE` draws and prints it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import others_slow

from gersgorin import Recorder
from gersgorin.cli.recorded import main
from gersgorin.recording import (
    MOMENTS,
    Recording,
    draw_recording,
    plot_measures,
    plot_moment,
)
from rhn.models import PolyphonicModel
from rhn.utils.figures import our_style
from tests.readable import alone, readable, whole_title

WITHOUT_LAYOUT = pytest.mark.usefixtures("unarranged")


@pytest.fixture(scope="module")
def recording() -> Recording:
    generator = torch.Generator().manual_seed(0)
    model = PolyphonicModel(
        "rhn", hidden_size=6, depth=2, input_size=4, output_size=4, generator=generator
    )
    x, optimizer = (
        torch.rand(12, 3, 4, generator=generator),
        torch.optim.SGD(model.parameters(), 0.5),
    )
    recorder = Recorder(model, x[:, 0], every=2)
    for _ in range(10):
        optimizer.zero_grad()
        loss = model.nll(x).mean()
        loss.backward()
        optimizer.step()
        recorder.step(loss)
    return recorder.recording


def lines(ax) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_ydata() for line in ax.lines}


@WITHOUT_LAYOUT
def test_panels_show_the_recording(recording):
    drawn = alone(plot_measures, recording, names=("radius", "loss"))
    assert np.array_equal(lines(drawn)["spectral radius"], recording.radius.mean(1))
    assert np.array_equal(drawn.lines[0].get_xdata(), [0, 2, 4, 6, 8, 10])
    band = drawn.collections[0].get_datalim(drawn.transData)
    assert (band.ymin, band.ymax) == pytest.approx((recording.radius.min(), recording.radius.max()))
    assert np.array_equal(
        lines(alone(plot_measures, recording, names=("gate",)))["layer 2"],
        recording.gate[:, :, 1].mean(1),
    )
    shown = lines(alone(plot_measures, recording, names=("gradient_norm",)))
    place = recording.parameters.tolist().index("cells.0.weight_hh[1]")
    assert np.array_equal(shown["weight_hh[1]"], recording.gradient_norm[:, place], equal_nan=True)
    assert not any("bias" in name for name in shown)
    values = alone(plot_moment, recording, moment=3).lines[1]
    assert np.array_equal(values.get_xdata() + 1j * values.get_ydata(), recording.eigenvalues[3])


def test_tables_and_figures_name_the_gate_and_the_steps_of_a_recording():
    torch.manual_seed(0)
    recording = Recorder(torch.nn.LSTM(4, 6), torch.rand(9, 2, 4)).recording
    assert "\ninput gates" in repr(recording) and "\nexponent of 9 steps" in repr(recording)
    foot = draw_recording(recording).get_supxlabel()
    assert "input gates" in foot and "transform" not in foot
    (label,) = lines(alone(plot_measures, recording, names=("exponent",)))
    assert label == "exponent of 9 steps"


def test_titles_say_how_the_training_came_to_be(recording, tmp_path):
    figure = draw_recording(replace(recording, about="seed 7; my data"))
    foot = "rhn, depth 2, 6 units; seed 7; my data; measured every 2 optimiser steps"
    assert figure.get_supxlabel().startswith(foot)
    assert recording.about == "built with gaussian:0.01, transform bias -2"
    with np.load(replace(recording, about="new").save(tmp_path / "new.npz")) as arrays:
        assert arrays["about"] == "new"
    assert Recording.load(tmp_path / "new.npz").about == "new"


def test_numbers_of_a_log_axis_stand_apart_over_many_decades(recording):
    norms = (
        np.full_like(recording.gradient_norm, 1.0) * np.logspace(-4, 0.5, len(recording))[:, None]
    )
    wide = replace(recording, gradient_norm=norms, relative_rate=norms)
    with our_style():
        readable(draw_recording(wide))


@WITHOUT_LAYOUT
def test_what_was_not_measured_has_no_panel(recording):
    bare = replace(recording, loss=recording.loss * np.nan, gate=recording.gate[:, :, :0])
    with our_style("page"):
        whole, less = (
            {ax.get_title(loc="left") for ax in draw_recording(each).get_axes()}
            for each in (recording, bare)
        )
    assert {" ".join(title.split()) for title in whole - less} == {
        "Loss",
        "Mean transform gate of each layer",
    }
    draw_recording(replace(recording, **{name: getattr(recording, name)[:1] for name in MOMENTS}))


@pytest.mark.parametrize(
    ("width", "most"),
    others_slow([("column", 9.2), ("page", 9.2), ("slide", 7.5)], ("column", 9.2)),
)
def test_a_recording_fits_on_its_page_and_names_what_it_leaves_out(recording, width, most):
    with our_style(width):
        figure = draw_recording(recording)
        readable(figure)
    assert figure.get_figheight() <= most
    shown = {" ".join(ax.get_title(loc="left").split()) for ax in figure.axes}
    further = "a figure as wide as a page has further panels: " in whole_title(figure)
    assert further == ("Input gain ||ds'/dx||" not in shown) == (width != "page")


@WITHOUT_LAYOUT
def test_a_panel_has_room_for_all_discs_and_an_inset_for_what_is_small(recording):
    far = alone(plot_moment, replace(recording, radii=recording.radii + 9), moment=0)
    ends = np.abs(recording.centers) + recording.radii + 9
    assert far.get_ylim()[1] >= ends.max() and not far.child_axes
    small = {name: getattr(recording, name) / 1e3 for name in ("eigenvalues", "centers", "radii")}
    ax = alone(plot_moment, replace(recording, **small), moment=1)
    assert ax.get_ylim()[1] >= 1 and ax.get_title("left") == "After 2 optimiser steps"
    assert recording.place == "67 % along a sequence of the probe"  # the third of four
    (inset,) = ax.child_axes
    points = np.array([line.get_data() for line in inset.lines if line.get_marker() == "."])[0]
    assert (abs(points[0]) <= abs(np.array(inset.get_xlim())).max()).all()
    assert inset.get_title() == f"{np.ptp(inset.get_ylim()):.2g} wide"


@WITHOUT_LAYOUT
@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ((9.0, 5.1, 4.0), "20 % below"),
        ((9.0, 4.0, 5.5), "10 % above"),
        ((9.0, 4.0, 5.05), "at"),
    ],
)
def test_a_recording_says_where_the_loss_ends_beside_the_constant_predictor(
    recording, losses, words
):
    short = {name: getattr(recording, name)[:3] for name in MOMENTS}
    found = replace(recording, **short | {"loss": np.array(losses)}, constant=5.0)
    assert found.finding == (
        f"The minibatch loss at optimiser step 4 is {words} the constant predictor"
    )
    of_probe = replace(found, loss_of="the probe")
    assert of_probe.finding == (
        f"The loss of the probe at optimiser step 4 is {words} the constant predictor"
    )
    ax = alone(plot_measures, found, names=("loss",))
    shown = lines(ax)
    assert np.array_equal(shown["loss"], losses[1:]) and "9 before training" in ax.get_title("left")
    assert set(shown["constant predictor (5)"]) == {5.0}
    low, high = ax.get_ylim()
    assert low <= 4.5 and high >= 5.5


@WITHOUT_LAYOUT
def test_a_spectrum_that_is_not_finite_is_left_out(recording):
    lost = replace(recording, eigenvalues=recording.eigenvalues * np.nan)
    assert len(alone(plot_moment, lost, moment=2).lines) == 1


@WITHOUT_LAYOUT
def test_the_command_draws_saves_and_prints(recording, tmp_path, capsys, own_folder):
    recording.save("run.npz")
    assert main(["run.npz"]) == 0
    out = capsys.readouterr().out
    assert (
        out.rstrip().endswith("figure: gersgorin-run.png") and "6 measurements over 10 steps" in out
    )
    (tmp_path / "folder").mkdir()
    recording.save("folder/record.npz")
    assert main(["folder"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("figure: gersgorin-folder.png")
    assert main(["run.npz", "--output", "r.pdf", "again.npz", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert answer["figure"] == "r.pdf" and answer["every"] == 2
    assert answer["steps"][0]["loss"] is None and answer["steps"][5]["radius"] == pytest.approx(
        recording.radius[5].mean()
    )
    assert Recording.load("again.npz").summary() == recording.summary()


@WITHOUT_LAYOUT
def test_the_words_say_how_often_it_was_measured_and_what_the_commands_call_the_cell(recording):
    ends = replace(recording, step=np.array([0, 21, 42, 63, 84, 105]), every=20)
    assert "; measured about every 20 optimiser steps" in whole_title(draw_recording(ends))
    last = replace(recording, step=np.array([0, 2, 4, 6, 8, 9]))
    assert "; measured every 2 optimiser steps" in whole_title(draw_recording(last))
    assert recording.title == "rhn, depth 2, 6 units"


def test_a_recording_states_both_ends_and_the_cost_in_times(recording):
    short = {name: getattr(recording, name)[:4] for name in MOMENTS}
    losses = np.array([3.23, 2.90, 4.19, 2.49])
    found = replace(recording, **short | {"loss": losses}, constant=np.nan, loss_of="the probe")
    assert found.finding == "The loss of the probe goes from 3.23 to 2.49"
    found = replace(found, loss=losses * 0 + 2, measuring_seconds=3.0, training_seconds=0.1)
    assert found.finding == "The loss of the probe stays near 2"
    assert found.cost == "3.00 s, 30 times the time of training"
    assert replace(found, training_seconds=0.02).cost == "3.00 s, 150 times the time of training"
    assert replace(found, training_seconds=6.0).cost == "3.00 s, 50 % of the time of training"


def test_losses_of_single_minibatches_are_named_with_their_steps_not_as_the_run(recording):
    """Losses are of two minibatches; those before and between are not known."""
    short = {name: getattr(recording, name)[:4] for name in MOMENTS}
    losses = np.array([np.nan, 3.23, 2.84, np.nan])
    steps = np.array([0, 20, 40, 60])
    found = replace(recording, **short | {"loss": losses, "step": steps}, loss_of="")
    assert found.finding == "The minibatch loss is 3.23 at optimiser step 20 and 2.84 at step 40"
    assert "goes from" not in found.finding + whole_title(draw_recording(found))
    one = replace(found, loss=np.where(steps == 40, losses, np.nan))
    assert "loss" not in one.finding


def test_spectra_on_a_page_are_about_as_high_as_they_are_wide(recording):
    """Else panels with one scale for both directions show mostly what is beside the spectrum."""
    with our_style("page"):
        figure = draw_recording(recording)
    planes = [ax for ax in figure.axes if ax.get_aspect() == 1]
    assert len(planes) == 4
    for ax in planes:
        assert 0.5 < np.ptp(ax.get_ylim()) / np.ptp(ax.get_xlim()) < 2
    assert len({ax.get_position().y0 for ax in planes}) == 1  # side by side
