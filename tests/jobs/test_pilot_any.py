"""The pilot on a network that is nobody's but the user's, with their own rows and task."""

import copy
import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import ssmith as sm
from jobs.toy import contents
from ssmith.core.errors import ArtefactError, InputError, UnsupportedError
from ssmith.core.sections import UnitRemoved
from ssmith.families import S5Layer, model_digest

CONFIG = sm.PilotConfig(
    method="last",
    baselines=("random",),
    sparsities=(0.25, 0.5),
    refine=0,
    max_loss="2 absolute",
    speed_seconds=0.001,
)


# What holds times, and the digests of that.
TIMED = ("receipt.json", "stages/measured.json", "manifest.json")


class Spectra(nn.Module):
    """Reads a batch from left to right and back by the same layer."""

    def __init__(self):
        super().__init__()
        self.reader = S5Layer(4, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, pixels):
        there, back = self.reader(pixels), self.reader(pixels.flip(1)).flip(1)
        return self.head(torch.cat([there, back], dim=2).mean(dim=1))


def rows(count, seed):
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 12, 4, generator=draw)
    return [{"pixels": pixels, "label": torch.randint(3, (count,), generator=draw)}]


def spread(model, batch):
    """The spread of the outputs over their size: a ratio of sums of anybody."""
    found = model(batch["pixels"])
    return found.std(dim=1), found.abs().mean(dim=1)


TASK = sm.Task(
    metric=sm.Metric(name="spread", higher_is_better=True, counted="spectra"), outcomes=spread
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Spectra()


@pytest.fixture
def start(network, tmp_path, monkeypatch):
    def run(config=CONFIG, task=TASK, *, data=None, report=False, **options):
        if not report:
            monkeypatch.setattr("ssmith.jobs.pilot.run.write_report", lambda *_: None)
        splits = {"selection": rows(20, 1), "test": rows(24, 2), **(data or {})}
        return sm.pilot(network, splits, tmp_path / "out", config, task, **options)

    return run


def test_a_network_is_cut_proven_and_judged_by_its_own_task(start, network, tmp_path):
    before = copy.deepcopy(network.state_dict())
    receipt = start(report=True, name="spectra")
    curve, out = receipt.as_dict()["details"]["curve"], tmp_path / "out"
    assert (curve["metric"], curve["counted"], curve["count"]) == ("spread", "spectra", 20)
    assert curve["point"]["sparsity"] == 0.5
    assert receipt.model.name == "spectra"
    assert receipt.removed["state"] == UnitRemoved(before=8, after=4, fraction=0.5)
    assert receipt.quality.before.value == pytest.approx(
        sm.evaluate(network, rows(24, 2), TASK).value
    )
    assert receipt.parity.passed
    assert receipt.parity.worst["saved_vs_loaded"] == 0
    assert receipt.parity.worst["shrunk_vs_masked"] < 1e-12
    assert receipt.size.bytes.after < receipt.size.bytes.before
    assert "spread" in (out / "report.html").read_text()
    assert all(torch.equal(item, before[name]) for name, item in network.state_dict().items())
    # The plan makes the model that was saved, from the network as it was built.
    sm.prune_(network, sm.Plan.load(out / "plan.json"))
    saved = load_file(out / "model" / "model.safetensors")
    assert all(torch.equal(item, saved[name]) for name, item in network.state_dict().items())
    assert model_digest(network) == receipt.model.digest_after


def test_a_named_task_reads_the_labels_of_the_rows(start, network):
    receipt = start(dataclasses.replace(CONFIG, metric="accuracy", max_loss="99 points"), None)
    batch = rows(24, 2)[0]
    with torch.no_grad():
        right = network(batch["pixels"]).argmax(1) == batch["label"]
    assert receipt.quality.before.value == float(right.double().mean())
    assert receipt.quality.interval == "Wilson"


def test_resumed_it_ends_with_the_same_bytes(start, tmp_path):
    def told(stage, done, total, note=""):
        if (stage, done) == ("sweep", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(progress=told)
    start(resume=True)
    found = contents(tmp_path / "out")
    start(overwrite=True)
    expected = contents(tmp_path / "out")
    assert set(found) == set(expected)
    for name, content in found.items():
        assert content == expected[name] or name in TIMED, name
    with pytest.raises(ArtefactError, match=r"settings or data: data\."):
        start(resume=True, data={"test": rows(24, 3)})


@pytest.mark.parametrize(
    ("changes", "how", "error", "words"),
    [
        ({"max_loss": None}, {}, InputError, "nothing says how much spread may be lost"),
        ({"method": "state-obs"}, {}, InputError, "fitted to rows and there are none"),
        ({"recover": "full"}, {}, UnsupportedError, "rows of your own to recover on"),
        ({"length": 4}, {}, InputError, "length is for language models"),
        ({"own_metric": "numpy:dot"}, {}, InputError, "own_metric is for"),
        ({}, {"data": {"selection": []}}, ValueError, "yields no batch"),
    ],
)
def test_what_does_not_go_is_refused_before_the_first_file(
    start, tmp_path, changes, how, error, words
):
    with pytest.raises(error, match=words):
        start(dataclasses.replace(CONFIG, **changes), **how)
    assert not (tmp_path / "out").exists()


def test_rows_of_a_network_in_memory_are_no_file(network, tmp_path):
    with pytest.raises(InputError, match="rows by split"):
        sm.pilot(network, "data.npz", tmp_path / "out", CONFIG, TASK)
    with pytest.raises(InputError, match="no split 'test'"):
        sm.pilot(network, {"selection": rows(4, 0)}, tmp_path / "out", CONFIG, TASK)
