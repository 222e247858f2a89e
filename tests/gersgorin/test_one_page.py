"""A report is one page that needs nothing else, says what was measured, and shows what files say as text."""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium

pytest.importorskip("jinja2", reason="Jinja2 is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

from analysis.cli import main as analyze_command
from analysis.report import cli as report_cli
from analysis.report.cli import main
from analysis.report.network import flat
from analysis.report.page import Chart, Page, Section, Table, page_html, write_page
from analysis.report.study import SYMBOLS, map_charts, map_words, study_command, swarm_chart, swarm_offsets
from gersgorin import analyze
from gersgorin.cli.plot import main as plot
from gersgorin.networks import build_module
from optim_study.cli import COMMANDS
from optim_study.columns import swarm
from optim_study.presets import small
from optim_study.results import read_csv
from rhn.cells import RNN
from rhn.checkpoints import load_checkpoint, save_checkpoint
from rhn.cli import main as rhn
from rhn.data import chorale
from rhn.models import PolyphonicModel
from rhn.parsing import parse
from rhn.statistics import exact_interval

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>&{{7*7}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a training of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["jsb-depth-2", "--hidden-size", "6", "--epochs", "2", "--device", "cpu", "--out", str(folder)]
    assert rhn(["train", *words]) == 0
    return folder


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    """The report of that training."""
    path = tmp_path_factory.mktemp("page") / "run.html"
    assert main([str(run), "-o", str(path), "--steps", "12"]) == 0
    return path


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    playwright, browser = chromium(sync_api)
    yield browser
    browser.close()
    playwright.stop()


def parts(path) -> tuple[list[str], list[dict], str]:
    """Titles of the sections, charts, and the text without scripts."""
    text = path.read_text()
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', text, re.DOTALL)[1])
    return re.findall("<h2>(.*?)</h2>", text), charts, re.sub("<script.*?</script>", "", text, flags=re.DOTALL)


def test_a_training_is_reported_with_its_curve_and_its_best_network(page, run):
    titles, charts, text = parts(page)
    expected = ["What it is and how it was made", "Training", "In words", "Spectra", "Gradients over time"]
    assert titles == [*expected, "Within a step", "Lyapunov exponents", "Transform gates", "Lesions"]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert charts[0]["data"][0]["y"][-1] == last["valid_nll"] and f"{last['valid_nll']:.5g} nats a frame" in text
    found = analyze(load_checkpoint(run), torch.as_tensor(chorale("bwv269")[:12]), unit="quarter notes")
    assert found.summary() in html.unescape(text)
    dots = charts[1]["data"][0]
    assert sorted(dots["x"]) == pytest.approx(sorted(found.spectrum.eigenvalues[0].real))
    assert len(charts) == 1 + 4 + 2 + 1 + 1 + 1 + 1 and "gersgorin-report" in text and "seed 0" in text


def test_a_bare_checkpoint_is_reported_and_what_it_lacks_is_said(tmp_path):
    save_checkpoint(tmp_path / "cell.safetensors", RNN(88, 5, generator=torch.Generator().manual_seed(0)))
    assert main([str(tmp_path / "cell.safetensors"), "-o", str(tmp_path / "page.html"), "--steps", "6"]) == 0
    titles, _, text = parts(tmp_path / "page.html")
    assert "Training" not in titles and "Not measured: RNN has no transform gates" in text
    assert "a RNN alone predicts nothing" in text


def test_what_files_say_stays_text(tmp_path, browser):
    model = PolyphonicModel("rnn", hidden_size=4, generator=torch.Generator().manual_seed(0))
    about = {"data": {"source": HOSTILE}, HOSTILE: HOSTILE, "train": {"seed": HOSTILE}}
    save_checkpoint(tmp_path / "<b>&.safetensors", model, **about)
    path = tmp_path / "page.html"
    assert main([str(tmp_path / "<b>&.safetensors"), "-o", str(path), "--steps", "5"]) == 0
    assert "<img" not in parts(path)[2] and "{{7*7}}" in parts(path)[2]
    assert opened(browser, path).title() == "Report: <b>&.safetensors"


def test_texts_of_charts_have_no_way_out_of_them(tmp_path, browser):
    chart = Chart(caption=HOSTILE, traces=[{"type": "bar", "x": [HOSTILE], "y": [1.0]}], layout={"xaxis": {}})
    table = Table(caption=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE], [float("nan")]])
    write_page(
        Page(title="safe", subtitle="", made="", sections=[Section(title=HOSTILE, charts=[chart], tables=[table])]),
        tmp_path / "page.html",
    )
    page = opened(browser, tmp_path / "page.html")
    assert page.title() == "safe" and page.evaluate("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.safetensors"], "there is no checkpoint"),
        ([], "needs CHECKPOINT|RUN|STUDY"),
        (["."], "expected one of them"),
        (["x", "-o", "page.pdf"], "expected a name ending in .html"),
        (["x", "-o", "no/page.html"], "does not exist"),
        (["x", "--steps", "1"], "--steps is 1"),
    ],
)
def test_bad_input_is_one_sentence(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_page_without_a_name_is_called_after_what_it_is_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = [["runs/a"], ["other/a"], ["runs/a", "--steps", "5"], ["runs/a", "--lesions"], ["runs/a/last.safetensors"]]
    names = [report_cli._named(parse(report_cli.Options, words, prog="x")).name for words in asked]
    assert names[0] == "report-a.html" and len(set(names)) == len(names)
    assert report_cli._named(parse(report_cli.Options, ["runs/a/best.safetensors"], prog="x")).name == "report-a.html"


def test_without_the_libraries_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["x"]) == 2
    assert "pip install 'rhn-toolkit[report]'" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_in_a_browser_every_chart_is_seen_and_nothing_scrolls_sideways(page, browser, width, scheme):
    seen = opened(browser, page, width=width, scheme=scheme)
    assert seen.evaluate("document.scrollingElement.scrollWidth") <= width
    charts = seen.evaluate("[...document.querySelectorAll('.chart')].map(c => [...c.querySelectorAll('.main-svg')].map(s => "
                           "{const b = s.getBoundingClientRect(); return Math.min(b.width, b.height)})[0])")  # fmt: skip
    assert len(charts) == len(parts(page)[1]) and min(charts) > 100
    marks = seen.evaluate(
        "document.querySelectorAll('.chart .points path, .chart .lines path, .chart .hm image').length"
    )
    assert marks > 20
    ink = seen.evaluate("getComputedStyle(document.querySelector('.chart .xtick text')).fill")
    assert (sum(map(int, re.findall(r"\d+", ink))) > 380) == (scheme == "dark")


def test_a_table_is_sorted_by_a_click_and_back_by_another(page, browser):
    seen = opened(browser, page)
    column = "[...document.querySelectorAll('#section-3 tbody tr')].map(row => Number(row.cells[4].dataset.value))"
    head = seen.locator("#section-3 th button").nth(4)
    head.click()
    up = seen.evaluate(column)
    head.click()
    assert up == sorted(up) and seen.evaluate(column) == sorted(up, reverse=True) and len(set(up)) > 3


def opened(browser, path, *, width=800, scheme="light"):
    """The page, drawn; no error, no request to anywhere."""
    page, said = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_function("[...document.querySelectorAll('.chart')].every(c => c.querySelector('.main-svg'))")
    assert said == []
    return page


def test_the_page_is_the_same_each_time():
    page = Page(title="t", subtitle="", made="", sections=[])
    assert page_html(page) == page_html(page)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of the smoke preset, and its report."""
    from optim_study.cli import main as optim_study

    folder = tmp_path_factory.mktemp("study") / "smoke"
    words = ["--preset", "smoke", "--arch", "rhn", "dt-rnn", "--depth", "2", "--device", "cpu", "--out", str(folder)]
    assert optim_study(["run", *words]) == 0
    assert main([str(folder), "-o", str(folder / "page.html"), "--steps", "5"]) == 0
    return folder


def test_a_study_is_reported_with_every_trial_its_shares_and_its_best_network(study):
    titles, charts, text = parts(study / "page.html")
    assert titles[:5] == [
        "What it is and how it was made",
        "How many settings train",
        "Swarm",
        "Map",
        "The best trials",
    ]
    rows = read_csv(study / "trials.csv")
    best = min(rows, key=lambda row: row.best_train_nll)
    assert f"learning rate {best.learning_rate:.5g}" in text
    assert titles[5] == f"The best network: {best.arch}-depth2" and "Spectra" in titles
    swarm, maps = charts[0]["data"], charts[1:3]
    points = [trace for trace in swarm if trace["mode"] == "markers"]
    assert sorted(y for trace in points for y in trace["y"]) == sorted(row.best_train_nll for row in rows)
    assert sorted(x for chart in maps for x in chart["data"][0]["x"]) == sorted(row.learning_rate for row in rows)
    assert f"{best.arch}, depth 2, trial {best.trial}<br>loss {best.best_train_nll:.4g}" in str(charts)
    low, high = exact_interval(sum(row.best_train_nll < 9.5 for row in rows if row.arch == "rhn"), 4)
    assert f'data-value="{100 * low}"' in text and f'data-value="{100 * high}"' in text
    assert "the gradient's norm" in html.unescape(text) and "patience" in text


def test_on_a_phone_pointing_at_a_trial_tells_its_settings(study, browser):
    seen = opened(browser, study / "page.html", width=360, scheme="dark")
    assert seen.evaluate("document.scrollingElement.scrollWidth") <= 360
    place = seen.locator("#chart-0 .points path").first
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    seen.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    seen.wait_for_selector("#chart-0 .hoverlayer text")
    assert "learning rate" in seen.locator("#chart-0 .hoverlayer").text_content()


def test_points_of_a_swarm_do_not_stand_on_one_another():
    y = np.random.default_rng(0).normal(size=60)
    x = swarm_offsets(y, 0.05)
    near = (np.abs(y[:, None] - y) <= 0.05) & (np.abs(x[:, None] - x) < 0.05)
    assert near.sum() == len(y) and np.abs(x).max() <= 0.42


def test_the_charts_of_a_study_say_where_its_axis_ends_and_which_symbol_is_which_bias():
    rows = read_csv(RESULTS / "2026-11-20-small-study.csv")
    chart = swarm_chart(swarm(rows, constant=11.163, by="depth"))
    assert chart.layout["xaxis"]["ticktext"][:4] == ["rhn 1 (60)", "dt-rnn 1 (60)", "dts-rnn 1 (60)", "rhn 2 (60)"]
    assert chart.layout["yaxis"]["range"][1] < 15 and "above 14" in chart.caption
    above = [int(a["text"].removeprefix("↑")) for a in chart.layout["annotations"]]
    assert sum(above) == sum(row.best_train_nll > 14 for row in rows) and "↑22" in str(chart.layout["annotations"])
    levels = {
        trace["name"]: trace["y"][0] for trace in chart.traces if trace["mode"] == "lines" and trace["name"] != "median"
    }
    assert list(levels.values()) == [11.163, pytest.approx(10.0467), 9.5] and "10 % below it (10.05)" in levels
    assert sum(len(trace["y"]) for trace in chart.traces if trace["mode"] == "markers") == len(rows) == 720
    first, *_ = map_charts(rows, "train")
    biases = [row.transform_bias for row in rows if (row.arch, row.depth) == ("rhn", 1)]
    symbols = dict(zip((-3, -2, -1, 0), ("circle", "square", "triangle-up", "diamond"), strict=True))
    assert first.traces[0]["marker"]["symbol"] == [symbols[bias] for bias in biases]


def test_the_command_of_a_study_makes_the_same_studies():
    asked = small(
        arch=("dts-rnn",), depth=(2, 4), skip="last", init_std=(1e-6, 0.3), init_schemes=("identity",), seed=3
    )
    configs = asked.studies("checksum")
    command = study_command(configs)
    found = parse(COMMANDS, command.split()[1:], prog="optim-study").config()
    assert found.studies("checksum") == configs and found.folder == Path("runs/again")


def test_a_training_of_two_seeds_on_a_text(tmp_path):
    text = tmp_path / "novel.txt"
    text.write_text("the cat sees the dog\nthe dog hears the dog\n" * 150)
    words = ["--data", str(text), "--words", "--hidden-size", "6", "--epochs", "1", "--seeds", "2", "--device", "cpu"]
    assert rhn(["train", "ptb-depth-2", *words, "--out", str(tmp_path / "run")]) == 0
    assert main([str(tmp_path / "run"), "-o", str(tmp_path / "page.html"), "--steps", "6", "--lesions"]) == 0
    _, charts, page = parts(tmp_path / "page.html")
    valid = [json.loads((tmp_path / f"run/seed-{k}/metrics.jsonl").read_text())["valid_perplexity"] for k in (0, 1)]
    assert len(charts[0]["data"]) == 6 and f"run/seed-{int(valid[1] < valid[0])}/best.safetensors" in page
    (gates,) = (chart["data"][0] for chart in charts if chart["data"][0]["type"] == "heatmap")
    assert [word.split(": ")[1] for word in gates["text"][0]] == (["the", "cat", "sees", "the", "dog", "&lt;eos&gt;"])
    assert "predicted tokens" in page and "time step (tokens)" in str(charts)


def test_a_sequence_that_never_changes_has_no_plateau_and_all_else(run, tmp_path):
    assert main([str(run), "-o", str(tmp_path / "page.html"), "--steps", "2"]) == 0
    text = parts(tmp_path / "page.html")[2]
    assert "plateau" not in text and "Over 2 steps" in text


@pytest.mark.parametrize("broken", ["journal", "config", "metrics"])
def test_a_damaged_folder_is_one_sentence(broken, run, study, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(study if broken == "journal" else run, folder)
    name = {"journal": "journal.log", "config": "config.json", "metrics": "metrics.jsonl"}[broken]
    (folder / name).write_text("[" * 10_000 + "\n")
    capsys.readouterr()
    assert main([str(folder), "-o", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert name in error and error.strip().count("\n") == 0 and not (tmp_path / "page.html").exists()


def test_what_is_nested_without_end_is_left_out():
    deep, long = {}, []
    for _ in range(5000):
        deep, long = {"x": deep}, [long]
    assert [row[1] for row in flat({"a": deep, "b": long, "c": 1})] == ["...", "...", "1"]


OWN_MODULE = """
from torch import nn

class Tagger(nn.Module):
    def __init__(self, input_size, hidden_size=5):
        super().__init__()
        self.rnn, self.out = nn.GRU(input_size, hidden_size, batch_first=True), nn.Linear(hidden_size, 2)

    def forward(self, x):
        return self.out(self.rnn(x)[0])

class Cell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size, self.read, self.go = hidden_size, nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x, h):
        return (self.read(x) + self.go(h)).tanh()

class Normed(nn.Module):
    def __init__(self, input_size, hidden_size=5):
        super().__init__()
        self.rec, self.norm = Cell(input_size, hidden_size), nn.LayerNorm(hidden_size)

    def forward(self, x):
        h = x.new_zeros(x.shape[1], self.rec.hidden_size)
        for e in x:
            h = self.norm(self.rec(e, h))
        return h
"""


def test_a_module_of_a_user_s_own_is_reported_from_a_file_of_torch_save(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("own_tagger.py").write_text(OWN_MODULE)
    np.save("x.npy", np.random.default_rng(0).random((12, 3)))
    torch.save(build_module("own_tagger:Tagger", input_size=3).state_dict(), "w.pt")
    assert main(["w.pt", "--module", "own_tagger:Tagger", "--input", "x.npy", "-o", "own.html"]) == 0, (
        capsys.readouterr().err
    )
    titles, charts, text = parts(Path("own.html"))
    assert "Spectra" in titles and "In words" in titles and charts and "own_tagger:Tagger" in text
    torch.save(build_module("own_tagger:Normed", input_size=3).state_dict(), "n.pt")
    words = ["n.pt", "--module", "own_tagger:Normed", "--submodule", "rec", "--input", "x.npy", "-o", "normed.html"]
    assert main(words) == 0, capsys.readouterr().err
    titles, charts, text = parts(Path("normed.html"))
    assert "Lyapunov exponents" in titles and charts and "11 steps" in text
    assert main(["w.pt", "--module", "own_tagger:Tagger", "--cell", "rnn"]) == 2
    assert "does not go with --module" in capsys.readouterr().err


@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_torch_save_is_never_called_damaged(tmp_path, capsys, old):
    path = str(tmp_path / "w.pt")
    torch.save(torch.nn.GRU(3, 4).state_dict(), path, _use_new_zipfile_serialization=not old)
    for command, words in ((main, [path]), (analyze_command, ["gates", path]), (plot, ["--checkpoint", path])):
        assert command(words) == 2
        said = capsys.readouterr().err
        assert "is a torch.save file" in said and "--module" in said and "damaged" not in said


def test_the_maps_of_a_study_share_their_axes_and_explain_every_mark():
    rows = read_csv(RESULTS / "2026-11-20-small-study.csv")
    shown = map_charts(rows, "train")
    for axis, name in (("xaxis", "learning_rate"), ("yaxis", "init_std")):
        (low, high), *others = [chart.layout[axis]["range"] for chart in shown]
        assert others == [[low, high]] * (len(shown) - 1)
        assert all(low < np.log10(getattr(row, name)) < high for row in rows)
    drawn = {symbol for chart in shown for symbol in chart.traces[0]["marker"]["symbol"]}
    words = map_words(rows, "train")
    assert drawn == {*list(SYMBOLS)[:4], "cross"} and "✚ no gates" in words
    assert ("Red crosses" in words) == any(row.diverged for row in rows)


def test_the_page_begins_with_a_short_verdict(page):
    first = re.search('<p class="verdict">(.*?)</p>', parts(page)[2], re.DOTALL)
    said = html.unescape(first[1])
    assert len(said) < 160 and "Validation: " in said and "Over 12 steps the gradient" in said
    assert parts(page)[2].index('class="verdict"') == parts(page)[2].index("<p") + len("<p ")


def test_a_wide_table_on_a_phone_says_that_it_scrolls(page, browser):
    def hints(width: int) -> list[tuple[bool, bool]]:
        phone = browser.new_page(viewport={"width": width, "height": 844})
        phone.goto(page.as_uri())
        wide_and_said = "[t.scrollWidth > t.clientWidth, !t.querySelector('.hint').hidden]"
        found = phone.evaluate(f"[...document.querySelectorAll('details[open] .table')].map(t => {wide_and_said})")
        assert phone.evaluate("document.documentElement.scrollWidth") <= width
        phone.close()
        return found

    narrow = hints(390)
    assert any(wide for wide, _ in narrow) and all(wide == said for wide, said in narrow)
    assert not any(said for _, said in hints(1400))
