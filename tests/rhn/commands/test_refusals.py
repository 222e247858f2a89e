"""Bad input gets one sentence and exit code 2; no file decides what is imported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tables import for_each

from rhn.checkpoints import load_checkpoint, read_metadata, save_checkpoint
from rhn.cli import main as cli

# MUSIC, PROSE: checkpoints; NOTES, TEXT: their data; RUN: the folder of PROSE; OUT: a free name
REFUSED = [
    ("data show foo", "--name is foo, expected one of ptb, enwik8, text8, text, jsb"),
    # train
    ("train --out OUT", "begins with a preset"),
    ("train jsb-depth-1", "--out DIR is missing"),
    ("train jsb-depth-1 --out OUT --cell gru --transform-bias -1", "transform_bias"),
    (
        "train jsb-depth-1 --out OUT --optimizer adam --momentum 0.9",
        "--momentum is for sgd and rmsprop, and the optimizer is adam",
    ),
    (
        "train jsb-depth-1 --out /dev/null/run --epochs 1 --hidden-size 1 --data NOTES",
        "cannot write",
    ),
    ("train ptb-sota --out FILE --data TEXT --corpus text", "train.txt is not a folder"),
    ("train ptb-sota --out OUT --data TEXT", "a text of your own is read with --corpus text"),
    (
        "train ptb-sota --out OUT --data TEXT --corpus text --hidden-size 8 --seeds 100000000",
        "100000000 networks' training",
    ),
    # resume
    ("resume OUT", "holds no training"),
    # evaluate
    ("evaluate missing.safetensors", "there is no checkpoint at missing.safetensors"),
    ("evaluate ALONE", "a text of your own needs its path: give --data"),
    ("evaluate PROSE --data OTHER", "'an' is not in the vocabulary of 9 words"),
    ("evaluate PROSE --mc 2 --batch-size 4", "--batch-size and --mc exclude one another"),
    ("evaluate PROSE --max-tokens 1", "--max-tokens is 1, expected 2 or more"),
    # report: its files are checked before the runs are read
    ("report missing --output nowhere/a.csv", "nowhere does not exist"),
    ("report missing --output a.npz", "ending in .png or .svg or .pdf or .csv"),
    # sample, generate
    ("sample MUSIC --output chorale.wav", ".mid or .musicxml"),
    ("sample MUSIC", "--output FILE is missing"),
    ("sample PROSE", "holds a language model (rhn generate), expected a model of chorales"),
    ("generate MUSIC", "holds a model of chorales (rhn sample), expected a language model"),
]


@pytest.mark.parametrize(
    "name", ["data", "train", "resume", "evaluate", "report", "sample", "generate"]
)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    name, subtests, music, prose, trained, tmp_path, refused
):
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        (other / f"{split}.txt").write_text("an entirely different text\n" * 100)
    run = trained(prose)
    alone = shutil.copy(run / "best.safetensors", tmp_path)
    places = {
        "MUSIC": trained(music),
        "PROSE": run / "best.safetensors",
        "ALONE": alone,
        "RUN": run,
        "OTHER": other,
    }
    places |= {"NOTES": music.data, "TEXT": prose.data, "FILE": prose.data / "train.txt"}
    for words, message in ((command.split(), message) for command, message in REFUSED):
        if words[0] == name:
            with subtests.test(" ".join(words)):
                refused(
                    [
                        places.get(word, word.replace("OUT", str(tmp_path / "out")))
                        for word in words
                    ],
                    message,
                )
                assert not (tmp_path / "out").exists()


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The current folder, whose modules write a file `ran` where they are imported; the path of
    that file.
    """
    (tmp_path / "here").mkdir()
    for name in ("evil", "torch", "msvcrt", "yaml", "optuna", "music21", "rich"):
        canary = (
            "from pathlib import "
            f"Path\n\nPath({str(tmp_path / 'ran')!r}).touch()\n\n\ndef cell(): ...\n"
        )
        (tmp_path / "here" / f"{name}.py").write_text(canary)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return tmp_path / "ran"


@pytest.mark.parametrize(
    "base", [{"preset": "jsb-depth-1"}, {"preset": "ptb-depth-1"}, {"seeds": [0], "corpus": "ptb"}]
)
def test_a_file_never_decides_what_is_imported(base, hostile, refused):
    Path("config.json").write_text(json.dumps(base | {"cell": "evil:cell"}))
    for words in (["resume", "."], ["train", "--config", "config.json", "--out", "out"]):
        refused(words, "names a cell of your own: add --cell evil:cell to import it")
        assert not hostile.exists(), words
    cli.main(["train", "--config", "config.json", "--cell", "evil:cell", "--print-config"])
    assert hostile.exists(), "the canary sings where it is named"


def test_a_checkpoint_never_decides_what_is_imported(prose, trained, hostile):
    about = read_metadata(trained(prose))["metadata"]
    about["train"]["cell"] = "evil:cell"  # beside a model of an RHN
    save_checkpoint("lie.safetensors", load_checkpoint(trained(prose)), **about)
    evaluate = f"evaluate lie.safetensors --data {prose.data}"
    for words in (evaluate, f"{evaluate} --mc 1", "generate lie.safetensors"):
        cli.main(words.split())
        assert not hostile.exists(), words


SCRIPT = """
from rhn.cli.main import main

for words in ("presets", "train jsb-depth-1 --print-config", "evaluate missing", "data show jsb"):
    main(words.split())
"""


@for_each(
    "program",
    [
        ["-P", "-c", SCRIPT],
        *(["-m", name, "--help"] for name in ("rhn", "gersgorin", "analysis", "optim_study")),
    ],
)
def test_no_module_of_the_current_folder_is_imported(program, hostile):
    run = subprocess.run([sys.executable, *program], capture_output=True, text=True)
    assert "Traceback" not in run.stderr and run.stdout and not hostile.exists(), run.stderr


@for_each(
    ("words", "said"),
    [
        ("train jsb-depth-1 --out run --hidden-size 1000000000", "does not fit into memory"),
        ("train jsb-depth-1 --out run --depth 10000000", "at most 10000"),
        ("train jsb-depth-1 --out run --learning-rate inf", "a number above 0"),
        (
            "train jsb-depth-1 --out run --init-std 1e29",
            "expected a scale and a bias of at most 1e+06",
        ),
        ("sample run --output o.mid --bars 20000000", "expected 1 or more, at most 10000"),
    ],
)
def test_what_no_machine_can_hold_is_refused_at_once(words, said, tmp_path, own_folder, capsys):
    assert cli.main(words.split()) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
