"""Budgets that several units share, against trying every way of sharing them."""

import copy
import itertools

import pytest
import torch

import ssmith as sm
from helpers.every_unit import build
from helpers.selective import windows_of
from ssmith.calibrate import PassConfig
from ssmith.core.budget import Target
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families import sites
from ssmith.spine.across import Across
from ssmith.spine.losses import held_out, loss_on

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def rows():
    return windows_of(2, 16)


def size(model):
    return sum(item.numel() for item in model.parameters())


def cut_by(model, plan):
    small = copy.deepcopy(model)
    sm.prune_(small, plan)
    return small


def test_the_curves_are_measured_losses_and_every_gift_is_counted(rows, tmp_path):
    dense = build("bamba")
    budget = sm.Budget("neuron+head_dim", Target(quantity="parameters", amount=0.85))
    plan = sm.plan(dense, budget, rows, run=PassConfig(work_dir=tmp_path / "work"))
    small = cut_by(dense, plan)
    assert 0.7 * size(dense) < size(small) <= 0.85 * size(dense)
    (told,) = plan.facts["across"]
    assert (told["before"], told["after"]) == (size(dense), size(small))
    assert sum(item["gives"] for item in told["units"]) == size(dense) - size(small)
    fitted, unseen = held_out(rows)
    loss = loss_on(dense, unseen)
    for item in told["units"]:
        share, measured = item["losses"][1]
        alone = cut_by(dense, sm.plan(dense, sm.Budget(item["unit"], share), fitted))
        assert item["losses"][0] == [0.0, pytest.approx(loss(dense), rel=1e-12)]
        assert measured == pytest.approx(loss(alone), rel=1e-12)
    again = sm.plan(dense, budget, rows, run=PassConfig(work_dir=tmp_path / "work"))
    assert again.diff(plan) == ()
    assert {item.name for item in (tmp_path / "work").iterdir()} >= {"shared-1", "cut-1"}


def test_the_cheapest_way_along_the_curves_is_taken(rows, monkeypatch):
    """With curves that are known, no other whole numbers of units meet the budget for less."""
    dense = build("bamba")
    costs = {"neuron": lambda s: s**2, "head_dim": lambda s: 3 * s**2, "state": lambda s: 0.3 * s}

    def known(self, choices):
        for name, item in choices.items():
            item.losses.update({share: costs[name](share) for share in (0.0, *item.shares)})

    monkeypatch.setattr(Across, "_measure", known)
    across = Across(
        model=dense, rows=rows, config=PassConfig(), progress=lambda *_: None, decide=sm.plan
    )
    budget = sm.Budget("neuron+head_dim+state", Target(quantity="parameters", amount=0.8))
    found = {item.unit: item.share for item in across.shared(budget)}

    def left(shares):
        plan = sm.plan(
            dense, [sm.Budget(unit, share, method="random") for unit, share in shares.items()]
        )
        return size(cut_by(dense, plan))

    def cost(shares):
        return sum(interpolated(costs[unit], share) for unit, share in shares.items())

    assert left(found) <= 0.8 * size(dense)
    each = {"neuron": 24, "head_dim": 8, "state": 6}
    ways = itertools.product(*(range(0, int(0.75 * n) + 1, max(n // 4, 1)) for n in each.values()))
    others = [
        {unit: gone / each[unit] for unit, gone in zip(each, way, strict=True) if gone}
        for way in ways
    ]
    cheaper = [shares for shares in others if shares and cost(shares) < cost(found) - 0.03]
    assert cheaper
    assert all(left(shares) > 0.8 * size(dense) for shares in cheaper)


def interpolated(cost, share, at=(0.0, 0.125, 0.25, 0.5, 0.75)):
    """Return a cost along the straight lines between the shares that are measured."""
    high = next(place for place, end in enumerate(at) if end >= share - 1e-9)
    low = max(high - 1, 0)
    if high == low:
        return cost(at[0])
    part = (share - at[low]) / (at[high] - at[low])
    return cost(at[low]) + part * (cost(at[high]) - cost(at[low]))


def test_state_bytes_are_given_by_what_holds_a_state(rows):
    dense = build("bamba", torch.float32)
    target = Target(quantity="state_bytes", amount=0.5)
    with pytest.raises(InputError, match="neuron give nothing to state_bytes"):
        sm.plan(dense, sm.Budget("neuron+state", target), rows)
    plan = sm.plan(dense, sm.Budget("state+head_dim", target), rows)
    held = [
        sum(4 * item.e * item.n for item in views(model)) for model in (dense, cut_by(dense, plan))
    ]
    assert held[1] <= held[0] / 2
    assert plan.facts["across"][0]["before"] == held[0]
    assert plan.facts["across"][0]["after"] == held[1]


def test_units_share_a_time_by_what_was_timed(rows, monkeypatch):
    monkeypatch.setattr("ssmith.spine.across.SHARES", (0.5,))
    monkeypatch.setattr(
        "ssmith.spine.across.milliseconds_of", lambda cut, what: parameters(cut) / 1e3
    )
    dense = build("bamba", torch.float32)
    target = Target(quantity="prompt_time", amount=0.9)
    plan = sm.plan(dense, sm.Budget("neuron+head_dim", target), rows)
    assert plan.facts["across"][0]["before"] == parameters(dense) / 1e3
    assert parameters(cut_by(dense, plan)) <= 0.9 * parameters(dense)


def parameters(model):
    return sum(item.numel() for item in model.parameters())


def views(model):
    found = [site.view() for site in sites(model).values() if site.family.kind == "ssm"]
    return [view for view in found if hasattr(view, "n")]


def test_layers_share_by_themselves_where_asked(rows, monkeypatch):
    monkeypatch.setattr("ssmith.spine.across.SHARES", (0.5,))
    dense = build("bamba")
    budget = sm.Budget("neuron+state", Target(quantity="parameters", amount=0.9), scope="measured")
    plan = sm.plan(dense, budget, rows)
    assert size(cut_by(dense, plan)) <= 0.9 * size(dense)
    names = [item["unit"] for item in plan.facts["across"][0]["units"]]
    assert len(names) == 5 and all(" of " in name for name in names)


def test_what_cannot_be_shared_is_refused(rows):
    dense, target = build("bamba"), Target(quantity="parameters", amount=0.8)
    with pytest.raises(InputError, match="what the model is to weigh"):
        sm.Budget("neuron+state", 0.5)
    with pytest.raises(InputError, match="there is no data"):
        sm.plan(dense, sm.Budget("neuron+state", target))
    with pytest.raises(UnsupportedError, match="block cannot share"):
        sm.plan(dense, sm.Budget("neuron+block", target), rows)
    with pytest.raises(InputError, match="cannot be reached"):
        sm.plan(dense, sm.Budget("kv_group+state", Target(quantity="parameters", amount=0.1)), rows)
    with pytest.raises(InputError, match="unit"):
        sm.plan(dense, sm.Budget("neuron+nothing", target), rows)
