"""The pass: fresh activations, going on after a kill, and several processes."""

import contextlib
import copy
import json
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from helpers.passes import digests, energy, halve
from helpers.selective import windows_of
from helpers.tiny_mamba import tiny
from ssmith.calibrate import SELECTION, PassConfig, Stage, passage_of, run_pass, store
from ssmith.calibrate.passages import Chain
from ssmith.core.errors import ArtefactError, InputError, NumericalError
from ssmith.core.progress import silent
from ssmith.core.selective import ENTRY, BlockRecord
from ssmith.families.hf import engine
from ssmith.families.mamba.family import cut_
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.registry import find_selective
from ssmith.families.state import restore_

pytest.importorskip("transformers")


def stages(layer):
    return [Stage(name=ENTRY, collect=energy, apply=halve)]


def pruned(windows, config=None, progress=silent):
    model = tiny("mamba", num_hidden_layers=3)
    found = run_pass(passage_of(model, windows), stages, config, progress=progress)
    for name, state in found.states.items():
        restore_(model.get_submodule(name), state)
    return model, found.records


def test_each_block_is_measured_behind_the_cut_ones():
    windows = windows_of(6, 20)
    model, records = pruned(windows, PassConfig(batch_size=2))
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
        assert (record.layer, record.facts["steps"]) == (name, 120.0)
        assert torch.equal(record.keep[ENTRY], keep)
        cut_(layer, "entry", keep, semantics="memoryless")
    for name, value in naive.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_what_the_first_block_is_given_is_made_once(monkeypatch):
    """For each batch, however often it is looked at."""
    counted, real = [], Chain.start

    def start(passage, items):
        counted.append(items)
        return real(passage, items)

    monkeypatch.setattr(Chain, "start", start)

    def look(layer, totals):
        return BlockRecord(layer=layer.name, stage="look")

    many = [Stage(name=f"look {turn}", collect=energy, apply=look) for turn in range(4)]
    model, windows = tiny("mamba", num_hidden_layers=2), windows_of(6, 20)
    run_pass(passage_of(model, windows), lambda _: many, PassConfig(batch_size=2))
    assert {counted.count(items) for items in counted} == {1}


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
        Stage(name=name, collect=energy, apply=apply, keeps=SELECTION)
        for name, apply in (("look", look), (ENTRY, halve))
    ]
    layer = next(iter(find_selective(model).values()))
    held = 2 * layer.e + layer.mixer.x_proj.out_features
    config = PassConfig(batch_size=1, kept_gb=(fitting + 0.5) * held * 20 * 4 / 1e9)
    records = run_pass(passage_of(model, windows_of(6, 20)), lambda _: two, config).records
    assert counted == [name for name in find_selective(model) for _ in range(made)]
    wanted = tiny("mamba", num_hidden_layers=2)
    way = passage_of(wanted, windows_of(6, 20))
    found = run_pass(way, stages, PassConfig(batch_size=1)).records
    for mine, theirs in zip(records[1::2], found, strict=True):
        assert torch.equal(mine.keep[ENTRY], theirs.keep[ENTRY])


def test_it_is_told_how_far_the_pass_is_within_a_block_too():
    told = []
    pruned(windows_of(6, 20), PassConfig(batch_size=2), lambda *said: told.append(said))
    assert {stage for stage, *_ in told} == {"calibrating"}
    far = [done for _, done, _, _ in told]
    assert far == sorted(far)
    assert (far[0], far[-1]) == (0.0, 3)
    # Six windows in shards of one, each looked at to decide, and handed on: not by the last block.
    looks = 12
    assert far[: looks + 2] == pytest.approx([*(i / looks for i in range(looks)), 0.99, 1.0])
    assert {total for _, _, total, _ in told} == {3}
    # Whole numbers are for blocks that are finished.
    assert all(done % 1 for done in far if done not in (0, 1, 2, 3))


def test_padding_counts_for_nothing():
    lengths = torch.tensor([20, 7, 13])
    ids = windows_of(3, 20).ids
    padded = windows_of(3, 20, ids=ids * (torch.arange(20) < lengths[:, None]), lengths=lengths)
    _, records = pruned(padded)
    assert records[0].facts["steps"] == 40.0
    other = padded.ids.clone()
    other[1, 7:], other[2, 13:] = 5, 9
    _, again = pruned(windows_of(3, 20, ids=other, lengths=lengths))
    for mine, theirs in zip(records, again, strict=True):
        assert torch.equal(mine.keep[ENTRY], theirs.keep[ENTRY])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_pass_that_was_killed_goes_on_to_the_same_bytes(tmp_path, after):
    windows = windows_of(5, 16)
    wanted, records = pruned(windows)

    def kill(stage, done, total, note):
        if done == after:
            raise KeyboardInterrupt

    config = PassConfig(work_dir=tmp_path / "work", identity={"cut": "x"})
    with pytest.raises(KeyboardInterrupt):
        pruned(windows, config, kill)
    calls = []
    model, again = pruned(windows, config, lambda stage, done, total, note: calls.append(done))
    assert [done for done in calls if done == int(done)] == [*range(after, 3), 3]
    assert [item.layer for item in again] == [item.layer for item in records]
    for mine, theirs in zip(again, records, strict=True):
        assert mine.facts == theirs.facts
        assert torch.equal(mine.keep[ENTRY], theirs.keep[ENTRY])
    for name, value in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not list((tmp_path / "work").glob("flow-*"))


def test_a_kill_between_any_two_files_loses_nothing(tmp_path, monkeypatch):
    """Every write is the last one once: what is there by then is enough to go on."""
    windows, config = windows_of(3, 12), PassConfig(work_dir=tmp_path / "w", identity={"cut": "x"})
    wanted, _ = pruned(windows)
    real, writes = store.write_bytes, []

    def failing(path, content):
        if len(writes) == limit:
            raise KeyboardInterrupt
        writes.append(path.name)
        real(path, content)

    monkeypatch.setattr(store, "write_bytes", failing)
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


@pytest.mark.parametrize("dropped", [1, 4])
def test_what_a_kill_left_of_what_is_dropped_is_swept(tmp_path, monkeypatch, dropped):
    windows, config = windows_of(3, 12), PassConfig(batch_size=1, work_dir=tmp_path / "w")
    real, seen = Path.unlink, []

    def dying(path, **how):
        if path.name.startswith("flow-") and path.exists():
            if len(seen) == dropped:
                raise KeyboardInterrupt
            seen.append(path.name)
        real(path, **how)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            pruned(windows, config)
    assert list((tmp_path / "w").glob("flow-*"))
    pruned(windows, config)
    assert not list((tmp_path / "w").glob("flow-*"))


def test_a_directory_of_another_pass_is_refused(tmp_path):
    pruned(windows_of(2, 8), PassConfig(work_dir=tmp_path / "w", identity={"cut": "x"}))
    with pytest.raises(ArtefactError, match='cut was "x" and is "y"'):
        pruned(windows_of(2, 8), PassConfig(work_dir=tmp_path / "w", identity={"cut": "y"}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        pruned(windows_of(2, 8), PassConfig(work_dir=tmp_path / "mine", identity={"cut": "y"}))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_numbers_that_are_not_finite_end_the_pass():
    model = tiny("mamba")
    model.backbone.layers[1].mixer.in_proj.weight.data[0, 0] = torch.inf
    with pytest.raises(NumericalError, match=r"layers\.1\.mixer.*'energy' are not finite"):
        run_pass(passage_of(model, windows_of(2, 8)), stages)


def test_one_window_has_no_halves():
    seen = []

    def look(layer, totals):
        seen.append(totals.halves)
        return BlockRecord(layer=layer.name, stage="look")

    model = tiny("mamba")
    before = copy.deepcopy(model.state_dict())
    stage = Stage(name="look", collect=energy, apply=look)
    for count in (1, 2):
        run_pass(passage_of(model, windows_of(count, 8)), lambda _: [stage])
    assert [item is None for item in seen] == [True, True, False, False]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def shared(place):
    """Run the passes as one of the processes that torchrun starts."""
    distributed.init_process_group("gloo")
    found = digests(place)
    (place / f"{distributed.get_rank()}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("default")
def test_two_processes_make_the_bytes_of_one(tmp_path):
    """What torchrun does, but in forks, which need not import everything anew."""
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, start_method="fork", max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id="shared",
    )  # fmt: skip
    elastic_launch(config, shared)(tmp_path)
    wanted = digests(tmp_path / "alone")
    assert len(set(wanted.values())) == len(wanted)
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == wanted
