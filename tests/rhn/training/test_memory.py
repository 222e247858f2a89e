"""How much memory there is: the machine's, and what a container may take of it."""

from pathlib import Path

from rhn.training import memory


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    assert memory._left_in_group(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\n")
    assert memory._left_in_group(tmp_path) == 550
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_in_group(tmp_path) == float("inf")
    monkeypatch.setattr(memory, "_left_in_group", lambda group: 12345)
    assert memory.free_memory("cpu") == 12345
    assert Path("/proc/meminfo").exists() and memory._available() > 12345
