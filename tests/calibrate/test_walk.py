"""The walk: fresh activations, going on after a kill, and several processes."""

import contextlib
import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ssmith.jobs.selective import SelectiveConfig, prune_selective_

from helpers.selective import windows_of
from helpers.tiny_mamba import tiny
from ssmith.calibrate import walk_store
from ssmith.calibrate.blockwise import Stage, WalkConfig, walk
from ssmith.core.errors import InputError, NumericalError
from ssmith.core.selective import ENTRIES, BlockRecord
from ssmith.families import model_digest
from ssmith.families.hf import engine
from ssmith.families.hf.blocks import ModelBlocks
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.registry import find_selective
from ssmith.ops.selective_scan import selective_scan

pytest.importorskip("transformers")


def energy(layer, parts):
    """Σ y² per channel over valid steps, and the steps."""
    y, _ = selective_scan(parts.scan)
    valid = torch.ones(y.shape[:2]) if parts.valid is None else parts.valid.float()
    return {"energy": (y.square() * valid[..., None]).sum((0, 1)), "steps": valid.sum()}


def halve(layer, totals):
    """Cut the entries of the channels with least energy."""
    order = totals.sums["energy"].argsort()
    keep = torch.ones(layer.e, layer.n, dtype=torch.bool)
    keep[order[: layer.e // 2]] = False
    layer.cut_entries_(keep, "memoryless")
    facts = {"steps": float(totals.sums["steps"])}
    return BlockRecord(layer=layer.name, stage=ENTRIES, keep={ENTRIES: keep}, facts=facts)


def stages(layer):
    return [Stage(name=ENTRIES, collect=energy, apply=halve)]


def pruned(windows, config=None, tell=None):
    model = tiny("mamba", num_hidden_layers=3)
    records = walk(ModelBlocks(model), windows, stages, config or WalkConfig(), tell)
    return model, records


def test_each_block_is_measured_behind_the_cut_ones():
    windows = windows_of(6, 20)
    model, records = pruned(windows, WalkConfig(batch_size=2))
    naive = tiny("mamba", num_hidden_layers=3)
    for record, (name, layer) in zip(records, find_selective(naive).items(), strict=True):
        seen = []
        hook = layer.mixer.register_forward_hook(
            lambda _, given, __, layer=layer, seen=seen: seen.append(
                energy(layer, layer.parts(given[0]))
            )
        )
        with torch.no_grad(), engine(naive):
            naive(windows.ids)
        hook.remove()
        keep = torch.ones(layer.e, layer.n, dtype=torch.bool)
        keep[seen[0]["energy"].argsort()[: layer.e // 2]] = False
        assert (record.layer, record.facts) == (name, {"steps": 120.0})
        assert torch.equal(record.keep[ENTRIES], keep)
        layer.cut_entries_(keep, "memoryless")
    for name, value in naive.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize(("fitting", "made"), [(6, 6), (2, 10), (0, 12)])
def test_branches_are_made_once_where_they_fit(monkeypatch, fitting, made):
    """Of six batches, each of them looked at twice."""
    counted, real = [], SelectiveLayer.branches

    def branches(layer, hidden):
        counted.append(layer.name)
        return real(layer, hidden)

    def look(layer, totals):
        return BlockRecord(layer=layer.name, stage="look")

    monkeypatch.setattr(SelectiveLayer, "branches", branches)
    model = tiny("mamba", num_hidden_layers=2)
    two = [
        Stage(name=name, collect=energy, apply=apply, leaves="selection")
        for name, apply in (("look", look), (ENTRIES, halve))
    ]
    layer = next(iter(find_selective(model).values()))
    held = 2 * layer.e + layer.mixer.x_proj.out_features
    config = WalkConfig(batch_size=1, kept_gb=(fitting + 0.5) * held * 20 * 4 / 1e9)
    records = walk(ModelBlocks(model), windows_of(6, 20), lambda _: two, config)
    assert counted == [name for name in find_selective(model) for _ in range(made)]
    wanted = tiny("mamba", num_hidden_layers=2)
    found = walk(ModelBlocks(wanted), windows_of(6, 20), stages, WalkConfig(batch_size=1))
    for mine, theirs in zip(records[1::2], found, strict=True):
        assert torch.equal(mine.keep[ENTRIES], theirs.keep[ENTRIES])


def test_it_is_told_how_far_the_walk_is_within_a_block_too():
    told = []
    pruned(windows_of(6, 20), WalkConfig(batch_size=2), lambda *said: told.append(said))
    far = [done for done, _, _ in told]
    assert far == sorted(far)
    assert (far[0], far[-1]) == (0.0, 3)
    # Six windows in shards of one, each looked at to decide, and handed on: not by the last block.
    looks = 12
    assert far[: looks + 2] == pytest.approx([*(i / looks for i in range(looks)), 0.99, 1.0])
    assert {total for _, total, _ in told} == {3}
    # Whole numbers are for blocks that are finished.
    assert all(done % 1 for done in far if done not in (0, 1, 2, 3))


def test_padding_counts_for_nothing():
    lengths = torch.tensor([20, 7, 13])
    ids = windows_of(3, 20).ids
    padded = windows_of(3, 20, ids=ids * (torch.arange(20) < lengths[:, None]), lengths=lengths)
    _, records = pruned(padded)
    assert records[0].facts == {"steps": 40.0}
    other = padded.ids.clone()
    other[1, 7:], other[2, 13:] = 5, 9
    _, again = pruned(windows_of(3, 20, ids=other, lengths=lengths))
    for mine, theirs in zip(records, again, strict=True):
        assert torch.equal(mine.keep[ENTRIES], theirs.keep[ENTRIES])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_walk_that_was_killed_goes_on_to_the_same_bytes(tmp_path, after):
    windows = windows_of(5, 16)
    wanted, records = pruned(windows)

    def kill(done, total, note):
        if done == after:
            raise KeyboardInterrupt

    config = WalkConfig(work_dir=tmp_path / "work", fingerprint="x")
    with pytest.raises(KeyboardInterrupt):
        pruned(windows, config, kill)
    calls = []
    model, again = pruned(windows, config, lambda done, total, note: calls.append(done))
    assert [done for done in calls if done == int(done)] == [*range(after, 3), 3]
    assert [item.layer for item in again] == [item.layer for item in records]
    for mine, theirs in zip(again, records, strict=True):
        assert mine.facts == theirs.facts
        assert torch.equal(mine.keep[ENTRIES], theirs.keep[ENTRIES])
    for name, value in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not list((tmp_path / "work").glob("hidden-*"))


def test_a_kill_between_any_two_files_loses_nothing(tmp_path, monkeypatch):
    """Every write is the last one once: what is there by then is enough to go on."""
    windows, config = windows_of(3, 12), WalkConfig(work_dir=tmp_path / "w", fingerprint="x")
    wanted, _ = pruned(windows)
    real, writes = walk_store.write_bytes, []

    def failing(path, content):
        if len(writes) == limit:
            raise KeyboardInterrupt
        writes.append(path.name)
        real(path, content)

    monkeypatch.setattr(walk_store, "write_bytes", failing)
    model, kills = None, 0
    while model is None:
        writes.clear()
        # Each run writes one file more than the last one could, until one gets to the end.
        limit = kills + 1
        with contextlib.suppress(KeyboardInterrupt):
            model, _ = pruned(windows, config)
        kills += model is None
    assert kills > 3
    for name, value in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_directory_of_another_walk_is_refused(tmp_path):
    pruned(windows_of(2, 8), WalkConfig(work_dir=tmp_path / "w", fingerprint="x"))
    with pytest.raises(InputError, match="over another model, text or method"):
        pruned(windows_of(2, 8), WalkConfig(work_dir=tmp_path / "w", fingerprint="y"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        pruned(windows_of(2, 8), WalkConfig(work_dir=tmp_path / "mine", fingerprint="y"))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_numbers_that_are_not_finite_end_the_walk():
    model = tiny("mamba")
    model.backbone.layers[1].mixer.in_proj.weight.data[0, 0] = torch.inf
    with pytest.raises(NumericalError, match=r"layers\.1\.mixer.*'energy' are not finite"):
        walk(ModelBlocks(model), windows_of(2, 8), stages, WalkConfig())


def test_one_window_has_no_halves():
    seen = []

    def look(layer, totals):
        seen.append(totals.halves)
        return BlockRecord(layer=layer.name, stage="look")

    model = tiny("mamba")
    before = copy.deepcopy(model.state_dict())
    for count in (1, 2):
        walk(
            ModelBlocks(model), windows_of(count, 8),
            lambda _: [Stage(name="look", collect=energy, apply=look)], WalkConfig(),
        )  # fmt: skip
    assert [item is None for item in seen] == [True, True, False, False]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


SHARED = """
import json, sys
from pathlib import Path
import torch
from torch import distributed
sys.path.insert(0, sys.argv[1])
from helpers.selective import windows_of
from helpers.tiny_mamba import tiny
from ssmith.calibrate.blockwise import WalkConfig
from ssmith.families import model_digest
from ssmith.jobs.selective import SelectiveConfig, prune_selective_
torch.set_num_threads(1)
distributed.init_process_group("gloo")
model = tiny("mamba", num_hidden_layers=2)
work = Path(sys.argv[2]) / "work"
done = prune_selective_(
    model, windows_of(9, 16), SelectiveConfig(a_log=0.5, columns=0.4),
    walk_config=WalkConfig(batch_size=2, work_dir=work),
)
facts = {"digest": model_digest(model), "stability": done.receipt.details["stability"]}
(Path(sys.argv[2]) / f"{distributed.get_rank()}.json").write_text(json.dumps(facts))
distributed.destroy_process_group()
"""


@pytest.mark.filterwarnings("default")
def test_two_processes_make_the_bytes_of_one(tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), str(Path(__file__).parents[1]), str(tmp_path)],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    model = tiny("mamba", num_hidden_layers=2)
    done = prune_selective_(
        model, windows_of(9, 16), SelectiveConfig(a_log=0.5, columns=0.4),
        walk_config=WalkConfig(batch_size=2),
    )  # fmt: skip
    wanted = {"digest": model_digest(model), "stability": done.receipt.details["stability"]}
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == wanted
