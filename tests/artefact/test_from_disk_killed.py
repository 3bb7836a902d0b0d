"""Cuts from disk that are killed, and go on, by one process or by two, to the bytes of memory."""

import filecmp
import signal
from pathlib import Path

import pytest

from helpers.dying import ended, start
from helpers.tiny_hybrids import tiny_hybrid

pytest.importorskip("transformers")
CUT = ["prune", "model", "--cut", "state=0.5", "--data", "text.txt", "--samples", "8"]
CUT += ["--length", "12"]
LINES = "State spaces keep what matters; a cut state keeps nothing, and says so.\n" * 60


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("place")
    tiny_hybrid("bamba", vocab_size=256, mamba_d_state=6).save_pretrained(path / "model")
    (path / "text.txt").write_text(LINES)
    return path


def made(out: Path):
    """The files that say nothing of how they came about."""
    names = ("config.json", "model.safetensors", "plan.json", "plan.safetensors", "ssmith.json")
    return [out / name for name in names]


def test_killed_and_given_again_by_two_processes_it_leaves_the_bytes_of_memory(place, tmp_path):
    whole = tmp_path / "whole"
    memory = [*CUT, "--out", str(whole)]
    assert ended(start(memory, place, tmp_path / "said")) == 0
    disk = [*CUT, "--work-dir", "work", "--out", "out", "--from-disk"]
    killed = start(disk, place, tmp_path / "killed", kill_at=12)
    assert ended(killed) == -signal.SIGKILL
    assert list((place / "work").glob("*.safetensors"))
    assert not (place / "out").exists()
    assert ended(start(disk, place, tmp_path / "again", processes=2)) == 0, (
        tmp_path / "again"
    ).read_text()
    for one, other in zip(made(whole), made(place / "out"), strict=True):
        assert filecmp.cmp(one, other, shallow=False), one.name
