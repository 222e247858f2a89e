"""What was trained on a file is trained and measured on that file again, or says that it is not."""

import json
import shutil

import pytest
from test_trainings import assert_same_run

from rhn.checkpoints import read
from rhn.cli import main as cli
from rhn.training.trained import stored_data


@pytest.fixture(scope="module")
def other_chorales(tmp_path_factory):
    """A file of one made-up piece, three times."""
    path = tmp_path_factory.mktemp("other") / "other.json"
    piece = [[60, 64, 67], [62, 65], [60]] * 4
    path.write_text(json.dumps({split: [piece] for split in ("train", "valid", "test")}))
    return path


@pytest.fixture
def config(music, trained, tmp_path):
    """config(**entries): the config.json of a training run with other entries."""

    def write(**entries):
        path = tmp_path / "config.json"
        found = json.loads((trained(music) / "config.json").read_text())
        path.write_text(json.dumps(found | entries))
        return path

    return write


def test_the_config_of_a_run_trains_on_its_data_again(task, trained, tmp_path):
    words = ["--config", str(trained(task) / "config.json"), "--out", str(tmp_path / "again")]
    assert cli.main(["train", *words]) == 0
    assert_same_run(tmp_path / "again", trained(task))
    assert stored_data(read(tmp_path / "again")).path == task.data


def test_other_data_are_named(config, other_chorales, tmp_path, refused):
    words = ["train", "--out", tmp_path / "again", "--config"]
    refused([*words, config(path=str(tmp_path / "gone"))], "gone")
    assert not (tmp_path / "again").exists()
    words = [*words, config(epochs=1), "--data", other_chorales]
    assert cli.main([*map(str, words)]) == 0
    assert stored_data(read(tmp_path / "again")).path == other_chorales


def test_fewer_tokens_of_the_text_of_a_run_are_another_choice(prose, trained, tmp_path):
    words = ["--config", str(trained(prose) / "config.json"), "--max-tokens", "100"]
    assert cli.main(["train", *words, "--epochs", "1", "--out", str(tmp_path / "short")]) == 0
    assert stored_data(read(tmp_path / "short")).path == prose.data


def test_a_run_whose_file_has_changed_is_not_measured(
    music, other_chorales, trained, tmp_path, refused
):
    run, data = tmp_path / "run", tmp_path / "data.json"
    shutil.copytree(trained(music), run)
    shutil.copy(music.data, data)
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"path": str(data)}))
    assert cli.main(["evaluate", str(run)]) == 0
    shutil.copy(other_chorales, data)
    for subject in (run, run / "best.safetensors"):
        refused(["evaluate", subject], f"checksum of {data} is")
    data.unlink()
    refused(["evaluate", run], f"{data} cannot be read")


def test_a_text_that_has_changed_is_not_measured(prose, trained, tmp_path, refused):
    run, data = tmp_path / "run", tmp_path / "text"
    shutil.copytree(trained(prose), run)
    shutil.copytree(prose.data, data)
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"path": str(data)}))
    assert cli.main(["evaluate", str(run)]) == 0
    test = data / "test.txt"
    test.write_text(test.read_text() * 2)
    refused(["evaluate", run], f"checksum of {data} is")


def test_other_data_is_measured_if_it_is_named(
    music, other_chorales, trained, tmp_path, caplog, refused
):
    run, copy = trained(music), tmp_path / "copy.safetensors"
    shutil.copy(run / "best.safetensors", copy)
    for words in ([str(run)], [str(run), "--data", str(other_chorales)]):
        assert cli.main(["evaluate", *words]) == 0
    assert caplog.messages == []
    # its folder does not name the file
    refused(["evaluate", copy], "checksum of 374 of 382 chorales")
    assert cli.main(["evaluate", str(copy), "--data", str(music.data)]) == 0
