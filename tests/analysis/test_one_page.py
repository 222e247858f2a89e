"""A report is one page that needs nothing else, says what was measured, and shows what files say as
text.
"""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from browser import chromium
from matplotlib.figure import Figure
from readable import unarranged, whole_title

from analysis.cli import main as analyze_command
from analysis.report import cli as report_cli
from analysis.report.cli import main
from analysis.report.folders import study_sections
from analysis.report.network import network_sections
from analysis.report.options import ReportOptions
from analysis.report.page import Section, Table, page_html, section_of, write_page
from gersgorin.analyses import ANALYSES, Analysis
from gersgorin.analyses.steps import Products
from gersgorin.cli.analysis import main as plot
from gersgorin.cli.main import main as gersgorin
from gersgorin.network.factory import build_module
from gersgorin.network.open import open_run
from optim_study.presets import small
from optim_study.results import read_csv
from rhn import load
from rhn.cells import RNN
from rhn.checkpoints import save_checkpoint
from rhn.cli.main import main as rhn
from rhn.data import chorale
from rhn.plotting.provenance import words_of_checkpoint
from rhn.utils.command_line import read, single

WITHOUT_LAYOUT = pytest.mark.usefixtures("unarranged")

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>&{{7*7}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a training of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    words = [
        "jsb-depth-2",
        "--hidden-size",
        "6",
        "--epochs",
        "2",
        "--device",
        "cpu",
        "--out",
        str(folder),
    ]
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


def parts(path) -> tuple[list[str], int, str]:
    """Titles of the sections, number of figures, and the text without script and style."""
    text = re.sub('<(script|style).*?</\\1>|data:image[^"]*', "", path.read_text(), flags=re.DOTALL)
    return list(map(html.unescape, re.findall("<h2>(.*?)</h2>", text))), text.count("<img"), text


def valid_nll(row: dict) -> float:
    return row["valid_nll"]


DEFAULT = [row.about for row in ANALYSES.values() if row.default]


def test_a_training_is_reported_with_its_curve_and_every_default_analysis(page, run):
    titles, figures, text = parts(page)
    assert titles == [
        "Origin of the network",
        "Training",
        *DEFAULT,
        "Gates by layer and step",
        "Lesions",
    ]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"{last['valid_nll']:.5g} nats per frame" in text
    opened_run = open_run(load(run), chorale("bwv269")[:12])
    for row in ANALYSES.values():
        if row.default and row.needs == "run":
            result = row(opened_run)
            assert all(html.escape(line) in text for line in result.sentences()), row.name
            first = [v for v in result.table()[0].values() if isinstance(v, float)]
            assert all(f'data-value="{v}"' in text for v in first), row.name
    assert figures == 1 + len(DEFAULT) + 2 and "gersgorin report" in text and "seed 0" in text
    assert page.stat().st_size < 1e6
    assert re.findall("<dt>(.*?)</dt>", text) == [
        "nats per frame on validation",
        "on the training chorales",
        "constant predictor on the training chorales",
        "time steps in which the gradient halves",
    ]
    assert "on chorale bwv269, 12 time steps, with weights from tiny/best.safetensors:" in text
    best = min(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()), key=valid_nll)
    assert f", epoch {best['epoch']}." in text
    sentences = re.findall("<p>(.*?)</p>", text)
    assert len({*sentences}) == len(sentences) and str(run.parent) not in text
    # lesions: all test chorales, as `rhn-analyze lesion`
    assert "77 sequences, 4,648 predicted frames" in text
    assert "--learning-rate" in text and "--beta1" not in text


@WITHOUT_LAYOUT
def test_every_figure_of_a_network_names_its_checkpoint(run):
    options = ReportOptions(about=run, steps=6)
    sections = network_sections(
        options, run / "best.safetensors", lambda title: lambda done, total: None
    )
    feet = [whole_title(draw()) for section in sections for draw in section.figures]
    assert len(feet) == len(DEFAULT) + 2
    assert all("tiny/best.safetensors: gaussian:0.05" in foot for foot in feet)


def test_figures_of_an_unfinished_training_say_so(run, tmp_path):
    shutil.copytree(run, folder := tmp_path / "copy")
    assert "epochs" not in words_of_checkpoint(folder)
    first = (folder / "metrics.jsonl").read_text().splitlines()[0]
    (folder / "metrics.jsonl").write_text(f"{first}\n")
    assert words_of_checkpoint(folder).endswith("after 0 of 2 epochs")


@WITHOUT_LAYOUT
def test_a_bare_checkpoint_is_reported_without_what_its_network_lacks(tmp_path):
    save_checkpoint(
        tmp_path / "cell.safetensors", RNN(88, 5, generator=torch.Generator().manual_seed(0))
    )
    assert (
        main(
            [str(tmp_path / "cell.safetensors"), "-o", str(tmp_path / "page.html"), "--steps", "6"]
        )
        == 0
    )
    titles, _, text = parts(tmp_path / "page.html")
    assert "Training" not in titles and "Not measured: an RNN has no output layer" in text
    assert "Gates by layer and step" not in titles and "transform gates" not in text
    assert "The influence of an input" in text
    assert "There are no gates in this RNN" in text


def test_a_column_of_the_page_has_a_number():
    """For a function, the norm of the Jacobians has no known bound."""
    run = open_run(lambda x, s: torch.tanh(s + x), torch.rand(9, 3), state_size=3)
    section = section_of(ANALYSES["spectra"](run))
    columns = pd.DataFrame(section.tables[0].rows)
    assert not columns.isna().all().any() and "norm_bound" not in columns
    assert {"step", "spectral_radius", "norm"} <= {*columns}


def test_texts_of_figures_and_tables_have_no_way_out_of_them(tmp_path, browser):
    table = Table(caption=HOSTILE, rows=[{HOSTILE: HOSTILE}, {HOSTILE: float("nan")}])
    text = {"title": HOSTILE, "text": [HOSTILE, f"a   {HOSTILE}"], "numbers": [(HOSTILE, HOSTILE)]}
    section = Section(**text, figures=[lambda: Figure(figsize=(2, 1))], tables=[table])
    done: list[tuple[int, int]] = []
    write_page(tmp_path / "page.html", "safe", [section], HOSTILE, lambda *each: done.append(each))
    assert done == [(1, 1)]
    page = opened(browser, tmp_path / "page.html")
    assert (
        page.title() == "safe" and page.evaluate("document.querySelectorAll('script').length") == 1
    )
    assert page.evaluate("[...document.images].map(i => i.alt)") == [HOSTILE]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.safetensors"], "there is no checkpoint"),
        ([], "--about requires an argument (see gersgorin report --help)"),
        (["."], "expected one of them"),
        (["x", "-o", "page.pdf"], "expected a name ending in .html"),
        (["x", "-o", "no/page.html"], "does not exist"),
        (["x", "--steps", "1"], "--steps is 1"),
    ],
)
def test_bad_input_is_one_sentence(words, said, tmp_path, own_folder, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_page_without_a_name_is_called_after_what_it_is_about():
    asked = [
        ["runs/a"],
        ["other/a"],
        ["runs/a", "--steps", "5"],
        ["runs/a", "--lesions"],
        ["runs/a/last.safetensors"],
    ]
    app = single("x", ReportOptions)
    names = [report_cli.default_page(read(app, words)).name for words in asked]
    assert names[0] == "report-a.html" and len(set(names)) == len(names)


@WITHOUT_LAYOUT
def test_a_new_analysis_is_in_the_report_by_its_name_or_by_default(tmp_path, monkeypatch, capsys):
    def rates(network, *, progress=lambda done, total: None) -> Products:
        return Products(log_norm=np.log(0.5) * np.arange(1.0, len(network) + 1), title="mine")

    save_checkpoint(
        tmp_path / "cell.safetensors", RNN(88, 5, generator=torch.Generator().manual_seed(0))
    )
    words = [
        "report",
        str(tmp_path / "cell.safetensors"),
        "-o",
        str(tmp_path / "page.html"),
        "--steps",
        "6",
    ]
    assert gersgorin([*words, "--also", "rates"]) == 2
    assert "--also rates: there is no such analysis" in capsys.readouterr().err
    for name, default in (("rates", False), ("more", True), ("others", False)):
        row = Analysis(
            name=name, function=rates, about=f"A rate of one half: {name}", default=default
        )
        monkeypatch.setitem(ANALYSES, name, row)
    assert gersgorin([*words, "--also", "rates"]) == 0
    titles, _, text = parts(tmp_path / "page.html")
    assert [title for title in titles if "half" in title] == [
        "A rate of one half: rates",
        "A rate of one half: more",
    ]
    assert text.count(f'data-value="{np.log(0.5)}"') >= 2


def test_a_number_that_is_not_finite_is_in_its_cell():
    values = (-np.inf, np.inf, np.nan, 0.5)
    table = Table(caption="Rates", rows=[{"rate": value} for value in values])
    text = page_html("Rates", [Section(title="Rates", tables=[table])], "")
    assert re.findall('<td class="number" data-value="(.*?)">(.*?)</td>', text) == [
        (str(value), f"{value:.5g}") for value in values
    ]


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (1200, "light"), (1200, "dark")]
)
def test_in_a_browser_every_figure_is_seen_and_nothing_scrolls_sideways(
    page, browser, width, scheme
):
    seen = opened(browser, page, width=width, scheme=scheme)
    assert seen.evaluate("document.scrollingElement.scrollWidth") <= width
    sizes = seen.evaluate(
        "[...document.images].map(i => [i.naturalWidth, i.width / parseFloat(i.style.width)])"
    )
    assert len(sizes) == parts(page)[1] and all(
        natural > 500 and shown > 0.69 for natural, shown in sizes
    )
    color = "(where, name) => getComputedStyle(document.querySelector(where))[name]"
    light = {
        where: sum(
            map(int, re.findall(r"\d+", seen.evaluate(f"({color})('{where}', '{style}')"))[:3])
        )
        > 380
        for where, style in (
            ("body", "backgroundColor"),
            ("p", "color"),
            ("figure", "backgroundColor"),
        )
    }
    assert light == {"body": scheme == "light", "p": scheme == "dark", "figure": True}


def test_a_table_is_sorted_by_a_click_and_back_by_another(page, browser):
    seen = opened(browser, page)
    column = (
        "[...document.querySelectorAll('#section-4 tbody tr')].map(row => "
        "Number(row.cells[1].dataset.value))"
    )
    head = seen.locator("#section-4 th button").nth(1)
    head.click()
    up = seen.evaluate(column)
    head.click()
    assert (
        up == sorted(up) and seen.evaluate(column) == sorted(up, reverse=True) and len(set(up)) > 3
    )


def opened(browser, path, *, width=800, scheme="light"):
    """The page, drawn; no error, no request to anywhere."""
    page, said = (
        browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        ).new_page(),
        [],
    )
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url),
    )
    page.goto(path.as_uri())
    assert said == []
    return page


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of the smoke preset, and its report."""
    from optim_study.cli import main as optim_study

    folder = tmp_path_factory.mktemp("study") / "smoke"
    words = [
        "--preset",
        "smoke",
        "--arch",
        "rhn",
        "dt-rnn",
        "--depth",
        "2",
        "--device",
        "cpu",
        "--out",
        str(folder),
    ]
    with unarranged():
        assert optim_study(["run", *words]) == 0
        assert main([str(folder), "-o", str(folder / "page.html"), "--steps", "5"]) == 0
    return folder


def test_a_study_is_reported_with_every_trial_its_shares_and_its_best_network(study):
    titles, figures, text = parts(study / "page.html")
    assert titles[:5] == [
        "Origin of the network",
        "How many settings train",
        "Swarm",
        "Map",
        "The trials",
    ]
    rows = read_csv(study / "trials.csv")
    best = min(rows, key=lambda row: row.best_train_nll)
    assert titles[5] == f"The best network: {best.arch}-depth2" and set(DEFAULT) <= set(titles)
    assert all(
        f'data-value="{row.learning_rate}"' in text and f'data-value="{row.best_train_nll}"' in text
        for row in rows
    )
    assert "The gradient of this" in text and "patience" in text and figures > 3


@pytest.mark.parametrize(("media", "width"), [("screen", 1200), ("print", 703)])  # A4 less 12 mm
def test_the_table_of_shares_fits(media, width, tmp_path, browser):
    rows = read_csv(RESULTS / "small-study.csv")
    sections = [s for s in study_sections(small().studies("checksum"), rows) if s.tables]
    (shares,) = [s for s in sections if s.title == "How many settings train"]
    (tmp_path / "page.html").write_text(page_html("t", [shares], ""), encoding="utf-8")
    seen = opened(browser, tmp_path / "page.html", width=width)
    seen.emulate_media(media=media)
    table, box = seen.evaluate(
        "['table', '.scrolls'].map(each => document.querySelector(each).clientWidth)"
    )
    assert table <= box


def test_the_page_of_a_large_study_is_small():
    rows = read_csv(RESULTS / "small-study.csv")
    text = page_html("t", study_sections(small().studies("checksum"), rows), "")
    assert text.count("<tr>") > len(rows) and len(text) < 1e6


@pytest.mark.slow
def test_a_training_of_two_seeds_on_a_text(tmp_path):
    text = tmp_path / "novel.txt"
    text.write_text("the cat sees the dog\nthe dog hears the dog\n" * 150)
    words = [
        "--data",
        str(text),
        "--corpus",
        "text",
        "--hidden-size",
        "6",
        "--epochs",
        "1",
        "--seeds",
        "2",
        "--device",
        "cpu",
    ]
    assert rhn(["train", "ptb-depth-2", *words, "--out", str(tmp_path / "run")]) == 0
    assert (
        main(
            [str(tmp_path / "run"), "-o", str(tmp_path / "page.html"), "--steps", "6", "--lesions"]
        )
        == 0
    )
    page = parts(tmp_path / "page.html")[2]
    valid = [
        json.loads((tmp_path / f"run/seed-{k}/metrics.jsonl").read_text())["valid_perplexity"]
        for k in (0, 1)
    ]
    assert f"from seed-{int(valid[1] < valid[0])}/best.safetensors" in page
    assert "predicted tokens" in page


def test_a_damaged_folder_is_one_sentence(study, tmp_path, capsys):
    folder, name = tmp_path / "copy", "journal.log"
    shutil.copytree(study, folder)
    (folder / name).write_text("[" * 10_000 + "\n")
    capsys.readouterr()
    assert main([str(folder), "-o", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert (
        name in error and error.strip().count("\n") == 0 and not (tmp_path / "page.html").exists()
    )


READER = """
from torch import nn

class Reader(nn.Module):
    def __init__(self, input_size, hidden_size=5):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, 1)

    def forward(self, x):
        return self.output(self.rnn(x)[0][:, -1])
"""


@WITHOUT_LAYOUT
def test_a_module_of_a_user_s_own_is_reported_from_a_file_of_torch_save(own_folder, capsys):
    Path("own_reader.py").write_text(READER)
    np.save("x.npy", np.random.default_rng(0).random((12, 3)))
    torch.save(build_module("own_reader:Reader", input_size=3).state_dict(), "w.pt")
    words = [
        "w.pt",
        "--module",
        "own_reader:Reader",
        "--submodule",
        "rnn",
        "--input",
        "x.npy",
        "-o",
        "own.html",
    ]
    assert main([*words, "--also", "lyapunov"]) == 0, capsys.readouterr().err
    titles, _, text = parts(Path("own.html"))
    assert set(DEFAULT) <= set(titles) and "own_reader:Reader" in text
    assert "Shapes of the weights" in text and "What else the file holds" not in text
    lyapunov = titles.index(ANALYSES["lyapunov"].about) + 1
    section = re.search(f'<section id="section-{lyapunov}">.*?</section>', text, re.DOTALL)[0]
    assert "<img" in section and "12 steps" in text
    assert "1 - update gates are" in text and "w.pt names no such data" in text
    assert main(["w.pt", "--module", "own_reader:Reader", "--cell", "rnn"]) == 2
    assert "does not go with --module" in capsys.readouterr().err


LOOP = """
import torch
from torch import nn

class Loop(nn.Module):
    def __init__(self, input_size, hidden_size=5):
        super().__init__()
        self.cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, x):
        h, found = x.new_zeros(len(x), 5), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            found.append(h)
        return torch.stack(found, 1)
"""


@WITHOUT_LAYOUT
@pytest.mark.parametrize("words", [["one.npy"], ["x.npy", "--batch-axis", "0"]])
def test_every_part_reads_the_input_with_the_batch_of_the_file_or_of_the_option(
    words, own_folder, capsys, monkeypatch
):
    Path("own_loop.py").write_text(LOOP)
    x = np.random.default_rng(0).random((12, 3))
    np.save("x.npy", x)
    np.save("one.npy", x[None])
    torch.save(build_module("own_loop:Loop", input_size=3).state_dict(), "w.pt")
    monkeypatch.setattr("analysis.report.network.lesion", None)  # not called
    module = ["--module", "own_loop:Loop", "--input", *words]
    assert main(["w.pt", *module, "-o", "own.html"]) == 0, capsys.readouterr().err
    titles, _, text = parts(Path("own.html"))
    sections = dict(zip(titles, text.split("<h2>")[1:], strict=True))
    assert "<img" in sections[ANALYSES["influence"].about]
    lesions = html.unescape(sections["Lesions"])
    reason = (
        "Not measured: lesions need the data that the network predicts, and w.pt names no such data"
    )
    assert reason in lesions and "88" not in lesions
    assert gersgorin(["influence", "--checkpoint", "w.pt", *module, "--output", "i.png"]) == 0


def test_a_section_repeats_a_sentence_rather_than_being_empty():
    sections = [Section(title=title, text=["Not measured: no cell."]) for title in ("One", "Two")]
    assert page_html("page", sections, "").count("Not measured: no cell.") == 2


@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_torch_save_is_never_called_damaged(tmp_path, capsys, old):
    path = str(tmp_path / "w.pt")
    torch.save(torch.nn.GRU(3, 4).state_dict(), path, _use_new_zipfile_serialization=not old)
    for command, words in (
        (main, [path]),
        (analyze_command, ["gates", path]),
        (plot, ["--checkpoint", path]),
    ):
        assert command(words) == 2
        said = capsys.readouterr().err
        assert "is a torch.save file" in said and "--module" in said and "damaged" not in said
