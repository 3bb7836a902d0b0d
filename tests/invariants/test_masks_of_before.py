"""Masks and new values that were recorded before one planner made them all: they stay the same."""

import copy
import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
import torch

import ssmith as sm
from ssmith.core.running import evaluating
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.running import double_copy, inputs_for
from ssmith.ops.backends import use_backend

BEFORE = json.loads(Path(__file__).with_name("masks.json").read_text(encoding="utf-8"))
SCOPES = {"default": "auto", "layer": "uniform", "over layers": "cost"}
LAYERS, LENGTH = 2, 64
ALLOCATIONS = {"spare-conv": "auto", "uniform": "uniform", "local": "cost"}


def digest(keeps):
    found = hashlib.sha256()
    for keep in keeps:
        found.update(keep.contiguous().numpy().tobytes())
    return found.hexdigest()


def named(entry):
    return "-".join(
        str(entry[key])
        for key in ("model", "unit", "criterion", "sparsity", "compensate", "scope", "allocation")
        if key in entry
    )


def assert_values(cut, wanted):
    """Compare sums, and sums of absolute values, of the tensors of a model that was cut."""
    tensors = dict(cut.named_parameters())
    for name, sums in wanted.items():
        value = tensors[name].detach()
        value = torch.view_as_real(value) if value.is_complex() else value
        got = [float(value.sum()), float(value.abs().sum())]
        assert got == pytest.approx(sums, rel=1e-9, abs=1e-9 * abs(sums[1])), name


@pytest.mark.parametrize("name", sorted({entry["model"] for entry in BEFORE["states"]}))
def test_states_chosen_without_data(name):
    model = sm.load(name)
    entries = [entry for entry in BEFORE["states"] if entry["model"] == name]
    assert entries
    changed = []
    for entry in entries:
        budget = sm.Budget("state", entry["sparsity"], method=entry["criterion"], compensate="none")
        keep = sm.plan(model, budget).cuts[0].keep
        if digest(keep.values()) != entry["sha256"]:
            changed.append((named(entry), [int(mask.sum()) for mask in keep.values()]))
    assert not changed


@pytest.mark.parametrize("entry", BEFORE["states_on_data"], ids=named)
def test_states_chosen_and_refitted_on_sequences(entry):
    model = double_copy(sm.load(entry["model"]))
    train = sm.load_data(entry["model"].rpartition("-")[0], model).split("train")
    budget = sm.Budget("state", entry["sparsity"], method=entry["criterion"])
    plan = sm.plan(model, budget, train.first(32))
    assert digest(plan.cuts[0].keep.values()) == entry["sha256"]
    sm.prune_(model, plan, "shrink")
    with evaluating(model):
        found = model(*inputs_for(model, train.take(torch.arange(32, 64))))
    assert [float(found.sum()), float(found.abs().sum())] == pytest.approx(
        entry["outputs"], rel=1e-6
    )


@cache
def mamba():
    """The first layers of a trained model: what every layer shows, at a quarter of the price."""
    model = sm.load("embedded:python-mamba").double()
    model.backbone.layers = model.backbone.layers[:LAYERS]
    return model


def windows():
    ids = torch.tensor(list(BEFORE["about"]["text"].encode()), dtype=torch.int64)
    return TokenWindows(
        ids=ids.reshape(4, 128)[:, :LENGTH],
        lengths=torch.full((4,), LENGTH),
        scored_from=torch.ones(4, dtype=torch.int64),
        text_bytes=None,
        vocabulary=256,
        name="generated",
    )


def assert_as_before(entry, budget):
    with use_backend("torch"):
        plan = sm.plan(mamba(), budget, windows())
    keep = plan.cuts[0].keep
    # Weights that stay whole count in a plan today, and did not before.
    assert all(bool(mask.all()) for name, mask in keep.items() if name not in entry["kept"])
    keep = {name: keep[name] for name in entry["kept"]}
    assert {name: int(mask.sum()) for name, mask in keep.items()} == entry["kept"]
    if "sha256" in entry:
        assert digest(keep[name] for name in entry["kept"]) == entry["sha256"]
    if "tensors" in entry:
        cut = copy.deepcopy(mamba())
        sm.prune_(cut, plan)
        assert_values(cut, entry["tensors"])


@pytest.mark.parametrize("entry", BEFORE["selective"], ids=named)
def test_states_and_entries_of_a_language_model(entry):
    compensate = {"default": "auto", "none": "none"}[entry["compensate"]]
    assert_as_before(
        entry,
        sm.Budget(
            entry["unit"],
            entry["sparsity"],
            method=entry["criterion"],
            compensate=compensate,
            scope=SCOPES[entry["scope"]],
        ),
    )


@pytest.mark.parametrize("entry", BEFORE["weights"], ids=named)
def test_weights_of_a_language_model(entry):
    scope = ALLOCATIONS[entry["allocation"]]
    budget = sm.Budget("weight", entry["sparsity"], method=entry["criterion"], scope=scope)
    if "first_weight_sha256" not in entry:
        assert_as_before(entry, budget)
        return
    # What follows hangs on the last bits of what the first refit leaves.
    alone = copy.deepcopy(mamba())
    alone.backbone.layers = alone.backbone.layers[:1]
    with use_backend("torch"):
        keep = sm.plan(alone, budget, windows()).cuts[0].keep
    first = next(mask for mask in keep.values() if not bool(mask.all()))
    assert digest([first]) == entry["first_weight_sha256"]
