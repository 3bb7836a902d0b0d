"""Removal of whole blocks against trying every block by hand."""

import contextlib
import copy
import math

import pytest
import torch

from helpers.every_unit import SETTINGS as MORE
from helpers.every_unit import build
from helpers.plans import pruned
from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import tiny
from ssmith.artefact import load, portable, save
from ssmith.calibrate import PassConfig
from ssmith.core.budget import Budget
from ssmith.core.errors import ArtefactError, InputError, UnsupportedError
from ssmith.core.files import read_json
from ssmith.core.sections import UnitRemoved
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.perplexity import window_losses
from ssmith.families import chain_of, sync_depth_, without_block
from ssmith.spine import losses


def windows():
    ids = torch.randint(1, 61, (4, 16), generator=torch.Generator().manual_seed(0))
    return TokenWindows(
        ids=ids, lengths=torch.full((4,), 16), scored_from=torch.ones(4, dtype=torch.long),
        text_bytes=None, vocabulary=61, name="random tokens",
    )  # fmt: skip


def perplexity(model):
    return math.exp(float(window_losses(model, windows()).sum()) / windows().scored)


def dropped(model, blocks, work_dir=None):
    return pruned(model, Budget("block", blocks), windows(), run=PassConfig(work_dir=work_dir))


def block_count(model):
    return chain_of(model).coupling("block").count


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_the_block_that_is_missed_least_goes_first(name):
    model = tiny(name, dtype=torch.float64, num_hidden_layers=4)
    tried = []
    for place in range(4):
        with without_block(model, place):
            tried.append(perplexity(model))
    assert block_count(model) == 4
    _, plan, _ = dropped(model, 1)
    first = plan.facts["steps"][1]
    assert first["removed"] == tried.index(min(tried))
    assert first["loss"] == pytest.approx(min(tried))


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_what_is_left_is_a_shallower_model_that_opens_everywhere(name, tmp_path):
    dense = tiny(name, dtype=torch.float64, num_hidden_layers=4)
    model, plan, receipt = dropped(dense, 2)
    assert block_count(dense) == 4
    assert receipt.removed["block"] == UnitRemoved(before=4, after=2, fraction=0.5)
    assert plan.facts["steps"][-1]["loss"] == pytest.approx(perplexity(model))
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, dtype=torch.float64)
    ids = windows().ids
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).logits, model(ids).logits)
        made = model.generate(ids[:1, :4], max_new_tokens=3, do_sample=False)
        assert torch.equal(again.generate(ids[:1, :4], max_new_tokens=3, do_sample=False), made)


@pytest.mark.parametrize("name", ["bamba", "granitemoehybrid", "nemotron_h"])
def test_the_kinds_of_blocks_go_with_them(name, tmp_path):
    dense = build(name)
    model, plan, _ = dropped(dense, 1)
    for place, tried in enumerate(losses_without(dense)):
        assert tried >= plan.facts["steps"][1]["loss"] - 1e-9, place
    model.float().save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    again.config._experts_implementation = "eager"
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        out = [item.eval()(windows().ids, use_cache=False).logits for item in (model, again)]
        assert torch.equal(*out)
        made = [item.generate(windows().ids[:1, :4], max_new_tokens=3, do_sample=False)
                for item in (model, again)]  # fmt: skip
        assert torch.equal(*made)


DEEPER = {
    "jamba": {"num_hidden_layers": 5, "attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba": {"num_hidden_layers": 6, "layers_block_type": ["linear_attention", "hybrid"] * 3},
    "zamba2": {"num_hidden_layers": 5, "num_mem_blocks": 2, "layers_block_type": [
        "linear_attention", "hybrid", "linear_attention", "hybrid", "hybrid"]},
}  # fmt: skip
"""Hybrids whose blocks are of several classes: by their ends, while a part stays shared, not at
all where blocks have adapters of their own in it."""


@pytest.mark.parametrize(("name", "compensate"), [(name, "auto") for name in DEEPER]
                         + [("jamba", ("O",)), ("zamba", ("O",))])  # fmt: skip
def test_blocks_of_several_classes_go_where_stock_can_say_it(name, compensate, tmp_path):
    dense = tiny_hybrid(name, **({"hidden_size": 16} | MORE[name] | DEEPER[name]))
    before = copy.deepcopy(dense.config.to_dict())
    budget = Budget("block", 2, compensate=compensate)
    model, plan, _ = pruned(dense, budget, windows())
    assert dense.config.to_dict() == before
    gone = [step["removed"] for step in plan.facts["steps"][1:]]
    kinds = [type(block) for block in chain_of(dense).module]
    left = [kind for place, kind in enumerate(kinds) if place not in gone]
    assert [type(block) for block in chain_of(model).module] == left
    if name == "zamba2":
        assert not any("Hybrid" in kinds[place].__name__ for place in gone)
    path = save(model, tmp_path / "small", parent=plan.model_digest)
    assert portable(dense, plan)[1].startswith("yes")
    assert read_json(path / "ssmith.json")["portable"].startswith("yes")
    stock = type(model).from_pretrained(path)
    for again in (stock, load(path)):
        again.config._experts_implementation = "eager"
        with torch.no_grad():
            out = [item.eval()(windows().ids, use_cache=False).logits for item in (model, again)]
        assert torch.equal(*out)
        made = [item.generate(windows().ids[:1, :4], max_new_tokens=3, do_sample=False)
                for item in (model, again)]  # fmt: skip
        assert torch.equal(*made)


def test_blocks_that_no_configuration_can_leave_out_stay():
    dense = tiny_hybrid("zamba2", **({"hidden_size": 16} | MORE["zamba2"] | DEEPER["zamba2"]))
    with pytest.raises(UnsupportedError, match="2 of 3 blocks are gone, and no other one can go"):
        dropped(dense, 3)
    jamba = tiny_hybrid("jamba", **(MORE["jamba"] | DEEPER["jamba"] | {"attn_layer_period": 5}))
    site, keep = chain_of(jamba), torch.arange(5) != 2
    site.cut_(site.coupling("block"), keep)
    with pytest.raises(UnsupportedError, match="counts kinds of blocks off by expert_layer_period"):
        sync_depth_(jamba, keep)


def losses_without(dense):
    """Perplexities of models that were cut for good, and opened anew."""
    for place in range(block_count(dense)):
        work = copy.deepcopy(dense)
        site, keep = chain_of(work), torch.arange(block_count(dense)) != place
        site.cut_(site.coupling("block"), keep)
        sync_depth_(work, keep)
        again = type(work)(work.config).double().eval()
        again.load_state_dict(work.state_dict())
        yield perplexity(again)


def test_a_removal_that_was_killed_measures_nothing_twice(tmp_path, monkeypatch):
    model = tiny("mamba", num_hidden_layers=4)
    _, wanted, _ = dropped(model, 2)
    measured, real, patience = [], window_losses, [4, 4, 99, 99]

    def counting(model, given, **size):
        measured.append(1)
        if len(measured) == patience[0]:
            raise KeyboardInterrupt
        return real(model, given, **size)

    monkeypatch.setattr(losses, "window_losses", counting)
    found = None
    # Of 1 + 4 + 3 measurements.
    while found is None:
        measured.clear()
        with contextlib.suppress(KeyboardInterrupt):
            _, found, _ = dropped(model, 2, tmp_path / "work")
        patience.pop(0)
    assert (len(patience), len(measured)) == (1, 2)
    assert found.facts == wanted.facts
    assert found.diff(wanted) == ()
    measured.clear()
    dropped(model, 1, tmp_path / "work")
    assert not measured


def test_a_directory_of_something_else_is_refused(tmp_path):
    dropped(tiny("mamba"), 1, tmp_path / "work")
    with pytest.raises(ArtefactError, match=r"data: model was .* and is "):
        dropped(tiny("mamba", seed=1), 1, tmp_path / "work")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        dropped(tiny("mamba"), 1, tmp_path / "mine")


@pytest.mark.parametrize("blocks", [0, 2])
def test_a_number_of_blocks_that_cannot_go_is_said(blocks):
    model = tiny("mamba")
    with pytest.raises(InputError, match="allowed: 1, as one stays"):
        dropped(model, blocks)
    with pytest.raises(InputError, match="5 of 2 block are to go"):
        dropped(model, 5)
    assert block_count(model) == 2


def test_states_go_from_the_blocks_that_stay():
    model = tiny("mamba", num_hidden_layers=3)
    cut, plan, receipt = pruned(model, [Budget("block", 1), Budget("state", 0.4)], windows())
    assert [item.unit for item in plan.cuts] == ["block", "state"]
    assert receipt.removed["state"].before == 2 * 5
    assert (block_count(cut), cut.config.num_hidden_layers, cut.config.state_size) == (2, 2, 3)
    with pytest.raises(InputError, match="blocks are to go after other units"):
        pruned(model, [Budget("state", 0.4), Budget("block", 1)], windows())


@pytest.mark.parametrize(
    "wrong",
    [{"method": "last"}, {"scope": "global"}, {"targets": ("x",)}, {"compensate": "D"}],
    ids=str,
)
def test_what_blocks_have_no_meaning_for_is_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .* for blocks"):
        pruned(tiny("mamba"), Budget("block", 1, **wrong), windows())
