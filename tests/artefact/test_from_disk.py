"""Models that stay on disk while they are cut: every family's units, to the very same bytes."""

import filecmp
import shutil

import pytest
import torch

from helpers.every_unit import CASES, build
from helpers.selective import windows_of
from ssmith import artefact, spine
from ssmith.artefact.blockwise import _Stored, open_absent
from ssmith.artefact.streamed import write_streamed
from ssmith.calibrate import PassConfig
from ssmith.core.budget import Budget, Target
from ssmith.core.errors import ArtefactError, UnsupportedError
from ssmith.core.files import read_json
from ssmith.families import model_digest
from ssmith.families.absent import parts_of, source_of
from ssmith.spine.planning import reads_data
from ssmith.surgery import prune_

pytest.importorskip("transformers")
ROWS = windows_of(5, 12)
BY_NAME = {name: [unit for known, unit in CASES if known == name] for name, _ in CASES}
MASKED = {"mamba": ("entry", "weight"), "jamba": ("entry", "weight")}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Where a model is saved, by its name."""
    place = tmp_path_factory.mktemp("shelf")

    def find(name):
        path = place / name.replace(" ", "-")
        if not path.is_dir():
            build(name, torch.float32).save_pretrained(path, max_shard_size="20kB")
        return path

    return find


def both(path):
    """A model in memory, and the same one on disk."""
    models = artefact.load(path), open_absent(path, read_json(path / "config.json"))
    for model in (models[0], models[1], source_of(models[1]).dense):
        # The grouped products of experts want rows of 16 bytes.
        model.config._experts_implementation = "eager"
    return models


def cut(model, budgets, out, *, work_dir=None, mode=None):
    reads = reads_data(model, budgets)
    run = PassConfig(work_dir=work_dir if reads else None)
    plan = spine.plan(model, budgets, ROWS, run=run)
    receipt = prune_(model, plan, mode).as_dict()
    artefact.save(model, out, parent=plan.model_digest, extra_files=plan.files())
    return {**receipt, "time": None}


def same(one, other):
    names = sorted(item.name for item in one.iterdir())
    assert names == sorted(item.name for item in other.iterdir())
    assert not [name for name in names if not filecmp.cmp(one / name, other / name, shallow=False)]


@pytest.mark.parametrize("name", BY_NAME)
def test_every_unit_goes_as_it_does_in_memory(name, shelf, tmp_path):
    for number, unit in enumerate((*BY_NAME[name], *MASKED.get(name, ()))):
        budgets = [Budget(unit, 0.5)]
        whole, absent = both(shelf(name))
        receipts = [
            cut(whole, budgets, tmp_path / f"whole-{number}"),
            cut(absent, budgets, tmp_path / f"disk-{number}", work_dir=tmp_path / f"w-{number}"),
        ]
        assert receipts[0] == receipts[1]
        same(tmp_path / f"whole-{number}", tmp_path / f"disk-{number}")
        assert all(value.is_meta for value in absent.parameters())


@pytest.mark.parametrize(
    ("name", "budgets"),
    [
        ("bamba", [Budget("state", 0.5, method="balanced"), Budget("neuron", 0.5, compensate="S")]),
        ("mamba2", [Budget("head", 0.5), Budget("state", 0.5, compensate="S")]),
        ("granitemoehybrid", [Budget("expert", 0.5), Budget("neuron", Target(
            quantity="parameters", amount=0.99))]),
        ("zamba2", [Budget("head", 0.5, method="magnitude"), Budget("state", 0.5)]),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)  # fmt: skip
def test_units_go_one_after_the_other(name, budgets, shelf, tmp_path):
    whole, absent = both(shelf(name))
    wanted = cut(whole, budgets, tmp_path / "whole")
    assert cut(absent, budgets, tmp_path / "disk", work_dir=tmp_path / "w") == wanted
    same(tmp_path / "whole", tmp_path / "disk")


def test_what_was_cut_before_is_cut_again(shelf, tmp_path):
    first = tmp_path / "first"
    cut(both(shelf("mamba"))[0], [Budget("entry", 0.25), Budget("weight", 0.5)], first)
    whole, absent = both(first)
    wanted = cut(whole, [Budget("entry", 0.5)], tmp_path / "whole")
    assert cut(absent, [Budget("entry", 0.5)], tmp_path / "disk", work_dir=tmp_path / "w") == wanted
    same(tmp_path / "whole", tmp_path / "disk")


@pytest.mark.parametrize("name", ["mamba2", "jamba", "bamba"])
def test_no_more_than_one_block_is_in_memory_at_a_time(name, shelf, tmp_path, monkeypatch):
    path = shelf(name)
    absent = both(path)[1]
    blocks, beside = parts_of(absent)
    sizes = [
        sum(value.numel() for value in absent.get_submodule(part).state_dict().values())
        for part in (*blocks, *beside)
    ]
    held, peak = {}, [0]
    real = _Stored.read

    class Counted:
        def __init__(self, tensor):
            held[id(self)] = tensor.numel()
            peak[0] = max(peak[0], sum(held.values()))

        def __del__(self):
            held.pop(id(self), None)

    def counting(self, names):
        found = real(self, names)
        for value in found.values():
            # Alive exactly as long as the tensor that was read.
            value.counted = Counted(value)
        return found

    monkeypatch.setattr(_Stored, "read", counting)
    cut(both(path)[1], [Budget("state", 0.5)], tmp_path / "out", work_dir=tmp_path / "w")
    assert 0 < peak[0] <= 2 * max(sizes) < sum(sizes)


def test_large_weights_are_written_in_shards_that_transformers_opens(shelf, tmp_path):
    whole, absent = both(shelf("nemotron_h with experts"))
    absent.save_pretrained(tmp_path, state_dict={})
    write_streamed(absent, tmp_path, list(absent.state_dict()), stock=True, limit="15kB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 3
    again = type(whole).from_pretrained(tmp_path)
    assert model_digest(again) == model_digest(whole)


def test_types_of_the_stored_weights_are_kept(tmp_path):
    build("nemotron_h with experts", torch.bfloat16).save_pretrained(tmp_path / "dense")
    whole, absent = both(tmp_path / "dense")
    kinds = [{key: value.dtype for key, value in m.state_dict().items()} for m in (whole, absent)]
    assert kinds[0] == kinds[1]
    assert model_digest(whole) == model_digest(absent)


WHOLE = {
    "blocks": [Budget("block", 1)],
    "units that share": [Budget("neuron+head", Target(quantity="parameters", amount=0.8))],
    "a measured scope": [Budget("weight", 0.5, scope="measured")],
    "a step's time": [Budget("state", Target(quantity="step_time", amount=0.9))],
}


@pytest.mark.parametrize("budgets", WHOLE.values(), ids=WHOLE)
def test_what_needs_the_whole_model_is_refused(budgets, shelf):
    _, absent = both(shelf("mamba"))
    with pytest.raises(UnsupportedError, match="and it stays on disk"):
        spine.plan(absent, budgets, ROWS)


def test_weights_that_are_not_the_models_are_refused_before_work(shelf, tmp_path):
    place = tmp_path / "broken"
    shutil.copytree(shelf("bamba"), place)
    (first,) = sorted(place.glob("*-00001-*"))
    first.unlink()
    with pytest.raises(ArtefactError, match="has no model-00001"):
        open_absent(place, read_json(place / "config.json"))
