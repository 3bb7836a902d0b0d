"""Every family that the registry knows, cut by every unit: saved is loaded, stock code included."""

import copy
from functools import cache

import pytest
import torch

from helpers.models import FAMILIES as SEQUENCES
from helpers.models import make_input, make_model
from helpers.tiny_hybrids import HYBRIDS, tiny_hybrid
from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.artefact import load, portable, save, verify
from ssmith.core.errors import InputError
from ssmith.core.files import read_json
from ssmith.core.plan import Cut, Plan
from ssmith.families import model_digest, sites
from ssmith.families.masks import masks_of
from ssmith.surgery import prune_

transformers = pytest.importorskip("transformers")
NAMED = {**dict.fromkeys(HYBRIDS, tiny_hybrid), **dict.fromkeys(NAMES, tiny)}
KINDS = {str(kind): kind for kind in SEQUENCES}
MODELS = (*NAMES, *HYBRIDS, *KINDS)


@cache
def first(name):
    """A model of a family that nobody changes."""
    if name in KINDS:
        return make_model(KINDS[name], dtype=torch.float32)
    return NAMED[name](name)


def build(name):
    return copy.deepcopy(first(name))


def cases():
    """Every family, unit and mode that its tables allow; cut alike or unlike."""
    for name in MODELS:
        found = {
            (coupling.unit, mode)
            for site in sites(first(name)).values()
            for coupling in site.couplings
            for mode in coupling.modes
        }
        for unit, mode in sorted(found):
            yield pytest.param(name, unit, mode, True, id=f"{name}-{unit}-{mode}-alike")
            if mode == "shrink":
                yield pytest.param(name, unit, mode, False, id=f"{name}-{unit}-{mode}-unlike")


def plan_of(model, unit, *, alike):
    """A plan that removes units at random: as many in each layer, or more the deeper it lies."""
    draw = torch.Generator().manual_seed(0)
    keep = {}
    for name, site in sites(model).items():
        for coupling in [item for item in site.couplings if item.unit == unit]:
            parts = coupling.per_block
            rows = torch.rand(parts, coupling.count // parts, generator=draw).argsort(1)
            left = rows.shape[1] // 2 if alike else rows.shape[1] - 1 - len(keep)
            left = max(left, 1, coupling.least // parts)
            keep[f"{name}.{coupling.target}".rstrip(".")] = (rows < left).view(coupling.grid)
    semantics = {"entry": "memoryless", "weight": "zero"}.get(unit, "remove")
    cut = Cut(unit=unit, keep=keep, semantics=semantics)
    return Plan(cuts=(cut,), model_digest=model_digest(model))


def outputs(model):
    with torch.no_grad():
        if hasattr(model, "current_config"):
            return model(make_input(model).float())
        # The grouped products of experts want rows of 16 bytes.
        model.config._experts_implementation = "eager"
        return model(input_ids=tokens(2, 9), use_cache=False).logits


@pytest.mark.parametrize(("name", "unit", "mode", "alike"), list(cases()))
def test_loaded_is_saved(name, unit, mode, alike, tmp_path):
    model = build(name)
    plan = plan_of(model, unit, alike=alike)
    said = portable(model, plan, mode)[1]
    prune_(model, plan, mode)
    path = save(model, tmp_path / "small", parent=plan.model_digest, extra_files=plan.files())
    loaded = load(path)
    assert type(loaded) is type(model)
    assert model_digest(loaded) == model_digest(model)
    assert torch.equal(outputs(loaded), outputs(model))
    for mine, theirs in zip(masks_of(loaded), masks_of(model), strict=True):
        assert (mine[0], mine[2]) == (theirs[0], theirs[2])
        assert torch.equal(mine[1], theirs[1])
    assert all(check.passed for check in verify(path))
    # What a trial without weights said before the cut is what holds after it.
    assert read_json(path / "ssmith.json")["portable"] == said
    if said.startswith("yes"):
        stock = transformers.AutoModelForCausalLM.from_pretrained(path)
        assert torch.equal(outputs(stock), outputs(model))
    # The plan lies beside the model, and makes it again.
    again = build(name)
    prune_(again, Plan.load(path), mode)
    assert model_digest(again) == model_digest(model)


@pytest.mark.parametrize("name", MODELS)
def test_a_dense_model_opens_as_itself(name, tmp_path):
    model = build(name)
    path = save(model, tmp_path / "dense")
    loaded = load(path)
    assert model_digest(loaded) == model_digest(model)
    assert torch.equal(outputs(loaded), outputs(model))
    with pytest.raises(InputError, match="load it without build"):
        load(path, build=lambda: build(name))
