"""Pruned Hugging Face models on disk: what opens them, what refuses them, and block by block."""

import filecmp
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.selective import windows_of
from helpers.tiny_mamba import tiny, tokens
from ssmith import artefact, spine, surgery
from ssmith.artefact.sidecar import BESIDE, SIDECAR
from ssmith.core.budget import Budget
from ssmith.core.errors import ArtefactError, UnsupportedError
from ssmith.core.files import read_json, write_json
from ssmith.families import model_digest, sites
from ssmith.families.hf import engine
from ssmith.families.masks import masks_of
from ssmith.families.registry import find_selective
from ssmith.jobs import prune as pruning
from ssmith.jobs.prune import PruneConfig, PruneTask, prune
from ssmith.jobs.source import Calibration

transformers = pytest.importorskip("transformers")
NAMES = ("mamba", "falcon_mamba")


def logits(model, ids, *, stock=False):
    with torch.no_grad():
        if stock:
            return model(ids).logits
        with engine(model):
            return model(ids).logits


def saved(name, place, *budgets):
    model = tiny(name, num_hidden_layers=3)
    plan = spine.plan(model, budgets, windows_of(4, 12))
    said = artefact.portable(model, plan)[1]
    surgery.prune_(model, plan)
    artefact.save(model, place, parent=plan.model_digest, extra_files=plan.files())
    # What the tables said before the cut is what a trial shows after it.
    assert read_json(place / SIDECAR)["portable"] == said
    return model


def toy_windows(calibration, directory, model):
    return windows_of(5, 12, name=f"toy of {model.config.vocab_size}")


@pytest.fixture
def toy_text(monkeypatch):
    monkeypatch.setattr(pruning, "_windows", toy_windows)


def task(model, out, *, work_dir=None, from_disk=False):
    config = PruneConfig(
        cuts=(Budget("state", 0.4), Budget("entry", 0.5)),
        calibration=Calibration(data="toy"),
        from_disk=from_disk,
    )
    return PruneTask(model=str(model), config=config, out=out, work_dir=work_dir)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    place = tmp_path_factory.mktemp("shelf")
    saved("mamba", place / "entries", Budget("entry", 0.5))
    return place


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("states", "semantics", "budgets"),
    [
        (5, "memoryless", [Budget("entry", 0.5)]),
        (3, None, [Budget("state", 0.4)]),
        (3, "fast-decay", [Budget("state", 0.4), Budget("entry", 0.25, semantics="fast-decay")]),
    ],
)
def test_stock_code_opens_what_is_portable_with_the_same_logits(
    name, states, semantics, budgets, tmp_path
):
    model, ids = saved(name, tmp_path / "small", *budgets), tokens(2, 20)
    ours = artefact.load(tmp_path / "small")
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert model_digest(ours) == model_digest(model)
    assert torch.equal(logits(ours, ids), logits(model, ids))
    assert (logits(stock, ids, stock=True) - logits(model, ids)).abs().max() < 2e-5
    assert stock.config.state_size == states
    for layer in find_selective(ours).values():
        assert (layer.n, layer.semantics) == (states, semantics)
    for mine, theirs in zip(masks_of(ours), masks_of(model), strict=True):
        assert mine[0] == theirs[0]
        assert torch.equal(mine[1], theirs[1])
    assert all(check.passed for check in artefact.verify(tmp_path / "small"))


@pytest.mark.parametrize("from_disk", [False, True])
def test_stock_code_does_not_rescale_what_it_reads(tmp_path, toy_text, from_disk):
    model = tiny("mamba", num_hidden_layers=4, rescale_prenorm_residual=True)
    model.save_pretrained(tmp_path / "dense")
    prune(
        task(tmp_path / "dense", tmp_path / "out", work_dir=tmp_path / "w", from_disk=from_disk),
        say=lambda line: None,
    )
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    weight = model.backbone.layers[0].mixer.out_proj.weight
    assert torch.equal(stock.backbone.layers[0].mixer.out_proj.weight, weight)


def test_unequal_layers_are_opened_by_ssmith_only(tmp_path):
    model = tiny("mamba", num_hidden_layers=3)
    for count, site in zip((2, 5, 3), sites(model).values(), strict=True):
        site.cut_(site.coupling("state"), torch.arange(5) < count)
    artefact.save(model, tmp_path / "unequal")
    ours, ids = artefact.load(tmp_path / "unequal"), tokens(2, 20)
    assert [layer.n for layer in find_selective(ours).values()] == [2, 5, 3]
    assert torch.equal(logits(ours, ids), logits(model, ids))
    assert read_json(tmp_path / "unequal" / SIDECAR)["portable"].startswith(
        "no; layers hold unequal"
    )
    with pytest.raises(RuntimeError, match="mismatched"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "unequal")


def test_offsets_of_recovery_lie_beside_the_weights(tmp_path):
    model = saved("mamba", tmp_path / "recovered", Budget("entry", 0.5, compensate=("D", "h", "y")))
    ours, ids = artefact.load(tmp_path / "recovered"), tokens(2, 20)
    assert torch.equal(logits(ours, ids), logits(model, ids))
    assert model_digest(ours) == model_digest(model)
    stored = load_file(tmp_path / "recovered" / "model.safetensors")
    assert not [name for name in stored if "offset" in name]
    assert read_json(tmp_path / "recovered" / SIDECAR)["portable"].startswith("no; it has offsets")


def broken(shelf, tmp_path, change):
    place = tmp_path / "broken"
    shutil.copytree(shelf / "entries", place)
    change(place)
    return place


def revive(place):
    """Somebody trains a cut entry back to life with other software."""
    tensors = load_file(place / "model.safetensors")
    name = "backbone.layers.1.mixer.A_log"
    tensors[name][tensors[name] == 38] = 0.5
    save_file(tensors, place / "model.safetensors", {"format": "pt"})


def edit(key, value):
    def change(place):
        write_json(place / SIDECAR, read_json(place / SIDECAR) | {key: value})

    return change


def mean(semantics):
    def change(place):
        content = read_json(place / SIDECAR)
        for facts in content["sites"].values():
            facts["semantics"] = semantics
        write_json(place / SIDECAR, content)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (revive, "holds other values than 38"),
        (mean("unit-decay"), "is not what 'unit-decay' means"),
        (mean("asleep"), "is not what 'asleep' means"),
        (edit("version", 9), "version 9"),
        (edit("colour", "red"), "unknown setting 'colour'"),
        (lambda place: (place / BESIDE).unlink(), "is missing or not the one"),
        (lambda place: (place / BESIDE).write_bytes(b"no"), "is missing or not the one"),
    ],
)
def test_weights_masks_and_semantics_that_disagree_are_refused(shelf, tmp_path, change, said):
    with pytest.raises(ArtefactError, match=said):
        artefact.load(broken(shelf, tmp_path, change))


def as_mamba_ssm(place, model):
    """Write a model as the mamba_ssm package would."""
    config = {
        "d_model": 20, "n_layer": 3, "vocab_size": 61, "pad_vocab_size_multiple": 1,
        "ssm_cfg": {"d_state": 5},
    }  # fmt: skip
    tensors = {
        name.replace("backbone.embeddings", "backbone.embedding"): value.clone()
        for name, value in model.state_dict().items()
    }
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    save_file(tensors, place / "model.safetensors")


def test_a_checkpoint_of_mamba_ssm_is_read_by_block(tmp_path, toy_text):
    as_mamba_ssm(tmp_path / "dense", tiny("mamba", num_hidden_layers=3))
    said = []
    prune(task(tmp_path / "dense", tmp_path / "whole"), say=said.append)
    prune(
        task(tmp_path / "dense", tmp_path / "blocks", work_dir=tmp_path / "w", from_disk=True),
        say=said.append,
    )
    assert sum("portable: yes" in line for line in said) == 2
    name = "model.safetensors"
    assert filecmp.cmp(tmp_path / "whole" / name, tmp_path / "blocks" / name, shallow=False)
    assert all(check.passed for check in artefact.verify(tmp_path / "blocks"))
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "blocks")
    ids = tokens(2, 20)
    found = logits(artefact.load(tmp_path / "whole"), ids)
    assert (logits(stock, ids, stock=True) - found).abs().max() < 2e-5


def test_blocks_of_unequal_layers_are_refused_before_work(tmp_path, toy_text):
    model = tiny("mamba")
    site = next(iter(sites(model).values()))
    site.cut_(site.coupling("state"), torch.arange(5) < 2)
    artefact.save(model, tmp_path / "unequal")
    with pytest.raises(UnsupportedError, match="unequal numbers of units"):
        prune(
            task(tmp_path / "unequal", tmp_path / "out", work_dir=tmp_path / "w", from_disk=True),
            say=lambda line: None,
        )
    assert not (tmp_path / "out").exists()
