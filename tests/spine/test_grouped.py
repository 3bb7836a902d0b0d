"""States of Mamba-2's groups: what a change of basis leaves, what opens where, what is refused."""

import copy

import pytest
import torch

import ssmith as sm
from helpers.every_unit import build
from helpers.grouped import FAMILIES, by_steps
from helpers.selective import windows_of
from helpers.tiny_mamba import tokens
from ssmith.calibrate import PassConfig
from ssmith.core.errors import ArtefactError, InputError, UnsupportedError
from ssmith.evaluation.language_parity import stock_difference
from ssmith.families.hf.double import in_double
from ssmith.families.hf.engine import engine
from ssmith.families.hf.running import logits_in_chunks
from ssmith.families.mamba2.family import MAMBA2
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.surgery.projection import project_

transformers = pytest.importorskip("transformers")
HALF = sm.Budget("state", 0.5, method="balanced")


def layers(model):
    return [GroupedLayer(n, m) for n, m in model.named_modules() if MAMBA2.owns(m)]


def maps_for(layer, kept, *, seed=0):
    """Random maps of full rank, and what brings the states back where none goes."""
    draw = torch.Generator().manual_seed(seed)
    P = torch.randn(layer.g, layer.n, kept, generator=draw, dtype=torch.float64)
    return P.mT, torch.linalg.pinv(P)


@torch.no_grad()
def logits(model, ids, **more):
    with in_double(model) as wide, engine(wide):
        return wide(input_ids=ids, **more).logits


@torch.no_grad()
def by_tokens(model, ids):
    """Return the logits of a model that is given one token after the other."""
    with in_double(model) as wide, engine(wide):
        return logits_in_chunks(wide, ids, 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_change_of_basis_changes_nothing(name):
    dense, ids = build(name), tokens(2, 13)
    moved = copy.deepcopy(dense)
    for number, layer in enumerate(layers(moved)):
        project_(layer, *maps_for(layer, layer.n, seed=number))
    torch.testing.assert_close(logits(moved, ids), logits(dense, ids), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["mamba2", "falcon_h1", "nemotron_h"])
def test_projected_states_run_token_by_token_as_at_once(name):
    model, ids = build(name), tokens(2, 11)
    sm.prune_(model, sm.plan(model, HALF, windows_of(2, 20)))
    torch.testing.assert_close(by_tokens(model, ids), logits(model, ids), rtol=0, atol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mamba2", "bamba"])
def test_fewer_states_are_the_old_ones_projected(name):
    layer = layers(build(name))[0]
    write, read = maps_for(layer, 2)
    draw = torch.Generator().manual_seed(1)
    width = layer.mixer.in_proj.weight.shape[1]
    hidden = torch.randn(1, 9, width, generator=draw, dtype=torch.float64)
    steps = by_steps(layer.mixer, hidden[0])
    heads = layer.mixer.num_heads // layer.g
    P = write.mT.repeat_interleave(heads, 0)
    M = read.repeat_interleave(heads, 0)
    C = steps.C.repeat_interleave(heads, 1)
    lost = torch.eye(layer.n, dtype=P.dtype) - P @ M
    delta = torch.einsum("lhpn,hnm,lhm->lhp", steps.H, lost, C).reshape(9, -1)
    before = layer.features(layer.parts(hidden))
    assert torch.allclose(before, layer.mixer.norm(steps.y[None], steps.gate[None]), atol=1e-9)
    project_(layer, write, read)
    found = layer.features(layer.parts(hidden))
    wanted = layer.mixer.norm((steps.y - delta)[None], steps.gate[None])
    assert torch.allclose(found, wanted, atol=1e-9)


@torch.no_grad()
def test_what_starts_and_what_is_added_to_the_states_goes_with_them():
    dense, ids = build("mamba2"), tokens(2, 9)
    draw = torch.Generator().manual_seed(2)
    for layer in layers(dense):
        shape = (layer.mixer.num_heads, layer.mixer.head_dim, layer.n)
        for name in ("initial_state", "state_offset"):
            value = torch.randn(shape, generator=draw, dtype=torch.float64)
            layer.mixer.register_buffer(name, value)
    moved = copy.deepcopy(dense)
    for number, layer in enumerate(layers(moved)):
        project_(layer, *maps_for(layer, layer.n, seed=number))
    torch.testing.assert_close(logits(moved, ids), logits(dense, ids), rtol=0, atol=1e-7)
    stock = copy.deepcopy(dense)
    plan = sm.plan(stock, sm.Budget("state", 0.5, method="ghost"), windows_of(2, 20))
    masked = copy.deepcopy(stock)
    sm.prune_(stock, plan)
    sm.prune_(masked, plan, "mask")
    torch.testing.assert_close(logits(stock, ids), logits(masked, ids), rtol=0, atol=1e-9)


def test_a_projected_layer_can_be_projected_further():
    dense, rows = build("mamba2"), windows_of(2, 20)
    model = copy.deepcopy(dense)
    sm.prune_(model, sm.plan(model, sm.Budget("state", 0.2, method="balanced"), rows))
    assert {layer.n for layer in layers(model)} == {5}
    twice = copy.deepcopy(model)
    sm.prune_(twice, sm.plan(twice, sm.Budget("state", 0.4, method="balanced"), rows))
    assert {layer.n for layer in layers(twice)} == {3}
    assert torch.isfinite(logits(twice, tokens(2, 9))).all()
    columns = copy.deepcopy(model)
    sm.prune_(columns, sm.plan(columns, sm.Budget("state", 0.4, method="ghost"), rows))
    assert {layer.n for layer in layers(columns)} == {3}
    assert torch.isfinite(logits(columns, tokens(2, 9))).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_columns_that_went_are_gone_for_stock_code_too(name, tmp_path):
    model, ids = build(name, torch.float32), tokens(2, 9)
    plan = sm.plan(model, sm.Budget("state", 0.5), windows_of(2, 20))
    sm.prune_(model, plan)
    sm.save(model, tmp_path / "small")
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    with torch.no_grad():
        gap = (opened(input_ids=ids).logits - model(input_ids=ids).logits).abs().max()
    assert float(gap) == 0.0


@pytest.mark.parametrize("name", FAMILIES)
def test_a_projected_model_is_saved_and_opened(name, tmp_path):
    model, ids = build(name, torch.float32), tokens(2, 9)
    sm.prune_(model, sm.plan(model, HALF, windows_of(2, 20)))
    sm.save(model, tmp_path / "small")
    opened = sm.load(tmp_path / "small")
    with torch.no_grad(), engine(model):
        assert torch.equal(opened(input_ids=ids).logits, model(input_ids=ids).logits)
    assert [layer.n for layer in layers(opened)] == [3] * len(layers(model))
    assert "projected, and only ssmith runs them" in (tmp_path / "small/README.md").read_text()


def test_a_model_with_other_cuts_is_projected_saved_and_opened(tmp_path):
    model, ids = build("mamba2", torch.float32), tokens(2, 9)
    budgets = [sm.Budget("head", 0.5, method="random"), HALF]
    sm.prune_(model, sm.plan(model, budgets, windows_of(2, 20)))
    sm.save(model, tmp_path / "small")
    opened = sm.load(tmp_path / "small")
    with torch.no_grad(), engine(model), engine(opened):
        assert torch.equal(opened(input_ids=ids).logits, model(input_ids=ids).logits)


@torch.no_grad()
@pytest.mark.usefixtures("all_of_a_fit")
def test_an_output_map_is_fitted_to_what_the_layer_gave():
    dense = build("mamba2")
    rows = windows_of(2, 20)
    budget = sm.Budget("state", 0.5, method="ghost", compensate="O", targets=("*.0.mixer",))
    plan = sm.plan(dense, budget, rows)
    (stage,) = (item for item in plan.facts["stages"] if "error" in item)
    first, small = layers(dense)[0], copy.deepcopy(dense)
    sm.prune_(small, plan)
    caught = []
    handle = first.module.register_forward_pre_hook(lambda m, given, kw: caught.append(
        given[0] if given else kw["hidden_states"]), with_kwargs=True)  # fmt: skip
    logits_of = dense(input_ids=rows.ids)
    handle.remove()
    assert torch.isfinite(logits_of.logits).all()
    hidden, cut = caught[0], layers(small)[0]
    own = cut.features(cut.parts(hidden)).flatten(0, 1)
    wanted = first.features(first.parts(hidden)).flatten(0, 1) @ first.mixer.out_proj.weight.T
    ridge = 1e-3 * float((own.T @ own).diagonal().mean())
    eye = torch.eye(own.shape[1], dtype=own.dtype)
    change = torch.linalg.solve(
        own.T @ own + ridge * eye, own.T @ (wanted - own @ first.mixer.out_proj.weight.T)
    ).T
    assert torch.allclose(
        cut.mixer.out_proj.weight, first.mixer.out_proj.weight + change, atol=1e-8
    )
    left = (wanted - own @ cut.mixer.out_proj.weight.T).square().sum()
    assert stage["error"]["after"] == pytest.approx(float(left))
    assert stage["error"]["after"] < stage["error"]["before"]


@pytest.mark.parametrize("name", ["mamba2", "nemotron_h"])
def test_a_pass_goes_on_from_its_directory(name, tmp_path):
    model, rows = build(name), windows_of(2, 20)
    whole = sm.plan(model, sm.Budget("state", 0.5), rows)
    run = PassConfig(work_dir=tmp_path / "work")
    assert whole.diff(sm.plan(model, sm.Budget("state", 0.5), rows, run=run)) == ()
    assert whole.diff(sm.plan(model, sm.Budget("state", 0.5), rows, run=run)) == ()
    with pytest.raises(ArtefactError, match="other settings or data: cuts"):
        sm.plan(model, HALF, rows, run=run)


def test_a_target_of_state_bytes_is_met():
    model = build("mamba2")
    budget = sm.Budget("state", sm.Target(quantity="state_bytes", amount=0.5), method="balanced")
    sm.prune_(model, sm.plan(model, budget, windows_of(2, 20)))
    assert {layer.n for layer in layers(model)} == {3}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": "last"}, "no method 'last' for states of Mamba-2's groups"),
        ({"compensate": "B"}, "C: reading rows refitted, or O: output maps refitted, or S:"),
        ({"method": "ghost", "semantics": "project"}, "balanced projects states"),
        ({"scope": "global"}, "scope is 'global'"),
        ({"settings": {"width": 2}}, "no setting width"),
        ({"settings": {"stride": 0}}, "stride"),
    ],
)
def test_what_has_no_meaning_is_refused(settings, match):
    with pytest.raises(InputError, match=match):
        sm.plan(build("mamba2"), sm.Budget("state", 0.5, **settings), windows_of(2, 20))


def test_without_data_there_is_the_baseline_alone():
    model = build("mamba2")
    assert sm.plan(model, sm.Budget("state", 0.5)).findings[0].kind == "baseline"
    with pytest.raises(InputError, match="on data, and there is none"):
        sm.plan(model, HALF)


def test_transformers_own_code_is_not_compared_with_projected_states():
    model = build("mamba2", torch.float32)
    sm.prune_(model, sm.plan(model, HALF, windows_of(2, 20)))
    with pytest.raises(UnsupportedError, match="state_map_B"):
        stock_difference(model, tokens(1, 8))
