"""Experts by what they give where the router sends tokens, against loops over the formulas."""

import copy

import pytest
import torch
from torch.nn import functional

import ssmith as sm
from helpers.every_unit import build
from helpers.selective import windows_of
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.files import read_json
from ssmith.families import sites
from ssmith.families.hf.double import in_double

pytest.importorskip("transformers")
MODELS = ["granitemoehybrid", "jamba", "nemotron_h with experts", "nemotron_h with groups"]


@pytest.fixture(scope="module")
def rows():
    return windows_of(4, 20)


@torch.no_grad()
def logits(model, rows):
    with in_double(model) as wide:
        return wide(input_ids=rows.batch(range(4)).inputs.ids, use_cache=False).logits


def layers_of(model):
    """Name, module and router of every mixture of experts."""
    for name, site in sites(model).items():
        if any(table.unit == "expert" for table in site.couplings):
            router = getattr(site.module, "router", None) or site.module.gate
            yield name, site.module, router


def first_layer(model, rows):
    """Return the first mixture, what it is given by the dense model, and its router."""
    name, layer, router = next(layers_of(model))
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    logits_ = model(input_ids=rows.batch(range(4)).inputs.ids, use_cache=False).logits
    hook.remove()
    assert torch.isfinite(logits_).all()
    return name, layer, router, seen[0].flatten(0, 1)


def by_hand(layer, router, tokens, number):
    """What one expert says of some tokens, from its weights."""
    experts = layer.experts
    if hasattr(experts, "gate_up_proj"):
        gate, up = (tokens @ experts.gate_up_proj[number].mT).chunk(2, -1)
        return functional.silu(gate) * up @ experts.down_proj[number].mT
    latent = isinstance(layer.fc1_latent_proj, torch.nn.Linear)
    inner = layer.fc1_latent_proj(tokens) if latent else tokens
    given = functional.relu(inner @ experts.up_proj[number].mT).square()
    given = given @ experts.down_proj[number].mT
    return given @ layer.fc2_latent_proj.weight.mT if latent else given


def scores_by_hand(layer, router, tokens):
    """REAP's mean, the energy and the use of each expert, token by token."""
    _, weights, chosen = router(tokens)
    given = [[] for _ in range(router.num_experts)]
    for token, (own, into) in enumerate(zip(weights, chosen, strict=True)):
        for g, expert in zip(own, into.tolist(), strict=True):
            given[expert].append(float(g * by_hand(layer, router, tokens[token], expert).norm()))
    return {
        "reap": [sum(item) / max(len(item), 1) for item in given],
        "output-energy": [sum(value**2 for value in item) for item in given],
        "use": [len(item) for item in given],
    }


@pytest.mark.parametrize("name", MODELS)
def test_the_experts_that_score_least_go_and_the_router_chooses_among_the_others(name, rows):
    dense = build(name)
    with torch.no_grad():
        place, layer, router, tokens = first_layer(dense, rows)
        wanted = scores_by_hand(layer, router, tokens)
    parts = getattr(router, "num_group", 1)
    for method, scores in wanted.items():
        plan = sm.plan(dense, sm.Budget("expert", 0.5, method=method), rows)
        # The first mixture is given what it is given in the dense model.
        keep = plan.cuts[0].keep[place].view(parts, -1)
        by_part = torch.tensor(scores, dtype=torch.float64).view(parts, -1)
        assert keep.sum(1).tolist() == [keep.shape[1] // 2] * parts
        least = by_part.masked_fill(~keep, torch.inf).amin(1)
        assert bool((least >= by_part.masked_fill(keep, -torch.inf).amax(1)).all()), method
        assert not plan.values
    small = copy.deepcopy(dense)
    sm.prune_(small, plan)
    for layer_name, _, own in layers_of(dense):
        gone = ~plan.cuts[0].keep[layer_name]
        forget_(own, gone)
    torch.testing.assert_close(logits(small, rows), logits(dense, rows), rtol=0, atol=1e-10)


def forget_(router, gone):
    """Let a router of the dense model choose as if some experts were not there."""
    usual, route = functional.linear, type(router).forward

    def forward(tokens):
        def linear(x, weight):
            return usual(x, weight).masked_fill(gone, -torch.inf)

        functional.linear = linear
        try:
            return route(router, tokens)
        finally:
            functional.linear = usual

    router.forward = forward


def neurons_by_hand(layer, router, tokens):
    """Return by expert what its neurons are for each token sent to it, times what that counts."""
    _, weights, chosen = router(tokens)
    latent = getattr(layer, "fc1_latent_proj", None)
    given = [[] for _ in range(router.num_experts)]
    for token, own, into in zip(tokens, weights, chosen, strict=True):
        inner = token if latent is None else latent(token)
        for g, number in zip(own, into.tolist(), strict=True):
            if hasattr(layer.experts, "gate_up_proj"):
                gate, up = (layer.experts.gate_up_proj[number] @ inner).chunk(2)
                given[number].append(g * functional.silu(gate) * up)
            else:
                given[number].append(g * (layer.experts.up_proj[number] @ inner).relu() ** 2)
    empty = tokens.new_zeros(0, layer.experts.down_proj.shape[2])
    return [torch.stack(item) if item else empty for item in given]


@pytest.mark.usefixtures("all_of_a_fit")
@pytest.mark.parametrize("method", ["obs", "output-energy"])
@pytest.mark.parametrize("name", MODELS)
def test_each_expert_loses_the_neurons_that_its_own_tokens_miss_least(name, method, rows):
    dense = build(name)
    with torch.no_grad():
        place, layer, router, tokens = first_layer(dense, rows)
        neurons = neurons_by_hand(layer, router, tokens)
    budget = sm.Budget("expert_neuron", 1 / layer.experts.down_proj.shape[2], method=method)
    plan = sm.plan(dense, budget, rows)
    keep = plan.cuts[0].keep[place]
    assert keep.sum(1).tolist() == [keep.shape[1] - 1] * len(keep)
    small = copy.deepcopy(dense)
    sm.prune_(small, plan)
    made = small.get_submodule(place).experts.down_proj
    for number, f in enumerate(neurons):
        if not len(f):
            continue
        W, gram = layer.experts.down_proj[number], f.mT @ f
        ridge = 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        energy = gram.diagonal() * W.square().sum(0)
        costs = W.square().sum(0) / torch.linalg.inv(gram + ridge).diagonal()
        gone = int((~keep[number]).nonzero())
        assert gone == int((costs if method == "obs" else energy).argmin())
        stays = keep[number]
        fitted = W[:, stays]
        if method == "obs":
            own = (gram + ridge)[stays][:, stays]
            fitted = torch.linalg.solve(own, (gram + ridge)[stays] @ W.mT).mT
        # transformers rounds norms and routers of a float64 model to float32.
        torch.testing.assert_close(made[number], fitted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["granitemoehybrid", "nemotron_h with experts", "jamba"])
def test_stock_code_opens_experts_of_fewer_neurons_where_its_configuration_says_them(
    name, rows, tmp_path
):
    model = build(name, torch.float32)
    plan = sm.plan(model, sm.Budget("expert_neuron", 0.5), rows)
    sm.prune_(model, plan)
    sm.save(model, tmp_path / "small", parent=plan.model_digest)
    said = read_json(tmp_path / "small" / "ssmith.json")["portable"]
    # Layers of Jamba without experts read the same width.
    assert said.startswith("no; " if name == "jamba" else "yes")
    opened = [sm.load(tmp_path / "small")]
    if said.startswith("yes"):
        opened.append(type(model).from_pretrained(tmp_path / "small"))
    ids = rows.batch(range(4)).inputs.ids
    for again in opened:
        again.config._experts_implementation = "eager"
        with torch.no_grad():
            out = [item.eval()(input_ids=ids, use_cache=False).logits for item in (model, again)]
        assert torch.equal(*out)


def test_methods_that_neurons_of_experts_have_no_meaning_for_are_refused(rows):
    model = build("granitemoehybrid")
    with pytest.raises(InputError, match="method minitron for neurons of experts"):
        sm.plan(model, sm.Budget("expert_neuron", 0.5, method="minitron"), rows)
    with pytest.raises(InputError, match="none"):
        sm.plan(model, sm.Budget("expert_neuron", 0.01), rows)


def test_padding_is_sent_nowhere():
    model = build("granitemoehybrid")
    loader = [{"input_ids": torch.randint(1, 60, (2, 12), generator=torch.manual_seed(0))}]
    padded = [{
        "input_ids": torch.cat([loader[0]["input_ids"], torch.full((2, 5), 7)], dim=1),
        "valid": torch.arange(17).expand(2, -1) < 12,
    }]  # fmt: skip

    def forward(net, batch):
        return net(input_ids=batch["input_ids"])

    budget = sm.Budget("expert", 0.25)
    plain = sm.plan(model, budget, sm.rows(loader, forward=forward))
    same = sm.plan(
        model, budget, sm.rows(padded, forward=forward, valid=lambda batch: batch["valid"])
    )
    kept = [[item["use kept"] for item in plan.facts["stages"]] for plan in (plain, same)]
    assert same.cuts[0].keep.keys() == plain.cuts[0].keep.keys()
    assert kept[0] == pytest.approx(kept[1], rel=1e-12)


@pytest.mark.parametrize("name", ["granitemoehybrid", "jamba"])
def test_the_loss_that_balances_experts_counts_those_that_are_left(name, rows):
    model = build(name, output_router_logits=True)
    sm.prune_(model, sm.plan(model, sm.Budget("expert", 0.5, method="use"), rows))
    ids = rows.batch(range(2)).inputs.ids
    with torch.no_grad():
        out = model(input_ids=ids, labels=ids, use_cache=False)
    assert {item.shape[-1] for item in out.router_logits} == {2}
    assert float(out.aux_loss) > 0


def test_what_the_router_needs_stays(rows):
    model = build("nemotron_h with groups")
    with pytest.raises(InputError, match=r"2 expert would be left .* at least 4; the router sends"):
        sm.plan(model, sm.Budget("expert", 0.75), rows)
    with pytest.raises(InputError, match="2 expert would be left"):
        sm.plan(model, sm.Budget("expert", 0.75, method="random"))
    with pytest.raises(InputError, match="allowed: auto or none"):
        sm.plan(model, sm.Budget("expert", 0.5, compensate=("O",)), rows)
    plan = sm.plan(model, sm.Budget("expert", 0.5), rows)
    with pytest.raises(UnsupportedError, match="cannot be cut by mode='mask'"):
        sm.prune_(model, plan, "mask")


def test_experts_and_the_layer_beside_them_are_cut_together(rows, tmp_path):
    model = build("nemotron_h with experts", torch.float32)
    plan = sm.plan(model, [sm.Budget("expert", 0.25), sm.Budget("neuron", 0.5)], rows)
    plan.save(tmp_path / "plan.json")
    sm.prune_(model, sm.Plan.load(tmp_path / "plan.json"))
    config = model.config
    assert config.n_routed_experts == 3
    assert config.moe_shared_expert_intermediate_size == 6
    assert config.intermediate_size == 12
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model").eval()
    again.config._experts_implementation = model.config._experts_implementation
    ids = rows.batch(range(4)).inputs.ids
    with torch.no_grad():
        out = [item(input_ids=ids, use_cache=False).logits for item in (model, again)]
    assert torch.equal(*out)
