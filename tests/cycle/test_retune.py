"""A cycle that trains the live version further: on real models, and killed on the way."""

import os
import signal

import pytest

from helpers.toy import tiny_data, tiny_model
from ssmith import api
from ssmith.cli.main import main
from ssmith.cycle import read_cycle, renewing, run_cycle
from ssmith.data import save_npz
from ssmith.release.adding import keep
from ssmith.release.begin import init
from ssmith.release.opening import opened
from ssmith.release.policy import Policy, Promote
from ssmith.release.promotion import promote
from ssmith.release.verify import verify

CONFIG = """
data = "data.npz"
labels = true
[renew]
when = "always"
how = "retune"
data = "data.npz"
[tune]
training = { steps = 4 }
methods = ["state-offset-y"]
[compare]
speed_seconds = 0.01
[canary]
requests = 4
"""


@pytest.fixture
def line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    api.save(tiny_model(), "dense")
    save_npz(tiny_data(), "data.npz")
    made = init("line", Policy(promote=Promote(max_loss="any", parity=False)))
    first = keep(made, opened("dense"))
    assert promote(made, first).promoted
    assert main(["watch", "line", "--take", "--data", "data.npz", "--quiet"]) == 0
    (tmp_path / "cycle.toml").write_text(CONFIG)
    return made


def test_the_live_version_is_trained_further_compared_and_proposed(line, tmp_path):
    config = read_cycle(tmp_path / "cycle.toml")
    child = os.fork()
    if child == 0:
        # Killed between the training and the comparison.
        renewing.compare = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        run_cycle(line, config, tmp_path / "work")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    tuned = next((tmp_path / "work").glob("cycle-*/tuned"))
    trained = (tuned / "receipt.json").stat().st_mtime_ns
    live = line.live.digest
    found = run_cycle(line, config, tmp_path / "work")
    assert found.resumed and found.last.name == "propose" and found.last.passed
    assert (tuned / "receipt.json").stat().st_mtime_ns == trained
    new = line.versions()[-1]
    assert (new.digest, new.base) == (found.last.version, live)
    assert line.live.digest == live
    assert new.receipt.compared.count > 0 and new.profile is not None
    assert {entry.action for entry in line.entries()} >= {"audit", "canary"}
    assert verify(line).passed
